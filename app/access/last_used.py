"""Write-behind of the time and the address at which robot accounts and access keys were last used.

At most one note a minute is written of each. A killed worker loses its waiting notes; a time is then a minute off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from cachetools import TTLCache

from app.database import JOB_SECONDS, Database, credentials
from app.kit.write_behind import WriteBehind

_NOTE_EVERY = 60.0
_MOST_NOTED = 100_000

_Key = tuple[Literal["robot", "access key"], int]
_Use = tuple[float, str]


class LastUsed(WriteBehind[_Key, _Use]):
    """Notes of the time and the address of a use, by kind and id."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        super().__init__("when robots and access keys were used")
        self._database = database
        self._clock = clock
        self._noted: TTLCache[_Key, bool] = TTLCache(_MOST_NOTED, _NOTE_EVERY, timer=clock)

    def robot(self, robot_id: int, address: str) -> None:
        """Note that a robot account logs in now."""
        self._use(("robot", robot_id), address)

    def access_key(self, key_id: int, address: str) -> None:
        """Note that an access key logs in now."""
        self._use(("access key", key_id), address)

    def merge(self, old: _Use, new: _Use) -> _Use:
        """Return the later use."""
        return new

    async def write(self, notes: Mapping[_Key, _Use]) -> None:
        """Write the uses in one transaction; raises Unavailable."""
        used: dict[str, dict[int, _Use]] = {"robot": {}, "access key": {}}
        for (kind, row_id), use in notes.items():
            used[kind][row_id] = use
        touch = partial(credentials.touch, robots=used["robot"], access_keys=used["access key"])
        await self._database.transact(touch, JOB_SECONDS)

    def _use(self, key: _Key, address: str) -> None:
        if key not in self._noted:
            self._noted[key] = True
            self.note(key, (self._clock(), address))
