"""The ledger's script in a real Redis, by a clock of our own; and that no order of events makes it overspend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.cache import Away, Cache
from app.mirror.answers import RateLimit
from app.mirror.ledger import FLIGHT_SECONDS, PLANS, Entry, Ledger
from tests.parts.valkey import Valkey

WINDOW = 21600


class Clock:
    """Moves by a millisecond at each look, so that two events are never at the same moment."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Book:
    """A ledger whose answers are there, which is what a test of its rules is about."""

    def __init__(self, cache: Cache) -> None:
        self.clock = Clock()
        self._ledger = Ledger(cache, "budget:test", self.clock)
        self._ids = 0

    async def seed(self, remaining: int, *, limit: int = 100) -> Entry:
        return await self.seed_late(remaining, (await self.view()).now, limit=limit)

    async def seed_late(self, remaining: int, sent: float, *, limit: int = 100) -> Entry:
        rate = _rate(remaining, limit)
        assert rate is not None
        return _there(await self._ledger.seed(rate, sent))

    async def spend(self, client: str, *, also_hold: int = 0, image: str = "image") -> tuple[str, Entry]:
        self._ids += 1
        spend_id = str(self._ids)
        return spend_id, _there(await self._ledger.spend(spend_id, client, image, also_hold))

    async def pull(self, client: str, *, also_hold: int = 0, image: str = "image") -> Entry:
        """Spend and land, by an upstream that counts one."""
        spend_id, entry = await self.spend(client, also_hold=also_hold, image=image)
        if entry.verdict == "granted":
            await self.settle(spend_id, (entry.remaining or 0) - 1)
        return entry

    async def settle(self, spend_id: str, remaining: int | None, *, keep_hold: bool = True) -> Entry:
        return _there(await self._ledger.settle(spend_id, _rate(remaining), keep_hold=keep_hold))

    async def observe(self, remaining: int, age: float = 0.0) -> Entry:
        rate = _rate(remaining)
        assert rate is not None
        return _there(await self._ledger.observe(rate, age))

    async def block(self, seconds: float) -> None:
        _there(await self._ledger.block(seconds))

    async def reserve(self, count: int, seconds: float = 60.0) -> Entry:
        return _there(await self._ledger.reserve(count, seconds))

    async def forget(self, spend_id: str) -> Entry:
        return _there(await self._ledger.forget(spend_id))

    async def view(self) -> Entry:
        return _there(await self._ledger.view())


def _there(entry: Entry | Away) -> Entry:
    assert isinstance(entry, Entry)
    return entry


def _rate(remaining: int | None, limit: int = 100) -> RateLimit | None:
    return None if remaining is None else RateLimit(limit, remaining, WINDOW, None)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no answer that is late on a busy machine for none."""
    monkeypatch.setattr("app.cache.client.PATIENCE", 30.0)


@pytest.fixture
async def book(valkey: Valkey) -> AsyncIterator[Book]:
    cache = Cache(valkey.url)
    yield Book(cache)
    await cache.close()


async def test_a_missing_ledger_gives_nothing_until_it_is_seeded(book: Book) -> None:
    assert (await book.spend("me"))[1].verdict == "stale"
    await book.observe(100)
    assert (await book.spend("me"))[1].verdict == "stale"
    assert (await book.seed(100)).seeded
    assert (await book.spend("me"))[1].verdict == "granted"


async def test_what_landed_after_the_probe_left_keeps_it_from_seeding(book: Book) -> None:
    sent = (await book.view()).now
    await book.settle("of a ledger that was flushed", 41)
    assert not (await book.seed_late(42, sent)).seeded
    assert (await book.seed(41)).seeded
    assert (await book.view()).remaining == 41


async def test_what_is_in_flight_or_held_is_not_given_again(book: Book) -> None:
    await book.seed(20)
    for number in range(5):
        assert (await book.spend("me", also_hold=1, image=f"{number}"))[1].verdict == "granted"
    assert (await book.view()).reserved == 10


async def test_neither_flights_nor_holds_are_given_again_far_from_the_end(book: Book) -> None:
    await book.seed(40)
    for number in range(15):
        assert (await book.spend("me", also_hold=1, image=f"{number}"))[1].verdict == "granted"
    refused = (await book.spend("me"))[1]
    assert (refused.verdict, refused.waiting, refused.remaining) == ("busy", True, 40)
    for number in range(15):
        assert (await book.spend("me", image=f"{number}"))[1].verdict == "granted"
    assert (await book.spend("me"))[1].verdict == "busy"


async def test_a_second_get_uses_what_is_held_for_its_image(book: Book) -> None:
    await book.seed(2)
    await book.pull("me", also_hold=1, image="mine")
    assert (await book.spend("me", image="other"))[1].verdict == "spent"
    assert (await book.pull("another", image="mine")).verdict == "granted"
    assert (await book.pull("me", image="mine")).verdict == "spent"


async def test_a_held_get_waits_its_turn_but_not_for_what_others_have_taken(book: Book) -> None:
    await book.seed(5)
    await book.pull("me", also_hold=1, image="mine")
    other, _ = await book.spend("you")
    refused = (await book.spend("me", image="mine"))[1]
    assert (refused.verdict, refused.waiting, refused.promised) == ("busy", True, True)
    await book.settle(other, 0)
    refused = (await book.spend("me", image="mine"))[1]
    assert (refused.verdict, refused.waiting, refused.reserved) == ("spent", False, 1)


async def test_a_get_that_was_not_sent_is_given_back(book: Book) -> None:
    await book.seed(50)
    spend_id, _ = await book.spend("me", also_hold=1)
    entry = await book.forget(spend_id)
    assert (entry.remaining, entry.reserved) == (50, 0)
    assert (await book.forget("never granted")).remaining == 50


async def test_a_first_get_leaves_alone_what_is_held_for_its_image(book: Book) -> None:
    await book.seed(3)
    await book.pull("me", also_hold=1)
    assert (await book.spend("me", also_hold=1))[1].verdict == "spent"


@pytest.mark.parametrize("given_back", ["at once", "too late"])
async def test_a_hold_that_nobody_uses_goes_back(book: Book, given_back: str) -> None:
    await book.seed(2)
    spend_id, _ = await book.spend("me", also_hold=1)
    await book.settle(spend_id, 1, keep_hold=given_back == "too late")
    if given_back == "too late":
        refused = (await book.spend("you", image="other"))[1]
        assert (refused.verdict, refused.waiting) == ("spent", True)
        book.clock.now += 16
        await book.seed(1)
    assert (await book.pull("you", image="other")).verdict == "granted"


async def test_one_at_a_time_near_the_end(book: Book) -> None:
    await book.seed(12)
    first, _ = await book.spend("me")
    second, entry = await book.spend("me")
    assert entry.verdict == "granted"
    refused = (await book.spend("me"))[1]
    assert (refused.verdict, refused.waiting) == ("busy", True)
    await book.settle(first, 11)
    await book.settle(second, 10)
    assert (await book.pull("me")).verdict == "granted"


async def test_knowledge_grows_stale_sooner_near_the_end(book: Book) -> None:
    await book.seed(11)
    book.clock.now += 5
    assert (await book.pull("me")).verdict == "granted"
    book.clock.now += 5
    assert (await book.pull("me")).verdict == "stale"
    await book.seed(0)
    book.clock.now += 50
    assert (await book.pull("me")).verdict == "spent"
    book.clock.now += 50
    assert (await book.pull("me")).verdict == "stale"


async def test_remaining_falls_within_a_window_and_never_rises(book: Book) -> None:
    await book.seed(50)
    assert (await book.observe(40)).remaining == 40
    assert (await book.observe(50)).remaining == 40
    spend_id, _ = await book.spend("me")
    assert (await book.settle(spend_id, 45)).remaining == 40


async def test_a_get_without_a_word_is_taken_for_counted(book: Book) -> None:
    await book.seed(50)
    spend_id, _ = await book.spend("me")
    entry = await book.settle(spend_id, None)
    assert (entry.remaining, entry.reserved) == (49, 0)


async def test_a_get_that_never_lands_is_taken_for_counted(book: Book) -> None:
    await book.seed(50)
    spend_id, _ = await book.spend("me")
    book.clock.now += FLIGHT_SECONDS - 1
    assert ((await book.view()).remaining, (await book.view()).reserved) == (50, 1)
    book.clock.now += 2
    assert ((await book.view()).remaining, (await book.view()).reserved) == (49, 0)
    assert (await book.settle(spend_id, 49)).remaining == 49


async def test_more_is_believed_after_a_quiet_minute(book: Book) -> None:
    await book.seed(50)
    spend_id, _ = await book.spend("me")
    await book.settle(spend_id, None)
    book.clock.now += 59
    assert (await book.observe(50)).remaining == 49
    book.clock.now += 2
    assert (await book.observe(50, age=5)).remaining == 49
    entry = await book.observe(50)
    assert (entry.remaining, (await book.view()).clients) == (50, {"me": 1}), "a guess put right is no new window"
    await book.pull("me")
    book.clock.now += 61
    assert (await book.observe(100)).remaining == 100
    assert (await book.view()).clients == {"me": 0}


async def test_a_window_that_is_over_gives_nothing_until_the_upstream_was_asked(book: Book) -> None:
    await book.seed(100)
    await book.pull("me")
    book.clock.now += WINDOW
    assert (await book.pull("me")).verdict == "stale"
    await book.seed(70)
    entry = await book.pull("me")
    assert (entry.verdict, entry.remaining, entry.had) == ("granted", 70, 1)


async def test_an_answer_from_before_the_last_landing_begins_no_window(book: Book) -> None:
    await book.seed(30)
    book.clock.now += WINDOW - 1
    await book.observe(30)
    spend_id, entry = await book.spend("me")
    assert entry.verdict == "granted"
    book.clock.now += 2
    sent = (await book.view()).now
    await book.settle(spend_id, 29)
    assert (await book.seed_late(30, sent)).remaining == 29


async def test_a_block_outlives_the_seeding(book: Book) -> None:
    await book.block(60)
    await book.seed(100)
    await book.block(5)
    entry = (await book.spend("me"))[1]
    assert (entry.verdict, round(entry.blocked_for)) == ("blocked", 60)
    book.clock.now += 61
    await book.seed(100)
    assert (await book.spend("me"))[1].verdict == "granted"


async def test_alone_a_client_may_take_all(book: Book) -> None:
    await book.seed(20)
    for number in range(10):
        assert (await book.pull("greedy", also_hold=1, image=f"{number}")).verdict == "granted"
        assert (await book.pull("greedy", image=f"{number}")).verdict == "granted"
    assert (await book.pull("greedy")).verdict == "spent"


async def test_a_greedy_client_leaves_the_rest_to_a_modest_one(book: Book) -> None:
    await book.seed(20)
    while (entry := await book.pull("greedy")).had < 14:
        assert entry.verdict == "granted"
    assert (await book.pull("modest", also_hold=1, image="one")).verdict == "granted"
    assert (await book.pull("greedy")).verdict == "share"
    assert (await book.pull("modest", image="one")).verdict == "granted"
    assert (await book.pull("greedy")).verdict == "share"
    while (entry := await book.pull("modest")).verdict == "granted":
        pass
    assert (entry.verdict, entry.had, entry.remaining) == ("spent", 6, 0)


async def test_whoever_has_had_more_goes_on_up_to_an_equal_share(book: Book) -> None:
    await book.seed(20)
    await book.block(1)
    assert (await book.pull("idle")).verdict == "blocked"
    book.clock.now += 1
    await book.seed(20)
    taken = [(await book.pull("busy")).verdict for _ in range(11)]
    assert taken == ["granted"] * 10 + ["share"]


async def test_what_is_in_flight_or_held_is_shared_out_once(book: Book) -> None:
    await book.seed(40)
    await book.pull("idle")
    for number in range(5):
        await book.spend("busy", also_hold=1, image=f"{number}")
    assert (await book.spend("busy"))[1].share == 20


async def test_who_does_not_ask_any_more_does_not_compete(book: Book) -> None:
    await book.seed(20)
    await book.pull("modest")
    for _ in range(9):
        await book.pull("greedy")
    refused = await book.pull("greedy", also_hold=1)
    assert (refused.verdict, refused.share) == ("share", 10)
    book.clock.now += 181
    await book.seed(10)
    assert (await book.pull("greedy", also_hold=1)).verdict == "granted"


async def test_a_remainder_goes_to_whoever_had_no_more_than_the_others(book: Book) -> None:
    await book.seed(10)
    for client in ("a", "b", "a", "b"):
        await book.pull(client, also_hold=1, image=client)
        assert (await book.pull(client, image=client)).verdict == "granted"
    assert (await book.pull("a", also_hold=1)).verdict == "granted"


@dataclass
class Get:
    id: str
    granted: float
    counted_as: int | None = None


@dataclass
class World:
    """An upstream that counts, two hosts that spend, and answers that arrive in any order."""

    book: Book
    left: int
    limit: int
    ends: float
    flights: list[Get] = field(default_factory=list)
    heads: list[tuple[int, float]] = field(default_factory=list)
    flushed: bool = False

    def upstream(self) -> int:
        if self.book.clock.now >= self.ends:
            self.left, self.ends = self.limit, self.ends + WINDOW
        return self.left

    async def ask(self, client: str, also_hold: int, image: str) -> None:
        spend_id, entry = await self.book.spend(client, also_hold=also_hold, image=image)
        if entry.verdict == "granted":
            self.flights.append(Get(spend_id, self.book.clock.now))
        elif entry.verdict == "stale":
            await self.refresh()

    async def refresh(self, between: int = 0) -> None:
        """Probe as a host does, with nothing of its own in flight; the other host's GETs may land meanwhile."""
        if self.flushed:
            await self.land_all()
        sent = (await self.book.view()).now
        said = self.upstream()
        for _ in range(between):
            await self.count(0)
            await self.land(0, True)
        if (await self.book.seed_late(said, sent)).seeded:
            self.flushed = False

    async def count(self, which: int) -> None:
        waiting = [get for get in self.flights if get.counted_as is None]
        if waiting:
            get = waiting[which % len(waiting)]
            assert self.upstream() > 0, "a counted GET went past what the upstream gave"
            self.left -= 1
            get.counted_as = self.left

    async def land(self, which: int, told: bool) -> None:
        landing = [get for get in self.flights if get.counted_as is not None]
        if landing:
            get = landing[which % len(landing)]
            self.flights.remove(get)
            await self.book.settle(get.id, get.counted_as if told else None)

    async def lose(self, which: int) -> None:
        """Kill a worker whose GET was counted, before it has the answer."""
        if counted := [get for get in self.flights if get.counted_as is not None]:
            self.flights.remove(counted[which % len(counted)])

    async def head(self) -> None:
        self.heads.append((self.upstream(), self.book.clock()))

    async def hear(self, which: int) -> None:
        if self.heads:
            said, sent = self.heads.pop(which % len(self.heads))
            await self.book.observe(said, self.book.clock.now - sent)

    async def land_all(self) -> None:
        while self.flights:
            await self.count(0)
            await self.land(0, True)

    async def wait(self, seconds: float) -> None:
        """Let time pass; a GET that was not counted within its minute never will be."""
        self.book.clock.now += seconds
        late = self.book.clock.now - FLIGHT_SECONDS
        self.flights = [get for get in self.flights if get.granted > late or get.counted_as is not None]


_STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from("abc"), st.integers(0, 1), st.sampled_from("xyz")),
    st.tuples(st.just("ask"), st.sampled_from("abc"), st.integers(0, 1), st.sampled_from("xyz")),
    st.tuples(st.just("count"), st.integers(0, 9)),
    st.tuples(st.just("count"), st.integers(0, 9)),
    st.tuples(st.just("land"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("lose"), st.integers(0, 9)),
    st.tuples(st.just("head")),
    st.tuples(st.just("hear"), st.integers(0, 9)),
    st.tuples(st.just("refresh"), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.4, 3.0, 20.0, 61.0, WINDOW / 2])),
    st.tuples(st.just("flush")),
)


async def _live(url: str, left: int, offset: int, steps: list[tuple]) -> None:
    cache = Cache(url)
    try:
        await cache.delete("budget:test")
        book = Book(cache)
        world = World(book, left, max(left, 20), book.clock.now + offset)
        for name, *arguments in steps:
            if name == "flush":
                await cache.delete("budget:test")
                world.flushed = True
            else:
                await getattr(world, name)(*arguments)
        await world.land_all()
        await world.wait(200)
        await world.refresh()
        entry = await book.view()
        assert (entry.remaining, entry.reserved) == (world.upstream(), 0), "the ledger has found back to the truth"
    finally:
        await cache.close()


@given(st.integers(0, 30), st.integers(1, WINDOW), st.lists(_STEPS, min_size=10, max_size=80))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_no_order_of_events_overspends(valkey: Valkey, left: int, offset: int, steps: list[tuple]) -> None:
    asyncio.run(_live(valkey.url, left, offset, steps))


async def test_what_is_reserved_for_plans_is_theirs_alone(book: Book) -> None:
    await book.seed(30)
    assert (await book.reserve(12)).planned == 12
    verdicts = [(await book.pull(f"{number}")).verdict for number in range(20)]
    assert (verdicts.count("granted"), verdicts.count("spent")) == (18, 2)
    assert [(await book.pull(PLANS)).verdict for _ in range(13)] == ["granted"] * 12 + ["spent"]


async def test_plans_get_nothing_that_is_not_reserved_and_are_no_rival(book: Book) -> None:
    await book.seed(30)
    assert (await book.spend(PLANS))[1].verdict == "share"
    await book.reserve(4)
    assert (await book.pull(PLANS)).verdict == "granted"
    entry = await book.view()
    assert (entry.planned, dict(entry.clients)) == (3, {})
    assert [(await book.pull("me")).verdict for _ in range(26)] == ["granted"] * 26


async def test_a_reservation_lapses_unless_it_is_renewed(book: Book) -> None:
    await book.seed(20)
    await book.reserve(20, seconds=60)
    assert (await book.spend("me"))[1].verdict == "spent"
    book.clock.now += 61
    await book.observe(20)
    assert (await book.spend("me"))[1].verdict == "granted"
