"""Notes when and from where robot accounts and access keys were last used, off the path of their requests.

Of each, one note a minute is written. Those that are lost with a killed worker cost a minute's exactness.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from app.database import Database, credentials
from app.database.access_keys import AccessKey
from app.database.robots import Robot
from app.kit.jobs import repeat
from app.oci.errors import Unavailable

_FLUSH_SECONDS = 5.0
_NOTE_EVERY = 60.0
# Where the database is away for long, notes beyond this many are dropped rather than kept in memory.
_MOST_NOTES = 100_000

log = logging.getLogger(__name__)


class LastUsed:
    """Collects notes in memory; `run` writes them every few seconds until cancelled."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._robots: dict[int, tuple[float, str]] = {}
        self._access_keys: dict[int, tuple[float, str]] = {}
        # Noted within the last minute, the oldest first.
        self._noted: dict[tuple[str, int], float] = {}

    def robot(self, robot: Robot, address: str) -> None:
        """Note that a robot account logs in now."""
        if self._is_due("robot", robot.id):
            self._robots[robot.id] = (self._clock(), address)

    def access_key(self, key: AccessKey, address: str) -> None:
        """Note that an access key logs in now."""
        if self._is_due("access key", key.id):
            self._access_keys[key.id] = (self._clock(), address)

    def _is_due(self, kind: str, row_id: int) -> bool:
        now = self._clock()
        while self._noted:
            oldest = next(iter(self._noted))
            if self._noted[oldest] > now - _NOTE_EVERY and len(self._noted) < _MOST_NOTES:
                break
            del self._noted[oldest]
        if (kind, row_id) in self._noted or len(self._robots) + len(self._access_keys) >= _MOST_NOTES:
            return False
        self._noted[kind, row_id] = now
        return True

    async def flush(self) -> None:
        """Write what was noted; kept for the next time where the database is away."""
        robots, self._robots = self._robots, {}
        keys, self._access_keys = self._access_keys, {}
        if not robots and not keys:
            return
        try:
            async with self._database.transaction() as transaction:
                await credentials.touch(transaction, robots=robots, access_keys=keys)
        except Unavailable as error:
            log.warning("when robots and access keys were used is not written yet: %s", error)
            self._robots = robots | self._robots
            self._access_keys = keys | self._access_keys

    async def run(self) -> None:
        """Write every few seconds, for as long as the worker lives."""
        await repeat("writing when robots and access keys were used", self.flush, _FLUSH_SECONDS)
