"""Garbage collection: remove unreferenced content a day later, by rows and never by walks through the store.

    a tag moves, a manifest is deleted,       ┐
    a blob is uploaded or mounted             ├─► review ─► nothing needs it? ─► unlinked ─► garbage ─► object removed
    an upload is left, a cached blob evicted  ┘              (a day later)                  (15 min.)

A deleted artifact, repository or project stays in the bin for some days before (`app.database.binned`).

A manifest that was pushed by digest and never had a tag or an index stays, because somebody pins it. An unreferenced
manifest of a mirror stays for as long as it is pulled now and then. A retention rule may keep manifests without a tag;
then its runs decide on them (`retention_runs`).

Source: the review queue of GitLab's container registry (field notes, "Metadata and garbage collection").
"""

from __future__ import annotations

import time
from functools import partial

from app.database import (
    JOB_SECONDS,
    Database,
    Transaction,
    blobs,
    manifests,
    purged,
    removals,
    retained,
    retention,
    tag_history,
    uploads,
)
from app.kit.jobs import repeat
from app.oci.digest import Digest
from app.oci.retention import rules_over
from app.projects.emptying import end_older
from app.projects.removal import finish_removals
from app.storage import BlobStore

# A push may take hours. The blobs that it has sent, or was told it need not send, must outlive it.
GRACE_SECONDS = 24 * 3600
# How long a mirror keeps an unreferenced manifest that nobody pulls. It can be fetched again, for a counted pull.
UNPULLED_SECONDS = 7 * 24 * 3600
_PAUSE_SECONDS = 60.0
_BATCH = 100


class GarbageCollection:
    """Processes the queues. Every worker may run one, because each row is taken by one worker at a time."""

    def __init__(self, database: Database, store: BlobStore, bin_days: float = 0) -> None:
        """``bin_days``: for how long what was deleted stays in the bin, 0 for no bin."""
        self._bin_seconds = bin_days * 24 * 3600
        self._database = database
        self._store = store

    async def run(self) -> None:
        """Collect every minute until cancelled."""
        await repeat("collection", self.collect, _PAUSE_SECONDS)

    async def collect(self) -> None:
        """Process everything that is due now."""
        await end_older(self._database, time.time() - self._bin_seconds)
        await finish_removals(self._database)
        while await self._end_idle_uploads() or await self._review() or await self._remove_garbage():
            pass
        await self._end_pending()
        await self._end_history()
        async with self._database.transaction(JOB_SECONDS) as transaction:
            # Every worker has dropped its copies by then.
            await purged.forget(transaction, time.time() - GRACE_SECONDS)

    async def _end_idle_uploads(self) -> int:
        async def end(transaction: Transaction) -> int:
            keys = await uploads.remove_idle(transaction, time.time() - GRACE_SECONDS, _BATCH)
            for key in keys:
                await blobs.discard(transaction, key, 0)
            return len(keys)

        return await self._database.transact(end, JOB_SECONDS)

    async def _review(self) -> int:
        async def review(transaction: Transaction) -> int:
            due = await manifests.due_reviews(transaction, _BATCH)
            kept = await _keep_untagged(transaction, {repository_id for repository_id, _ in due})
            for repository_id, digest in due:
                if not await manifests.is_referenced(transaction, repository_id, digest):
                    pulled_at = await manifests.pulled_from_mirror(transaction, repository_id, digest)
                    if pulled_at is not None and pulled_at + UNPULLED_SECONDS > time.time():
                        look_at = pulled_at + UNPULLED_SECONDS
                        await manifests.ask_review(transaction, repository_id, [digest], look_at)
                    elif repository_id in kept and await manifests.sizes(transaction, repository_id, [digest]):
                        await retained.look_again(transaction, repository_id, [digest])
                    else:
                        await _remove_manifest(transaction, repository_id, digest)
                if not await manifests.names_blob(transaction, repository_id, digest):
                    await blobs.unlink(transaction, repository_id, digest)
            return len(due)

        return await self._database.transact(review, JOB_SECONDS, answers=False)

    async def _end_pending(self) -> None:
        """Remove repositories that never got a manifest, once nothing else is left in them."""
        async with self._database.transaction(JOB_SECONDS) as transaction:
            await removals.show_filled(transaction)
        left = partial(removals.left_pending, before=time.time() - 2 * GRACE_SECONDS, limit=_BATCH)
        for repository_id in await self._database.read(left):
            remove = partial(removals.remove_pending, repository_id=repository_id)
            await self._database.transact(remove, JOB_SECONDS)

    async def _end_history(self) -> None:
        """Remove old entries of the history of tags."""
        end = partial(tag_history.remove_older, before=time.time() - tag_history.KEPT_SECONDS, limit=_BATCH)
        while await self._database.transact(end, JOB_SECONDS) == _BATCH:
            pass

    async def _remove_garbage(self) -> int:
        async with self._database.transaction(JOB_SECONDS) as transaction:
            keys = await blobs.due_garbage(transaction, _BATCH)
        removed = []
        for key in keys:
            await self._store.delete(key)
            removed.append(key)
        if removed:
            async with self._database.transaction(JOB_SECONDS) as transaction:
                await blobs.forget_garbage(transaction, removed)
        return len(removed)


async def _keep_untagged(transaction: Transaction, repository_ids: set[int]) -> set[int]:
    """Return the repositories in which a retention rule decides on manifests without a tag."""
    found = set()
    for repository_id in repository_ids:
        over = await retention.over(transaction, repository_id)
        if over is not None and any(rule.untagged for rule in rules_over(over[1].rules, over[0]).values()):
            found.add(repository_id)
    return found


async def _remove_manifest(transaction: Transaction, repository_id: int, digest: Digest) -> None:
    touched = await manifests.remove(transaction, repository_id, digest)
    if touched:
        # The parts get one more day, because somebody may be pushing another manifest of the same parts now.
        await manifests.ask_review(transaction, repository_id, touched, time.time() + GRACE_SECONDS)
