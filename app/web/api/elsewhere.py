"""Answer for nouns of Harbor's that are not here: an empty list, or 404 with the reason, so that clients continue."""

from __future__ import annotations

from collections.abc import Mapping

from app.access.errors import Missing

from .document import BASE
from .handler import ApiHandler, MethodNotAllowed

# By the nouns in Harbor's paths. A path that is in our document comes before these.
_REASONS: Mapping[str, str] = {
    "webhook": "what a webhook has sent is at webhook/policies/ID/executions",
    "scan": "this registry scans nothing",
    "scans": "this registry scans nothing",
    "scanner": "this registry scans nothing",
    "scanners": "this registry scans nothing",
    "vulnerabilities": "this registry scans nothing",
    "security": "this registry scans nothing",
    "export": "this registry scans nothing, so there is nothing to export",
    "CVEAllowlist": "this registry scans nothing, so nothing is on an allowlist",
    "scanAll": "this registry scans nothing",
    "preheat": "nothing is sent ahead to other caches",
    "p2p": "nothing is sent ahead to other caches",
    "replication": "nothing is copied to other registries; a project can be a cache of an upstream",
    "usergroups": "groups come from the university with each log-in; name them as members",
    "ldap": "people log in by SAML or with a password that is kept here",
    "oidc": "people log in by SAML or with a password that is kept here",
    "cli_secret": "make an access key instead: POST /users/current/access-keys",
    "gc": "garbage is collected all the time and needs no schedule",
    "purgeaudit": "old entries of the audit log are removed all the time and need no schedule",
    "jobservice": "jobs run in every worker and cannot be changed",
    "schedules": "jobs have no schedules to change",
    "getcert": "there is no certificate authority here",
    "icons": "artifacts have no icons",
}
# Harbor's lists that are always empty here.
EMPTY = (
    "/usergroups",
    "/projects/{project_name_or_id}/scanner/candidates",
    "/projects/{project_name}/preheat/policies",
    "/p2p/preheat/instances",
    "/replication/policies",
    "/replication/executions",
    "/scanners",
    "/system/gc",
    "/system/purgeaudit",
    "/schedules",
    "/auditlog-exts/events",
)


def reason(path: str) -> str:
    """Return why there is no such path."""
    for word in path.removeprefix(BASE).split("/"):
        if word in _REASONS:
            return f"this registry has no such thing: {_REASONS[word]}"
    return f"there is no such path; {BASE}/openapi.json lists all paths"


class NotFoundHandler(ApiHandler):
    """Every path below ``/api`` that the document does not have."""

    async def admit(self) -> None:
        raise Missing(reason(self.request.path))


class EmptyListHandler(ApiHandler):
    """A list of things that this registry does not have; every other method is answered with the reason."""

    async def admit(self) -> None:
        if self.method.lower() not in self._operations:
            raise MethodNotAllowed(reason(self.request.path), headers={"Allow": self._allowed()})
        await super().admit()

    async def get(self) -> None:
        self.answer_whole([])
