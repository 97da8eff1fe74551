"""Computations beside the event loop: one at a time, in turns."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from app.access.computations import Computations
from app.oci.errors import TooManyRequests


async def test_one_at_a_time_in_turns_off_the_loop() -> None:
    computations, gate, done, running = Computations(), threading.Event(), list[str](), list[int]()

    def compute(whose: str) -> str:
        running.append(len(running) - len(done) + 1)
        gate.wait(10)
        time.sleep(0.001)
        done.append(whose)
        return whose

    whose = ("a", "a", "a", "b", "c")
    tasks = [asyncio.create_task(computations.run(name, compute, name)) for name in whose]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*tasks) == list(whose)
    assert (done, set(running)) == (["a", "a", "b", "c", "a"], {1})


async def test_an_error_is_the_callers_and_frees_the_place() -> None:
    computations = Computations()
    with pytest.raises(ZeroDivisionError):
        await computations.run("a", lambda: 1 // 0)
    assert await computations.run("a", lambda: 1) == 1


async def test_too_many_of_one_are_refused_and_others_are_not() -> None:
    computations, gate = Computations(), threading.Event()
    tasks = [asyncio.create_task(computations.run("a", gate.wait, 10.0)) for _ in range(300)]
    await asyncio.sleep(0)
    other = asyncio.create_task(computations.run("b", gate.wait, 10.0))
    await asyncio.sleep(0)
    gate.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [end for end in ends if isinstance(end, TooManyRequests)]
    assert (len(refused), await other) == (300 - 257, True)
    assert refused[0].headers["Retry-After"] == "5"
