"""The pages' route table.

Fixed paths come before those with names in them. A repository's name may have slashes, so it comes last in a path,
after the action: /projects/lab/delete-artifact/app/web@sha256:… A project's name has no slash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from tornado.web import url

from app.web.services import Services

from . import administration as admin
from . import (
    compare,
    deleted,
    front,
    guide,
    labels,
    logs,
    members,
    mine,
    mirrors,
    operations,
    pins,
    plans,
    policy,
    privacy,
    projects,
    repositories,
    robots,
    search,
    secret,
    tags,
    texts,
    unattended,
    webhooks,
)
from .base import NotFoundPage, PageHandler
from .static import StaticHandler

_PROJECT = r"/projects/(?P<project>[a-z0-9][a-z0-9._-]*)"
_REPOSITORY = r"(?P<name>[a-z0-9][a-z0-9._/-]*)"
_PLAN = r"(?P<plan>[1-9][0-9]{0,17})"
_ROBOT = r"(?P<robot>[1-9][0-9]{0,17})"
_RUN = r"(?P<run>[1-9][0-9]{0,17})"
_WEBHOOK = r"(?P<webhook>[1-9][0-9]{0,17})"
_DIGEST = r"@(?P<digest>sha(?:256|512):[0-9a-f]+)"
_TAG = r":(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]*)"

_PAGES: tuple[tuple[str, type[PageHandler]], ...] = (
    (r"/", front.FrontPage),
    (r"/addresses", front.AddressesPage),
    (r"/language", front.LanguagePage),
    *((guide.address(name), guide.GuidePage) for name in guide.CHAPTERS),
    (r"/help/personal-data", privacy.PrivacyPage),
    (r"/search", search.SearchPage),
    (r"/mirror", mirrors.MirrorPage),
    (r"/waiting", plans.WaitingPage),
    (r"/plans", plans.PlansPage),
    (r"/plans/new", plans.NewPlanPage),
    (r"/plans/delete", plans.DeletePlanPage),
    (r"/plans/" + _PLAN, plans.PlanPage),
    (r"/plans/" + _PLAN + r"/fills", plans.PlanFillsPage),
    (r"/projects", projects.ProjectsPage),
    (r"/new-project", projects.NewProjectPage),
    (secret.ADDRESS, secret.SecretPage),
    (r"/mine", mine.MinePage),
    (r"/mine/sessions", mine.SessionsPage),
    (r"/mine/sessions/revoke", mine.RevokeSessionPage),
    (r"/mine/deleted", deleted.DeletedProjectsPage),
    (r"/mine/deleted/restore", deleted.RestoreProjectPage),
    (r"/mine/deleted/delete", deleted.DeleteProjectForGoodPage),
    (r"/mine/keys", mine.KeysPage),
    (r"/mine/keys/delete", mine.DeleteKeyPage),
    (r"/administration", operations.OverviewPage),
    (r"/administration/budgets", operations.BudgetsPage),
    (r"/administration/requests", operations.RequestsPage),
    (r"/administration/users", admin.UsersPage),
    (r"/administration/users/change", admin.ChangeUserPage),
    (r"/administration/projects", admin.QuotasPage),
    (r"/administration/unattended", unattended.UnattendedPage),
    (r"/administration/upstreams", admin.UpstreamsPage),
    (r"/administration/upstreams/fills", admin.AllFillsPage),
    (r"/administration/robots", robots.RobotsPage),
    (r"/administration/robots/new", robots.NewRobotPage),
    (r"/administration/robots/" + _ROBOT, robots.RobotPage),
    (r"/administration/robots/refresh", robots.RefreshRobotPage),
    (r"/administration/robots/switch", robots.SwitchRobotPage),
    (r"/administration/robots/prolong", robots.ProlongRobotPage),
    (r"/administration/robots/delete", robots.DeleteRobotPage),
    (r"/administration/audit", admin.AuditPage),
    (r"/administration/audit\.csv", admin.AuditExportPage),
    (_PROJECT, projects.SummaryPage),
    (_PROJECT + r"/configuration", projects.ConfigurationPage),
    (_PROJECT + r"/delete", projects.DeleteProjectPage),
    (_PROJECT + r"/storage", projects.StoragePage),
    (_PROJECT + r"/free-unfinished", projects.FreeUnfinishedPage),
    (_PROJECT + r"/bin", deleted.BinPage),
    (_PROJECT + r"/bin/restore", deleted.RestorePage),
    (_PROJECT + r"/bin/delete", deleted.DeleteForGoodPage),
    (_PROJECT + r"/bin/empty", deleted.EmptyBinPage),
    (_PROJECT + r"/cache", mirrors.CachePage),
    (_PROJECT + r"/cache/fills", mirrors.FillsPage),
    (_PROJECT + r"/members", members.MembersPage),
    (_PROJECT + r"/members/add", members.AddMemberPage),
    (_PROJECT + r"/members/role", members.SetRolePage),
    (_PROJECT + r"/members/remove", members.RemoveMemberPage),
    (_PROJECT + r"/leave", members.LeavePage),
    (_PROJECT + r"/robots", robots.RobotsPage),
    (_PROJECT + r"/robots/new", robots.NewRobotPage),
    (_PROJECT + r"/robots/" + _ROBOT, robots.RobotPage),
    (_PROJECT + r"/robots/refresh", robots.RefreshRobotPage),
    (_PROJECT + r"/robots/switch", robots.SwitchRobotPage),
    (_PROJECT + r"/robots/prolong", robots.ProlongRobotPage),
    (_PROJECT + r"/robots/delete", robots.DeleteRobotPage),
    (_PROJECT + r"/labels", labels.LabelsPage),
    (_PROJECT + r"/labels/delete", labels.DeleteLabelPage),
    (_PROJECT + r"/policy", policy.PolicyPage),
    (_PROJECT + r"/policy/immutability/add", policy.AddImmutabilityPage),
    (_PROJECT + r"/policy/immutability/switch", policy.SwitchImmutabilityPage),
    (_PROJECT + r"/policy/immutability/delete", policy.DeleteImmutabilityPage),
    (_PROJECT + r"/policy/retention/add", policy.AddRetentionPage),
    (_PROJECT + r"/policy/retention/remove", policy.RemoveRetentionPage),
    (_PROJECT + r"/policy/retention/schedule", policy.SchedulePage),
    (_PROJECT + r"/policy/retention/run", policy.RunRetentionPage),
    (_PROJECT + r"/policy/retention/stop", policy.StopRunPage),
    (_PROJECT + r"/policy/runs/" + _RUN, policy.RunPage),
    (_PROJECT + r"/webhooks", webhooks.WebhooksPage),
    (_PROJECT + r"/webhooks/new", webhooks.NewWebhookPage),
    (_PROJECT + r"/webhooks/" + _WEBHOOK, webhooks.WebhookPage),
    (_PROJECT + r"/webhooks/switch", webhooks.SwitchWebhookPage),
    (_PROJECT + r"/webhooks/delete", webhooks.DeleteWebhookPage),
    (_PROJECT + r"/webhooks/send", webhooks.SendAgainPage),
    (_PROJECT + r"/logs", logs.LogsPage),
    (_PROJECT + r"/repositories", repositories.RepositoriesPage),
    (_PROJECT + r"/repositories/" + _REPOSITORY + _DIGEST, repositories.ArtifactPage),
    (_PROJECT + r"/repositories/" + _REPOSITORY + _TAG, tags.TagRedirect),
    (_PROJECT + r"/tags/" + _REPOSITORY + _TAG, tags.TagPage),
    (_PROJECT + r"/pin-tag/" + _REPOSITORY, pins.PinTagPage),
    (_PROJECT + r"/unpin-tag/" + _REPOSITORY, pins.UnpinTagPage),
    (_PROJECT + r"/use-newer/" + _REPOSITORY, pins.UseNewerPage),
    (_PROJECT + r"/point-tag/" + _REPOSITORY + _TAG, tags.PointTagPage),
    (_PROJECT + r"/repositories/" + _REPOSITORY, repositories.RepositoryPage),
    (_PROJECT + r"/compare/" + _REPOSITORY, compare.ComparePage),
    (_PROJECT + r"/describe-repository/" + _REPOSITORY, repositories.DescribeRepositoryPage),
    (_PROJECT + r"/delete-repository/" + _REPOSITORY, repositories.DeleteRepositoryPage),
    (_PROJECT + r"/delete-artifact/" + _REPOSITORY + _DIGEST, repositories.DeleteArtifactPage),
    (_PROJECT + r"/add-tag/" + _REPOSITORY + _DIGEST, tags.AddTagPage),
    (_PROJECT + r"/remove-tag/" + _REPOSITORY + _DIGEST, tags.RemoveTagPage),
    (_PROJECT + r"/remove-tags/" + _REPOSITORY, tags.RemoveTagsPage),
    (_PROJECT + r"/retag/" + _REPOSITORY, tags.RetagPage),
    (_PROJECT + r"/attach-label/" + _REPOSITORY + _DIGEST, repositories.AttachLabelPage),
    (_PROJECT + r"/detach-label/" + _REPOSITORY + _DIGEST, repositories.DetachLabelPage),
)


@cache
def compiled() -> Sequence[tuple[re.Pattern[str], type[PageHandler]]]:
    """Compile the patterns of the pages' paths, once."""
    return [(re.compile(pattern + "$"), handler) for pattern, handler in _PAGES]


def routes(services: Services) -> list[url]:
    """Return the pages' routes. `NOT_FOUND` handles every path that has no route."""
    texts.load()
    given = {"services": services}
    return [
        url(r"/static/(.*)", StaticHandler, {"observer": services.observer}),
        url(r"/help/images/(.*)", guide.PictureHandler, {"observer": services.observer}),
        *(url(pattern, handler, given) for pattern, handler in compiled()),
    ]


NOT_FOUND = NotFoundPage
