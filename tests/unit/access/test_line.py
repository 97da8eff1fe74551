"""Who stands in line for a hash, and whose turn it is."""

from __future__ import annotations

import asyncio

import pytest

from app.access.line import Line, LineFull


async def stand(line: Line, name: str, served: list[str], gate: asyncio.Event) -> None:
    async with line.place(name):
        served.append(name)
        await gate.wait()


async def test_names_take_turns() -> None:
    line, gate, served = Line(1), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(stand(line, name, served, gate)) for name in ("a", "a", "a", "a", "b", "c", "b")]
    await asyncio.sleep(0)
    assert (served, line.turns("a"), line.turns("b"), line.turns("d")) == (["a"], 8, 8, 5)
    gate.set()
    await asyncio.gather(*tasks)
    assert served == ["a", "a", "b", "c", "a", "b", "a"]
    assert line.turns("a") == 1


async def test_a_line_has_an_end_for_each_name() -> None:
    line, gate, served = Line(2), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(stand(line, "a", served, gate)) for _ in range(300)]
    await asyncio.sleep(0)
    other = asyncio.create_task(stand(line, "b", served, gate))
    await asyncio.sleep(0)
    gate.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    await other
    assert [isinstance(end, LineFull) for end in ends] == [False] * 258 + [True] * 42
    assert served.index("b") < 6


@pytest.mark.parametrize("leaves", range(4))
async def test_those_who_leave_hold_up_nobody(leaves: int) -> None:
    line, gate, served = Line(1), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(stand(line, name, served, gate)) for name in ("a", "b", "b", "c")]
    await asyncio.sleep(0)
    tasks[leaves].cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(served) == (4 if leaves == 0 else 3)
    async with line.place("d"):
        assert line.turns("a") == 2


async def test_a_turn_that_nobody_takes_goes_to_the_next() -> None:
    line, gate, served = Line(1), asyncio.Event(), list[str]()
    gate.set()
    async with line.place("a"):
        second, third = (asyncio.create_task(stand(line, name, served, gate)) for name in "bc")
        await asyncio.sleep(0)
    # The place is b's now, whose task has not run yet.
    second.cancel()
    await asyncio.gather(second, third, return_exceptions=True)
    assert served == ["c"]
    assert line.turns("a") == 1
