"""Translate Harbor's values into ours: names of people and groups, roles, rights, upstreams and colours."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from app.access.accounts import acceptable
from app.access.roles import GRANTABLE_NAMES, Role
from app.config import UpstreamConfig
from app.database.harbor import Person, Project
from app.database.text import folded

from .report import CannotMoveError

ROLES: Mapping[int, Role] = {
    1: Role.PROJECT_ADMIN,
    2: Role.DEVELOPER,
    3: Role.GUEST,
    4: Role.MAINTAINER,
    5: Role.LIMITED_GUEST,
}
# Harbor's own name of Docker Hub, which is not where its images are.
_HUB = {"hub.docker.com", "registry-1.docker.io", "index.docker.io", "docker.io"}
_COLOR = re.compile(r"#[0-9a-fA-F]{6}\Z")
_NO_COLOR = "#808080"
_ADMIN_ID = 1


@dataclass(frozen=True, slots=True)
class Names:
    """How names of Harbor's become ours: by a table, and for the university's people else by a rule."""

    rule: str = "{username}"
    people: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, rule: str, table: Path | None) -> Names:
        """Read a CSV file of ``user,OLD,NEW`` and ``group,OLD,NEW``; raises ValueError and OSError."""
        try:
            rule.format(username="", email="")
        except (KeyError, IndexError, ValueError):
            raise ValueError(f"--people: {rule!r} may use {{username}} and {{email}} only") from None
        found: dict[str, dict[str, str]] = {"user": {}, "group": {}}
        if table is not None:
            for number, line in enumerate(csv.reader(table.read_text().splitlines()), 1):
                values = [value.strip() for value in line]
                if values and (len(values) != 3 or values[0] not in found or not all(values)):
                    raise ValueError(f"{table}:{number}: write user,OLD,NEW or group,OLD,NEW")
                if values:
                    found[values[0]][values[1]] = values[2]
        return cls(rule, found["user"], found["group"])

    def of_person(self, person: Person, *, local: bool, robot_prefixes: Sequence[str]) -> str:
        """Return a person's user name here; raises CannotMoveError."""
        name = self.people.get(person.username)
        if name is None:
            name = person.username if local else self.rule.format(username=person.username, email=person.email)
        name = folded(name)
        if not acceptable(name, "-") or name != name.strip() or (local and ":" in name):
            raise CannotMoveError("our rules refuse the user name")
        if name.startswith(tuple(robot_prefixes)):
            raise CannotMoveError("the user name begins like a robot account's; give another one with --names")
        if not local and "@" not in name.strip("@"):
            raise CannotMoveError(
                "no match: names of the university end in @ and a scope; give a rule (--people) or a name (--names)"
            )
        return name

    def of_group(self, group: str) -> str:
        """Return a group's name here."""
        return self.groups.get(group, group)


def is_local(person: Person, auth_mode: str) -> bool:
    """Return whether a person logs in to Harbor with a password that Harbor keeps."""
    return not person.is_oidc and (auth_mode == "db_auth" or person.id == _ADMIN_ID)


def upstream_of(project: Project, upstreams: Mapping[str, UpstreamConfig]) -> str:
    """Return the configured upstream that a proxy cache has; raises CannotMoveError."""
    url = project.url or ""
    wanted = _host(url)
    for name, upstream in upstreams.items():
        host = _host(upstream.url)
        if host == wanted or (host in _HUB and wanted in _HUB):
            return name
    raise CannotMoveError(f"no upstream is configured for {url}; add it under upstreams: and run this again")


def color(text: str) -> str:
    """Return a label's colour."""
    return text.lower() if _COLOR.match(text) else _NO_COLOR


def rights_of(rights: Sequence[Sequence[str]], projects: Mapping[int, int]) -> tuple[dict[str, list[str]], list[str]]:
    """Return a robot account's rights by our project ids or "*", and those that nothing here has.

    ``projects`` are our ids by Harbor's.
    """
    found: dict[str, set[str]] = {}
    lost: list[str] = []
    for scope, right in rights:
        where = scope.removeprefix("/project/")
        if scope == "/project/*":
            key: str | None = "*"
        else:
            key = str(projects[int(where)]) if where.isdigit() and int(where) in projects else None
        if key is None or right not in GRANTABLE_NAMES:
            lost.append(f"{right} in {scope}")
        else:
            found.setdefault(key, set()).add(right)
    return {key: sorted(names) for key, names in found.items()}, lost


def _host(url: str) -> str:
    return (urlsplit(url if "://" in url else f"https://{url}").hostname or "").lower()
