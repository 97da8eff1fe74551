"""Several worker processes spend at once, against an upstream that counts: none of them ever goes past its limit."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter as Tally
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from app.cache import Cache, keys
from tests.contract.mirror.budget_counter import Counter, counter
from tests.contract.mirror.budget_worker import Plan, Worker, worker
from tests.parts.valkey import Valkey

WORKERS = 3


@pytest.fixture
async def upstream() -> AsyncIterator[Counter]:
    async with counter(100) as upstream:
        yield upstream


@pytest.fixture
def plan(valkey: Valkey, upstream: Counter, tmp_path: Path) -> Plan:
    return Plan(valkey.url, upstream.url, str(tmp_path / "budget"))


async def _ready(stack: AsyncExitStack, plans: list[Plan]) -> list[Worker]:
    workers = [await stack.enter_async_context(worker(plan)) for plan in plans]
    for one in workers:
        await one.ready()
    return workers


async def _start(stack: AsyncExitStack, plans: list[Plan]) -> list[Worker]:
    workers = await _ready(stack, plans)
    for one in workers:
        one.go()
    return workers


async def _ends(workers: list[Worker]) -> Tally[str]:
    return Tally(end for ends in [await one.ends() for one in workers] for pull in ends for end in pull)


async def _until(upstream: Counter, gets: int) -> None:
    await upstream.until(lambda: upstream.gets >= gets)


@pytest.mark.parametrize("left", [0, 1, 7, 45])
async def test_all_that_is_left_is_spent_and_no_more(upstream: Counter, plan: Plan, left: int) -> None:
    upstream.left = left
    async with AsyncExitStack() as stack:
        ends = await _ends(await _start(stack, [plan] * WORKERS))
    assert (upstream.past, upstream.left) == (0, 0)
    assert ends == Tally({"200": left, "TOOMANYREQUESTS": 3 * 20 - left})


async def test_whoever_gets_an_index_gets_its_manifest(upstream: Counter, plan: Plan) -> None:
    upstream.left = 31
    async with AsyncExitStack() as stack:
        workers = await _start(stack, [replace(plan, pairs=True, client=f"client {n}") for n in range(WORKERS)])
        pulls = [pull for one in workers for pull in await one.ends()]
    assert upstream.past == 0
    assert Tally(map(tuple, pulls)) == {("200", "200"): 15, ("TOOMANYREQUESTS",): 60 - 15}


async def test_others_spend_from_the_same_address(upstream: Counter, plan: Plan) -> None:
    upstream.left = 40
    upstream.on_get = lambda gets: upstream.take(2) if gets % 5 == 0 and gets <= 25 else None
    async with AsyncExitStack() as stack:
        ends = await _ends(await _start(stack, [plan] * WORKERS))
    assert (upstream.past, upstream.left) == (0, 0)
    assert ends["200"] == upstream.gets == 30


async def test_others_spend_while_nobody_looks(upstream: Counter, plan: Plan) -> None:
    for left, taken in [(14, 2), (10, 8)]:
        upstream.left, upstream.gets = left, 0
        async with AsyncExitStack() as stack:
            await _ends(await _start(stack, [replace(plan, pulls=1)]))
            upstream.take(taken)
            await asyncio.sleep(0.6)
            await _ends(await _start(stack, [plan]))
        assert (upstream.past, upstream.left, upstream.gets) == (0, 0, left - taken)
        await _forget(plan)


async def _forget(plan: Plan) -> None:
    cache = Cache(plan.redis)
    assert await cache.delete(keys.budget("docker.io", "", "192.0.2.1"))
    await cache.close()


async def test_redis_is_flushed_again_and_again(upstream: Counter, plan: Plan, valkey: Valkey) -> None:
    upstream.left = 50
    async with AsyncExitStack() as stack:
        workers = await _start(stack, [replace(plan, pulls=30)] * WORKERS)
        for gets in range(1, 50, 4):
            await _until(upstream, gets)
            valkey.flush()
        ends = await _ends(workers)
    assert (upstream.past, upstream.left) == (0, 0)
    assert ends["200"] == 50


async def test_redis_is_stopped_and_comes_back_empty(upstream: Counter, plan: Plan, valkey: Valkey) -> None:
    upstream.left = 60
    async with AsyncExitStack() as stack:
        workers = await _start(stack, [replace(plan, pulls=30)] * WORKERS)
        await _until(upstream, 10)
        valkey.stop()
        try:
            await _until(upstream, 30)
        finally:
            valkey.start()
        ends = await _ends(workers)
    assert upstream.past == 0
    assert ends["200"] == upstream.gets > 50


async def test_redis_was_never_there(upstream: Counter, plan: Plan) -> None:
    upstream.left = 15
    nobody = replace(plan, redis="unix:///nowhere/redis.sock", pulls=10)
    async with AsyncExitStack() as stack:
        ends = await _ends(await _start(stack, [nobody] * WORKERS))
    assert (upstream.past, upstream.left) == (0, 0)
    assert ends == {"200": 15, "TOOMANYREQUESTS": 15}


async def test_one_host_is_cut_off_from_redis(upstream: Counter, plan: Plan) -> None:
    upstream.left = 30
    nobody = replace(plan, redis="unix:///nowhere/redis.sock")
    async with AsyncExitStack() as stack:
        ends = await _ends(await _start(stack, [plan, nobody, plan]))
    assert (upstream.past, upstream.left) == (0, 0)
    assert ends["200"] == 30


async def test_redis_freezes_and_goes_on_where_it_was(upstream: Counter, plan: Plan, valkey: Valkey) -> None:
    upstream.left = 60
    async with AsyncExitStack() as stack:
        workers = await _start(stack, [replace(plan, pulls=30)] * WORKERS)
        try:
            for gets in (8, 24, 40):
                await _until(upstream, gets)
                valkey.pause()
                await _until(upstream, gets + 8)
                valkey.resume()
        finally:
            valkey.resume()
        ends = await _ends(workers)
    assert upstream.past == 0
    assert ends["200"] == upstream.gets > 48


async def test_a_worker_is_killed_with_gets_in_flight(upstream: Counter, plan: Plan, valkey: Valkey) -> None:
    upstream.left = 50
    async with AsyncExitStack() as stack:
        first, *rest = await _start(stack, [replace(plan, pulls=30)] * WORKERS)
        await _until(upstream, 5)
        os.kill(first.pid, signal.SIGKILL)
        await first.ends()
        valkey.flush()
        await _ends(rest)
    assert upstream.past == 0
    assert upstream.gets > 20


async def test_a_worker_stands_still_with_gets_in_flight(upstream: Counter, plan: Plan, valkey: Valkey) -> None:
    upstream.left = 40
    async with AsyncExitStack() as stack:
        first, *rest = await _start(stack, [replace(plan, pulls=30, wait=1)] * WORKERS)
        await _until(upstream, 5)
        os.kill(first.pid, signal.SIGSTOP)
        valkey.flush()
        await asyncio.sleep(1)
        os.kill(first.pid, signal.SIGCONT)
        await _ends([first, *rest])
        # How much of the limit is spent by now hangs on who was quick; that none of it is lost does not.
        await _ends(await _start(stack, [replace(plan, pulls=40)]))
    assert (upstream.past, upstream.left) == (0, 0)


@pytest.mark.parametrize("left", [10, 60])
async def test_a_modest_client_gets_through_beside_a_greedy_one(upstream: Counter, plan: Plan, left: int) -> None:
    upstream.left = left + 2
    greedy = replace(plan, client="greedy", pulls=50, pairs=True)
    modestly = replace(plan, client="modest", pulls=1, pairs=True, wait=60)
    async with AsyncExitStack() as stack:
        # The modest one has asked before. Else the greedy one may have had all, alone, by the time it is heard of.
        first, *mass, modest = await _ready(stack, [modestly, greedy, greedy, modestly])
        first.go()
        assert await first.ends() == [["200", "200"]]
        for one in mass:
            one.go()
        await _until(upstream, 4)
        modest.go()
        assert await modest.ends() == [["200", "200"]]
        pulls = [pull for one in mass for pull in await one.ends()]
    assert {tuple(pull) for pull in pulls} == {("200", "200"), ("TOOMANYREQUESTS",)}
    assert upstream.past == 0
