"""Counts what mirrors serve and fetch, many requests at a time.

Counts that are lost with a killed worker cost nothing but a little of the statistics.
"""

from __future__ import annotations

import logging
import time

from app.database import Database, traffic
from app.database.traffic import HOUR, Counts
from app.jobs import repeat
from app.oci.errors import Unavailable

_FLUSH_SECONDS = 5.0

log = logging.getLogger(__name__)


class Traffic:
    """Collects counts in memory, by project and hour; `run` writes them every few seconds until cancelled."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Project and hour → hits, misses, served and fetched bytes.
        self._counted: dict[tuple[int, int], list[int]] = {}

    def hit(self, project_id: int, size: int) -> None:
        """Count an answer of ``size`` bytes from what is cached."""
        counts = self._now(project_id)
        counts[0] += 1
        counts[2] += size

    def miss(self, project_id: int, size: int) -> None:
        """Count an answer of ``size`` bytes that the upstream had to be asked for."""
        counts = self._now(project_id)
        counts[1] += 1
        counts[2] += size

    def fetched(self, project_id: int, size: int) -> None:
        """Count ``size`` bytes that came from the upstream, for however many clients."""
        self._now(project_id)[3] += size

    async def flush(self) -> None:
        """Write what was counted; kept for the next time where the database is away."""
        counted, self._counted = self._counted, {}
        if not counted:
            return
        try:
            async with self._database.transaction() as transaction:
                await traffic.add(transaction, {key: Counts(*counts) for key, counts in counted.items()})
        except Unavailable as error:
            log.warning("traffic not written yet: %s", error)
            for key, counts in counted.items():
                self._counted[key] = list(map(sum, zip(counts, self._counted.get(key, [0] * 4), strict=True)))

    async def run(self) -> None:
        """Write every few seconds, for as long as the worker lives."""
        await repeat("writing traffic", self.flush, _FLUSH_SECONDS)

    def _now(self, project_id: int) -> list[int]:
        return self._counted.setdefault((project_id, int(time.time() // HOUR)), [0] * 4)
