from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from app.access.throttle import Throttle
from app.cache.client import Cache
from app.oci.errors import TooManyRequests
from tests.parts.valkey import Valkey

from .conftest import no_redis

LAB = "193.40.5.7"
_PAUSE = 0.02


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_040.0 - 1_700_000_040.0 % 60 + 15

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["valkey", "none"])
def either(request: pytest.FixtureRequest) -> Cache:
    """A real server, or none at all."""
    cache: Cache = no_redis() if request.param == "none" else request.getfixturevalue("cache")
    return cache


async def fail(throttle: Throttle, username: str, address: str, times: int) -> None:
    for _ in range(times):
        await throttle.check(username, address)
        await throttle.failed(username, address)


async def test_ten_failures_a_minute_are_let_through(either: Cache, clock: Clock) -> None:
    throttle = Throttle(either, clock)
    await fail(throttle, "mari", LAB, 10)
    with pytest.raises(TooManyRequests, match="45 seconds") as raised:
        await throttle.check("mari", LAB)
    assert raised.value.headers == {"Retry-After": "45"}
    clock.now += 45
    await throttle.check("mari", LAB)


async def test_nobody_is_locked_out_elsewhere_or_by_another(either: Cache, clock: Clock) -> None:
    throttle = Throttle(either, clock)
    await fail(throttle, "mari", LAB, 10)
    await throttle.check("mari", "193.40.5.8")
    await throttle.check("mari", "2001:db8::1")
    await throttle.check("juri", LAB)


async def waits(throttle: Throttle, username: str, address: str, pause: float = _PAUSE) -> bool:
    began = time.monotonic()
    async with throttle.paced(username, address):
        return time.monotonic() - began >= pause


async def test_an_address_that_guesses_many_accounts_is_slowed_down(either: Cache, clock: Clock) -> None:
    """It refuses nobody: a right answer is not refused because of others' wrong ones."""
    throttle = Throttle(either, clock, pause=_PAUSE)
    for number in range(199):
        await fail(throttle, f"user{number}", LAB, 1)
    assert not await throttle.pause(LAB)
    await fail(throttle, "user199", LAB, 1)
    await throttle.check("juri", LAB)
    assert await waits(throttle, "juri", LAB)
    assert await throttle.pause(LAB) == _PAUSE
    assert not await throttle.pause("193.40.5.8")
    clock.now += 45
    assert not await throttle.pause(LAB)


async def test_the_checks_of_a_slow_address_come_one_after_the_other(clock: Clock) -> None:
    throttle = Throttle(no_redis(), clock, pause=_PAUSE)
    for number in range(200):
        await fail(throttle, f"user{number}", LAB, 1)
    at_once = most = 0

    async def one() -> None:
        nonlocal at_once, most
        async with throttle.paced("juri", LAB):
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            at_once -= 1

    began = time.monotonic()
    ends = await asyncio.gather(*(one() for _ in range(22)), return_exceptions=True)
    assert ends[:20] == [None] * 20
    assert [isinstance(end, TooManyRequests) for end in ends[20:]] == [True] * 2
    assert (most, time.monotonic() - began >= 20 * _PAUSE) == (1, True)
    assert (throttle._lanes, throttle._waiting) == ({}, {})


async def test_who_has_lately_logged_in_from_an_address_is_not_refused_there(either: Cache, clock: Clock) -> None:
    # Nobody waits it here, and no busy machine takes so long.
    long_pause = 10.0
    throttle = Throttle(either, clock, pause=long_pause)
    await throttle.succeeded("mari", LAB)
    await fail(throttle, "mari", LAB, 300)
    assert not await throttle.pause(LAB), "her failures count for nobody else"
    for number in range(200):
        await fail(throttle, f"user{number}", LAB, 1)
    await throttle.check("mari", LAB)
    assert not await waits(throttle, "mari", LAB, long_pause)
    await fail(throttle, "mari", LAB, 700)
    with pytest.raises(TooManyRequests):
        await throttle.check("mari", LAB)
    await fail(throttle, "mari", "193.40.5.8", 10)
    with pytest.raises(TooManyRequests):
        await throttle.check("mari", "193.40.5.8")


async def test_workers_know_together_who_has_logged_in(valkey: Valkey, cache: Cache, clock: Clock) -> None:
    ours, theirs = Throttle(cache, clock), Throttle(cache, clock)
    await fail(theirs, "mari", LAB, 10)
    await ours.succeeded("mari", LAB)
    await theirs.check("mari", LAB)
    async with Redis.from_url(valkey.url, decode_responses=True) as redis:
        (key,) = [str(key) for key in await redis.keys("*good*")]
        assert 6 * 86400 < await redis.ttl(key) <= 7 * 86400
    assert "mari" not in key


async def test_a_host_cannot_roam_in_its_own_network(either: Cache, clock: Clock) -> None:
    throttle = Throttle(either, clock)
    for number in range(10):
        await fail(throttle, "mari", f"2001:db8::{number:x}", 1)
    with pytest.raises(TooManyRequests):
        await throttle.check("mari", "2001:db8::ffff")
    await throttle.check("mari", "2001:db8:0:1::1")


async def test_workers_count_together(cache: Cache, clock: Clock) -> None:
    ours, theirs = Throttle(cache, clock), Throttle(cache, clock)
    await fail(ours, "mari", LAB, 5)
    await fail(theirs, "mari", LAB, 5)
    with pytest.raises(TooManyRequests):
        await ours.check("mari", LAB)


async def test_a_server_that_is_flushed_or_gone_sets_nobody_free(valkey: Valkey, cache: Cache, clock: Clock) -> None:
    throttle = Throttle(cache, clock)
    await fail(throttle, "mari", LAB, 10)
    valkey.flush()
    with pytest.raises(TooManyRequests):
        await throttle.check("mari", LAB)
    valkey.stop()
    try:
        with pytest.raises(TooManyRequests):
            await throttle.check("mari", LAB)
        await fail(throttle, "juri", LAB, 10)
        with pytest.raises(TooManyRequests):
            await throttle.check("juri", LAB)
    finally:
        valkey.start()


async def test_counts_in_the_server_go_away_and_tell_no_name(valkey: Valkey, cache: Cache) -> None:
    throttle = Throttle(cache)
    await throttle.failed("hunter2", LAB)
    async with Redis.from_url(valkey.url, decode_responses=True) as redis:
        keys = [str(key) for key in await redis.keys("*")]
        ttls = [await redis.ttl(key) for key in keys]
    assert len(keys) == 2
    assert not any("hunter2" in key or LAB in key for key in keys)
    assert all(0 < ttl <= 60 for ttl in ttls)


async def test_what_a_process_counts_is_bounded(clock: Clock) -> None:
    throttle = Throttle(no_redis(), clock)
    for number in range(6_000):
        await throttle.failed(f"user{number}", f"10.0.{number // 250}.{number % 250}")
    assert len(throttle._own) == 10_000
