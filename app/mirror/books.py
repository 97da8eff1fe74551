"""The ledger of one budget as a worker sees it: whether it can be believed, and how it is put right.

What it is for, and what is promised: budget.py.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client import Gauge

from app.cache import Away, Cache, keys
from app.kit.single_flight import SingleFlight

from .answers import RateLimit
from .denials import Denials
from .hostlock import host_lock
from .ledger import LEDGER_SECONDS, Entry, Ledger

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

# How long anything may queue on a host: for its lock, or for Redis to make up its mind.
QUEUE_SECONDS = 30.0
_SEEDINGS = 3
UNSAID = "-"

Probe = Callable[[], Awaitable[RateLimit | None]]


class Books:
    """Where the ledger of ``upstream`` and ``account`` is, and what it is worth; the arguments are those of `Budget`.

    ``source`` is whom the upstream counts, None before it has said. ``free_until``: what this worker knows itself of
    there being no limit, for the time without Redis; monotonic.
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
        # There after Redis has failed a worker of this host: what the ledger says then is asked after.
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
        """Have every worker of this host put the ledger right before it is asked again; raises OSError."""
        self._doubt.touch()

    async def refreshed(self) -> None:
        """Wait for whoever is putting the ledger right."""
        await self._refreshing.wait(None)

    async def refresh(self, seen: Entry | None) -> None:
        """Put the ledger right by asking the upstream; all of this worker that want it share one asking."""
        await self._refreshing.join(None, partial(self._ask_upstream, seen))

    async def _ask_upstream(self, seen: Entry | None) -> None:
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
                    await self._cache.set(where, self.source, LEDGER_SECONDS)
                    return

    @asynccontextmanager
    async def on_host(self, *, shared: bool) -> AsyncIterator[None]:
        """Hold this host's lock. Whoever wants it alone keeps the gate meanwhile, and so is not starved."""
        async with AsyncExitStack() as stack:
            try:
                async with host_lock(self._gate, shared=shared, timeout=QUEUE_SECONDS):
                    await stack.enter_async_context(host_lock(self._lock, shared=shared, timeout=QUEUE_SECONDS))
            except TimeoutError as error:
                raise self._denials.stuck() from error
            yield

    def ledger(self, source: str | None = None) -> Ledger:
        """Give the ledger of whom the upstream counts, or of another ``source``."""
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
        """Pass on what the ledger says, with its figures in the gauges; where it says nothing, remember that."""
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


def _block(source: str) -> str:
    """Name whom the upstream counts: an address, or anything else it says; IPv6 it counts by /64."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else source
