"""Queries that remove projects and repositories piece by piece.

A removal has three states. First the row gets a name that nothing else can have: people do not find it any more, but
another worker does if the first one died. Then its blobs, uploads and manifests are removed in batches. Once nothing is
left, the row itself is removed.

A row that goes to the bin first (`binned`) gets such a name, too. ``deleted_at`` is set for as long as it is there.
"""

from __future__ import annotations

import time
from typing import Literal

from sqlalchemy import delete, select, update

from . import blobs, changes, manifests, robots, tag_history, uploads
from .engine import Transaction
from .ids import retire
from .tables import link, manifest, member, project, repository, upload
from .tables import tag_history as tag_history_table
from .text import END_OF_NAMES, REMOVED

# The state of what nobody finds any more: in the bin, or being removed.
Hidden = Literal["binned", "ending"]


async def hide_project(transaction: Transaction, project_id: int, deleted_by: str | None = None) -> Hidden | None:
    """Hide a project and free its name and those of its robots; return None if there is no such project.

    With ``deleted_by``, a principal's subject, it goes to the bin, from which it can return. Otherwise its members and
    robots are removed. A mirror goes at once, because what it has can be fetched again.
    """
    named = select(project.c.name, project.c.upstream, project.c.public).where(project.c.id == project_id)
    row = (await transaction.execute(named.with_for_update())).first()
    if row is None:
        return None
    name, upstream, public = row
    changes.changed(transaction, changes.project_named(name), changes.project(project_id))
    values: dict[str, object] = {"name": f"{REMOVED}{project_id}", "public": False}
    is_binned = deleted_by is not None and upstream is None
    if is_binned:
        values |= {"deleted_at": time.time(), "deleted_by": deleted_by, "old_name": name, "was_public": public}
    else:
        values |= {"owner_id": None}
    hidden = update(project).where(project.c.id == project_id, project.c.name < END_OF_NAMES).values(values)
    if not (await transaction.execute(hidden)).rowcount:
        return None
    if is_binned:
        await robots.hide_of_project(transaction, project_id)
    else:
        await _remove_people(transaction, project_id)
    return "binned" if is_binned else "ending"


async def end_project(transaction: Transaction, project_id: int) -> None:
    """Have a locked project of the bin removed by the collection from now on; nobody can restore it any more."""
    values = {"deleted_at": None, "deleted_by": None, "old_name": None, "was_public": None, "owner_id": None}
    changes.changed(transaction, changes.project(project_id))
    await transaction.execute(update(project).where(project.c.id == project_id).values(values))
    await _remove_people(transaction, project_id)


async def _remove_people(transaction: Transaction, project_id: int) -> None:
    await retire(transaction, member)
    await transaction.execute(delete(member).where(member.c.project_id == project_id))
    await robots.remove_of_project(transaction, project_id)


async def hide_repository(transaction: Transaction, repository_id: int, deleted_by: str | None = None) -> Hidden | None:
    """Hide a repository and free its name; return None if there is no such repository.

    With ``deleted_by``, a principal's subject, it goes to the bin, unless it is one of a mirror.
    """
    of = select(repository.c.name, project.c.id, project.c.name, project.c.upstream).join_from(
        repository, project, project.c.id == repository.c.project_id
    )
    here = (repository.c.id == repository_id, repository.c.name < END_OF_NAMES)
    row = (await transaction.execute(of.where(*here).with_for_update(of=repository))).first()
    if row is None:
        return None
    old_name, project_id, project_name, upstream = row
    values: dict[str, object] = {"name": f"{REMOVED}{repository_id}"}
    is_binned = deleted_by is not None and upstream is None
    if is_binned:
        values |= {"deleted_at": time.time(), "deleted_by": deleted_by, "old_name": old_name, "pending": True}
    await transaction.execute(update(repository).where(repository.c.id == repository_id).values(values))
    changes.changed(transaction, changes.project_named(project_name), changes.project(project_id))
    return "binned" if is_binned else "ending"


async def hidden_projects(transaction: Transaction) -> list[int]:
    """List the projects that are being removed."""
    here = (project.c.name >= END_OF_NAMES, project.c.deleted_at.is_(None))
    return list((await transaction.execute(select(project.c.id).where(*here).order_by(project.c.name))).scalars())


async def hidden_repositories(transaction: Transaction) -> list[int]:
    """List the repositories that are being removed on their own."""
    here = (repository.c.name >= END_OF_NAMES, repository.c.deleted_at.is_(None))
    return list((await transaction.execute(select(repository.c.id).where(*here).order_by(repository.c.id))).scalars())


async def repositories_of(transaction: Transaction, project_id: int, limit: int) -> list[int]:
    """List at most ``limit`` repositories of a project."""
    statement = select(repository.c.id).where(repository.c.project_id == project_id).limit(limit)
    return list((await transaction.execute(statement)).scalars())


async def show_filled(transaction: Transaction) -> None:
    """Let people see repositories whose first manifest came by a worker of an older release, which does not do so."""
    filled = select(manifest.c.digest).where(manifest.c.repository_id == repository.c.id).exists()
    empty = (repository.c.pending, repository.c.deleted_at.is_(None))
    await transaction.execute(update(repository).where(*empty, filled).values(pending=False))


async def left_pending(transaction: Transaction, before: float, limit: int) -> list[int]:
    """List at most ``limit`` empty repositories that were made before a time (Unix seconds) and got no manifest."""
    held = [
        select(table.c.repository_id).where(table.c.repository_id == repository.c.id).exists()
        for table in (link, upload)
    ]
    empty = (repository.c.pending, repository.c.deleted_at.is_(None))
    chosen = [*empty, repository.c.created_at < before, *(~one for one in held)]
    statement = select(repository.c.id).where(*chosen).order_by(repository.c.created_at).limit(limit)
    return list((await transaction.execute(statement)).scalars())


async def remove_pending(transaction: Transaction, repository_id: int) -> None:
    """Remove a repository that `left_pending` has listed, unless somebody has pushed to it meanwhile."""
    of = select(project.c.name, project.c.id).join_from(repository, project, project.c.id == repository.c.project_id)
    row = (await transaction.execute(of.where(repository.c.id == repository_id))).first()
    if row is not None and await remove_repository(transaction, repository_id):
        changes.changed(transaction, changes.project_named(row[0]), changes.project(row[1]))


async def empty_repository(
    transaction: Transaction, repository_id: int, limit: int, grace: float = blobs.OBJECT_GRACE_SECONDS
) -> bool:
    """Remove up to ``limit`` uploads, manifests, blobs and old tags each; return whether more may be left.

    The objects of blobs that nothing else has become garbage in ``grace`` seconds.
    """
    keys = await uploads.remove_of_repository(transaction, repository_id, limit)
    for key in keys:
        await blobs.discard(transaction, key, 0)
    some = select(manifest.c.digest).where(manifest.c.repository_id == repository_id).limit(limit)
    digests = list((await transaction.execute(some)).scalars())
    removed = await manifests.remove_rows(transaction, repository_id, digests)
    unlinked = await blobs.unlink_some(transaction, repository_id, limit, grace)
    ended = await tag_history.remove_of_repository(transaction, repository_id, limit)
    return limit in (len(keys), removed, unlinked, ended)


async def remove_repository(transaction: Transaction, repository_id: int) -> bool:
    """Remove an empty repository's row; return False if the repository is not empty any more."""
    row = select(repository.c.id).where(repository.c.id == repository_id).with_for_update()
    if (await transaction.execute(row)).first() is None:
        return True
    for table in (link, upload, manifest, tag_history_table):
        rest = select(table.c.repository_id).where(table.c.repository_id == repository_id).limit(1)
        if (await transaction.execute(rest)).first() is not None:
            return False
    await retire(transaction, repository)
    await transaction.execute(delete(repository).where(repository.c.id == repository_id))
    return True


async def remove_project(transaction: Transaction, project_id: int) -> bool:
    """Remove the row of a project without repositories.

    Return False if the project still has repositories or is gone already. Robots and access keys keep the rights they
    had in it, because no other project ever gets its id.
    """
    row = select(project.c.id).where(project.c.id == project_id).with_for_update()
    if (await transaction.execute(row)).first() is None or await repositories_of(transaction, project_id, 1):
        return False
    await retire(transaction, project)
    await transaction.execute(delete(project).where(project.c.id == project_id))
    return True
