"""Who asks: a person, a robot account or nobody in particular."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PrincipalKind(StrEnum):
    ANONYMOUS = "anonymous"
    PERSON = "person"
    ROBOT = "robot"
    # What nobody asked for by a request; in the audit log only.
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for; ``name`` is empty for the anonymous.

    ``id`` is the account's or the robot's; ``generation`` is the account's, for a session that is begun. ``limits`` are
    what a robot account was given, and what an access key was cut down to: rights by project id, or by "*" for every
    project; None where nothing is limited. One that was read from a token has neither these nor groups: the token
    itself says what it allows.
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
        """Spell the ``sub`` of a token; a person and a robot of the same name stay two."""
        return "anonymous" if self.is_anonymous else f"{self.kind}:{self.name}"

    @property
    def is_anonymous(self) -> bool:
        return self.kind is PrincipalKind.ANONYMOUS

    @property
    def administers(self) -> bool:
        """Whether this is an administrator in person: a key of one is for projects, not for the system."""
        return self.is_admin and self.limits is None

    def limited(self, project_id: int) -> frozenset[str]:
        """List the rights that `limits` leave in a project."""
        limits = self.limits or {}
        return limits.get("*", frozenset()) | limits.get(str(project_id), frozenset())

    @classmethod
    def from_subject(cls, subject: str, *, is_admin: bool) -> Principal:
        """Read what `subject` spelled; raises ValueError for anything else."""
        kind, _, name = subject.partition(":")
        return cls(PrincipalKind(kind), name, is_admin)


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS)
# Whoever works on the host; the service by itself; the identity provider, and the rules over what it says.
COMMAND_LINE = Principal(PrincipalKind.SYSTEM, "command line")
SERVICE = Principal(PrincipalKind.SYSTEM, "registry")
UNIVERSITY = Principal(PrincipalKind.SYSTEM, "university")


def address_block(address: str) -> str:
    """Name the block that counts as one client: an IPv4 address itself, of IPv6 the /64 that one host may roam in.

    What is no address (a Unix socket's peer) shares one block.
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
