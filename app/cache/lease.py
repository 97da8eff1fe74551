"""Leases: one worker of all hosts does a thing, and another may when the first is dead.

A lease saves work that would be done twice; it is no lock. A Redis that is flushed hands the same lease out again,
so what is done under one must stand being done by two.
"""

from __future__ import annotations

import asyncio
import enum
import secrets

from .client import AWAY, Cache

# How long a dead holder keeps the others waiting.
_LIFE = 10.0

# KEYS[1] the lease, ARGV: what to do, who asks, for how many milliseconds. Answers 1 where it is now the asker's.
_LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then return 0 end
if ARGV[1] == 'release' then redis.call('DEL', KEYS[1]) return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


class Claim(enum.Enum):
    """What came of asking for a lease."""

    HELD = "held"
    TAKEN = "taken by another"
    AWAY = "Redis is away, nobody can tell"


class Lease:
    """The right to do ``key``, for one holder. Renewed while held, for ``life`` seconds each time.

    Whoever acquired it releases it; a holder that dies loses it after ``life`` seconds.
    """

    def __init__(self, cache: Cache, key: str, *, life: float = _LIFE) -> None:
        self._cache = cache
        self._key = key
        self._life = life
        self._me = secrets.token_hex(16)
        self._renewing: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Whether it was ours when it was last renewed; a holder finds out here that another has taken over."""
        return self._renewing is not None and not self._renewing.done()

    async def acquire(self) -> Claim:
        """Ask for the lease once, without waiting; asking again for a held one is fine."""
        claim = await self._ask("hold")
        if claim is Claim.HELD and not self.held:
            self._renewing = asyncio.create_task(self._renew(), name=f"lease {self._key}")
        return claim

    async def release(self) -> None:
        """Let the next one have it at once; silent where it is not ours."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        await asyncio.gather(self._renewing, return_exceptions=True)
        self._renewing = None
        await self._ask("release")

    async def _renew(self) -> None:
        # Redis away: the lease may lapse, and whoever gets it then is told so by nobody; see the module.
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
