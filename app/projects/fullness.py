"""How full quotas are, for whoever watches: counted once a minute, beside all requests.

Every worker counts for itself: each of them may be the one that is scraped, and one question of a small table a minute
is less than agreeing on who asks. Projects have no names here: who may read metrics need not know of private ones.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Gauge

from app.database import Database, quotas
from app.kit.jobs import repeat

# All workers see the same database: the one that looked last knows best.
_MODE: Final = "mostrecent"
PROJECTS = Gauge(
    "registry_quota_projects",
    "Projects that have used more than this part of their quota.",
    ["above"],
    multiprocess_mode=_MODE,
)
FULLEST = Gauge(
    "registry_quota_fullest_ratio", "What the fullest project has used of its quota.", multiprocess_mode=_MODE
)
USED = Gauge("registry_quota_used_bytes", "Bytes in projects with a quota.", multiprocess_mode=_MODE)
ALLOWED = Gauge("registry_quota_allowed_bytes", "Bytes that all quotas allow together.", multiprocess_mode=_MODE)

# From the first on people are warned in the browser, from the second on a push is likely to be refused soon.
LEVELS = (quotas.WARN_FROM, 0.95)
_PAUSE_SECONDS = 60.0


class FullnessWatch:
    """Looks at all quotas together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Look now and every minute, for as long as the worker lives; the numbers stay while the database is away."""
        await repeat("counting how full quotas are", self.look, _PAUSE_SECONDS, now=True)

    async def look(self) -> None:
        """Count once; raises Unavailable."""
        found = await self._database.read(quotas.fullness, LEVELS)
        for level, number in zip(LEVELS, found.above, strict=True):
            PROJECTS.labels(f"{level:.2f}").set(number)
        FULLEST.set(found.fullest)
        USED.set(found.used_bytes)
        ALLOWED.set(found.allowed_bytes)
