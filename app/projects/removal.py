"""Remove projects and repositories: hide them at once, then remove them piece by piece in short transactions.

If a worker dies, `finish_removals`, which garbage collection calls, removes the rest. A project or repository that goes
to the bin is hidden, and nothing more.
"""

from __future__ import annotations

from functools import partial

from app.database import JOB_SECONDS, Database, Transaction, blobs, removals
from app.database.removals import Hidden

from .immutability import require_deletable_project, require_deletable_repository

_BATCH = 100
# The client waits for at most this many batches; garbage collection removes the rest.
_BATCHES_AT_ONCE = 20


async def remove_repository(database: Database, repository_id: int, deleted_by: str | None = None) -> bool:
    """Remove a repository with its uploads, manifests and blobs; return False if there is no such repository.

    With ``deleted_by``, a principal's subject, it goes to the bin. Raises Denied (412) if a tag in it is immutable.
    """

    async def hide(transaction: Transaction) -> Hidden | None:
        await require_deletable_repository(transaction, repository_id)
        return await removals.hide_repository(transaction, repository_id, deleted_by)

    hidden = await database.transact(hide)
    if hidden == "ending":
        await empty_repository(database, repository_id)
    return hidden is not None


async def remove_project(database: Database, project_id: int, deleted_by: str | None = None) -> bool:
    """Remove a project with all its content; return False if there is no such project.

    With ``deleted_by``, a principal's subject, it goes to the bin. Raises Denied (412) if a tag in it is immutable.
    """

    async def hide(transaction: Transaction) -> Hidden | None:
        await require_deletable_project(transaction, project_id)
        return await removals.hide_project(transaction, project_id, deleted_by)

    hidden = await database.transact(hide)
    if hidden == "ending":
        await empty_project(database, project_id)
    return hidden is not None


async def empty_repository(
    database: Database, repository_id: int, *, grace: float = blobs.OBJECT_GRACE_SECONDS
) -> None:
    """Remove a repository that is marked as being removed, as much of it as a client waits for.

    The objects of blobs that nothing else has become garbage in ``grace`` seconds.
    """
    await _empty_repository(database, repository_id, _BATCHES_AT_ONCE, grace)


async def empty_project(database: Database, project_id: int) -> None:
    """Remove a project that is marked as being removed, as much of it as a client waits for."""
    await _empty_project(database, project_id, _BATCHES_AT_ONCE)


async def finish_removals(database: Database) -> None:
    """Resume every removal that has begun and not ended."""
    async with database.reading() as transaction:
        repositories = await removals.hidden_repositories(transaction)
        projects = await removals.hidden_projects(transaction)
    for repository_id in repositories:
        await _empty_repository(database, repository_id, None)
    for project_id in projects:
        await _empty_project(database, project_id, None)


async def _empty_project(database: Database, project_id: int, batches: int | None) -> None:
    while True:
        async with database.reading() as transaction:
            found = await removals.repositories_of(transaction, project_id, _BATCH)
        if not found:
            break
        for repository_id in found:
            batches = await _empty_repository(database, repository_id, batches)
            if batches == 0:
                return
    await database.transact(partial(removals.remove_project, project_id=project_id))


async def _empty_repository(
    database: Database, repository_id: int, batches: int | None, grace: float = blobs.OBJECT_GRACE_SECONDS
) -> int | None:
    """Empty a repository in at most ``batches`` batches, then remove it.

    Return how many batches are left. None means no limit.
    """
    empty = partial(removals.empty_repository, repository_id=repository_id, limit=_BATCH, grace=grace)
    while batches != 0:
        batches = None if batches is None else batches - 1
        if await database.transact(empty, JOB_SECONDS, answers=False):
            continue
        # A push may have added content meanwhile; then the repository is emptied again.
        if await database.transact(partial(removals.remove_repository, repository_id=repository_id)):
            break
    return batches
