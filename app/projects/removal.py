"""Takes projects and repositories away: out of sight at once, then piece by piece, so that no transaction is long.

What a worker that died has left is gone on with by `finish_removals`, which collection calls.
"""

from __future__ import annotations

from functools import partial

from app.database import Database, removals

_BATCH = 100
# What whoever asked waits for; the rest of something large is collection's.
_BATCHES_AT_ONCE = 20


async def remove_repository(database: Database, repository_id: int) -> bool:
    """Remove a repository with its uploads, manifests and blobs; False where there is none."""
    if not await database.transact(partial(removals.hide_repository, repository_id=repository_id)):
        return False
    await _empty_repository(database, repository_id, _BATCHES_AT_ONCE)
    return True


async def remove_project(database: Database, project_id: int) -> bool:
    """Remove a project with all that is in it; False where there is none."""
    if not await database.transact(partial(removals.hide_project, project_id=project_id)):
        return False
    await _empty_project(database, project_id, _BATCHES_AT_ONCE)
    return True


async def finish_removals(database: Database) -> None:
    """Go on with every removal that was begun and has not come to its end."""
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
    """Empty a repository in at most so many batches, then remove it; answers how many are left, None for no end."""
    empty = partial(removals.empty_repository, repository_id=repository_id, limit=_BATCH)
    while batches != 0:
        batches = None if batches is None else batches - 1
        if await database.transact(empty):
            continue
        # Something may have come in between: then it is emptied again.
        if await database.transact(partial(removals.remove_repository, repository_id=repository_id)):
            break
    return batches
