"""Remove projects and repositories: hide them at once, then remove them piece by piece in short transactions.

If a worker dies, `finish_removals`, which garbage collection calls, removes the rest.
"""

from __future__ import annotations

from functools import partial

from app.database import JOB_SECONDS, Database, Transaction, removals

from .immutability import require_deletable_project, require_deletable_repository

_BATCH = 100
# The client waits for at most this many batches; garbage collection removes the rest.
_BATCHES_AT_ONCE = 20


async def remove_repository(database: Database, repository_id: int) -> bool:
    """Remove a repository with its uploads, manifests and blobs; return False if there is no such repository.

    Raises Denied (412) if a tag in it is immutable.
    """

    async def hide(transaction: Transaction) -> bool:
        await require_deletable_repository(transaction, repository_id)
        return await removals.hide_repository(transaction, repository_id)

    if not await database.transact(hide):
        return False
    await _empty_repository(database, repository_id, _BATCHES_AT_ONCE)
    return True


async def remove_project(database: Database, project_id: int) -> bool:
    """Remove a project with all its content; return False if there is no such project.

    Raises Denied (412) if a tag in it is immutable.
    """

    async def hide(transaction: Transaction) -> bool:
        await require_deletable_project(transaction, project_id)
        return await removals.hide_project(transaction, project_id)

    if not await database.transact(hide):
        return False
    await _empty_project(database, project_id, _BATCHES_AT_ONCE)
    return True


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


async def _empty_repository(database: Database, repository_id: int, batches: int | None) -> int | None:
    """Empty a repository in at most ``batches`` batches, then remove it.

    Return how many batches are left. None means no limit.
    """
    empty = partial(removals.empty_repository, repository_id=repository_id, limit=_BATCH)
    while batches != 0:
        batches = None if batches is None else batches - 1
        if await database.transact(empty, JOB_SECONDS, answers=False):
            continue
        # A push may have added content meanwhile; then the repository is emptied again.
        if await database.transact(partial(removals.remove_repository, repository_id=repository_id)):
            break
    return batches
