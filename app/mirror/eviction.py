"""Eviction: keep a mirror within its bound by unlinking its least recently pulled blobs, which are then collected.

Manifests stay, because fetching one again may cost a pull. They go only if they alone are more than the bound.
"""

from __future__ import annotations

import logging
import time
from functools import partial

from prometheus_client import Counter

from app.database import JOB_SECONDS, Database, Transaction, blobs, manifests, pins, projects
from app.database.projects import Project
from app.kit.jobs import repeat
from app.registry.garbage_collection import GRACE_SECONDS

EVICTED = Counter("registry_mirror_evicted_bytes_total", "Bytes of blobs removed to make room.", ["project"])

_PAUSE_SECONDS = 60.0
# A blob that was just pulled may still be sent to a client, and its note may not be in the database yet.
_IN_USE_SECONDS = 300
# Each eviction first keeps pinned content for so long. So the content can go soon after its rule has ended.
_PINNED_SECONDS = 3600.0
_BATCH = 100
# Evict to a little below the bound, so that the next blob does not start it again.
_DOWN_TO = 0.95

log = logging.getLogger(__name__)


class Eviction:
    """Evicts blobs from every mirror that has a bound; several workers may do it at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Make room every minute until cancelled."""
        await repeat("eviction", self.make_room, _PAUSE_SECONDS)

    async def make_room(self) -> None:
        """Evict blobs until every mirror is below its bound or the rest of its blobs is in use."""
        async with self._database.reading() as transaction:
            mirrors = await projects.mirrors(transaction)
        for project in mirrors:
            bound = project.settings.get("cache_bytes")
            if isinstance(bound, int) and project.used_bytes > bound:
                now = time.time()
                await self._database.transact(
                    partial(pins.keep, project_id=project.id, now=now, until=now + _PINNED_SECONDS), answers=False
                )
                await self._evict(project, project.used_bytes - int(bound * _DOWN_TO))

    async def _evict(self, project: Project, too_many: int) -> None:
        async def evict(transaction: Transaction) -> tuple[int, int]:
            unlinked = freed = 0
            for repository_id, digest, size in await blobs.coldest(
                transaction, project.id, time.time() - _IN_USE_SECONDS, _BATCH
            ):
                if freed >= too_many:
                    break
                if await blobs.unlink(transaction, repository_id, digest):
                    unlinked += 1
                    # Another repository of the project may still have it; a project is charged once for a blob.
                    if not await blobs.linked_in_project(transaction, project.id, digest):
                        freed += size
            return unlinked, freed

        while too_many > 0:
            unlinked, freed = await self._database.transact(evict, JOB_SECONDS, answers=False)
            if not unlinked:
                if not await self._evict_manifests(project, too_many):
                    log.warning("%s is over its bound, but all of its blobs are in use", project.name)
                return
            EVICTED.labels(project.name).inc(freed)
            too_many -= freed

    async def _evict_manifests(self, project: Project, too_many: int) -> bool:
        """Remove so many bytes of manifests as will be too many without any blob; return False if there were none."""

        async def evict(transaction: Transaction) -> int:
            freed = 0
            cold = await manifests.coldest(transaction, project.id, time.time() - _IN_USE_SECONDS, _BATCH)
            for repository_id, digest, size in cold:
                if freed >= too_many:
                    break
                touched = await manifests.remove(transaction, repository_id, digest)
                await manifests.ask_review(transaction, repository_id, touched or (), time.time() + GRACE_SECONDS)
                freed += size
            return freed

        too_many -= await self._database.read(blobs.total_size, project.id)
        evicted = 0
        while too_many > 0 and (freed := await self._database.transact(evict, JOB_SECONDS, answers=False)):
            EVICTED.labels(project.name).inc(freed)
            evicted += freed
            too_many -= freed
        return bool(evicted)
