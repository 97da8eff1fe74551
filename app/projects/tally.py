"""What may be done thousands of times a minute, as few notes: guesses at passwords must not fill the audit log.

refused ──► a note at once ──► counted … ──► a note with the count, a minute later ──► … ──► a quiet minute: over
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

from app.database.audit import Note

_MINUTE = 60.0
# So many kinds of notes are told apart in a minute; what is more is counted together.
_MOST_KINDS = 1000


@dataclass(slots=True)
class _Counted:
    until: float
    note: Note | None = None


class Tally:
    """Lets the first note of a kind pass and counts those like it; alike are notes that differ in their time only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[tuple[object, ...], _Counted] = {}

    def add(self, note: Note) -> Note | None:
        """Count a note; answers it where it is the first and is to be written now."""
        counted = self._kinds.get(_kind(note))
        if counted is None and len(self._kinds) >= _MOST_KINDS:
            note = replace(note, address="", resource="")
            counted = self._kinds.get(_kind(note))
        if counted is None:
            self._kinds[_kind(note)] = _Counted(self._clock() + _MINUTE)
            return note
        counted.note = note if counted.note is None else replace(counted.note, times=counted.note.times + 1)
        return None

    def due(self, *, all_of_it: bool = False) -> list[Note]:
        """Take what was counted for a minute by now, or (at a stop) for however long."""
        now, due = self._clock(), []
        for kind, counted in list(self._kinds.items()):
            if not all_of_it and now < counted.until:
                continue
            if counted.note is None or all_of_it:
                del self._kinds[kind]
            if counted.note is not None:
                due.append(counted.note)
                counted.note, counted.until = None, now + _MINUTE
        return due


def _kind(note: Note) -> tuple[object, ...]:
    return astuple(replace(note, at=0.0, times=1))
