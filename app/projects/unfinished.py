"""Unfinished pushes give their space back: when one fails, when the quota is needed, and when somebody asks.

    a push is refused for the quota     its principal's blobs in that repository, at once
    a charge does not fit               all that had no progress for an hour, then the oldest of the bin; after each the
                                        charge is tried again
    somebody asks                       all of it, also of pushes that are under way

The collection (`app.registry.garbage_collection`) ends the rest after a day.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from app.database import Database, Transaction, unfinished, webhooks
from app.database.quotas import QuotaExceeded
from app.database.webhooks import EventType
from app.oci.digest import Digest

from . import emptying

T = TypeVar("T")

# A push without progress for so long gives way to others. A push may take hours, but then each part makes progress.
LEFT_SECONDS = 3600.0
# The review of a pushed blob is due after so long (`app.registry.garbage_collection.GRACE_SECONDS`).
REVIEW_SECONDS = 24 * 3600.0
_BATCH = 100
# A client waits for at most this many batches.
_BATCHES = 100
_EVER = float("inf")


async def charged(database: Database, project_id: int) -> int:
    """Return what unfinished pushes hold of a project's quota, in bytes; raises Unavailable."""
    return await database.read(unfinished.charged, project_id)


async def free_all(database: Database, project_id: int) -> int:
    """Free everything that unfinished pushes of a project hold, and return the bytes; raises Unavailable.

    A push that is under way fails and has to begin again.
    """
    freed = await charged(database, project_id)
    await _free(database, project_id, before=_EVER, due_before=_EVER, used_since=None)
    return freed


async def transact(database: Database, work: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run ``work`` as `Database.transact` does; if a quota has no room for it, make some and run it again.

    Raises QuotaExceeded if nothing was left by pushes or in the bin, or not enough, and tells the project's webhooks.
    """
    try:
        return await _with_room(database, work)
    except QuotaExceeded as error:
        await tell_quota(database, error.project_id, EventType.QUOTA_EXCEEDED, error.message)
        raise


async def tell_quota(database: Database, project_id: int, event_type: EventType, details: str) -> None:
    """Tell the webhooks of a project about its quota, at most once an hour; raises Unavailable."""
    if await webhooks.wanted(database, project_id, event_type):
        emit = partial(webhooks.emit_of_project, project_id=project_id, event_type=event_type)
        await database.transact(partial(emit, details={"details": details}))


async def _with_room(database: Database, work: Callable[[Transaction], Awaitable[T]]) -> T:
    ways = iter((_free_left, emptying.make_room))
    while True:
        try:
            return await database.transact(work)
        except QuotaExceeded as error:
            for make_room in ways:
                if await make_room(database, error):
                    break
            else:
                raise


async def _free_left(database: Database, error: QuotaExceeded) -> int:
    since = time.time() - LEFT_SECONDS
    return await _free(database, error.project_id, before=since, due_before=since + REVIEW_SECONDS, used_since=since)


async def free_failed(database: Database, project_id: int, repository_id: int, pushed_by: str) -> None:
    """Free the blobs that a principal's push left in a repository, because the push was refused; raises Unavailable.

    Nothing is freed if nobody knows whose push it was ("").
    """
    if not pushed_by:
        return
    find = partial(
        unfinished.blobs_of_push,
        project_id=project_id,
        repository_id=repository_id,
        pushed_by=pushed_by,
        limit=_BATCH,
    )
    await _unlink(database, find)


async def _free(
    database: Database, project_id: int, *, before: float, due_before: float, used_since: float | None
) -> int:
    end = partial(unfinished.end_sessions, project_id=project_id, limit=_BATCH, before=before)
    left = partial(
        unfinished.left_blobs, project_id=project_id, due_before=due_before, used_since=used_since, limit=_BATCH
    )
    return await _in_batches(database, end) + await _unlink(database, left)


async def _unlink(database: Database, find: Callable[[Transaction], Awaitable[list[tuple[int, Digest]]]]) -> int:
    async def unlink(transaction: Transaction) -> int:
        return await unfinished.unlink(transaction, await find(transaction))

    return await _in_batches(database, unlink)


async def _in_batches(database: Database, step: Callable[[Transaction], Awaitable[int]]) -> int:
    """Repeat a transaction that frees at most `_BATCH` things until it frees fewer; return how many it freed."""
    freed = 0
    for _ in range(_BATCHES):
        now = await database.transact(step)
        freed += now
        if now < _BATCH:
            break
    return freed
