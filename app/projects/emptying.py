"""Empty the bin: what is due, what is to go for good now, and the oldest of it if a quota needs the room.

    an entry ─► its row says that it is being removed ─► its content goes in batches ─► `app.projects.removal`
             └► what it left in its repository goes, too: parts that wait for their review there

Parts of a deleted artifact stay in its repository for a day (docs/decisions/0007), because somebody may be pushing
another artifact of the same parts. If the quota needs the room, a part is removed only if nobody has pushed it or
looked for it since the deletion.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.database import JOB_SECONDS, Database, Transaction, binned, blobs, leftovers, projects, quotas, removals
from app.database.binned import Entry
from app.database.quotas import QuotaExceeded
from app.oci.digest import Digest

from .removal import empty_repository

# The manifests of an entry that are looked for elsewhere.
_MOST_MANIFESTS = 1000
# A client waits for so long, in seconds.
_PATIENCE = 10.0
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Ended:
    """An entry that is being removed, with the manifests and blobs that it had; of a repository, the first ones."""

    entry: Entry
    entry_ids: Sequence[int]
    manifests: Sequence[Digest]
    blobs: Sequence[Digest]


async def end(transaction: Transaction, entry: Entry, *, with_twins: bool) -> Ended:
    """Mark a locked entry as being removed; ``with_twins``, also other entries of the same thing."""
    found = await binned.manifests_of(transaction, entry.id, _MOST_MANIFESTS)
    named = await binned.blobs_of(transaction, entry.id) if entry.digest is not None else []
    ids = await binned.twins(transaction, entry) if with_twins else [entry.id]
    await binned.end(transaction, ids)
    return Ended(entry, ids, [Digest(one) for one in found], [Digest(one) for one in named])


async def remove(database: Database, ended: Ended, *, at_once: bool) -> None:
    """Remove the content of an entry; ``at_once``: whatever somebody may be pushing, and without the usual grace."""
    grace = 0.0 if at_once else blobs.OBJECT_GRACE_SECONDS
    for number in ended.entry_ids:
        await empty_repository(database, number, grace=grace)
    entry = ended.entry
    if entry.digest is None:
        return

    async def rest(transaction: Transaction) -> None:
        untouched = None if at_once else entry.deleted_at
        where = (entry.project_id, entry.repository)
        await leftovers.remove(transaction, *where, ended.manifests, ended.blobs, deleted_at=untouched, grace=grace)

    await database.transact(rest)


async def make_room(database: Database, error: QuotaExceeded) -> bool:
    """Empty the oldest of a bin until there is room for what was refused; return whether anything was emptied.

    Nothing is emptied if all of the bin would not be enough. Raises Unavailable.
    """
    most = await database.read(binned.charged, error.project_id, at_most=True)
    if most.exact and most.number < error.short:
        return False
    emptied, end_at = False, time.monotonic() + _PATIENCE
    while time.monotonic() < end_at:
        ended = await database.transact(lambda transaction: _end_oldest(transaction, error.project_id))
        if ended is None:
            break
        await remove(database, ended, at_once=False)
        emptied = True
        usage = await quotas.usage(database, error.project_id)
        if usage is None or usage.quota_bytes is None or usage.used_bytes + error.needed <= usage.quota_bytes:
            break
    return emptied


async def _end_oldest(transaction: Transaction, project_id: int) -> Ended | None:
    oldest = await binned.oldest(transaction, project_id, 1)
    return await end(transaction, oldest[0], with_twins=False) if oldest else None


async def end_older(database: Database, before: float) -> None:
    """Have everything removed that was deleted before a time (Unix seconds)."""

    async def end_entries(transaction: Transaction) -> int:
        return await binned.end_older(transaction, before, _BATCH)

    async def end_projects(transaction: Transaction) -> int:
        found = await binned.older_projects(transaction, before, _BATCH)
        for project_id in found:
            await removals.end_project(transaction, project_id)
        return len(found)

    for step in (end_entries, end_projects):
        while await database.transact(step, JOB_SECONDS, answers=False) == _BATCH:
            pass


async def end_surplus(transaction: Transaction, owner_id: int, most: int) -> None:
    """Have the oldest projects removed that a person has in the bin, if they own more than ``most`` with those.

    Otherwise nothing would bound what somebody stores by making and deleting projects.
    """
    owned = await projects.owned(transaction, owner_id) or 0
    deleted = await binned.oldest_of_owner(transaction, owner_id, _BATCH)
    for project_id in deleted[: max(owned + len(deleted) - most, 0)]:
        await removals.end_project(transaction, project_id)
