"""Digests: ``algorithm:hex``, for the algorithms that this registry verifies.

Source: OCI image-spec, descriptor.md, "Digests"; sha256 and sha512 are its registered algorithms.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from .errors import DigestInvalid

if TYPE_CHECKING:
    from hashlib import _Hash

ALGORITHMS = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")


class Digest(str):
    """A digest that passed the grammar; SQL, JSON and headers see a plain string."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return ``text`` as a digest; raises DigestInvalid, also for an algorithm that is not verified here."""
        if not _DIGEST.match(text):
            raise DigestInvalid(
                "%(text)r is not a digest; expected sha256: or sha512: followed by lower-case hex digits",
                text=text[:150],
            )
        return cls(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Return the digest of bytes that fit in memory."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @classmethod
    def finish(cls, running: _Hash) -> Digest:
        """Return the digest of the bytes that a running hash has seen so far; the hash can take more."""
        return cls(f"{running.name}:{running.hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]


def is_digest(text: str) -> bool:
    """Return whether a text is a digest that this registry verifies."""
    return bool(_DIGEST.match(text))


def new_hash(algorithm: str) -> _Hash:
    """Return a new running hash; raises DigestInvalid for an algorithm that this registry does not verify."""
    if algorithm not in ALGORITHMS:
        raise DigestInvalid(
            "digest algorithm %(algorithm)r is not supported; use sha256 or sha512", algorithm=algorithm[:40]
        )
    return hashlib.new(algorithm)
