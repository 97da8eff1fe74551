"""What lists need to know of whoever asks: the same rules as `Permissions.rights`, as a condition of a query."""

from __future__ import annotations

from collections.abc import Iterable

from app.access.principal import Principal, PrincipalKind
from app.access.roles import READ_PROJECT, Role
from app.database.projects import Viewer

_ORDER = list(Role)


def viewer_of(principal: Principal) -> Viewer:
    """Say whose list it is: a robot sees what it was given, a key no more than its person and what it was cut to."""
    only = None
    if principal.limits is not None and READ_PROJECT not in principal.limits.get("*", ()):
        only = frozenset(
            int(project) for project, rights in principal.limits.items() if project != "*" and READ_PROJECT in rights
        )
    if principal.kind is PrincipalKind.ROBOT:
        # Without limits it was read from a token, which says of repositories what it allows, and of projects nothing.
        return Viewer(everything=True, only=only if principal.limits is not None else frozenset())
    account_id = principal.id if principal.kind is PrincipalKind.PERSON else None
    return Viewer(principal.is_admin, account_id, principal.groups, only)


def highest(roles: Iterable[str]) -> Role | None:
    """Choose the highest of some roles."""
    return max((Role(role) for role in roles), key=_ORDER.index, default=None)
