"""Queries that remove projects and repositories piece by piece.

A removal has three states. First the row gets a name that nothing else can have: people do not find it any more, but
another worker does if the first one died. Then its blobs, uploads and manifests are removed in batches. Once nothing is
left, the row itself is removed.
"""

from __future__ import annotations

from sqlalchemy import delete, select, update

from . import blobs, changes, manifests, robots, tag_history, uploads
from .engine import Transaction
from .ids import retire
from .tables import link, manifest, member, project, repository, upload
from .tables import tag_history as tag_history_table
from .text import END_OF_NAMES, REMOVED


async def hide_project(transaction: Transaction, project_id: int) -> bool:
    """Hide a project and free its name, and remove its members and robots; return False if there is no such project."""
    named = select(project.c.name).where(project.c.id == project_id).with_for_update()
    name = (await transaction.execute(named)).scalar()
    if name is None:
        return False
    changes.changed(transaction, changes.project_named(name), changes.project(project_id))
    hidden = (
        update(project)
        .where(project.c.id == project_id, project.c.name < END_OF_NAMES)
        .values(name=f"{REMOVED}{project_id}", public=False, owner_id=None)
    )
    if not (await transaction.execute(hidden)).rowcount:
        return False
    await retire(transaction, member)
    await transaction.execute(delete(member).where(member.c.project_id == project_id))
    await robots.remove_of_project(transaction, project_id)
    return True


async def hide_repository(transaction: Transaction, repository_id: int) -> bool:
    """Hide a repository and free its name; return False if there is no such repository."""
    hidden = (
        update(repository)
        .where(repository.c.id == repository_id, repository.c.name < END_OF_NAMES)
        .values(name=f"{REMOVED}{repository_id}")
        .returning(repository.c.project_id)
    )
    project_id = (await transaction.execute(hidden)).scalar()
    if project_id is None:
        return False
    name = (await transaction.execute(select(project.c.name).where(project.c.id == project_id))).scalar_one()
    changes.changed(transaction, changes.project_named(name), changes.project(project_id))
    return True


async def hidden_projects(transaction: Transaction) -> list[int]:
    """List the projects that are being removed."""
    statement = select(project.c.id).where(project.c.name >= END_OF_NAMES).order_by(project.c.name)
    return list((await transaction.execute(statement)).scalars())


async def hidden_repositories(transaction: Transaction) -> list[int]:
    """List the repositories that are being removed on their own."""
    statement = (
        select(repository.c.id)
        .join_from(project, repository, repository.c.project_id == project.c.id)
        .where(repository.c.name >= END_OF_NAMES)
        .order_by(repository.c.id)
    )
    return list((await transaction.execute(statement)).scalars())


async def repositories_of(transaction: Transaction, project_id: int, limit: int) -> list[int]:
    """List at most ``limit`` repositories of a project."""
    statement = select(repository.c.id).where(repository.c.project_id == project_id).limit(limit)
    return list((await transaction.execute(statement)).scalars())


async def show_filled(transaction: Transaction) -> None:
    """Let people see repositories whose first manifest came by a worker of an older release, which does not do so."""
    filled = select(manifest.c.digest).where(manifest.c.repository_id == repository.c.id).exists()
    await transaction.execute(update(repository).where(repository.c.pending, filled).values(pending=False))


async def left_pending(transaction: Transaction, before: float, limit: int) -> list[int]:
    """List at most ``limit`` empty repositories that were made before a time (Unix seconds) and got no manifest."""
    held = [
        select(table.c.repository_id).where(table.c.repository_id == repository.c.id).exists()
        for table in (link, upload)
    ]
    chosen = [repository.c.pending, repository.c.created_at < before, *(~one for one in held)]
    statement = select(repository.c.id).where(*chosen).order_by(repository.c.created_at).limit(limit)
    return list((await transaction.execute(statement)).scalars())


async def remove_pending(transaction: Transaction, repository_id: int) -> None:
    """Remove a repository that `left_pending` has listed, unless somebody has pushed to it meanwhile."""
    of = select(project.c.name, project.c.id).join_from(repository, project, project.c.id == repository.c.project_id)
    row = (await transaction.execute(of.where(repository.c.id == repository_id))).first()
    if row is not None and await remove_repository(transaction, repository_id):
        changes.changed(transaction, changes.project_named(row[0]), changes.project(row[1]))


async def empty_repository(transaction: Transaction, repository_id: int, limit: int) -> bool:
    """Remove up to ``limit`` uploads, manifests, blobs and old tags each; return False if none was left."""
    keys = await uploads.remove_of_repository(transaction, repository_id, limit)
    for key in keys:
        await blobs.discard(transaction, key, 0)
    some = select(manifest.c.digest).where(manifest.c.repository_id == repository_id).limit(limit)
    digests = list((await transaction.execute(some)).scalars())
    removed = await manifests.remove_rows(transaction, repository_id, digests)
    unlinked = await blobs.unlink_some(transaction, repository_id, limit)
    ended = await tag_history.remove_of_repository(transaction, repository_id, limit)
    return bool(keys or removed or unlinked or ended)


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
