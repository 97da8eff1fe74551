"""The cache and its leases on a real Redis: there, stopped, frozen, full, flushed and back again."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from app.cache import AWAY, Cache, Claim, Lease
from app.oci.errors import Unavailable
from tests.parts.process import ROOT, eventually
from tests.parts.valkey import Valkey

ECHO = "return {KEYS[1], ARGV[1]}"


@pytest.fixture
async def cache(valkey: Valkey) -> AsyncIterator[Cache]:
    cache = Cache(valkey.url)
    yield cache
    await cache.close()


@pytest.fixture
async def other(valkey: Valkey) -> AsyncIterator[Cache]:
    """Another worker's."""
    cache = Cache(valkey.url)
    yield cache
    await cache.close()


def _failures(call: str) -> float:
    return REGISTRY.get_sample_value("registry_redis_failures_total", {"call": call}) or 0.0


async def _misses(cache: Cache) -> None:
    """Everything is done without Redis, and counted."""
    before = {call: _failures(call) for call in ("get", "mget", "set", "delete", "count", "script")}
    assert await cache.get("a") is None
    assert await cache.mget(["a", "b"]) == [None, None]
    assert await cache.set("a", b"1", 60) is False
    assert await cache.delete("a") is False
    assert await cache.count("a") is None
    assert await cache.increment("a", 60) is None
    assert await cache.script(ECHO, ["a"], lambda: [1]) is AWAY
    assert {call: _failures(call) - before[call] for call in before} == {
        "get": 1, "mget": 1, "set": 1, "delete": 1, "count": 1, "script": 2,
    }  # fmt: skip


async def _back(cache: Cache) -> None:
    await eventually(lambda: cache.set("back", b"1", 60), what="the cache to use Redis again")
    assert not cache.away


async def test_what_is_set_is_there_for_every_worker(cache: Cache, other: Cache) -> None:
    assert await cache.get("a") is None
    assert await cache.set("a", b"\x00\xff", 60)
    assert await cache.set("b", "õ", 60)
    assert await other.mget(["b", "nothing", "a"]) == ["õ".encode(), None, b"\x00\xff"]
    assert await other.mget([]) == []
    assert await other.delete("a", "nothing")
    assert await cache.get("a") is None
    await cache.check()


async def test_a_value_lives_as_long_as_it_is_told(cache: Cache, valkey: Valkey) -> None:
    await cache.set("long", b"1", 60)
    await cache.set("short", b"1", 0.01)
    await eventually(lambda: _gone(cache, "short"), what="the value to go")
    assert await cache.get("long") == b"1"
    assert 50_000 < int(valkey.command("PTTL r:long").removeprefix(":")) <= 60_000


async def _gone(cache: Cache, key: str) -> bool:
    return await cache.get(key) is None


async def test_counting(cache: Cache, other: Cache, valkey: Valkey) -> None:
    assert await cache.count("login") == 0
    assert [await cache.increment("login", 100), await other.increment("login", 5000)] == [1, 2]
    assert await other.count("login") == 2
    assert 0 < int(valkey.command("TTL r:login").removeprefix(":")) <= 100


async def test_scripts_survive_a_redis_that_forgets_them(cache: Cache, valkey: Valkey) -> None:
    for forget in ("PING", "SCRIPT FLUSH"):
        valkey.command(forget)
        assert await cache.script(ECHO, ["k"], lambda: ["v"]) == [b"r:k", b"v"]


async def test_a_script_that_fails_is_an_answer_that_is_missing(cache: Cache) -> None:
    assert await cache.script("return redis.call('NOSUCH')", [], list) is AWAY
    assert not cache.away


async def test_a_redis_that_is_stopped_and_started(cache: Cache, valkey: Valkey) -> None:
    await cache.set("a", b"1", 60)
    valkey.stop()
    try:
        await _misses(cache)
        with pytest.raises(Unavailable, match="Redis does not answer"):
            await cache.check()
    finally:
        valkey.start()
    await _back(cache)
    assert await cache.get("a") is None


async def test_a_redis_that_is_restarted_between_two_calls(cache: Cache, valkey: Valkey) -> None:
    await asyncio.gather(*(cache.set(f"{n}", b"1", 60) for n in range(20)))
    valkey.stop()
    valkey.start()
    await _back(cache)
    assert await cache.get("back") == b"1"


async def test_a_frozen_redis_delays_one_call_and_not_each(cache: Cache, valkey: Valkey) -> None:
    await cache.set("a", b"1", 60)
    valkey.pause()
    try:
        async with asyncio.timeout(30):
            for _ in range(1000):
                assert await cache.get("a") is None
        await _misses(cache)
        with pytest.raises(Unavailable, match="no answer within"):
            await cache.check()
    finally:
        valkey.resume()
    await _back(cache)
    assert await cache.get("a") == b"1"


async def test_a_crowd_of_calls_is_no_fault_of_redis(cache: Cache) -> None:
    before = _failures("script")
    slow = "for i = 1, 2000 do redis.call('TIME') end return 1"
    assert await asyncio.gather(*(cache.script(slow, [], list) for _ in range(800))) == [1] * 800
    assert _failures("script") == before


async def test_a_full_redis_refuses_writes_and_is_read(
    cache: Cache, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    await cache.set("a", b"1", 60)
    valkey.command("CONFIG SET maxmemory 1")
    try:
        assert await cache.set("b", b"1", 60) is False
        assert await cache.get("a") == b"1"
        assert not cache.away
        for _ in range(5):
            assert await cache.set("b", b"1", 60) is False
            assert await cache.increment("c", 60) is None
        assert len([record for record in caplog.records if "Redis refuses calls" in record.getMessage()]) == 1
    finally:
        valkey.command("CONFIG SET maxmemory 0")


async def test_nobody_is_there() -> None:
    cache = Cache("unix:///nowhere/redis.sock")
    await _misses(cache)
    await cache.close()


@pytest.mark.parametrize("url", ["embedded:", "http://127.0.0.1", "", "redis://127.0.0.1:port"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Cache(url)


async def test_a_call_that_is_cancelled_leaves_its_answer_to_nobody_else(cache: Cache) -> None:
    chance = random.Random(5)

    async def ask(number: int) -> None:
        answer = await cache.script(ECHO, [f"{number}"], lambda: [number])
        assert answer is AWAY or answer == [f"r:{number}".encode(), f"{number}".encode()]

    for _ in range(20):
        tasks = [asyncio.create_task(ask(number)) for number in range(50)]
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        for task in chance.sample(tasks, 25):
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ends} <= {type(None), asyncio.CancelledError}
    await _back(cache)
    assert await cache.script(ECHO, ["k"], lambda: ["v"]) == [b"r:k", b"v"]


async def test_a_lease_has_one_holder(cache: Cache, other: Cache) -> None:
    ours, theirs, elsewhere = Lease(cache, "fill"), Lease(other, "fill"), Lease(other, "another")
    assert await ours.acquire() is Claim.HELD
    assert await theirs.acquire() is Claim.TAKEN
    assert await ours.acquire() is Claim.HELD
    assert await elsewhere.acquire() is Claim.HELD
    await theirs.release()
    assert (ours.held, theirs.held) == (True, False)
    await ours.release()
    assert await theirs.acquire() is Claim.HELD
    await ours.release()
    assert await Lease(cache, "fill").acquire() is Claim.TAKEN
    await theirs.release()
    await elsewhere.release()


async def test_a_lease_that_is_held_is_renewed(cache: Cache, other: Cache) -> None:
    ours = Lease(cache, "fill", life=0.3)
    await ours.acquire()
    for _ in range(10):
        await asyncio.sleep(0.1)
        assert await Lease(other, "fill").acquire() is Claim.TAKEN
    await ours.release()


async def test_a_flushed_lease_is_taken_back_or_known_to_be_lost(cache: Cache, other: Cache, valkey: Valkey) -> None:
    ours, theirs = Lease(cache, "fill", life=0.3), Lease(other, "fill")
    await ours.acquire()
    valkey.flush()
    await asyncio.sleep(0.3)
    assert await theirs.acquire() is Claim.TAKEN

    async def overtaken() -> bool:
        valkey.flush()
        return await theirs.acquire() is Claim.HELD

    await eventually(overtaken, what="the other to be first after a flush")
    await eventually(lambda: _lost(ours), what="the lease to be lost")
    await ours.release()
    assert await Lease(cache, "fill").acquire() is Claim.TAKEN
    await theirs.release()


async def _lost(lease: Lease) -> bool:
    return not lease.held


async def test_a_lease_cannot_be_told_without_redis(cache: Cache, valkey: Valkey) -> None:
    lease = Lease(cache, "fill")
    valkey.stop()
    try:
        assert await lease.acquire() is Claim.AWAY
        await lease.release()
    finally:
        valkey.start()


_HOLDER = """
import asyncio, sys
from app.cache import Cache, Lease
async def hold():
    lease = Lease(Cache(sys.argv[1]), "fill", life=0.5)
    print((await lease.acquire()).name, flush=True)
    await asyncio.sleep(60)
asyncio.run(hold())
"""


async def test_a_dead_holder_loses_its_lease(cache: Cache, valkey: Valkey) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLDER, valkey.url, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"HELD\n"
    lease = Lease(cache, "fill")
    assert await lease.acquire() is Claim.TAKEN
    holder.send_signal(signal.SIGKILL)
    await holder.wait()
    await eventually(lambda: _held(lease), what="the dead holder's lease to lapse")
    await lease.release()


async def _held(lease: Lease) -> bool:
    return await lease.acquire() is Claim.HELD
