"""The budget ledger in Redis: one atomic script, `ledger.lua`, and the numbers it goes by.

Everything in it is counted by the clock of the Redis server, so the clocks of the hosts need not agree.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.cache import PATIENCE, Away, Cache

from .answers import RateLimit

# A counted GET is cut off after this long, so that what has not landed by then belongs to a dead worker.
FLIGHT_SECONDS = 60.0
# Who asked this lately counts as a competitor: pulls in a row come with pauses of this order.
ACTIVE_SECONDS = 180
LEDGER_SECONDS = 86400

_RULES = {
    "flight": FLIGHT_SECONDS,
    # A client asks for the manifest of its platform right after the index; this is a slow client on a slow line.
    "hold": 15,
    # Out of order answers, and upstream's servers that do not agree with each other yet, are over by then.
    "quiet": 60,
    # Others spend from the same address: this is how long we act on what the upstream said last …
    "known": 10,
    # … and how long we refuse by it: a denial costs nobody anything, and need not cost the upstream a HEAD.
    "known_to_deny": 60,
    # With so few left, one GET at a time, each on what the one before it just reported: what others spend
    # meanwhile would otherwise make several of ours one too many. And a client that asks for everything at once
    # leaves the next one the time to ask, too.
    "near": 10,
    "known_near": 0.5,
    "active": ACTIVE_SECONDS,
    # How long "no limit" is believed.
    "free": 60,
    # An unused ledger is kept so much longer than its window.
    "keep": LEDGER_SECONDS,
}
_SCRIPT = (Path(__file__).parent / "ledger.lua").read_text(encoding="utf-8")

Verdict = Literal["granted", "free", "late", "stale", "busy", "spent", "share", "blocked"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says, right after it did what it was told. Times are Unix times of the Redis server.

    ``verdict`` answers `Ledger.spend`: "granted" a counted GET, or "free" of any limit; or not, because it came
    "late" (ask again), the ledger is "stale" (ask the upstream first), it is "busy" (one at a time now), all is
    "spent", the client had its "share", or the upstream "blocked" us. ``waiting``: something may yet be given back;
    ``promised``: what it waits for is held for it. ``had``: what the client got.
    """

    now: float
    free: bool
    reserved: int
    had: int
    verdict: Verdict | None = None
    waiting: bool = False
    promised: bool = False
    share: int | None = None
    limit: int | None = None
    window: int | None = None
    remaining: int | None = None
    since: float | None = None
    heard: float | None = None
    blocked: float | None = None
    seeded: bool = False
    clients: Mapping[str, int] = field(default_factory=dict)

    @property
    def resets_in(self) -> float | None:
        """In how many seconds the window is over at the latest; None where there is none."""
        return None if self.since is None or self.window is None else max(0.0, self.since + self.window - self.now)

    @property
    def blocked_for(self) -> float:
        return max(0.0, (self.blocked or 0.0) - self.now)


class Ledger:
    """The ledger at ``key``. Every method answers AWAY where Redis does not; it may be carried out then, or later."""

    def __init__(self, cache: Cache, key: str, clock: Callable[[], float] | None = None) -> None:
        """``clock`` stands in for the Redis server's, for a test that does not want to wait six hours."""
        self._cache = cache
        self._key = key
        self._clock = clock
        # How far the server's clock is ahead of our monotonic one, at least; None before its first answer.
        self._ahead: float | None = None

    async def spend(self, spend_id: str, client: str, image: str, also_hold: int) -> Entry | Away:
        """Ask for one GET now, and ``also_hold`` more for the same image in the next seconds.

        With nothing to hold, what was held for the image is used first. A Redis that finds this after we have given
        up waiting reserves nothing.
        """
        return await self._do("spend", id=spend_id, client=client, image=image, also_hold=also_hold)

    async def settle(self, spend_id: str, rate: RateLimit | None, *, fine: bool, keep_hold: bool) -> Entry | Away:
        """Note what came of a GET; without ``rate`` it is taken for counted. ``fine``: the upstream sent a manifest.

        Without ``keep_hold``, what was held with the GET is given back.
        """
        return await self._do("settle", id=spend_id, rate=_plain(rate), fine=fine, drop=None if keep_hold else spend_id)

    async def observe(self, rate: RateLimit, age: float) -> Entry | Away:
        """Take in an answer to a request that left ``age`` seconds ago and was not counted."""
        return await self._do("observe", rate=_plain(rate), sent=self._server_time() - max(0.0, age))

    async def seed(self, rate: RateLimit | None, sent: float) -> Entry | Away:
        """Begin the ledger, or correct it, by an answer to a request sent at ``sent``; None: there is no limit.

        Only for a caller that kept every counted GET of its host on the ground meanwhile. Not ``seeded`` where a
        GET of another host landed since: the upstream must be asked again.
        """
        return await self._do("seed", rate=_plain(rate), sent=sent)

    async def block(self, seconds: float) -> Entry | Away:
        """Let nothing counted go for so long."""
        return await self._do("block", seconds=seconds)

    async def forget(self, spend_id: str) -> Entry | Away:
        """Give back a GET that was never sent, with what was held with it."""
        return await self._do("forget", id=spend_id, drop=spend_id)

    async def view(self) -> Entry | Away:
        """Say how things stand."""
        return await self._do("view")

    async def _do(self, what: str, **ask: Any) -> Entry | Away:
        def arguments() -> list[str]:
            ask["now"] = self._clock() if self._clock else None
            # Past this we have given up waiting.
            ask["by"] = self._server_time() + PATIENCE if self._ahead is not None else None
            wanted = json.dumps({name: value for name, value in ask.items() if value is not None})
            return [what, wanted, json.dumps(_RULES)]

        answer = await self._cache.script(_SCRIPT, [self._key], arguments)
        if isinstance(answer, Away):
            return answer
        entry = Entry(**json.loads(answer))
        ahead = entry.now - time.monotonic()
        self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)
        return entry

    def _server_time(self) -> float:
        """Tell the server's time, rather too early than too late; 0 where it was never heard."""
        if self._clock is not None:
            return self._clock()
        return 0.0 if self._ahead is None else time.monotonic() + self._ahead


def _plain(rate: RateLimit | None) -> dict[str, Any] | None:
    return None if rate is None else asdict(rate)
