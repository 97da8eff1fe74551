"""Check in one place what a principal may do in the pages and the REST API.

Each handler's method declares what it needs, in one word:

    nothing             everybody is allowed
    login               any login: in the browser, or with a password, an access key or a robot account
    person              a login without a key or a robot account, so that a leaked secret can't create more secrets
    admin               an administrator, also without a key
    project:read …      a right of `app.access.roles`, in the project of the request

A principal without any right in a project gets the same answer as if it did not exist: 404. An anonymous one gets 401,
because logging in may help.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.access.errors import Forbidden, Missing
from app.access.permissions import Permissions
from app.access.principal import Principal, PrincipalKind
from app.access.roles import ALL_RIGHTS
from app.oci.errors import Unauthorized
from app.projects.service import Projects

_LOG_IN = "log in to do this; without a login you can only read public projects"
_ADMINS_ONLY = "only an administrator may do this"
_NOT_BY_KEY = "an access key may not do this, not even an administrator's; log in yourself"

WORDS = frozenset({"nothing", "login", "person", "admin"})


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project and the principal's rights in it. ``upstream`` names the upstream of a mirror; None if it hosts."""

    id: int
    name: str
    public: bool
    upstream: str | None
    rights: frozenset[str]

    def may(self, right: str) -> bool:
        return right in self.rights


class AccessControl:
    """Checks needs and rights; it reads the database every time, so a change takes effect with the next request."""

    def __init__(self, projects: Projects, permissions: Permissions) -> None:
        self._projects = projects
        self._permissions = permissions

    def admit(self, principal: Principal, needs: str) -> None:
        """Check one of `WORDS`; raises Unauthorized for an anonymous principal, Forbidden for every other."""
        if needs not in WORDS:
            raise ValueError(needs)
        if needs == "nothing":
            return
        if principal.is_anonymous:
            raise Unauthorized(_LOG_IN)
        in_person = principal.kind is PrincipalKind.PERSON and principal.limits is None
        if needs == "person" and not in_person:
            raise Forbidden("access keys and robot accounts may not do this; log in yourself")
        if needs == "admin" and not principal.administers:
            raise Forbidden(_NOT_BY_KEY if principal.is_admin else _ADMINS_ONLY)

    async def open(
        self, principal: Principal, project: str | int | None, needs: str, *, otherwise: str | None = None
    ) -> ProjectView:
        """Find a project by its name or id, and check a right in it. None means that the caller found no project.

        ``otherwise`` replaces the text of Missing if the request named something else than the project's name.
        Raises Unauthorized, Missing, Forbidden and Unavailable.
        """
        if needs not in ALL_RIGHTS:
            raise ValueError(needs)
        view = None if project is None else await self._view(principal, project)
        if view is not None and needs in view.rights:
            return view
        if principal.is_anonymous:
            raise Unauthorized(_LOG_IN)
        # A robot account that only pulls may know its own project, although it cannot read the project's page.
        if view is None or not view.rights:
            if otherwise is not None:
                raise Missing(otherwise)
            raise Missing("there is no project %(project)r, or you are not a member of it", project=project)
        raise Forbidden(
            "you may not do this in %(name)s: it needs the right %(right)s; ask one of its project admins",
            name=view.name,
            right=needs,
        )

    async def _view(self, principal: Principal, project: str | int) -> ProjectView | None:
        try:
            found = await (self._projects.get(project) if isinstance(project, int) else self._projects.find(project))
        except Missing:
            return None
        rights = await self._permissions.rights(principal, found.id, public=found.public)
        return ProjectView(found.id, found.name, found.public, found.upstream, rights)
