"""Make small parts of answers that several modules of the API share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.access.roles import Role

# Harbor's numbers and names of the roles.
ROLE_IDS: Mapping[Role, int] = {
    Role.PROJECT_ADMIN: 1,
    Role.DEVELOPER: 2,
    Role.GUEST: 3,
    Role.MAINTAINER: 4,
    Role.LIMITED_GUEST: 5,
}
ROLE_NAMES: Mapping[Role, str] = {
    Role.PROJECT_ADMIN: "projectAdmin",
    Role.DEVELOPER: "developer",
    Role.GUEST: "guest",
    Role.MAINTAINER: "maintainer",
    Role.LIMITED_GUEST: "limitedGuest",
}
ROLES: Mapping[int, Role] = {number: role for role, number in ROLE_IDS.items()}

NO_END = -1


def some(**fields: object) -> dict[str, Any]:
    """Return an object of the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def moment(seconds: float | None) -> str | None:
    """Return a time (Unix seconds) in Harbor's form: UTC with milliseconds; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def storage(size: int | None) -> dict[str, int]:
    """Return an amount of storage in bytes in Harbor's form; None means no limit."""
    return {"storage": NO_END if size is None else size}


def expiry(seconds: float | None) -> int:
    """Return an expiry in Unix seconds in Harbor's form; None means never."""
    return NO_END if seconds is None else int(seconds)
