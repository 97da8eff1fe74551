"""The routes of the REST API: which handler stands behind which path of the document, and what it is given.

The methods of a path and what each of them needs are the document's to say (`Document.paths`); a test holds the two
against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tornado.routing import URLSpec
from tornado.web import url

from app.access.access_keys import AccessKeys
from app.access.accounts import Accounts
from app.access.credentials import Credentials
from app.access.people import People
from app.access.robots import Robots
from app.access.sessions import Sessions
from app.mirror.status import MirrorStatus
from app.projects.audit import Audit
from app.projects.labels import Labels
from app.projects.members import Members
from app.projects.quotas import Quotas
from app.projects.service import Projects
from app.registry.artifacts import Artifacts
from app.registry.repositories import Repositories
from app.web.access_control import AccessControl
from app.web.observe import Observer
from app.web.ops import Check
from app.web.session import BrowserSessions

from . import (
    artifacts,
    grants,
    labels,
    logs,
    members,
    mirror,
    own,
    projects,
    quotas,
    registries,
    repositories,
    robots,
    system,
    tags,
    users,
)
from .caller import Callers
from .document import document, pattern
from .handler import ApiHandler, Common, NotFoundHandler
from .registries import Upstreams
from .system import About


@dataclass(frozen=True)
class Services:
    """What the API stands on. ``required`` and ``optional`` are the parts whose health it tells."""

    about: About
    access_keys: AccessKeys
    accounts: Accounts
    artifacts: Artifacts
    audit: Audit
    browsers: BrowserSessions
    credentials: Credentials
    access_control: AccessControl
    labels: Labels
    members: Members
    mirror: MirrorStatus
    observer: Observer
    people: People
    projects: Projects
    quotas: Quotas
    repositories: Repositories
    robots: Robots
    sessions: Sessions
    upstreams: Upstreams
    required: Mapping[str, Check]
    optional: Mapping[str, Check]


_PROJECT = "/projects/{project_name_or_id}"
_REPOSITORIES = "/projects/{project_name}/repositories"
_REPOSITORY = _REPOSITORIES + "/{repository_name}"
_ARTIFACT = _REPOSITORY + "/artifacts/{reference}"
_OWN = "/users/current"

# Tried from above: what is spelled out stands before what a number could be.
HANDLERS: Mapping[str, tuple[type[ApiHandler], tuple[str, ...]]] = {
    "/projects": (projects.ProjectsHandler, ("projects", "upstreams")),
    _PROJECT: (projects.ProjectHandler, ("projects", "quotas", "upstreams")),
    f"{_PROJECT}/_deletable": (projects.DeletableHandler, ("projects",)),
    f"{_PROJECT}/summary": (projects.SummaryHandler, ("projects", "upstreams")),
    f"{_PROJECT}/members": (members.MembersHandler, ("members", "people")),
    f"{_PROJECT}/members/{{mid}}": (members.MemberHandler, ("members",)),
    "/projects/{project_name}/logs": (logs.LogsHandler, ("audit",)),
    "/projects/{project_name}/logs/export": (logs.ExportHandler, ("audit",)),
    "/robots": (robots.RobotsHandler, ("robots", "projects")),
    "/robots/{robot_id}": (robots.RobotHandler, ("robots", "projects")),
    "/permissions": (grants.PermissionsHandler, ()),
    "/repositories": (repositories.AllRepositoriesHandler, ("repositories",)),
    _REPOSITORIES: (repositories.RepositoriesHandler, ("repositories",)),
    _REPOSITORY: (repositories.RepositoryHandler, ("repositories",)),
    f"{_REPOSITORY}/artifacts": (artifacts.ArtifactsHandler, ("artifacts", "repositories")),
    _ARTIFACT: (artifacts.ArtifactHandler, ("artifacts", "repositories")),
    f"{_ARTIFACT}/additions/{{addition}}": (artifacts.AdditionHandler, ("artifacts", "repositories")),
    f"{_ARTIFACT}/accessories": (artifacts.AccessoriesHandler, ("artifacts", "repositories")),
    f"{_ARTIFACT}/labels": (artifacts.ArtifactLabelsHandler, ("artifacts", "labels", "repositories")),
    f"{_ARTIFACT}/labels/{{label_id}}": (artifacts.ArtifactLabelHandler, ("artifacts", "labels", "repositories")),
    f"{_ARTIFACT}/tags": (tags.TagsHandler, ("artifacts", "repositories")),
    f"{_ARTIFACT}/tags/{{tag_name}}": (tags.TagHandler, ("artifacts", "repositories")),
    "/labels": (labels.LabelsHandler, ("labels",)),
    "/labels/{label_id}": (labels.LabelHandler, ("labels",)),
    "/quotas": (quotas.QuotasHandler, ("quotas",)),
    "/quotas/{id}": (quotas.QuotaHandler, ("quotas",)),
    _OWN: (own.CurrentUserHandler, ("people",)),
    f"{_OWN}/permissions": (own.CurrentPermissionsHandler, ()),
    f"{_OWN}/access-keys": (own.AccessKeysHandler, ("access_keys", "projects")),
    f"{_OWN}/access-keys/{{key_id}}": (own.AccessKeyHandler, ("access_keys",)),
    f"{_OWN}/sessions": (own.SessionsHandler, ("sessions",)),
    f"{_OWN}/sessions/{{session_id}}": (own.SessionHandler, ("sessions",)),
    "/users": (users.UsersHandler, ("accounts", "people")),
    "/users/search": (users.UserSearchHandler, ("people",)),
    "/users/{user_id}": (users.UserHandler, ("people",)),
    "/users/{user_id}/sysadmin": (users.SysadminHandler, ("people",)),
    "/users/{user_id}/disabled": (users.DisabledHandler, ("people",)),
    "/users/{user_id}/password": (users.PasswordHandler, ("accounts", "people", "sessions")),
    "/mirror/{project_name}/budget": (mirror.BudgetHandler, ("mirror",)),
    "/mirror/{project_name}/fills": (mirror.FillsHandler, ("mirror",)),
    "/mirror/{project_name}/traffic": (mirror.TrafficHandler, ("mirror",)),
    "/ping": (system.PingHandler, ()),
    "/health": (system.HealthHandler, ("required", "optional")),
    "/systeminfo": (system.SystemInfoHandler, ("about",)),
    "/systeminfo/volumes": (system.VolumesHandler, ("about",)),
    "/statistics": (system.StatisticsHandler, ("projects",)),
    "/search": (system.SearchHandler, ("projects", "repositories")),
    "/audit-logs": (logs.LogsHandler, ("audit",)),
    "/audit-logs/export": (logs.ExportHandler, ("audit",)),
    "/registries": (registries.RegistriesHandler, ("upstreams",)),
    "/registries/{id}": (registries.RegistryHandler, ("upstreams",)),
    "/openapi.json": (system.DocumentJsonHandler, ()),
    "/openapi.yaml": (system.DocumentYamlHandler, ()),
}


def routes(services: Services) -> list[URLSpec]:
    """Draw the routes."""
    callers = Callers(services.credentials, services.browsers)
    common = Common(callers, services.access_control, services.audit, services.observer)
    drawn = []
    for path, (handler, uses) in HANDLERS.items():
        given: dict[str, Any] = {name: getattr(services, name) for name in uses}
        drawn.append(url(pattern(path), handler, {"operations": document().paths[path], "common": common, **given}))
    return [*drawn, url("/api(?:/.*)?", NotFoundHandler, {"operations": {}, "common": common})]
