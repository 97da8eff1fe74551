"""Login throttling: it slows the guessing of passwords by account and address, and never locks an account.

    r:login:WINDOW:ID    failed log-ins; WINDOW is a minute's number, ID the hash of an address block alone
                         or of a user name and an address block (a mistyped user name may be a password)

All clients behind one address share its bound, which is therefore the looser one. Redis counts for all workers, and
each process counts its own. If Redis is down or flushed, the process's count still holds.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from typing import Protocol

from cachetools import FIFOCache

from app.oci.errors import TooManyRequests

from .principal import address_block

_WINDOW = 60
_PER_ACCOUNT_AND_ADDRESS = 10
_PER_ADDRESS = 200
_MAX_COUNTED = 10_000


class Counter(Protocol):
    """Counts that all workers share; None if they cannot be reached."""

    async def count(self, key: str) -> int | None:
        """Return a count; 0 if nothing was counted."""

    async def increment(self, key: str, ttl: int) -> int | None:
        """Add one and return the sum; the key expires ``ttl`` seconds after its first count."""


class Throttle:
    """Counts failures in fixed windows of a minute; the rest of a window is the time to wait."""

    def __init__(self, counter: Counter, clock: Callable[[], float] = time.time) -> None:
        self._shared = counter
        self._clock = clock
        self._window = 0
        self._own: FIFOCache[str, int] = FIFOCache(_MAX_COUNTED)

    async def check(self, username: str, address: str) -> None:
        """Raise TooManyRequests, with the seconds to wait, if too many log-ins have failed."""
        for key, most in self._keys(username, address):
            if max(self._own.get(key, 0), await self._shared.count(key) or 0) >= most:
                seconds = math.ceil(_WINDOW - self._clock() % _WINDOW)
                raise TooManyRequests(
                    "too many failed log-ins from your address; try again in %(seconds)s seconds",
                    seconds=seconds,
                    headers={"Retry-After": str(seconds)},
                )

    async def failed(self, username: str, address: str) -> None:
        """Count a failed log-in."""
        for key, _ in self._keys(username, address):
            self._own[key] = self._own.get(key, 0) + 1
            await self._shared.increment(key, _WINDOW)

    def _keys(self, username: str, address: str) -> list[tuple[str, int]]:
        window = int(self._clock() // _WINDOW)
        if window != self._window:
            self._window = window
            self._own.clear()
        block = address_block(address)
        return [
            (f"login:{window}:{_hash(block)}", _PER_ADDRESS),
            (f"login:{window}:{_hash(f'{block} {username}')}", _PER_ACCOUNT_AND_ADDRESS),
        ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
