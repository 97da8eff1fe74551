"""The budget ledger: its script in Redis, when this host believes it, and what a client is told that it refuses.

One atomic script, `ledger.lua`, keeps everything in one key and counts by the clock of the Redis server, so the clocks
of the hosts need not agree. What is promised: budget.py.
"""

from __future__ import annotations

import ipaddress
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from prometheus_client import Counter, Gauge

from app.cache import PATIENCE, Away, Cache, keys
from app.kit.single_flight import SingleFlight
from app.oci.errors import TooManyRequests, Unavailable

from .answers import RateLimit
from .locks import host_lock

_LABELS = ["upstream", "account"]
# All workers share one budget: the one that heard of it last knows it best.
_MODE: Final = "mostrecent"
LIMIT = Gauge(
    "registry_budget_limit",
    "Counted pulls the upstream gives in a window; +Inf: any number.",
    _LABELS,
    multiprocess_mode=_MODE,
)
REMAINING = Gauge(
    "registry_budget_remaining",
    "Counted pulls that are left of the upstream's limit.",
    _LABELS,
    multiprocess_mode=_MODE,
)
RESET = Gauge(
    "registry_budget_reset_seconds", "Seconds until the window is over at the latest.", _LABELS, multiprocess_mode=_MODE
)
DENIED = Counter("registry_budget_denied_total", "Pulls refused for want of budget.", ["upstream", "reason"])

# A counted GET is cut off after this long: one that has no answer by then belongs to a dead worker.
FLIGHT_SECONDS = 60.0
# A client that asked this lately counts as a competitor: pulls in a row come with pauses of this order.
_ACTIVE_SECONDS = 180
_KEPT_SECONDS = 86400
# How long a request may queue on a host: for its lock, or for Redis to make up its mind.
QUEUE_SECONDS = 30.0
_SEEDINGS = 3
_STUCK_SECONDS = _BUSY_SECONDS = 5
UNSAID = "-"

_RULES = {
    "flight": FLIGHT_SECONDS,
    # A client asks for the manifest of its platform right after the index; this is a slow client on a slow line.
    "hold": 15,
    # Answers out of order, and upstream servers that do not agree with each other yet, are over by then.
    "quiet": 60,
    # Others spend from the same address. What the upstream said last is acted upon for this long …
    "known": 10,
    # … and refused by for this long: a refusal costs nobody anything, and need not cost the upstream a HEAD.
    "known_to_deny": 60,
    # With so few left, one GET at a time goes, each on what the one before it reported. Otherwise what others spend
    # meanwhile would make several of ours one too many. It also leaves others time to ask, if one client asks for all.
    "near": 10,
    "known_near": 0.5,
    "active": _ACTIVE_SECONDS,
    # How long "no limit" is believed.
    "free": 60,
    # An unused ledger is kept so much longer than its window.
    "keep": _KEPT_SECONDS,
}
_SCRIPT = (Path(__file__).parent / "ledger.lua").read_text(encoding="utf-8")

Verdict = Literal["granted", "free", "late", "stale", "busy", "spent", "share", "blocked"]
Probe = Callable[[], Awaitable[RateLimit | None]]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger says, right after it did what it was told. Times are Unix times of the Redis server.

    ``verdict`` answers `Ledger.spend`. It is "granted" for a counted GET, or "free" if there is no limit. It is a
    refusal if the call came "late" (ask again), the ledger is "stale" (ask the upstream first) or "busy" (one at a time
    now), all is "spent", the client had its "share", or the upstream "blocked" us. ``waiting``: something may yet be
    given back; ``promised``: what the client waits for is held for it. ``had``: what the client got.
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
        """In how many seconds the window is over at the latest; None if there is none."""
        return None if self.since is None or self.window is None else max(0.0, self.since + self.window - self.now)

    @property
    def blocked_for(self) -> float:
        """For how many more seconds the upstream wants no counted GET."""
        return max(0.0, (self.blocked or 0.0) - self.now)


class Ledger:
    """The ledger at ``key``. If Redis is down, every method returns AWAY; its call may be carried out then, or later.

    ``clock`` stands in for the Redis server's, for a test that does not want to wait six hours.
    """

    def __init__(self, cache: Cache, key: str, clock: Callable[[], float] | None = None) -> None:
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
        """Take in an answer to a request that was sent ``age`` seconds ago and was not counted."""
        return await self._do("observe", rate=_plain(rate), sent=self._server_time() - max(0.0, age))

    async def seed(self, rate: RateLimit | None, sent: float) -> Entry | Away:
        """Begin the ledger, or correct it, by an answer to a request sent at ``sent``; None: there is no limit.

        Only for a caller that kept every counted GET of its host from being sent meanwhile. Not ``seeded`` if a GET
        of another host was answered since: the upstream must be asked again.
        """
        return await self._do("seed", rate=_plain(rate), sent=sent)

    async def block(self, seconds: float) -> Entry | Away:
        """Grant nothing counted for so long."""
        return await self._do("block", seconds=seconds)

    async def forget(self, spend_id: str) -> Entry | Away:
        """Give back a GET that was never sent, with what was held with it."""
        return await self._do("forget", id=spend_id, drop=spend_id)

    async def view(self) -> Entry | Away:
        """Return how the ledger stands."""
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
        """Return the server's time, rather too early than too late; 0 before its first answer."""
        if self._clock is not None:
            return self._clock()
        return 0.0 if self._ahead is None else time.monotonic() + self._ahead


class Denials:
    """The refusals of one upstream's budget, in words, counted by their reason."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream

    def denied(self, entry: Entry) -> TooManyRequests:
        """Return the ledger's verdict as an error."""
        if entry.verdict == "blocked":
            return self.blocked(entry.blocked_for)
        left = max(0, (entry.remaining or 0) - entry.reserved)
        given, seconds = self._given(entry.limit or 0, entry.window or 0, left), entry.resets_in or 0
        if entry.verdict == "share":
            # Clients that have not asked for that long compete no more, and leave more to the others.
            seconds = min(seconds, _ACTIVE_SECONDS)
            return self._refusal("share", f"{given}, and you have had your share of them ({entry.had})", seconds)
        if entry.verdict == "busy":
            return self._refusal("busy", f"{given}, and other requests are served first", _BUSY_SECONDS)
        under_way = "a pull under way" if entry.reserved == 1 else "pulls under way"
        promised = f" and {entry.reserved} promised to {under_way}" if entry.reserved else ""
        return self._refusal("spent", given + promised, seconds)

    def spent(self, rate: RateLimit) -> TooManyRequests:
        """Return what the upstream itself said; it does not say when its window began."""
        return self._refusal("spent", self._given(rate.limit, rate.window, rate.remaining), rate.window)

    def blocked(self, seconds: float) -> TooManyRequests:
        """Return the error for a 429 of the upstream that has ``seconds`` to go."""
        return self._refusal("blocked", f"{self._upstream} has asked this registry to wait", seconds)

    def stuck(self) -> Unavailable:
        """Return the error for a request whose verdict did not come in time."""
        return Unavailable(
            "this registry does not know yet how many pulls %(upstream)s allows; try again in a moment",
            upstream=self._upstream,
            headers={"Retry-After": str(_STUCK_SECONDS)},
        )

    def _given(self, limit: int, window: int, left: int) -> str:
        pulls = "1 pull" if limit == 1 else f"{limit} pulls"
        are = "is" if left == 1 else "are"
        return f"{self._upstream} gives this registry {pulls} in {duration(window)}, {left} {are} left"

    def _refusal(self, reason: str, why: str, seconds: float) -> TooManyRequests:
        DENIED.labels(self._upstream, reason).inc()
        after = max(1, math.ceil(seconds))
        return TooManyRequests(
            "%(why)s; cached content can still be pulled, try again for anything else in %(time)s",
            why=why,
            time=duration(after),
            headers={"Retry-After": str(after)},
        )


class HostLedger:
    """The ledger of one budget as this host sees it; the arguments are those of `Budget`.

    The ledger is believed, or in doubt. It is in doubt before this worker has heard of it, and after Redis failed any
    worker of the host: a file says so to all of them. A worker that finds it in doubt takes the host's lock alone, so
    that no counted GET of the host is under way, asks the upstream by HEAD, seeds the ledger with the answer and
    removes the file. Every counted GET shares the lock, so none is sent meanwhile.

    ``source`` is whom the upstream counts, None before it has said. ``free_until`` (monotonic): until when this worker
    itself believes that there is no limit, for use without Redis.
    """

    def __init__(
        self,
        cache: Cache,
        upstream: str,
        account: str,
        lock: Path,
        probe: Probe,
        denials: Denials,
        clock: Callable[[], float] | None,
    ) -> None:
        self.source: str | None = None
        self.free_until = 0.0
        self._cache = cache
        self._upstream = upstream
        self._account = account
        self._lock = lock
        self._gate = lock.with_name(lock.name + ".gate")
        self._doubt = lock.with_name(lock.name + ".doubt")
        self._probe = probe
        self._denials = denials
        self._clock = clock
        self._ledgers: dict[str, Ledger] = {}
        self._refreshing: SingleFlight[None] = SingleFlight()

    @property
    def doubtful(self) -> bool:
        """Whether the ledger must be put right before it is asked for anything."""
        return self.source is None or self._doubt.exists()

    def doubt(self) -> None:
        """Put the ledger in doubt for every worker of this host; raises OSError."""
        self._doubt.touch()

    async def refreshed(self) -> None:
        """Wait for the refresh that is under way, if any; raises what it raises."""
        await self._refreshing.wait(None)

    async def refresh(self, seen: Entry | None) -> None:
        """Put the ledger right by asking the upstream; all of this worker that want it share one refresh.

        ``seen`` is the entry that made the caller ask, None if the ledger was in doubt.
        """
        await self._refreshing.join(None, partial(self._refresh, seen))

    async def _refresh(self, seen: Entry | None) -> None:
        for _ in range(_SEEDINGS):
            async with self.on_host(shared=False):
                entry = self.told(await self.ledger().view())
                if isinstance(entry, Away):
                    return
                if not self.doubtful and (entry.free or (entry.heard and (seen is None or entry.heard != seen.heard))):
                    return  # another worker has asked meanwhile
                rate = await self._probe()
                self.source = self.source or UNSAID
                if rate is not None:
                    self.notice(rate)
                seeded = self.told(await self.ledger().seed(rate, entry.now))
                if isinstance(seeded, Away):
                    return
                if seeded.seeded:
                    self._doubt.unlink(missing_ok=True)
                    where = keys.budget_source(self._upstream, self._account)
                    await self._cache.set(where, self.source, _KEPT_SECONDS)
                    return

    @asynccontextmanager
    async def on_host(self, *, shared: bool) -> AsyncIterator[None]:
        """Hold this host's lock during the block; raises Unavailable if it does not come free.

        A gate stands before the lock. A worker that wants the lock alone keeps the gate while it waits, so the workers
        that share the lock cannot starve it.
        """
        async with AsyncExitStack() as stack:
            try:
                async with host_lock(self._gate, shared=shared, timeout=QUEUE_SECONDS):
                    await stack.enter_async_context(host_lock(self._lock, shared=shared, timeout=QUEUE_SECONDS))
            except TimeoutError as error:
                raise self._denials.stuck() from error
            yield

    def ledger(self, source: str | None = None) -> Ledger:
        """Return the ledger of the source that the upstream counts now, or of another one."""
        source = source or self.source or UNSAID
        if source not in self._ledgers:
            key = keys.budget(self._upstream, self._account, source)
            self._ledgers[source] = Ledger(self._cache, key, self._clock)
        return self._ledgers[source]

    def notice(self, rate: RateLimit) -> None:
        """Take in from an answer that there is a limit, and for whom."""
        if rate.source is not None:
            self.source = _block(rate.source)
        self.free_until = 0.0

    def told(self, entry: Entry | Away) -> Entry | Away:
        """Return what the ledger says, after setting the gauges by it; if Redis was down, put the ledger in doubt."""
        if isinstance(entry, Away):
            with suppress(OSError):
                self._doubt.touch()
        elif entry.free:
            LIMIT.labels(self._upstream, self._account).set(math.inf)
            REMAINING.labels(self._upstream, self._account).set(math.inf)
        elif entry.limit is not None and entry.remaining is not None:
            LIMIT.labels(self._upstream, self._account).set(entry.limit)
            REMAINING.labels(self._upstream, self._account).set(entry.remaining)
            RESET.labels(self._upstream, self._account).set(entry.resets_in or 0)
        return entry


def duration(seconds: float) -> str:
    """Return a time as people write it: 45 s, 3 min, 2 h 5 min."""
    whole = math.ceil(seconds)
    hours, minutes = divmod(math.ceil(whole / 60), 60)
    if whole < 120:
        return f"{whole} s"
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"


def _plain(rate: RateLimit | None) -> dict[str, Any] | None:
    return None if rate is None else asdict(rate)


def _block(source: str) -> str:
    """Return whom the upstream counts: an address, or anything else it says; it counts IPv6 by /64."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else source
