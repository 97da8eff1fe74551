"""The budget ledger: its script in Redis, this host's trust in it, and its refusals as errors.

One atomic script, `ledger.lua`, keeps everything in one key. It uses the clock of the Redis server, so the hosts'
clocks may differ. The promises are in budget.py.
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
# All workers share one budget, so the newest value of any worker is the best.
_MODE: Final = "mostrecent"
LIMIT = Gauge(
    "registry_budget_limit",
    "Counted pulls that the upstream allows in a window; +Inf: it has stated no limit.",
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
DENIED = Counter(
    "registry_budget_denied_total", "Pulls refused because the budget does not allow them.", ["upstream", "reason"]
)

# A counted GET is cancelled after this long. If the ledger has no answer by then, the GET's worker is dead.
FLIGHT_SECONDS = 60.0
# A client that asked within this time counts as a competitor. Pulls in a row have pauses of this order.
_ACTIVE_SECONDS = 180
_KEPT_SECONDS = UNLIMITED_SECONDS = 86400
# After an index, a GET for the client's platform is held for this long. A waiting client outlives several holds, so
# that a hold that lapses is used by somebody.
HOLD_SECONDS = 5
WAIT_SECONDS = 4 * HOLD_SECONDS
# How long a request may wait on a host, for the lock or for a verdict of the ledger.
QUEUE_SECONDS = 30.0
_SEEDINGS = 3
_STUCK_SECONDS = _BUSY_SECONDS = 5
UNSAID = "-"
# The client that plans are in the ledger. They spend only what is reserved for them, and take no part in fair shares.
PLANS = "plans"

_RULES = {
    "flight": FLIGHT_SECONDS,
    # A client asks for the manifest of its platform right after the index. This allows for a slow client.
    "hold": HOLD_SECONDS,
    # After this time, answers are no longer out of order and the upstream's servers agree with each other.
    "quiet": 60,
    # Others spend from the same address. So the upstream's last answer allows GETs for this long …
    "known": 10,
    # … and it justifies refusals for this long. A refusal spends nothing, so it need not cost the upstream a HEAD.
    "known_to_deny": 60,
    # With so few left, only one GET is sent at a time, based on the answer to the one before it. Otherwise the pulls
    # of others could make several of ours exceed the limit. It also gives others time to ask, if one client wants all.
    "near": 10,
    "known_near": 0.5,
    "active": _ACTIVE_SECONDS,
    # An unused ledger is kept for this long after its window.
    "keep": _KEPT_SECONDS,
}
_SCRIPT = (Path(__file__).parent / "ledger.lua").read_text(encoding="utf-8")

Verdict = Literal["granted", "late", "stale", "busy", "spent", "share", "blocked"]
Probe = Callable[[], Awaitable[RateLimit]]


@dataclass(frozen=True, slots=True)
class Entry:
    """The state of the ledger right after an operation. Times are Unix times of the Redis server.

    ``verdict`` answers `Ledger.spend`:

        granted  for a counted GET
        late     the call came too late; ask again
        stale    ask the upstream first
        busy     only one GET at a time is sent now
        spent    no pulls are left
        share    the client had its share
        blocked  the upstream wants no counted GET now

    ``waiting``: a GET may still be released. ``promised``: the GET that the client waits for is held for it. ``had``:
    the number of GETs the client got or holds. ``planned``: the number of GETs that are reserved for plans.
    """

    now: float
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
    planned: int = 0
    seeded: bool = False
    clients: Mapping[str, int] = field(default_factory=dict)

    @property
    def resets_in(self) -> float | None:
        """Return in how many seconds the window is over at the latest; None if there is no window."""
        return None if self.since is None or self.window is None else max(0.0, self.since + self.window - self.now)

    @property
    def blocked_for(self) -> float:
        """Return for how many more seconds the upstream wants no counted GET."""
        return max(0.0, (self.blocked or 0.0) - self.now)


class Ledger:
    """The ledger at ``key``. If Redis is down, every method returns AWAY; its call may still be carried out later.

    ``clock`` replaces the Redis server's in tests, which cannot wait six hours.
    """

    def __init__(self, cache: Cache, key: str, clock: Callable[[], float] | None = None) -> None:
        self._cache = cache
        self._key = key
        self._clock = clock
        # By how many seconds, at least, the server's clock is ahead of our monotonic one; None before its first answer.
        self._ahead: float | None = None

    async def spend(self, spend_id: str, client: str, image: str, also_hold: int) -> Entry | Away:
        """Reserve one GET now, and ``also_hold`` more for the same image in the next seconds.

        If nothing is to be held, a GET that was held for the image is used first. If Redis runs the script after we
        have stopped waiting, it reserves nothing.
        """
        planned = True if client == PLANS else None
        return await self._do("spend", id=spend_id, client=client, image=image, also_hold=also_hold, planned=planned)

    async def settle(self, spend_id: str, rate: RateLimit | None, *, keep_hold: bool) -> Entry | Away:
        """Record the end of a GET; without ``rate`` it is taken as counted.

        Without ``keep_hold``, the GETs held with this one are released.
        """
        return await self._do("settle", id=spend_id, rate=_plain(rate), drop=None if keep_hold else spend_id)

    async def observe(self, rate: RateLimit, age: float) -> Entry | Away:
        """Take in an answer to a request that was sent ``age`` seconds ago and was not counted."""
        return await self._do("observe", rate=_plain(rate), sent=self._server_time() - max(0.0, age))

    async def seed(self, rate: RateLimit, sent: float) -> Entry | Away:
        """Begin the ledger, or correct it, by an answer to a request sent at ``sent``.

        The caller must have kept its host from sending any counted GET meanwhile. The entry is not ``seeded`` if a GET
        of another host was answered since then. In that case the upstream must be asked again.
        """
        return await self._do("seed", rate=_plain(rate), sent=sent)

    async def block(self, seconds: float) -> Entry | Away:
        """Grant no counted GET for ``seconds``."""
        return await self._do("block", seconds=seconds)

    async def reserve(self, count: int, seconds: float) -> Entry | Away:
        """Reserve ``count`` GETs for plans for so many seconds, instead of those that are reserved now."""
        return await self._do("reserve", count=count, seconds=seconds)

    async def forget(self, spend_id: str) -> Entry | Away:
        """Release a GET that was never sent, and the GETs held with it."""
        return await self._do("forget", id=spend_id, drop=spend_id)

    async def view(self) -> Entry | Away:
        """Return the state of the ledger and each client's GETs."""
        return await self._do("view")

    async def _do(self, what: str, **ask: Any) -> Entry | Away:
        def arguments() -> list[str]:
            ask["now"] = self._clock() if self._clock else None
            # The server's time at which we stop waiting for the answer.
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
        """Return the server's time, too early rather than too late; 0 before its first answer."""
        if self._clock is not None:
            return self._clock()
        return 0.0 if self._ahead is None else time.monotonic() + self._ahead


class Denials:
    """Makes the refusals of one upstream's budget, and counts them by reason."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream

    def denied(self, entry: Entry) -> TooManyRequests:
        """Return the ledger's verdict as an error."""
        if entry.verdict == "blocked":
            return self.blocked(entry.blocked_for)
        left = max(0, (entry.remaining or 0) - entry.reserved - entry.planned)
        given, seconds = self._given(entry.limit or 0, entry.window or 0, left), entry.resets_in or 0
        if entry.verdict == "share":
            # Clients that have not asked for so long no longer compete, which leaves more for the others.
            seconds = min(seconds, _ACTIVE_SECONDS)
            return self._refusal("share", f"{given}, and you have had your share of them ({entry.had})", seconds)
        if entry.verdict == "busy":
            return self._refusal("busy", f"{given}, and other requests are served first", _BUSY_SECONDS)
        under_way = "a pull under way" if entry.reserved == 1 else "pulls under way"
        promised = f" and {entry.reserved} promised to {under_way}" if entry.reserved else ""
        planned = f" and {entry.planned} reserved for plans" if entry.planned else ""
        return self._refusal("spent", given + promised + planned, seconds)

    def spent(self, rate: RateLimit) -> TooManyRequests:
        """Return the refusal for a limit that the upstream itself stated; it does not state when its window began."""
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
        refusal = TooManyRequests(
            "%(why)s; cached content can still be pulled, try again for anything else in %(time)s",
            why=why,
            time=duration(after),
            headers={"Retry-After": str(after)},
        )
        refusal.cause = f"budget {reason}"
        return refusal


class HostLedger:
    """The ledger of one budget as this host sees it; the arguments are those of `Budget`.

    The ledger is trusted or in doubt. It is in doubt until this worker has an answer from the upstream. It is also in
    doubt after Redis failed any worker of the host; a file tells all of them. A worker that finds it in doubt takes the
    host's lock exclusively, so that no counted GET of the host is under way. It asks the upstream by HEAD, seeds the
    ledger with the answer and removes the file. Every counted GET shares the lock, so none is sent meanwhile.

    The upstream counts ``source``, which is None before it has said so.
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
        self._cache = cache
        self._upstream = upstream
        self._account = account
        self._lock = lock
        # The file keeps its old name, because workers of an older release share it during an upgrade.
        self._queue_lock = lock.with_name(lock.name + ".gate")
        self._doubt = lock.with_name(lock.name + ".doubt")
        self._probe = probe
        self._denials = denials
        self._clock = clock
        self._ledgers: dict[str, Ledger] = {}
        self._refreshing: SingleFlight[None] = SingleFlight()

    @property
    def doubtful(self) -> bool:
        """Return whether the ledger must be corrected before it can grant anything."""
        return self.source is None or self._doubt.exists()

    def doubt(self) -> None:
        """Put the ledger in doubt for every worker of this host; raises OSError."""
        self._doubt.touch()

    async def refreshed(self) -> None:
        """Wait for the refresh that is under way, if any; raises its error."""
        await self._refreshing.wait(None)

    async def refresh(self, seen: Entry | None) -> None:
        """Correct the ledger by asking the upstream; all callers in this worker share one refresh.

        ``seen`` is the entry that made the caller ask, None if the ledger was in doubt.
        """
        await self._refreshing.join(None, partial(self._refresh, seen))

    async def _refresh(self, seen: Entry | None) -> None:
        for _ in range(_SEEDINGS):
            async with self.on_host(shared=False):
                entry = self.told(await self.ledger().view())
                if isinstance(entry, Away):
                    return
                if not self.doubtful and entry.heard and (seen is None or entry.heard != seen.heard):
                    return  # another worker has asked meanwhile
                rate = await self._probe()
                self.source = self.source or UNSAID
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
        """Hold this host's lock during the block; raises Unavailable if it does not become free in time.

        Every worker takes the queue lock before the lock itself. A worker that wants the lock exclusively keeps the
        queue lock while it waits. So workers that share the lock cannot starve it.
        """
        async with AsyncExitStack() as stack:
            try:
                async with host_lock(self._queue_lock, shared=shared, timeout=QUEUE_SECONDS):
                    await stack.enter_async_context(host_lock(self._lock, shared=shared, timeout=QUEUE_SECONDS))
            except TimeoutError as error:
                raise self._denials.stuck() from error
            yield

    def ledger(self, source: str | None = None) -> Ledger:
        """Return the ledger of ``source``, or of the one that the upstream counts now."""
        source = source or self.source or UNSAID
        if source not in self._ledgers:
            key = keys.budget(self._upstream, self._account, source)
            self._ledgers[source] = Ledger(self._cache, key, self._clock)
        return self._ledgers[source]

    def notice(self, rate: RateLimit) -> None:
        """Note that an answer states a limit, and which source it counts."""
        if rate.source is not None:
            self.source = _block(rate.source)

    def told(self, entry: Entry | Away) -> Entry | Away:
        """Return the ledger's entry after setting the gauges from it; if Redis was down, put the ledger in doubt."""
        if isinstance(entry, Away):
            with suppress(OSError):
                self._doubt.touch()
        elif entry.limit is not None and entry.remaining is not None:
            LIMIT.labels(self._upstream, self._account).set(entry.limit)
            REMAINING.labels(self._upstream, self._account).set(entry.remaining)
            RESET.labels(self._upstream, self._account).set(entry.resets_in or 0)
        return entry

    def show_unlimited(self) -> None:
        """Set the gauges of an upstream that has stated no limit."""
        LIMIT.labels(self._upstream, self._account).set(math.inf)
        REMAINING.labels(self._upstream, self._account).set(math.inf)


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
    """Return the source that the upstream counts: IPv6 addresses by their /64, anything else as it is."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else source
