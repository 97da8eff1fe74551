"""Turn a principal into the viewer of a list: the rules of `Permissions.rights` as a condition of a query."""

from __future__ import annotations

from collections.abc import Iterable

from app.access.principal import Principal, PrincipalKind
from app.access.roles import READ_PROJECT, Role
from app.database.projects import Viewer

_ORDER = list(Role)


def viewer_of(principal: Principal) -> Viewer:
    """Return the viewer of a list.

    A robot sees the projects it has rights in. A key sees those its person may see, within the key's limits.
    """
    only = None
    if principal.limits is not None and READ_PROJECT not in principal.limits.get("*", ()):
        only = frozenset(
            int(project) for project, rights in principal.limits.items() if project != "*" and READ_PROJECT in rights
        )
    if principal.kind is PrincipalKind.ROBOT:
        # A robot without limits comes from a token, which holds rights in repositories but none in projects.
        return Viewer(everything=True, only=only if principal.limits is not None else frozenset())
    account_id = principal.id if principal.kind is PrincipalKind.PERSON else None
    return Viewer(principal.is_admin, account_id, principal.groups, only)


def highest(roles: Iterable[str]) -> Role | None:
    """Return the highest of some roles, None if there are none."""
    return max((Role(role) for role in roles), key=_ORDER.index, default=None)
