"""Write-behind: notes gather in memory and are written every few seconds, so that no request waits for them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from itertools import islice
from typing import Generic, TypeVar

from app.oci.errors import Unavailable

from .jobs import repeat
from .single_flight import SingleFlight

_FLUSH_SECONDS = 5.0
# While the database is down for long, new keys past this many are dropped to bound the memory.
_MOST_NOTES = 100_000
_WRITTEN_AT_ONCE = 1000

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class WriteBehind(ABC, Generic[K, V]):
    """Notes by key. A subclass merges two notes of one key, and writes many notes together.

    A note waits in memory. A flush takes it out, and drops it after it is written. If the database is down, the note
    goes back and is merged with any newer one. A killed worker loses the notes that wait.
    """

    def __init__(self, what: str) -> None:
        """Start without notes; ``what`` names the notes in the log."""
        self._what = what
        self._notes: dict[K, V] = {}
        self._writing: SingleFlight[None] = SingleFlight()
        self._failing = False

    @abstractmethod
    async def write(self, notes: Mapping[K, V]) -> None:
        """Write all of ``notes`` or none; raise Unavailable to keep them for a later flush."""

    @abstractmethod
    def merge(self, old: V, new: V) -> V:
        """Return the one note that replaces both."""

    def note(self, key: K, value: V) -> None:
        """Add a note; never waits and never fails."""
        if (old := self._notes.get(key)) is not None:
            self._notes[key] = self.merge(old, value)
        elif len(self._notes) < _MOST_NOTES:
            self._notes[key] = value

    async def flush(self) -> None:
        """Write the waiting notes, oldest first. One flush runs at a time; a cancelled caller does not stop it."""
        await self._writing.join(None, self._flush)

    async def run(self) -> None:
        """Write every few seconds until cancelled."""
        await repeat(f"writing {self._what}", self.flush, _FLUSH_SECONDS)

    async def _flush(self) -> None:
        while self._notes:
            taken = {key: self._notes.pop(key) for key in list(islice(self._notes, _WRITTEN_AT_ONCE))}
            try:
                await self.write(taken)
            except Unavailable as error:
                if not self._failing:
                    log.warning("%s not written yet: %s", self._what, error)
                self._failing = True
                self._put_back(taken)
                return
            self._failing = False

    def _put_back(self, taken: dict[K, V]) -> None:
        newer, self._notes = self._notes, taken
        for key, value in newer.items():
            self.note(key, value)
