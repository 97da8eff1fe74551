"""What a worker does again and again: no failure is the end of it, and each is logged as what it is."""

from __future__ import annotations

import asyncio
import logging

import pytest

from app.jobs import repeat
from app.oci.errors import Unavailable


async def test_a_failure_is_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    troubles: list[Exception | None] = [None, Unavailable("the database is away"), KeyError("a fault of ours"), None]
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
        (logging.WARNING, "sweeping put off: the database is away", False),
        (logging.ERROR, "sweeping failed; the next time is in 0.001 s", True),
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
