"""Which fills run, said by every worker about once a second, so that people see all of them wherever they look."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from app.cache import AWAY, Cache, keys
from app.kit.jobs import repeat

from .fills import FillProgress

_SAY_SECONDS = 1.0
# What a worker said longer ago than this it would have said again, or it is dead.
_OLD_SECONDS = 5

# KEYS[1] one hash: worker → "<when, by the server's clock> <what it said>"; gone a minute after the last word.
# ARGV: who speaks, what it says (nothing: it has nothing to say any more).
_SAY = """
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], redis.call('TIME')[1] .. ' ' .. ARGV[2])
return redis.call('EXPIRE', KEYS[1], 60)
"""
# ARGV: after how many seconds a word is old.
_HEAR = """
local now, heard, fields = tonumber(redis.call('TIME')[1]), {}, redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local at, said = string.match(fields[i + 1], '^(%d+) (.*)$')
  if now - tonumber(at) > tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], fields[i])
  else heard[#heard + 1] = said end
end
return heard
"""


@dataclass(frozen=True, slots=True)
class RunningFill:
    """A blob on its way, as all workers of all hosts tell together; sizes in bytes, ``started`` in Unix time.

    ``repositories`` are full names, in order; ``clients`` read it now. ``size`` is None where nobody knows.
    """

    upstream: str
    digest: str
    repositories: tuple[str, ...]
    received: int
    size: int | None
    clients: int
    started: float


class Progress:
    """Says what one worker does for one upstream; `run` until cancelled, then `close`."""

    def __init__(self, cache: Cache, upstream: str, running: Callable[[], Iterable[FillProgress]]) -> None:
        self._cache = cache
        self._upstream = upstream
        self._running = running
        self._speaker = f"{socket.gethostname()} {os.getpid()} {upstream}"
        self._spoke = False

    async def run(self) -> None:
        """Say it about once a second while anything runs, for as long as the worker lives."""
        await repeat("telling of fills", lambda: self._say(self._running()), _SAY_SECONDS, now=True)

    async def close(self) -> None:
        """Take back what was said."""
        await self._say([])

    async def _say(self, running: Iterable[FillProgress]) -> None:
        told = [
            {
                "upstream": self._upstream,
                "digest": fill.digest,
                "repositories": sorted(fill.repositories),
                "received": fill.received,
                "size": fill.size,
                "clients": fill.clients,
                "started": fill.started,
            }
            for fill in running
        ]
        if told or self._spoke:
            word = json.dumps(told) if told else ""
            await self._cache.script(_SAY, [keys.fills()], lambda: [self._speaker, word])
        self._spoke = bool(told)


async def running_fills(cache: Cache) -> list[RunningFill]:
    """List the fills that run anywhere, oldest first; none where Redis is away."""
    heard = await cache.script(_HEAR, [keys.fills()], lambda: [_OLD_SECONDS])
    if heard is AWAY:
        return []
    parts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for word in heard:
        for part in json.loads(word):
            parts.setdefault((part["upstream"], part["digest"]), []).append(part)
    return sorted((_joined(*key, said) for key, said in parts.items()), key=lambda fill: fill.started)


def _joined(upstream: str, digest: str, parts: list[dict[str, Any]]) -> RunningFill:
    """Put together what the leader and those who follow it say of one blob."""
    sizes = [part["size"] for part in parts if part["size"] is not None]
    return RunningFill(
        upstream=upstream,
        digest=digest,
        repositories=tuple(sorted({name for part in parts for name in part["repositories"]})),
        received=max(part["received"] for part in parts),
        size=max(sizes, default=None),
        clients=sum(part["clients"] for part in parts),
        started=min(part["started"] for part in parts),
    )
