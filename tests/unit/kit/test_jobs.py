"""What a worker does again and again: no failure is the end of it, and each is logged as what it is."""

from __future__ import annotations

import asyncio
import logging

import pytest

from app.kit.jobs import repeat
from app.oci.errors import Unavailable


async def test_a_failure_is_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    troubles: list[Exception | None] = [None, Unavailable("the database is down"), KeyError("a fault of ours"), None]
    done = asyncio.Event()

    async def sweep() -> None:
        trouble = troubles.pop(0)
        if not troubles:
            done.set()
        if trouble is not None:
            raise trouble

    job = asyncio.create_task(repeat("sweeping", sweep, 0.001))
    await asyncio.wait_for(done.wait(), 10)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    told = [(record.levelno, record.getMessage(), record.exc_info is not None) for record in caplog.records]
    assert told == [
        (logging.WARNING, "sweeping put off: the database is down", False),
        (logging.ERROR, "sweeping failed; the next run is in 0.001 s", True),
    ]


@pytest.mark.parametrize("now", [True, False])
async def test_the_first_time_is_at_once_or_after_a_pause(now: bool) -> None:
    times: list[int] = []

    async def count() -> None:
        times.append(1)

    job = asyncio.create_task(repeat("counting", count, 3600, now=now))
    for _ in range(5):
        await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert len(times) == (1 if now else 0)


async def test_what_is_under_way_is_finished() -> None:
    begun, go_on, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def sweep() -> None:
        begun.set()
        await go_on.wait()
        finished.set()

    job = asyncio.create_task(repeat("sweeping", sweep, 3600, now=True))
    await begun.wait()
    job.cancel()
    await asyncio.sleep(0.01)
    assert not job.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert finished.is_set()


async def test_cancelled_twice_it_breaks_off() -> None:
    begun = asyncio.Event()

    async def sweep() -> None:
        begun.set()
        await asyncio.sleep(3600)

    job = asyncio.create_task(repeat("sweeping", sweep, 3600, now=True))
    await begun.wait()
    job.cancel()
    await asyncio.sleep(0.01)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(job, 10)
