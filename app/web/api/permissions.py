"""Convert the rights of robot accounts and access keys between Harbor's form and ours.

    {"kind": "project", "namespace": "lab", "access": [{"resource": "repository", "action": "pull"}]}

is {"1": ["repository:pull"]}: the keys are project numbers, or "*" for every project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.access.errors import Missing
from app.access.grants import EVERYWHERE, Permissions
from app.access.principal import Principal
from app.access.roles import GRANTABLE_NAMES, READ_PROJECT
from app.projects.service import Projects
from app.web.access_control import AccessControl

from .handler import ApiHandler


async def read_permissions(
    given: Sequence[Mapping[str, Any]], access_control: AccessControl, principal: Principal
) -> dict[str, list[str]]:
    """Return the rights that a request gives, in our form; raises Missing for a project that the caller cannot see."""
    rights: dict[str, set[str]] = {}
    for permission in given:
        name = permission["namespace"]
        key = EVERYWHERE if name == EVERYWHERE else str((await access_control.open(principal, name, READ_PROJECT)).id)
        rights.setdefault(key, set()).update(f"{one['resource']}:{one['action']}" for one in permission["access"])
    return {key: sorted(many) for key, many in rights.items()}


async def spell_permissions(
    permissions: Permissions, projects: Projects, known: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Return rights in Harbor's form, without deleted projects; ``known`` holds project names by number."""
    spelled = []
    for key, rights in sorted(permissions.items()):
        name = key if key == EVERYWHERE else await _name(int(key), projects, known)
        if name is not None:
            spelled.append(
                {"kind": "project", "namespace": name, "access": [access(right) for right in sorted(rights)]}
            )
    return spelled


async def _name(project_id: int, projects: Projects, known: Mapping[int, str]) -> str | None:
    if project_id in known:
        return known[project_id]
    try:
        return (await projects.get(project_id)).name
    except Missing:
        return None


def access(right: str) -> dict[str, str]:
    """Return a right in Harbor's form."""
    resource, _, action = right.partition(":")
    return {"resource": resource, "action": action}


class PermissionsHandler(ApiHandler):
    async def get(self) -> None:
        self.answer({"project": [access(right) for right in sorted(GRANTABLE_NAMES)], "system": []})
