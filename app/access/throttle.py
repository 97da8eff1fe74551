"""Login throttling: it slows the guessing of passwords, and refuses no right one because of others' wrong ones.

    r:login:WINDOW:ID    failed log-ins; WINDOW is a minute's number, ID the hash of an address block alone
                         or of a user name and an address block (a mistyped user name may be a password)
    r:login-good:ID      this user name has logged in from this address block in the last week

- One account at one address: ten failures a minute, then 429 for the rest of it. If the account has lately logged in
  from there, a thousand: somebody else behind the same address must not lock its owner out.
- One address: after 200 failures a minute, its log-ins are checked one after the other with a pause between. Accounts
  that have lately logged in from there do not count, and do not wait.

Redis counts for all workers, and each process counts its own. If Redis is down or flushed, the process's count still
holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import Counter as Counts
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from cachetools import FIFOCache, TTLCache

from app.database.text import folded
from app.oci.errors import TooManyRequests

from .principal import address_block

_WINDOW = 60
_PER_ACCOUNT_AND_ADDRESS = 10
_PER_GOOD_ACCOUNT = 1000
_PER_ADDRESS = 200
_MAX_COUNTED = 10_000
# How long a log-in counts as lately, and how long a process need not ask or tell Redis again.
_GOOD_SECONDS = 7 * 86400
_TOLD_SECONDS = 3600
# The pause before each check of a password for an address that has failed too often, and how many may wait for theirs.
_PAUSE_SECONDS = 1.0
_MOST_WAITING = 20


class TooManyFailures(TooManyRequests):
    cause = "log-ins"


class Counter(Protocol):
    """Counts and notes that all workers share; None if they cannot be reached."""

    async def count(self, key: str) -> int | None:
        """Return a count; 0 if nothing was counted."""

    async def increment(self, key: str, ttl: int) -> int | None:
        """Add one and return the sum; the key expires ``ttl`` seconds after its first count."""

    async def get(self, key: str) -> bytes | None:
        """Return a note; None as well if there is none."""

    async def set(self, key: str, value: str | bytes, ttl: float) -> bool:
        """Keep a note for ``ttl`` seconds; return whether it was kept."""


class Throttle:
    """Counts failures in fixed windows of a minute; the rest of a window is the time to wait."""

    def __init__(
        self, counter: Counter, clock: Callable[[], float] = time.time, *, pause: float = _PAUSE_SECONDS
    ) -> None:
        """``pause``: the seconds between two checks for an address that has failed too often."""
        self._shared = counter
        self._clock = clock
        self._pause = pause
        self._window = 0
        self._own: FIFOCache[str, int] = FIFOCache(_MAX_COUNTED)
        self._good: TTLCache[str, bool] = TTLCache(_MAX_COUNTED, _TOLD_SECONDS, timer=clock)
        self._lanes: dict[str, asyncio.Lock] = {}
        self._waiting: Counts[str] = Counts()

    async def check(self, username: str, address: str) -> None:
        """Raise TooManyRequests, with the seconds to wait, if too many log-ins to this account have failed."""
        most = _PER_GOOD_ACCOUNT if await self._is_good(username, address) else _PER_ACCOUNT_AND_ADDRESS
        if await self._count(self._pair(username, address)) >= most:
            raise self._refusal(math.ceil(_WINDOW - self._clock() % _WINDOW))

    async def failed(self, username: str, address: str) -> None:
        """Count a failed log-in."""
        keys = [self._pair(username, address)]
        if not await self._is_good(username, address):
            keys.append(self._block(address))
        for key in keys:
            self._own[key] = self._own.get(key, 0) + 1
            await self._shared.increment(key, _WINDOW)

    async def succeeded(self, username: str, address: str) -> None:
        """Note that the account has logged in from the address."""
        key = _good(username, address)
        if key not in self._good:
            self._good[key] = True
            await self._shared.set(key, b"1", _GOOD_SECONDS)

    async def pause(self, address: str) -> float:
        """Return the seconds that a log-in from an address would wait in `paced` now, if it waits at all."""
        return self._pause * (1 + self._waiting[address_block(address)]) if await self._is_slow(address) else 0.0

    @asynccontextmanager
    async def paced(self, username: str, address: str) -> AsyncIterator[None]:
        """Wait until the address may have another password checked; raises TooManyRequests if too many wait."""
        if await self._is_good(username, address) or not await self._is_slow(address):
            yield
            return
        block = address_block(address)
        if self._waiting[block] >= _MOST_WAITING:
            raise self._refusal(math.ceil(self._pause * _MOST_WAITING))
        self._waiting[block] += 1
        try:
            async with self._lanes.setdefault(block, asyncio.Lock()):
                await asyncio.sleep(self._pause)
                yield
        finally:
            self._waiting[block] -= 1
            if not self._waiting[block]:
                del self._waiting[block], self._lanes[block]

    def _refusal(self, seconds: int) -> TooManyFailures:
        return TooManyFailures(
            "too many failed log-ins from your address; try again in %(seconds)s seconds",
            seconds=seconds,
            headers={"Retry-After": str(seconds)},
        )

    async def _is_good(self, username: str, address: str) -> bool:
        key = _good(username, address)
        if key not in self._good and await self._shared.get(key) is not None:
            self._good[key] = True
        return key in self._good

    async def _is_slow(self, address: str) -> bool:
        return await self._count(self._block(address)) >= _PER_ADDRESS

    async def _count(self, key: str) -> int:
        return max(self._own.get(key, 0), await self._shared.count(key) or 0)

    def _pair(self, username: str, address: str) -> str:
        return f"login:{self._now()}:{_hash(f'{address_block(address)} {folded(username)}')}"

    def _block(self, address: str) -> str:
        return f"login:{self._now()}:{_hash(address_block(address))}"

    def _now(self) -> int:
        window = int(self._clock() // _WINDOW)
        if window != self._window:
            self._window = window
            self._own.clear()
        return window


def _good(username: str, address: str) -> str:
    return f"login-good:{_hash(f'{address_block(address)} {folded(username)}')}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
