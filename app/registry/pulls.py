"""Note when manifests and blobs were last pulled, and how often in which hour, for eviction and for people.

If a killed worker loses a note, only the order of the least recently pulled blobs is a little wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

from app.database import JOB_SECONDS, Database, Transaction, blobs, manifests, pulls, repositories, webhooks
from app.database.webhooks import EventType
from app.kit.jobs import repeat
from app.kit.write_behind import WriteBehind
from app.oci.digest import Digest

# The pulls by the hour are kept for so long, and removed in batches.
_KEPT_SECONDS = 90 * 86400.0
_TIDY_SECONDS = 3600.0
_REMOVED_AT_ONCE = 500

_Key = tuple[Literal["blob", "manifest"], int, Digest]


class _Pulled(NamedTuple):
    at: float
    pulls: int


class Pulls(WriteBehind[_Key, _Pulled]):
    """Notes of pulls, by repository and digest."""

    def __init__(self, database: Database) -> None:
        super().__init__("pull times")
        self._database = database

    def blob(self, repository_id: int, digest: Digest) -> None:
        """Note that a blob is being pulled now."""
        self.note(("blob", repository_id, digest), _Pulled(time.time(), 0))

    def manifest(self, repository_id: int, digest: Digest, *, counts: bool = False) -> None:
        """Note that a manifest was pulled now; ``counts``: people would call this a pull of an image.

        A client that pulls asks for several manifests: by HEAD first, then the index, then the image for its platform.
        Only one of them counts.
        """
        self.note(("manifest", repository_id, digest), _Pulled(time.time(), int(counts)))

    async def run(self) -> None:
        """Write every few seconds and remove old hours every hour, until cancelled."""
        await asyncio.gather(super().run(), repeat("removing old pulls", self.remove_old, _TIDY_SECONDS, now=True))

    async def remove_old(self) -> None:
        """Remove the pulls of hours that are no longer kept, in batches; raises Unavailable."""
        removed = _REMOVED_AT_ONCE
        while removed == _REMOVED_AT_ONCE:
            async with self._database.transaction(JOB_SECONDS) as transaction:
                removed = await pulls.remove_before(transaction, time.time() - _KEPT_SECONDS, _REMOVED_AT_ONCE)

    def merge(self, old: _Pulled, new: _Pulled) -> _Pulled:
        """Return the later time and the sum of both counts."""
        return _Pulled(new.at, old.pulls + new.pulls)

    async def write(self, notes: Mapping[_Key, _Pulled]) -> None:
        """Write times and counts in one transaction; raises Unavailable."""
        hour = int(time.time() // pulls.HOUR)
        times: dict[str, dict[tuple[int, str], float]] = {"blob": {}, "manifest": {}}
        counts: Counter[int] = Counter()
        for (kind, repository_id, digest), pulled in notes.items():
            times[kind][repository_id, digest] = pulled.at
            if pulled.pulls:
                counts[repository_id] += pulled.pulls

        told = await self._database.read(webhooks.repositories_with, list(counts), EventType.PULL) if counts else set()

        async def touch(transaction: Transaction) -> None:
            await blobs.touch(transaction, times["blob"])
            await manifests.touch(transaction, times["manifest"])
            await repositories.add_pulls(transaction, counts)
            await pulls.add(transaction, counts, hour)
            for (kind, repository_id, digest), pulled in notes.items():
                if kind == "manifest" and pulled.pulls and repository_id in told:
                    await webhooks.emit(transaction, repository_id, EventType.PULL, digest=digest, tags=(), operator="")

        await self._database.transact(touch, JOB_SECONDS)
