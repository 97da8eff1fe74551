"""What may be given to a robot account or an access key, and for how long; refuses the rest in words."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping

from .errors import Forbidden, Invalid
from .roles import GRANTABLE_RIGHTS

EVERYWHERE = "*"
_DAY = 86400
_PROJECT_ID = re.compile(r"[1-9][0-9]{0,17}\Z")
_MOST_PROJECTS = 1000

Permissions = Mapping[str, Collection[str]]


def checked_permissions(permissions: Permissions, own: Collection[str]) -> dict[str, list[str]]:
    """Spell rights by project as they are kept; raises Invalid, and Forbidden for a right that is not among ``own``."""
    if not permissions or not all(permissions.values()):
        raise Invalid("choose at least one right, such as repository:pull, for each project that is named")
    if len(permissions) > _MOST_PROJECTS:
        raise Invalid(
            "at most %(most)s projects by their ids; %(all)s stands for all", most=_MOST_PROJECTS, all=EVERYWHERE
        )
    for project in permissions:
        if project != EVERYWHERE and not _PROJECT_ID.match(project):
            raise Invalid(
                "%(project)r is no project's id; %(all)s stands for all projects", project=project[:40], all=EVERYWHERE
            )
    wanted = {right for rights in permissions.values() for right in rights}
    if unknown := sorted(wanted - GRANTABLE_RIGHTS):
        raise Invalid(
            "%(right)r cannot be given; there are %(rights)s",
            right=unknown[0][:40],
            rights=", ".join(sorted(GRANTABLE_RIGHTS)),
        )
    if lacking := sorted(wanted - set(own)):
        raise Forbidden("you cannot give %(right)s: you do not have it yourself", right=lacking[0])
    return {project: sorted(set(rights)) for project, rights in permissions.items()}


def expiry(days: int, most: int) -> float:
    """Say when something given now for so many days ends, in Unix seconds; raises Invalid."""
    if not 1 <= days <= most:
        raise Invalid("it can be given for 1 to %(most)s days", most=most)
    return time.time() + days * _DAY
