"""Count frequent events into few notes, so that guesses at passwords do not fill the audit log.

The first event of a kind is noted at once. Events like it are counted, and the count is noted a minute later. After a
minute without events the kind is forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

from app.database.audit import Note

_MINUTE = 60.0
# At most this many kinds of notes are counted apart in a minute; further ones are counted together.
_MOST_KINDS = 1000


@dataclass(slots=True)
class _Counted:
    until: float
    note: Note | None = None


class Tally:
    """Passes the first note of a kind and counts the others; notes of a kind differ only in their times."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[tuple[object, ...], _Counted] = {}

    def add(self, note: Note) -> Note | None:
        """Count a note; return it if it is the first of its kind and must be written now, otherwise None."""
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
        """Return and reset the counts that are a minute old; ``all_of_it`` (at shutdown) returns all counts."""
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
