"""Secrets as a Harbor has hashed them, which are verified here until their first use.

    harbor:sha256:SALT:HEX                      a robot account's: Harbor's own hash
    harbor:pbkdf2_sha256:SALT:BYTES:$argon2id…  a person's: Harbor's hash, hashed again as ours are

SALT is in base64. Harbor's hashes are PBKDF2. With 4,096 rounds of SHA-1 they are guessed quickly, so that of a
password is never kept as it is. The secret of a robot account is mostly 32 random characters, and its hash is replaced
at the first log-in.

Source: goharbor/harbor, ``src/common/utils/encrypt.go``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

_MARK = "harbor"
# The hash function and the rounds of each version.
_VERSIONS = {"sha1": ("sha1", 4096), "sha256": ("sha256", 4096), "pbkdf2_sha256": ("sha256", 600_000)}
_ROBOTS = "sha256"


@dataclass(frozen=True, slots=True)
class HarborHash:
    """How Harbor has hashed a secret: ``size`` is in bytes, ``kept`` what is compared in the end."""

    version: str
    salt: str
    size: int
    kept: str

    def of(self, secret: str) -> str:
        """Return Harbor's hash of a secret in hex; this takes up to half a second."""
        function, rounds = _VERSIONS[self.version]
        return hashlib.pbkdf2_hmac(function, secret.encode(), self.salt.encode(), rounds, self.size).hex()


def is_known(version: str, salt: str, hashed: str) -> bool:
    """Return whether secrets can be compared with a hash of Harbor's."""
    try:
        return version in _VERSIONS and bool(salt) and len(bytes.fromhex(hashed)) > 0
    except ValueError:
        return False


def of_robot(salt: str, hashed: str) -> str:
    """Return a robot account's hash as it is kept here."""
    return f"{_MARK}:{_ROBOTS}:{_encoded(salt)}:{hashed.lower()}"


def of_person(version: str, salt: str, hashed: str, hashed_again: str) -> str:
    """Return a password's hash as it is kept here; ``hashed_again`` is our hash of Harbor's in hex."""
    return f"{_MARK}:{version}:{_encoded(salt)}:{len(hashed) // 2}:{hashed_again}"


def parse(stored: str) -> HarborHash | None:
    """Return how a kept hash came about; None if it is not from a Harbor."""
    mark, *parts = stored.split(":")
    if mark != _MARK or len(parts) not in (3, 4):
        return None
    version, salt, *rest = parts
    size = int(rest[0]) if len(rest) == 2 else len(rest[0]) // 2
    return HarborHash(version, base64.b64decode(salt).decode(), size, rest[-1])


def matches(robot: HarborHash, secret: str) -> bool:
    """Return whether a robot account's secret is the one that was hashed."""
    return hmac.compare_digest(robot.of(secret), robot.kept)


def _encoded(salt: str) -> str:
    return base64.b64encode(salt.encode()).decode()
