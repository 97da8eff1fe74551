"""Map each path of the document to its handler.

The document defines the methods of a path and the needs of each (`Document.paths`). A test compares the document with
the handlers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from tornado.routing import URLSpec
from tornado.web import url

from app.web.services import Services

from . import (
    artifacts,
    deleted,
    elsewhere,
    immutability,
    labels,
    logs,
    members,
    mirror,
    own,
    permissions,
    plans,
    projects,
    quotas,
    registries,
    repositories,
    retentions,
    robots,
    system,
    tags,
    users,
    webhooks,
)
from .document import document, pattern
from .handler import ApiHandler

_PROJECT = "/projects/{project_name_or_id}"
_REPOSITORIES = "/projects/{project_name}/repositories"
_REPOSITORY = _REPOSITORIES + "/{repository_name}"
_ARTIFACT = _REPOSITORY + "/artifacts/{reference}"
_POLICIES = _PROJECT + "/webhook/policies"
_POLICY = _POLICIES + "/{webhook_policy_id}"
_EXECUTION = _POLICY + "/executions/{execution_id}"
_OWN = "/users/current"

# Paths are tried in this order, so fixed paths come before those in which a number could match.
HANDLERS: Mapping[str, type[ApiHandler]] = {
    "/projects": projects.ProjectsHandler,
    _PROJECT: projects.ProjectHandler,
    f"{_PROJECT}/_deletable": projects.DeletableHandler,
    f"{_PROJECT}/summary": projects.SummaryHandler,
    f"{_PROJECT}/metadatas/": projects.MetadataHandler,
    f"{_PROJECT}/metadatas/{{meta_name}}": projects.OneMetadataHandler,
    f"{_PROJECT}/unfinished-pushes": projects.UnfinishedPushesHandler,
    f"{_PROJECT}/bin": deleted.BinHandler,
    f"{_PROJECT}/bin/{{bin_id}}": deleted.BinEntryHandler,
    f"{_PROJECT}/bin/{{bin_id}}/_restore": deleted.RestoreHandler,
    "/deleted-projects": deleted.DeletedProjectsHandler,
    "/deleted-projects/{deleted_project_id}": deleted.DeletedProjectHandler,
    "/deleted-projects/{deleted_project_id}/_restore": deleted.RestoreProjectHandler,
    f"{_PROJECT}/members": members.MembersHandler,
    f"{_PROJECT}/members/{{mid}}": members.MemberHandler,
    "/projects/{project_name}/logs": logs.LogsHandler,
    "/projects/{project_name}/logs/export": logs.ExportHandler,
    "/robots": robots.RobotsHandler,
    "/robots/{robot_id}": robots.RobotHandler,
    "/permissions": permissions.PermissionsHandler,
    "/repositories": repositories.AllRepositoriesHandler,
    _REPOSITORIES: repositories.RepositoriesHandler,
    _REPOSITORY: repositories.RepositoryHandler,
    f"{_REPOSITORY}/artifacts": artifacts.ArtifactsHandler,
    _ARTIFACT: artifacts.ArtifactHandler,
    f"{_ARTIFACT}/additions/{{addition}}": artifacts.AdditionHandler,
    f"{_ARTIFACT}/accessories": artifacts.AccessoriesHandler,
    f"{_ARTIFACT}/labels": artifacts.ArtifactLabelsHandler,
    f"{_ARTIFACT}/labels/{{label_id}}": artifacts.ArtifactLabelHandler,
    f"{_ARTIFACT}/tags": tags.TagsHandler,
    f"{_ARTIFACT}/tags/{{tag_name}}": tags.TagHandler,
    f"{_REPOSITORY}/tags/{{tag_name}}/history": tags.TagHistoryHandler,
    f"{_PROJECT}/immutabletagrules": immutability.RulesHandler,
    f"{_PROJECT}/immutabletagrules/{{immutable_rule_id}}": immutability.RuleHandler,
    "/retentions/metadatas": retentions.MetadataHandler,
    "/retentions": retentions.RetentionsHandler,
    "/retentions/{id}": retentions.RetentionHandler,
    "/retentions/{id}/executions": retentions.ExecutionsHandler,
    "/retentions/{id}/executions/{eid}": retentions.ExecutionHandler,
    "/retentions/{id}/executions/{eid}/tasks": retentions.TasksHandler,
    "/retentions/{id}/executions/{eid}/tasks/{tid}": retentions.TaskHandler,
    _POLICIES: webhooks.PoliciesHandler,
    _POLICY: webhooks.PolicyHandler,
    f"{_POLICY}/executions": webhooks.ExecutionsHandler,
    f"{_EXECUTION}/_send": webhooks.SendAgainHandler,
    f"{_EXECUTION}/tasks": webhooks.TasksHandler,
    f"{_EXECUTION}/tasks/{{task_id}}/log": webhooks.TaskLogHandler,
    f"{_PROJECT}/webhook/events": webhooks.EventsHandler,
    "/labels": labels.LabelsHandler,
    "/labels/{label_id}": labels.LabelHandler,
    "/quotas": quotas.QuotasHandler,
    "/quotas/{id}": quotas.QuotaHandler,
    _OWN: own.CurrentUserHandler,
    f"{_OWN}/permissions": own.CurrentPermissionsHandler,
    f"{_OWN}/access-keys": own.AccessKeysHandler,
    f"{_OWN}/access-keys/{{key_id}}": own.AccessKeyHandler,
    f"{_OWN}/sessions": own.SessionsHandler,
    f"{_OWN}/sessions/{{session_id}}": own.SessionHandler,
    "/users": users.UsersHandler,
    "/users/search": users.UserSearchHandler,
    "/users/{user_id}": users.UserHandler,
    "/users/{user_id}/sysadmin": users.SysadminHandler,
    "/users/{user_id}/disabled": users.DisabledHandler,
    "/users/{user_id}/password": users.PasswordHandler,
    "/mirror/{project_name}/budget": mirror.BudgetHandler,
    "/mirror/{project_name}/fills": mirror.FillsHandler,
    "/mirror/{project_name}/traffic": mirror.TrafficHandler,
    "/plans": plans.PlansHandler,
    "/plans/preview": plans.PlanPreviewHandler,
    "/plans/{plan_id}": plans.PlanHandler,
    "/ping": system.PingHandler,
    "/health": system.HealthHandler,
    "/systeminfo": system.SystemInfoHandler,
    "/systeminfo/volumes": system.VolumesHandler,
    "/statistics": system.StatisticsHandler,
    "/search": system.SearchHandler,
    "/audit-logs": logs.LogsHandler,
    "/audit-logs/export": logs.ExportHandler,
    "/auditlog-exts": logs.ExtsHandler,
    "/projects/{project_name}/auditlog-exts": logs.ExtsHandler,
    "/configurations": system.ConfigurationsHandler,
    "/registries": registries.RegistriesHandler,
    "/registries/{id}": registries.RegistryHandler,
    "/openapi.json": system.DocumentJsonHandler,
    "/openapi.yaml": system.DocumentYamlHandler,
    **dict.fromkeys(elsewhere.EMPTY, elsewhere.EmptyListHandler),
}


@cache
def compiled() -> Mapping[str, re.Pattern[str]]:
    """Compile the patterns of the API's paths, once."""
    return {path: re.compile(pattern(path) + "$") for path in HANDLERS}


def routes(services: Services) -> list[URLSpec]:
    """Return the routes of the REST API for Tornado."""
    drawn = [
        url(compiled()[path], handler, {"operations": document().paths[path], "services": services})
        for path, handler in HANDLERS.items()
    ]
    return [*drawn, url("/api(?:/.*)?", elsewhere.NotFoundHandler, {"operations": {}, "services": services})]
