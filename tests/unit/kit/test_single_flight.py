"""Single-flight: one task for all callers, whoever of them leaves."""

from __future__ import annotations

import asyncio

import pytest

from app.kit.single_flight import SingleFlight


class Work:
    """Work that ends when ``go_on`` is set, and counts how often it was started."""

    def __init__(self) -> None:
        self.started = 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> int:
        self.started += 1
        number = self.started
        await self.go_on.wait()
        return number


async def test_callers_of_one_key_share_a_task() -> None:
    flights, work = SingleFlight[int](), Work()
    callers = [asyncio.create_task(flights.join("key", work)) for _ in range(3)]
    other = asyncio.create_task(flights.join("other", work))
    await asyncio.sleep(0.01)
    work.go_on.set()
    assert await asyncio.gather(*callers) == [1, 1, 1]
    assert await other == 2
    assert await flights.join("key", work) == 3


async def test_a_caller_that_leaves_stops_nothing() -> None:
    flights, work = SingleFlight[int](), Work()
    first = asyncio.create_task(flights.join("key", work))
    await asyncio.sleep(0)
    second = asyncio.create_task(flights.join("key", work))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.go_on.set()
    assert await second == 1


async def test_a_failure_reaches_every_caller_and_none_that_comes_later() -> None:
    flights: SingleFlight[None] = SingleFlight()
    tried = 0

    async def fail() -> None:
        nonlocal tried
        tried += 1
        await asyncio.sleep(0)
        raise LookupError(str(tried))

    ends = await asyncio.gather(*(flights.join("key", fail) for _ in range(3)), return_exceptions=True)
    assert [str(end) for end in ends] == ["1"] * 3
    with pytest.raises(LookupError, match="2"):
        await flights.join("key", fail)


async def test_a_failure_that_nobody_waits_for_is_no_unretrieved_one(caplog: pytest.LogCaptureFixture) -> None:
    flights: SingleFlight[None] = SingleFlight()

    async def fail() -> None:
        raise LookupError

    flights.begin("key", fail)
    await asyncio.sleep(0.01)
    assert caplog.records == []


async def test_who_comes_right_after_the_end_starts_anew() -> None:
    flights, work = SingleFlight[int](), Work()
    work.go_on.set()
    again: list[asyncio.Task[int]] = []

    async def first() -> int:
        # Scheduled before the task's own callbacks: it runs when the task is done and still in the table.
        asyncio.get_running_loop().call_soon(lambda: again.append(asyncio.create_task(flights.join("key", work))))
        return 0

    assert await flights.join("key", first) == 0
    assert await again[0] == 1


async def test_wait_joins_only_what_is_under_way() -> None:
    flights, work = SingleFlight[int](), Work()
    await flights.wait("key")
    flights.begin("key", work)
    waiting = asyncio.create_task(flights.wait("key"))
    await asyncio.sleep(0)
    assert not waiting.done()
    work.go_on.set()
    await waiting
    assert work.started == 1


async def test_close_cancels_what_is_under_way() -> None:
    flights, work = SingleFlight[int](), Work()
    caller = asyncio.create_task(flights.join("key", work))
    await asyncio.sleep(0)
    await flights.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
