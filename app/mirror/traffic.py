"""Counts of what mirrors serve and fetch, by the hour.

Counts that are lost with a killed worker cost nothing but a little of the statistics.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from app.database import Database, traffic
from app.database.traffic import HOUR, Counts
from app.kit.write_behind import WriteBehind

_Key = tuple[int, int]  # project id, hours since 1970


class Traffic(WriteBehind[_Key, Counts]):
    """Counts of one worker, by project and hour."""

    def __init__(self, database: Database) -> None:
        super().__init__("traffic")
        self._database = database

    def hit(self, project_id: int, size: int) -> None:
        """Count an answer of ``size`` bytes from what is cached."""
        self._count(project_id, Counts(hits=1, served_bytes=size))

    def miss(self, project_id: int, size: int) -> None:
        """Count an answer of ``size`` bytes that the upstream had to be asked for."""
        self._count(project_id, Counts(misses=1, served_bytes=size))

    def fetched(self, project_id: int, size: int) -> None:
        """Count ``size`` bytes that came from the upstream, for however many clients."""
        self._count(project_id, Counts(fetched_bytes=size))

    def merge(self, old: Counts, new: Counts) -> Counts:
        """Add them up."""
        return Counts(
            old.hits + new.hits,
            old.misses + new.misses,
            old.served_bytes + new.served_bytes,
            old.fetched_bytes + new.fetched_bytes,
        )

    async def write(self, notes: Mapping[_Key, Counts]) -> None:
        """Add the counts to those of record; raises Unavailable."""
        async with self._database.transaction() as transaction:
            await traffic.add(transaction, notes)

    def _count(self, project_id: int, counts: Counts) -> None:
        self.note((project_id, int(time.time() // HOUR)), counts)
