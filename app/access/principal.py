"""The principal of a request: a person, a robot account or anonymous."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PrincipalKind(StrEnum):
    ANONYMOUS = "anonymous"
    PERSON = "person"
    ROBOT = "robot"
    # Acts without a request; it occurs in the audit log only.
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Principal:
    """The person or robot account that a request acts for; ``name`` is empty for the anonymous.

    ``id`` is the account's or the robot's. ``generation`` is the account's, for a session that begins. ``limits`` are
    the rights of a robot account, or the bounds of an access key, by project id or by "*" for every project. They are
    None if there is no limit. A principal that was read from a token has none of these and no groups, because the
    token itself says what it allows.
    """

    kind: PrincipalKind
    name: str = ""
    is_admin: bool = False
    id: int | None = None
    groups: frozenset[str] = frozenset()
    limits: Mapping[str, frozenset[str]] | None = field(default=None, hash=False)
    generation: int = 0

    @property
    def subject(self) -> str:
        """Return the ``sub`` of a token, which differs for a person and a robot of the same name."""
        return "anonymous" if self.is_anonymous else f"{self.kind}:{self.name}"

    @property
    def is_anonymous(self) -> bool:
        return self.kind is PrincipalKind.ANONYMOUS

    @property
    def administers(self) -> bool:
        """Return whether this is an administrator in person; their access keys are not for the system."""
        return self.is_admin and self.limits is None

    def limited(self, project_id: int) -> frozenset[str]:
        """Return the rights that `limits` leave in a project."""
        limits = self.limits or {}
        return limits.get("*", frozenset()) | limits.get(str(project_id), frozenset())

    @classmethod
    def from_subject(cls, subject: str, *, is_admin: bool) -> Principal:
        """Return the principal of a `subject`; raises ValueError for any other text."""
        kind, _, name = subject.partition(":")
        return cls(PrincipalKind(kind), name, is_admin)


def name_of(subject: str) -> str:
    """Return the name in a `Principal.subject`, "" if it has none."""
    return subject.partition(":")[2]


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS)
# A person who works on the host; the service itself; the identity provider with the rules on its attributes.
COMMAND_LINE = Principal(PrincipalKind.SYSTEM, "command line")
SERVICE = Principal(PrincipalKind.SYSTEM, "registry")
UNIVERSITY = Principal(PrincipalKind.SYSTEM, "university")


def address_block(address: str) -> str:
    """Return the block that counts as one client: an IPv4 address itself, or the IPv6 /64 that one host may roam in.

    All peers without an address (those of a Unix socket) share one block.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))
