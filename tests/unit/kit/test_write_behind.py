"""Write-behind: notes merge, are written in order, and outlast a database that is down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from app.kit import write_behind
from app.kit.write_behind import WriteBehind
from app.oci.errors import Unavailable


class Counts(WriteBehind[str, int]):
    """Adds numbers up; ``written`` has every write, ``trouble`` what the next ones raise."""

    def __init__(self) -> None:
        super().__init__("numbers")
        self.written: list[dict[str, int]] = []
        self.trouble: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, notes: Mapping[str, int]) -> None:
        await self.gate.wait()
        if self.trouble:
            raise self.trouble.pop(0)
        self.written.append(dict(notes))

    def merge(self, old: int, new: int) -> int:
        return old + new


async def test_notes_of_one_key_merge_and_are_written_once() -> None:
    counts = Counts()
    for key in "abab":
        counts.note(key, 1)
    await counts.flush()
    await counts.flush()
    assert counts.written == [{"a": 2, "b": 2}]


async def test_many_are_written_some_at_a_time_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "_WRITTEN_AT_ONCE", 2)
    counts = Counts()
    for number, key in enumerate("cabed"):
        counts.note(key, number)
    await counts.flush()
    assert [list(written) for written in counts.written] == [["c", "a"], ["b", "e"], ["d"]]


async def test_what_could_not_be_written_merges_with_what_came_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    counts.trouble = [Unavailable("the database is away"), Unavailable("still")]
    counts.note("a", 1)
    counts.gate.clear()
    flush = asyncio.create_task(counts.flush())
    await asyncio.sleep(0.01)
    counts.note("b", 1)
    counts.note("a", 1)
    counts.gate.set()
    await flush
    await counts.flush()
    assert [record.getMessage() for record in caplog.records] == ["numbers not written yet: the database is away"]
    await counts.flush()
    assert counts.written == [{"a": 2, "b": 1}]
    assert list(counts.written[0]) == ["a", "b"]


async def test_what_comes_during_a_write_is_written_by_the_same_flush() -> None:
    counts = Counts()
    counts.note("a", 1)
    counts.gate.clear()
    first = asyncio.create_task(counts.flush())
    await asyncio.sleep(0.01)
    counts.note("a", 1)
    second = asyncio.create_task(counts.flush())
    await asyncio.sleep(0.01)
    counts.gate.set()
    await asyncio.gather(first, second)
    assert counts.written == [{"a": 1}, {"a": 1}]


async def test_a_cancelled_flush_loses_nothing() -> None:
    counts = Counts()
    counts.note("a", 1)
    counts.gate.clear()
    flush = asyncio.create_task(counts.flush())
    await asyncio.sleep(0.01)
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    counts.gate.set()
    await counts.flush()
    assert counts.written == [{"a": 1}]


async def test_notes_that_fail_for_a_fault_of_ours_do_not_stand_in_the_way() -> None:
    counts = Counts()
    counts.trouble = [KeyError("a fault of ours")]
    counts.note("a", 1)
    with pytest.raises(KeyError):
        await counts.flush()
    counts.note("b", 1)
    await counts.flush()
    assert counts.written == [{"b": 1}]


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "_MOST_NOTES", 2)
    counts = Counts()
    for key in "abcab":
        counts.note(key, 1)
    await counts.flush()
    assert counts.written == [{"a": 2, "b": 2}]
