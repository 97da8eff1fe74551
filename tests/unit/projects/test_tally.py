"""Counting what may be done thousands of times a minute."""

from __future__ import annotations

import time

import pytest

from app.database.audit import Note
from app.projects import tally as module
from app.projects.tally import Tally


class Clock:
    """Seconds, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def note(name: str = "mari", address: str = "193.40.5.7") -> Note:
    return Note(time.time(), "anonymous", address, "refuse", "user", name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    return Tally(clock)


def test_ten_thousand_of_one_kind_are_two_notes(tally: Tally, clock: Clock) -> None:
    first = tally.add(note())
    assert first is not None
    assert [tally.add(note()) for _ in range(9_999)] == [None] * 9_999
    assert tally.due() == []
    clock.now = 60
    (rest,) = tally.due()
    assert (first.times, rest.times, rest.resource, rest.address) == (1, 9_999, "mari", "193.40.5.7")


def test_what_goes_on_is_one_note_a_minute_and_what_has_stopped_begins_anew(tally: Tally, clock: Clock) -> None:
    assert tally.add(note()) is not None
    for minute in range(1, 4):
        assert tally.add(note()) is None
        assert tally.add(note()) is None
        clock.now = 60 * minute
        assert [one.times for one in tally.due()] == [2]
    clock.now += 60
    assert tally.due() == []
    assert tally.add(note()) is not None


def test_a_name_and_an_address_make_a_kind(tally: Tally) -> None:
    kinds = [note(), note("jaan"), note(address="193.40.5.8")]
    assert [tally.add(one) for one in kinds] == kinds
    assert tally.due(all_of_it=True) == []
    assert tally.add(note()) is not None


def test_a_stop_takes_what_was_counted_so_far(tally: Tally) -> None:
    for _ in range(3):
        tally.add(note())
    assert [one.times for one in tally.due(all_of_it=True)] == [2]
    assert tally.due(all_of_it=True) == []


def test_however_many_kinds_there_are(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KINDS", 10)
    passed = [one for number in range(1000) if (one := tally.add(note(f"person-{number}"))) is not None]
    rest = tally.due(all_of_it=True)
    assert sum(one.times for one in passed + rest) == 1000
    assert len(passed) == 11
    assert [(one.address, one.resource, one.times) for one in rest] == [("", "", 989)]
