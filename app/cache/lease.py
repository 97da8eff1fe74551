"""Leases: one worker of all hosts does a job, and another may take over after the first is dead.

A lease saves double work; it is not a lock. A flushed Redis grants the same lease again. So a job under a lease must
stay correct if two workers do it.
"""

from __future__ import annotations

import asyncio
import enum
import secrets

from .client import AWAY, Cache

# In seconds: how long a dead holder keeps the others waiting.
_LIFE = 10.0

# KEYS[1] the lease, ARGV: the act, the asker's id, the life in milliseconds. Returns 1 if the asker holds it now.
_LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then return 0 end
if ARGV[1] == 'release' then redis.call('DEL', KEYS[1]) return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


class Claim(enum.Enum):
    """The result of asking for a lease."""

    HELD = "held"
    TAKEN = "taken by another"
    AWAY = "Redis is down, so the holder is unknown"


class Lease:
    """The right of one holder to do the job ``key``. It is renewed while held, for ``life`` seconds each time.

    The holder releases it. A holder that dies loses it after ``life`` seconds.
    """

    def __init__(self, cache: Cache, key: str, *, life: float = _LIFE) -> None:
        self._cache = cache
        self._key = key
        self._life = life
        self._me = secrets.token_hex(16)
        self._renewing: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Return whether the lease was ours at its last renewal; False tells a holder that another has taken over."""
        return self._renewing is not None and not self._renewing.done()

    async def acquire(self) -> Claim:
        """Ask for the lease once, without waiting. A holder may ask again."""
        claim = await self._ask("hold")
        if claim is Claim.HELD and not self.held:
            self._renewing = asyncio.create_task(self._renew(), name=f"lease {self._key}")
        return claim

    async def release(self) -> None:
        """Release the lease, so that another can have it at once; does nothing if it is not ours."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        await asyncio.gather(self._renewing, return_exceptions=True)
        self._renewing = None
        await self._ask("release")

    async def _renew(self) -> None:
        # While Redis is down the lease may lapse and another worker may get it. Neither learns of the other: see above.
        while True:
            await asyncio.sleep(self._life / 3)
            if await self._ask("hold") is Claim.TAKEN:
                return

    async def _ask(self, what: str) -> Claim:
        life = int(self._life * 1000)
        answer = await self._cache.script(_LEASE, [self._key], lambda: [what, self._me, life])
        if answer is AWAY:
            return Claim.AWAY
        return Claim.HELD if answer == 1 else Claim.TAKEN
