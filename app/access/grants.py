"""Checks of the rights that a robot account or an access key is given, and of its expiry."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping

from .errors import Forbidden, Invalid
from .roles import GRANTABLE_NAMES, rights_named

EVERYWHERE = "*"
_DAY = 86400
_PROJECT_ID = re.compile(r"[1-9][0-9]{0,17}\Z")
_MOST_PROJECTS = 1000

Permissions = Mapping[str, Collection[str]]


def checked_permissions(permissions: Permissions, own: Collection[str]) -> dict[str, list[str]]:
    """Return rights by project as they are stored; raises Invalid, and Forbidden for a right that is not in ``own``."""
    if not permissions or not all(permissions.values()):
        raise Invalid("choose at least one right for each project, such as repository:pull")
    if len(permissions) > _MOST_PROJECTS:
        raise Invalid(
            "name at most %(most)s projects; %(all)s stands for all projects", most=_MOST_PROJECTS, all=EVERYWHERE
        )
    for project in permissions:
        if project != EVERYWHERE and not _PROJECT_ID.match(project):
            raise Invalid(
                "%(project)r is not a project id; %(all)s stands for all projects", project=project[:40], all=EVERYWHERE
            )
    wanted = {right for rights in permissions.values() for right in rights}
    if unknown := sorted(wanted - GRANTABLE_NAMES):
        raise Invalid(
            "%(right)r cannot be given; choose from %(rights)s",
            right=unknown[0][:40],
            rights=", ".join(sorted(GRANTABLE_NAMES)),
        )
    if lacking := sorted(rights_named(wanted) - set(own)):
        raise Forbidden("you cannot give %(right)s: you do not have it yourself", right=lacking[0])
    return {project: sorted(set(rights)) for project, rights in permissions.items()}


def expiry(days: int, most: int) -> float:
    """Return the time ``days`` from now, in Unix seconds; raises Invalid unless they are 1 to ``most``."""
    if not 1 <= days <= most:
        raise Invalid("the expiry must be between 1 and %(most)s days", most=most)
    return time.time() + days * _DAY
