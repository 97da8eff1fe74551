"""What the budget does with its ledger, its host's lock and its upstream; each puller is a worker of its own."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from app.cache import Cache
from app.mirror import budget as room
from app.mirror import ledger
from app.mirror.answers import Answer, RateLimit, UpstreamDown, UpstreamLimited, carry
from app.mirror.budget import Budget
from app.mirror.ledger import duration
from app.oci.errors import OCIError, TooManyRequests
from tests.contract.mirror.budget_counter import LIMIT, WINDOW, Counter, counter
from tests.contract.mirror.budget_worker import Plan, Puller
from tests.parts.process import eventually
from tests.parts.valkey import Valkey

NewPuller = Callable[[str], Awaitable[Puller]]


@pytest.fixture
async def upstream() -> AsyncIterator[Counter]:
    async with counter(LIMIT) as upstream:
        yield upstream


@pytest.fixture
async def new(valkey: Valkey, upstream: Counter, tmp_path: Path) -> AsyncIterator[NewPuller]:
    """Makes workers, by the name of their client."""
    plan = Plan(valkey.url, upstream.url, str(tmp_path / "budget"))
    async with AsyncExitStack() as stack:

        async def make(client: str) -> Puller:
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
            cache = Cache(valkey.url)
            stack.push_async_callback(cache.close)
            return Puller(replace(plan, client=client), session, cache)

        yield make


def got(status: int | None, rate: RateLimit | None) -> Answer:
    """Make the answer to a counted GET."""
    return Answer("get_manifest", status, rate, None, time.time())


def headed(status: int, rate: RateLimit | None, retry_after: str | None = None) -> Answer:
    """Make the answer to a HEAD."""
    return Answer("head_manifest", status, rate, retry_after, time.time())


async def _many(puller: Puller, number: int) -> list[str]:
    ends = await asyncio.gather(*(puller.pull(f"image {n}") for n in range(number)))
    return sorted(end for pull in ends for end in pull)


async def _take_off(upstream: Counter, puller: Puller, number: int) -> asyncio.Task[list[str]]:
    """Send GETs that stay in flight until the gate opens."""
    upstream.gate.clear()
    before = upstream.arrived
    task = asyncio.create_task(_many(puller, number))
    await upstream.until(lambda: upstream.arrived == before + number)
    return task


async def _refusal(puller: Puller, *, wait: float = 1000, also_hold: int = 0) -> TooManyRequests:
    with pytest.raises(TooManyRequests) as caught:
        async with puller.budget.spend("me", "an image", wait=wait, also_hold=also_hold):
            pytest.fail("a GET was let go")
    return caught.value


async def test_after_a_flush_nothing_takes_off_before_what_flies_has_landed(
    new: NewPuller, upstream: Counter, valkey: Valkey
) -> None:
    upstream.left = 30
    one, other = await new("me"), await new("me")
    await _many(other, 1)
    flying = await _take_off(upstream, one, 15)
    valkey.flush()
    late = asyncio.create_task(_many(other, 20))
    await asyncio.sleep(0.3)
    assert upstream.arrived == 16
    upstream.gate.set()
    assert await flying == ["200"] * 15
    assert await late == ["200"] * 14 + ["TOOMANYREQUESTS"] * 6
    assert (upstream.past, upstream.left) == (0, 0)


async def test_a_ledger_that_was_frozen_is_not_believed(new: NewPuller, upstream: Counter, valkey: Valkey) -> None:
    upstream.left = 40
    one, other = await new("me"), await new("me")
    await _many(one, 1)
    await _many(other, 1)
    valkey.pause()
    try:
        assert await _many(one, 22) == ["200"] * 22
    finally:
        valkey.resume()
    assert await _many(other, 30) == ["200"] * 16 + ["TOOMANYREQUESTS"] * 14
    assert (upstream.past, upstream.left) == (0, 0)


async def test_a_get_without_redis_waits_for_those_in_flight(new: NewPuller, upstream: Counter, valkey: Valkey) -> None:
    upstream.left = 20
    one, other = await new("me"), await new("me")
    await _many(other, 1)
    flying = await _take_off(upstream, one, 8)
    valkey.stop()
    try:
        late = asyncio.create_task(_many(other, 15))
        await asyncio.sleep(0.3)
        assert upstream.arrived == 9
        upstream.gate.set()
        assert await flying == ["200"] * 8
        assert await late == ["200"] * 11 + ["TOOMANYREQUESTS"] * 4
    finally:
        valkey.start()
    assert (upstream.past, upstream.left) == (0, 0)


async def test_what_lands_while_redis_is_away_is_settled_when_it_is_back(
    new: NewPuller, upstream: Counter, valkey: Valkey
) -> None:
    puller = await new("me")
    flying = await _take_off(upstream, puller, 3)
    valkey.pause()
    try:
        upstream.gate.set()
        assert await flying == ["200"] * 3
    finally:
        valkey.resume()

    async def settled() -> bool:
        view = await puller.budget.view()
        return (view.remaining, view.reserved) == (LIMIT - 3, 0)

    await eventually(settled, what="the ledger to know of it")


async def test_a_stream_of_gets_does_not_keep_a_probe_from_its_turn(new: NewPuller, upstream: Counter) -> None:
    upstream.left = 10_000
    busy, newcomer = await new("busy"), await new("newcomer")
    stop = asyncio.Event()

    async def stream() -> None:
        while not stop.is_set():
            assert await busy.pull("image") == ["200"]

    streams = [asyncio.create_task(stream()) for _ in range(8)]
    await upstream.until(lambda: upstream.gets >= 20)
    assert await newcomer.pull("image") == ["200"]
    stop.set()
    await asyncio.gather(*streams)


async def test_a_worker_that_has_asked_nothing_sees_what_another_knows(new: NewPuller, upstream: Counter) -> None:
    upstream.left = 30
    one, other = await new("one"), await new("other")
    assert (await other.budget.view()).remaining is None
    assert await _many(one, 3) == ["200"] * 3
    view = await other.budget.view()
    assert (view.limit, view.remaining) == (LIMIT, 27)
    assert set(view.clients) == {"one"}


async def test_what_is_said_when_all_is_spent(new: NewPuller, upstream: Counter) -> None:
    upstream.left = 0
    puller = await new("me")
    refused = await _refusal(puller)
    assert "docker.io gives this registry 100 pulls in 6 h, 0 are left; cached content" in refused.message
    assert WINDOW - 60 < int(refused.headers["Retry-After"]) <= WINDOW
    assert upstream.arrived == 0


async def test_what_is_said_when_another_pull_holds_the_rest(new: NewPuller, upstream: Counter) -> None:
    upstream.left = 2
    one, other = await new("one"), await new("other")
    async with one.budget.spend("you", "yours", also_hold=1) as spend:
        upstream.left = 1
        await spend.answered(got(200, RateLimit(LIMIT, 1, WINDOW, upstream.source)))
    refused = await _refusal(other, wait=0)
    assert "0 are left and 1 promised to a pull under way" in refused.message


async def test_what_is_said_when_the_share_is_used_up(new: NewPuller, upstream: Counter) -> None:
    upstream.left = 4
    greedy, modest = await new("me"), await new("modest")
    assert await _many(greedy, 3) == ["200"] * 3
    assert re.search(r" (0 are|1 is) left", (await _refusal(modest, also_hold=1)).message)
    async with modest.budget.spend("modest", "image", wait=0) as spend:
        upstream.left = 4
        await spend.answered(got(200, RateLimit(LIMIT, 3, WINDOW, upstream.source)))
    refused = await _refusal(greedy)
    assert "you have had your share of them (3)" in refused.message


async def test_what_is_given_back_goes_to_whoever_waits(new: NewPuller, upstream: Counter) -> None:
    upstream.left = 2
    one, other = await new("one"), await new("other")
    async with one.budget.spend("one", "an image", also_hold=1) as spend:
        waiting = asyncio.create_task(other.pull("another"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        upstream.left = 1
        await spend.answered(got(200, RateLimit(LIMIT, 1, WINDOW, upstream.source)), keep_hold=False)
    assert await waiting == ["200"]
    assert upstream.left == 0


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "120"}, 110, 120),
        ({"Retry-After": "99999999"}, 21000, 21600),
        # A date, of when the tests were collected.
        ({"Retry-After": f"{int(time.time()) + 7200}"}, 3600, 7200),
        ({}, 50, 60),
        ({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "50;w=21600"}, 50, 60),
        (
            {
                "ratelimit-limit": "100;w=21600",
                "ratelimit-remaining": "0;w=21600",
                "docker-ratelimit-source": "192.0.2.1",
            },
            21000,
            21600,
        ),
    ],
)
async def test_after_a_429_nothing_counted_is_sent(
    new: NewPuller, upstream: Counter, headers: dict[str, str], least: int, most: int
) -> None:
    one, other = await new("one"), await new("other")
    await _many(other, 1)
    upstream.refusal = lambda: web.Response(status=429, headers=headers)
    assert await one.pull("image") == ["429"]
    for puller in (one, other):
        refused = await _refusal(puller)
        assert least < int(refused.headers["Retry-After"]) <= most
    assert upstream.arrived == 2


async def test_a_block_of_which_redis_knows_nothing_holds_in_the_worker(
    new: NewPuller, upstream: Counter, valkey: Valkey
) -> None:
    puller = await new("me")
    await puller.budget.refused("100", None)
    valkey.flush()
    assert "docker.io has asked this registry to wait" in (await _refusal(puller)).message


@pytest.mark.parametrize("status", [None, 200, 404, 503])
async def test_a_get_without_a_rate_counts(new: NewPuller, status: int | None) -> None:
    puller = await new("me")
    async with puller.budget.spend("me", "image") as spend:
        await spend.answered(got(status, None))
    assert (await puller.budget.view()).remaining == LIMIT - 1


async def test_a_get_that_ends_in_an_exception_counts(new: NewPuller) -> None:
    puller = await new("me")
    with pytest.raises(ConnectionError):
        async with puller.budget.spend("me", "image", also_hold=1):
            raise ConnectionError
    view = await puller.budget.view()
    assert (view.remaining, view.reserved) == (LIMIT - 1, 0)


async def test_a_get_is_cut_off_when_its_time_is_up(new: NewPuller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FLIGHT_SECONDS", 0.05)
    puller = await new("me")
    with pytest.raises(UpstreamDown):
        async with puller.budget.spend("me", "image"):
            await asyncio.sleep(60)
    assert (await puller.budget.view()).remaining == LIMIT - 1


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_get_that_nobody_tells_of_counts(new: NewPuller, cancelled: bool) -> None:
    puller, sent = await new("me"), asyncio.Event()

    async def pull() -> None:
        async with puller.budget.spend("me", "image", also_hold=1):
            sent.set()
            if cancelled:
                await asyncio.Event().wait()

    task = asyncio.create_task(pull())
    await sent.wait()
    if cancelled:
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    view = await puller.budget.view()
    assert (view.remaining, view.reserved) == (LIMIT - 1, 0)


@pytest.mark.parametrize(
    ("answer", "left", "reserved"),
    [
        # The upstream's own word, kept with what is held for the child unless no manifest came.
        (got(200, RateLimit(LIMIT, 54, WINDOW, "192.0.2.1")), 54, 1),
        (got(404, RateLimit(LIMIT, 54, WINDOW, "192.0.2.1")), 54, 0),
        # No word: it is taken for counted.
        (got(None, None), LIMIT - 1, 0),
        (None, LIMIT - 1, 0),
        # What a 401 or a token service says is no answer to a GET that was counted.
        (got(401, RateLimit(LIMIT, 54, WINDOW, "192.0.2.1")), LIMIT - 1, 0),
        (replace(got(503, RateLimit(LIMIT, 54, WINDOW, "192.0.2.1")), kind="token"), LIMIT - 1, 0),
    ],
)
@pytest.mark.parametrize("raised", [False, True])
async def test_an_answer_settles_what_was_spent_returned_or_raised(
    new: NewPuller, answer: Answer | None, left: int, reserved: int, raised: bool
) -> None:
    puller = await new("me")
    error = OCIError("no manifest")
    carry(error, answer)
    with suppress(OCIError):
        async with puller.budget.spend("me", "image", also_hold=1) as spend:
            assert (await puller.budget.view()).reserved == 2
            if raised:
                raise error
            await spend.answered(answer)
            # Only the first answer counts.
            await spend.answered(got(200, RateLimit(LIMIT, 10, WINDOW, "192.0.2.1")))
    view = await puller.budget.view()
    assert (view.remaining, view.reserved) == (left, reserved)


async def test_a_429_that_is_raised_blocks(new: NewPuller) -> None:
    puller = await new("me")
    error = UpstreamLimited("docker.io", "77")
    carry(error, replace(got(429, None), retry_after="77"))
    with pytest.raises(UpstreamLimited):
        async with puller.budget.spend("me", "image"):
            raise error
    assert 60 < int((await _refusal(puller)).headers["Retry-After"]) <= 77


async def test_heads_are_observed_and_no_storage(new: NewPuller) -> None:
    puller = await new("me")
    await puller.pull("image")
    rate = RateLimit(LIMIT, 55, WINDOW, "192.0.2.1")
    await puller.budget.observe(headed(200, rate))
    for other in (
        None,
        headed(200, None),
        replace(got(200, replace(rate, remaining=40)), kind="storage"),
        headed(200, replace(rate, remaining=90)),
    ):
        await puller.budget.observe(other)
    view = await puller.budget.view()
    assert (view.remaining, view.blocked_until) == (55, None)
    await puller.budget.observe(headed(429, None, "77"))
    assert (await puller.budget.view()).blocked_until is not None


async def test_a_probe_that_fails_is_everybodys_answer_and_lets_nothing_go(
    valkey: Valkey, tmp_path: Path, upstream: Counter
) -> None:
    asked: list[float] = []

    async def probe() -> RateLimit:
        asked.append(time.time())
        await asyncio.sleep(0.2)
        raise UpstreamDown("docker.io", "does not answer")

    cache = Cache(valkey.url)
    budget = Budget(cache, "docker.io", "", tmp_path / "budget", probe)

    async def pull() -> None:
        async with budget.spend("me", "image"):
            pytest.fail("a GET was let go")

    ends = await asyncio.gather(*(pull() for _ in range(20)), return_exceptions=True)
    assert [type(end) for end in ends] == [UpstreamDown] * 20
    assert len(asked) == 1
    await cache.close()


async def test_it_can_be_seen(new: NewPuller, upstream: Counter) -> None:
    puller = await new("me")
    await puller.pull("image")
    async with puller.budget.spend("you", "image", also_hold=1):
        view = await puller.budget.view()
    assert (view.limit, view.remaining, view.reserved, view.unlimited) == (LIMIT, LIMIT - 1, 2, False)
    assert view.clients == {"me": 1, "you": 2}
    assert view.resets_at is not None
    assert abs(view.resets_at - time.time() - WINDOW) < 60
    labels = {"upstream": "docker.io", "account": ""}
    assert REGISTRY.get_sample_value("registry_budget_limit", labels) == LIMIT
    assert REGISTRY.get_sample_value("registry_budget_remaining", labels) == LIMIT - 2
    assert WINDOW - 60 < (REGISTRY.get_sample_value("registry_budget_reset_seconds", labels) or 0) <= WINDOW


async def test_each_source_has_a_ledger_of_its_own(new: NewPuller, upstream: Counter) -> None:
    one, other = await new("one"), await new("other")
    upstream.left = 3
    await one.pull("image")
    upstream.left, upstream.source = 50, "2001:db8:1:2:3::4"
    await other.pull("image")
    assert ((await one.budget.view()).remaining, (await other.budget.view()).remaining) == (2, 49)
    upstream.source = "2001:db8:1:2:ffff::1"
    await one.pull("image")
    assert (await one.budget.view()).remaining == (await other.budget.view()).remaining == 48


async def test_an_image_that_is_not_counted_shows_no_limit_only_where_none_was_stated(
    new: NewPuller, upstream: Counter
) -> None:
    one, other = await new("me"), await new("me")
    assert not (await one.budget.view()).unlimited
    await one.budget.observe(got(200, None))
    assert (await one.budget.view()).unlimited
    assert (await other.budget.view()).unlimited, "other workers show it, too"
    await one.pull("image")
    for budget in (one.budget, other.budget):
        await budget.observe(got(200, None))
        view = await budget.view()
        assert (view.unlimited, view.limit, view.remaining) == (False, LIMIT, LIMIT - 1)
    assert REGISTRY.get_sample_value("registry_budget_limit", {"upstream": "docker.io", "account": ""}) == LIMIT


async def test_a_get_that_was_not_reserved_lowers_what_is_left(new: NewPuller, upstream: Counter) -> None:
    puller = await new("me")
    await puller.pull("image")
    await puller.budget.observe(got(200, RateLimit(LIMIT, 40, WINDOW, "192.0.2.1")))
    assert (await puller.budget.view()).remaining == 40


async def test_a_get_that_is_not_counted_waits_as_the_upstream_asks(new: NewPuller) -> None:
    one, other = await new("me"), await new("you")
    await one.budget.require_open()
    await one.budget.observe(replace(got(429, None), retry_after="77"))
    for puller in (one, other):
        with pytest.raises(TooManyRequests) as caught:
            await puller.budget.require_open()
        assert 60 < int(caught.value.headers["Retry-After"]) <= 77


async def test_what_is_held_for_nobody_is_used_by_those_who_wait(
    new: NewPuller, upstream: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ledger._RULES, "hold", 0.5)
    upstream.left = 10
    crowd = [await new(f"client {number}") for number in range(4)]

    async def ask(number: int) -> bool:
        try:
            async with crowd[number % 4].budget.spend(
                f"client {number}", f"image {number}", also_hold=1, wait=2
            ) as spend:
                await spend.answered(got(200, None))
        except TooManyRequests:
            return False
        return True

    await crowd[0].pull("image")
    served = await asyncio.gather(*(ask(number) for number in range(40)))
    assert (served.count(True), upstream.past) == (8, 0), "nine were left, and the last GET cannot end an index"
    assert ledger.WAIT_SECONDS >= 4 * ledger.HOLD_SECONDS


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (119, "119 s"),
        (120, "2 min"),
        (150, "3 min"),
        (3599, "1 h"),
        (21600, "6 h"),
        (11520, "3 h 12 min"),
    ],
)
def test_a_time_is_spelled_as_people_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words
