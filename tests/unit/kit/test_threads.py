"""The hop to a thread: a call that has begun runs to its end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from app.kit.threads import in_thread


async def test_it_returns_and_raises_what_the_call_does() -> None:
    assert await in_thread(None, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(None, divmod, 7, 0)


async def test_it_runs_off_the_loop() -> None:
    assert await in_thread(None, threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_the_end(fails: bool) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        go_on.wait(10)
        done.set()
        if fails:
            raise OSError("seen by nobody")

    task = asyncio.create_task(in_thread(None, call))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
