"""Metrics on how full the quotas are, counted once a minute and apart from requests.

Every worker counts, because Prometheus may scrape any of them. One query of a small table each minute costs less than
an agreement on which worker counts. The metrics do not name projects, because their readers may not know private ones.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Gauge

from app.database import Database, quotas
from app.kit.jobs import repeat

# All workers read the same database, so the latest count is right.
_MODE: Final = "mostrecent"
PROJECTS = Gauge(
    "registry_quota_projects",
    "Projects that have used more than this part of their quota.",
    ["above"],
    multiprocess_mode=_MODE,
)
FULLEST = Gauge(
    "registry_quota_fullest_ratio", "The part of its quota that the fullest project has used.", multiprocess_mode=_MODE
)
USED = Gauge("registry_quota_used_bytes", "Bytes in projects with a quota.", multiprocess_mode=_MODE)
ALLOWED = Gauge("registry_quota_allowed_bytes", "Bytes that all quotas allow together.", multiprocess_mode=_MODE)

# At the first share people are warned in the browser; at the second a push is likely to be refused soon.
LEVELS = (quotas.WARN_FROM, 0.95)
_PAUSE_SECONDS = 60.0


class FullnessWatch:
    """Counts how full all quotas together are."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Count now and every minute until cancelled; the metrics keep their values while the database is down."""
        await repeat("counting how full quotas are", self.look, _PAUSE_SECONDS, now=True)

    async def look(self) -> None:
        """Count once and set the metrics; raises Unavailable."""
        found = await self._database.read(quotas.fullness, LEVELS)
        for level, number in zip(LEVELS, found.above, strict=True):
            PROJECTS.labels(f"{level:.2f}").set(number)
        FULLEST.set(found.fullest)
        USED.set(found.used_bytes)
        ALLOWED.set(found.allowed_bytes)
