"""The budget: the pulls that an upstream still allows, of which one is spent before a counted GET is sent.

These promises hold for any number of workers on any number of hosts that share Redis:

- No counted GET exceeds the pulls that the upstream said remain. A GET is reserved in the ledger (`ledger.lua`)
  before it is sent. It stays reserved until its answer comes, or for 60 s. Then it is subtracted from the remaining
  pulls.
- A flushed Redis does no harm. Every counted GET holds a lock of its host, shared with the others under way. A free
  HEAD begins a new ledger under the same lock, held exclusively. It also corrects the ledger after a failure of Redis.
  A missing ledger sends every worker to that lock, so no new GET is sent during the HEAD.
- Without Redis, each counted GET holds the lock exclusively and asks the upstream by HEAD first.
- An image for which the upstream states no limit to the account is not counted, for example of a verified publisher.
  Its GET bypasses the ledger, and its answer teaches the ledger nothing unless it states a limit after all.
- Clients that compete get up to an equal share of the remaining pulls and of all they have had in this window. A client
  that has had no more than any other may exceed its share. So a modest client is refused only if nothing is left. A
  client keeps the pulls it took while it was alone. Shares are counted in GETs and are lost with the ledger. Without
  Redis there are none.

One thing cannot be promised: that others behind the same address spend nothing between the upstream's last answer and
our GET. So the ledger asks again after some seconds, and near the end it allows one GET at a time. Such others may also
be our own: another host after a flush, a host that cannot reach Redis, or a worker killed during its GET together with
Redis.

Source: Docker Hub, "Pull usage and limits".
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from app.cache import AWAY, Away, Cache, keys
from app.kit.facts import spending
from app.oci.errors import OCIError

from .answers import Answer, RateLimit, UpstreamDown, answer_of, parse_retry_after
from .ledger import (
    FLIGHT_SECONDS,
    QUEUE_SECONDS,
    UNLIMITED_SECONDS,
    UNSAID,
    WAIT_SECONDS,
    Denials,
    Entry,
    HostLedger,
    Ledger,
    Probe,
)
from .statistics import BudgetView

# A 429 that states neither a time nor an empty budget comes from the upstream's guard against abuse. Wait this long.
_ABUSE_SECONDS = 60
_FIRST_PAUSE, _LONGEST_PAUSE = 0.03, 0.3
# Returned GETs could not serve more waiting requests, and each one asks Redis several times a second.
_MOST_WAITING = 32
# The pause is longer than a script may be on its way, so that the newest message arrives last.
_TELL_SECONDS, _TELLINGS = 1.0, 60


class Spend:
    """One counted GET that may be sent now; made by `Budget.spend` and valid in its block."""

    def __init__(self, budget: Budget, ledger: Ledger | None, source: str) -> None:
        self.id = secrets.token_hex(8)
        self.ledger = ledger
        self.source = source
        self.settled = False
        self._budget = budget

    async def answered(self, answer: Answer | None, *, keep_hold: bool = True) -> None:
        """Settle the GET in the ledger by its answer; a later call does nothing.

        If the answer states no limit, the GET is taken as counted, because the upstream may have counted it. The GETs
        that were held with it are released, unless a manifest came and ``keep_hold`` is set.
        """
        if self.settled:
            return
        self.settled = True
        # A token service's answer says nothing about the GET. Neither does a 401: the upstream does not count it, but
        # it may count the GET after the login.
        if answer is None or answer.kind != "get_manifest" or answer.status == 401:
            await self._budget.settle(self, None, keep_hold=False)
            return
        await self._budget.settle(self, answer.rate, keep_hold=answer.status == 200 and keep_hold)
        if answer.status == 429:
            await self._budget.refused(answer.retry_after, answer.rate)


class Budget:
    """The pulls that ``upstream`` allows ``account`` (empty: anonymous) from the address of this host.

    ``lock`` is a file of this host, one per budget, in a folder that exists. ``probe`` sends the upstream a HEAD, which
    is not counted, of an image that is counted. It returns the limit that the answer states, and raises without one.
    """

    def __init__(
        self,
        cache: Cache,
        upstream: str,
        account: str,
        lock: Path,
        probe: Probe,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.upstream = upstream
        self.account = account
        self._cache = cache
        self._probe = probe
        self._denials = Denials(upstream)
        self._host = HostLedger(cache, upstream, account, lock, probe, self._denials, clock)
        self._clock = clock
        self._untold: set[asyncio.Task[None]] = set()
        self._waiting: Counter[str] = Counter()
        self._alone = asyncio.Lock()
        # This worker's own knowledge, for times without Redis; in monotonic seconds.
        self._blocked_until = 0.0
        self._last_probe: tuple[float, RateLimit] | None = None

    @asynccontextmanager
    async def spend(
        self, client: str, image: str, *, also_hold: int = 0, wait: float = WAIT_SECONDS
    ) -> AsyncIterator[Spend]:
        """Reserve a counted GET, which the block sends: at most one GET, for at most 60 s.

        ``client`` competes with others: a person, a robot or an address block. A cold image needs two GETs. The first
        one sets ``also_hold=1``, and the second, for the same ``image``, is held for 15 s. Waits up to ``wait`` seconds
        for GETs that other clients may release. Raises TooManyRequests with Retry-After and the reason, and the errors
        of the probe.

        The block passes its answer to `Spend.answered`. An error that leaves the block carries its answer; any other
        end counts as no answer. A block must not be entered within another, because the two would wait for each other.
        """
        async with AsyncExitStack() as stack:
            with spending("queue"):
                spend = await self._obtain(stack, client, image, also_hold, wait)
            flight = asyncio.timeout(FLIGHT_SECONDS)
            try:
                async with flight:
                    yield spend
            except OCIError as error:
                await spend.answered(answer_of(error))
                raise
            except TimeoutError:
                if flight.expired():
                    raise UpstreamDown(self.upstream, "does not answer") from None
                raise
            finally:
                await spend.answered(None)

    async def require_open(self) -> None:
        """Raise TooManyRequests while the upstream wants no GET at all; the caller sends one that is not counted."""
        blocked = self._blocked_until - time.monotonic()
        entry = self._host.told(await self._host.ledger().view())
        if not isinstance(entry, Away):
            blocked = max(blocked, entry.blocked_for)
        if blocked > 0:
            raise self._denials.blocked(blocked)

    async def observe(self, answer: Answer | None) -> None:
        """Record the limit in the answer to a request that was not reserved: a HEAD, or a GET that is not counted.

        Ignores the answers of token services and of other hosts.
        """
        if answer is None or answer.kind not in ("head_manifest", "get_manifest"):
            return
        if answer.rate is not None:
            self._host.notice(answer.rate)
            age = (self._clock or time.time)() - answer.sent_at
            self._host.told(await self._host.ledger().observe(answer.rate, age))
        elif answer.kind == "get_manifest" and answer.status == 200 and self._host.source is None:
            await self._cache.set(keys.unlimited(self.upstream, self.account), b"1", UNLIMITED_SECONDS)
        if answer.status == 429:
            await self.refused(answer.retry_after, answer.rate)

    async def refused(self, retry_after: str | None, rate: RateLimit | None) -> None:
        """Record a 429; no counted GET is sent until Retry-After is over."""
        seconds = parse_retry_after(retry_after, time.time())
        if seconds is None:
            if rate is not None and rate.remaining == 0:
                return
            seconds = _ABUSE_SECONDS
        self._blocked_until = max(self._blocked_until, time.monotonic() + seconds)
        self._host.told(await self._host.ledger().block(seconds))

    async def reserve(self, count: int, seconds: float) -> None:
        """Reserve GETs for plans for so many seconds; the number replaces the one before."""
        self._host.told(await self._host.ledger(await self._source()).reserve(count, seconds))

    async def view(self) -> BudgetView:
        """Return the state of the budget, after setting the gauges from it.

        It is unlimited if the upstream sent images and has stated no limit for any.
        """
        source, unlimited = await self._source(), False
        if source is None:
            unlimited = await self._cache.get(keys.unlimited(self.upstream, self.account)) is not None
        entry = self._host.told(await self._host.ledger(source).view())
        if isinstance(entry, Away):
            return BudgetView(self.upstream, self.account, False, None, None, 0, None, None, {})
        if unlimited:
            self._host.show_unlimited()
        return BudgetView(
            upstream=self.upstream,
            account=self.account,
            unlimited=unlimited,
            limit=entry.limit,
            remaining=None if entry.resets_in == 0 else entry.remaining,
            reserved=entry.reserved,
            resets_at=None if entry.resets_in is None else entry.now + entry.resets_in,
            blocked_until=entry.blocked if entry.blocked_for else None,
            clients=entry.clients,
            planned=entry.planned,
            window=entry.window,
        )

    async def _source(self) -> str | None:
        """Return the source that the upstream counts; another worker may know it if this one has not asked yet."""
        if self._host.source is not None:
            return self._host.source
        known = await self._cache.get(keys.budget_source(self.upstream, self.account))
        return known.decode() if known else None

    async def settle(self, spend: Spend, rate: RateLimit | None, *, keep_hold: bool) -> None:
        """Settle a GET in the ledger that has its answer, or will have none."""
        if rate is not None:
            self._host.notice(rate)
        elsewhere = rate is not None and spend.source != self._host.source
        if spend.ledger is not None:
            ours = None if elsewhere else rate
            settle = partial(spend.ledger.settle, spend.id, ours, keep_hold=keep_hold)
            if isinstance(self._host.told(await settle()), Away):
                self._later(settle)
        if rate is not None and elsewhere:
            self._host.told(await self._host.ledger().observe(rate, 0.0))

    def _later(self, tell: Callable[[], Awaitable[Entry | Away]]) -> None:
        """Call ``tell`` again until Redis is back, so that no unused GET stays reserved for a minute."""

        async def tell_later() -> None:
            for _ in range(_TELLINGS):
                await asyncio.sleep(_TELL_SECONDS)
                if not isinstance(await tell(), Away):
                    return

        task = asyncio.create_task(tell_later())
        self._untold.add(task)
        task.add_done_callback(self._untold.discard)

    async def _obtain(self, stack: AsyncExitStack, client: str, image: str, also_hold: int, wait: float) -> Spend:
        loop = asyncio.get_running_loop()
        begun, pause = loop.time(), _FIRST_PAUSE
        while loop.time() < begun + max(wait, QUEUE_SECONDS):
            if (blocked := self._blocked_until - time.monotonic()) > 0:
                raise self._denials.blocked(blocked)
            await self._host.refreshed()
            outcome = await self._attempt(stack, client, image, also_hold)
            if isinstance(outcome, Away):
                outcome = await self._attempt_alone(stack, 1 + also_hold)
            elif isinstance(outcome, Entry) and outcome.verdict == "late":
                continue
            elif isinstance(outcome, Entry) and outcome.verdict != "stale":
                too_many = self._waiting[client] >= _MOST_WAITING and not outcome.promised
                if not outcome.waiting or too_many or loop.time() >= begun + wait:
                    raise self._denials.denied(outcome)
                await self._pause(client, pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
            elif not isinstance(outcome, Spend):
                await self._host.refresh(outcome)
            if isinstance(outcome, Spend):
                return outcome
        raise self._denials.stuck()

    async def _attempt(
        self, stack: AsyncExitStack, client: str, image: str, also_hold: int
    ) -> Spend | Entry | Away | None:
        """Ask the ledger once; return None if it is in doubt. With a Spend, ``stack`` gets the host's lock."""
        if self._cache.away:
            return self._host.told(AWAY)
        async with AsyncExitStack() as inner:
            await inner.enter_async_context(self._host.on_host(shared=True))
            if self._host.doubtful:
                return None
            ledger = self._host.ledger()
            spend = Spend(self, ledger, self._host.source or UNSAID)
            entry = self._host.told(await ledger.spend(spend.id, client, image, also_hold))
            if isinstance(entry, Away):
                self._later(partial(ledger.forget, spend.id))  # Redis may have granted it
                return entry
            if entry.verdict != "granted":
                return entry
            await stack.enter_async_context(inner.pop_all())
            return spend

    async def _attempt_alone(self, stack: AsyncExitStack, need: int) -> Spend | None:
        """Ask the upstream itself while no other GET of this host is under way; return None if Redis answers again."""
        spend = Spend(self, None, UNSAID)
        self._check_last_probe(need)
        async with AsyncExitStack() as inner:
            await inner.enter_async_context(self._alone)
            self._check_last_probe(need)
            await inner.enter_async_context(self._host.on_host(shared=False))
            if not isinstance(self._host.told(await self._host.ledger().view()), Away):
                return None
            try:
                self._host.doubt()
            except OSError as error:
                raise self._denials.stuck() from error
            self._last_probe = time.monotonic(), await self._probe()
            self._check_last_probe(need)
            self._last_probe = None
            await stack.enter_async_context(inner.pop_all())
            return spend

    async def _pause(self, client: str, seconds: float) -> None:
        self._waiting[client] += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]

    def _check_last_probe(self, need: int) -> None:
        """Raise TooManyRequests if a probe of the last second left too few pulls, because their number only falls."""
        if self._last_probe is not None:
            at, rate = self._last_probe
            if rate.remaining < need and time.monotonic() - at < 1:
                raise self._denials.spent(rate)
