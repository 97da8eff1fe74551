"""Queries on blobs, the links that let a repository serve them, and objects that are garbage.

Every transaction locks the blob's row before the project's, so that no two wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, func, select, update

from app.oci.digest import Digest, is_digest

from . import changes, quotas
from .engine import Database, PointQuery, Transaction, insert
from .tables import blob, garbage, link, repository, setting
from .text import END_OF_NAMES

# A client may hold a URL of an object for five minutes, or read a stream for longer than that.
OBJECT_GRACE_SECONDS = 15 * 60
# In `setting`: whether the objects of a Harbor that was moved in are still its own (open), or ours to remove (final).
MOVE, OPEN, FINAL = "move-in", "open", "final"
# Unix seconds, in the year 9999.
_HELD = 253370764800.0


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """The key of the object that holds a blob's bytes, and its size in bytes."""

    object_key: str
    size: int


_linked = PointQuery(
    select(blob.c.object_key, blob.c.size)
    .join_from(link, blob, link.c.digest == blob.c.digest)
    .where(link.c.repository_id == bindparam("repository"), link.c.digest == bindparam("digest")),
    scope=lambda repository_id, _: changes.repository(repository_id),
)


_present = PointQuery(select(blob.c.size).where(blob.c.digest == bindparam("digest")))


async def linked(database: Database, repository_id: int, digest: Digest) -> StoredBlob | None:
    """Find a blob that this repository may serve; a blob that only other repositories link is not found."""
    row = await database.point(_linked, repository_id, digest)
    return StoredBlob(row[0], row[1]) if row else None


async def present(database: Database, digest: Digest) -> bool:
    """Return whether the store has a blob at all; `linked` says whether a repository may serve it."""
    return await database.point(_present, digest) is not None


async def linked_sizes(transaction: Transaction, repository_id: int, digests: Iterable[Digest]) -> dict[str, int]:
    """Return the sizes in bytes of those blobs that the repository links.

    The links are locked against removal until the transaction ends.
    """
    sizes: dict[str, int] = {}
    wanted = list(digests)
    for start in range(0, len(wanted), 500):
        statement = (
            select(link.c.digest, blob.c.size)
            .join_from(link, blob, link.c.digest == blob.c.digest)
            .where(link.c.repository_id == repository_id, link.c.digest.in_(wanted[start : start + 500]))
            .with_for_update(key_share=True, read=True, of=link)
        )
        sizes.update({row[0]: row[1] for row in await transaction.execute(statement)})
    return sizes


async def linked_in_project(transaction: Transaction, project_id: int, digest: Digest) -> bool:
    """Return whether any repository of the project links the blob, also one in the bin."""
    statement = select(link.c.digest).where(link.c.project_id == project_id, link.c.digest == digest).limit(1)
    return (await transaction.execute(statement)).first() is not None


async def served_in_project(transaction: Transaction, project_id: int, digest: Digest) -> bool:
    """Return whether any repository of the project may serve the blob; one in the bin may not."""
    theirs = select(link.c.digest).join_from(link, repository, repository.c.id == link.c.repository_id)
    here = (link.c.project_id == project_id, link.c.digest == digest, repository.c.name < END_OF_NAMES)
    return (await transaction.execute(theirs.where(*here).limit(1))).first() is not None


async def add(transaction: Transaction, digest: Digest, object_key: str, size: int) -> None:
    """Write a verified blob. If another upload was first, its object stays and ours becomes garbage.

    In both cases the blob's row is locked until the transaction ends, so that it can be linked.
    """
    statement = (
        insert(transaction, blob)
        .values(digest=digest, object_key=object_key, size=size, created_at=time.time())
        # The update changes no value but locks the row. A row that is only found could be removed a moment later.
        .on_conflict_do_update(index_elements=["digest"], set_={"size": blob.c.size})
        .returning(blob.c.object_key)
    )
    kept = (await transaction.execute(statement)).scalar_one()
    mine = garbage.c.object_key == object_key
    if kept == object_key:
        await transaction.execute(delete(garbage).where(mine))
    else:
        await transaction.execute(update(garbage).where(mine).values(remove_at=time.time()))


async def add_link(
    transaction: Transaction,
    project_id: int,
    repository_id: int,
    digest: Digest,
    *,
    size: int | None = None,
    paid: int = 0,
) -> bool:
    """Link a blob to a repository, which may then serve it; return False if there is no such blob.

    The project is charged once for a blob, however many of its repositories link it. ``size`` (bytes) is for a blob
    that this transaction has written by `add`. ``paid`` bytes were reserved before: they are used for the charge, and
    the rest is returned. Raises QuotaExceeded.
    """
    # The lock admits one transaction for each blob. Otherwise two repositories of a project could both find it not
    # charged yet. `add` has taken it.
    if size is None:
        found = select(blob.c.size).where(blob.c.digest == digest).with_for_update(key_share=True)
        size = (await transaction.execute(found)).scalar()
    if size is None:
        return False
    charged = await linked_in_project(transaction, project_id, digest)
    statement = insert(transaction, link).values(
        repository_id=repository_id, digest=digest, project_id=project_id, pulled_at=time.time()
    )
    added = (await transaction.execute(statement.on_conflict_do_nothing())).rowcount
    quotas.owe(transaction, repository_id, (size if added and not charged else 0) - paid)
    return True


async def unlink(
    transaction: Transaction, repository_id: int, digest: Digest, grace: float = OBJECT_GRACE_SECONDS
) -> bool:
    """Remove a blob from a repository; return False if there is no such link.

    If it was the last link, the blob's object becomes garbage in ``grace`` seconds.
    """
    changes.changed(transaction, changes.repository(repository_id))
    of_blob = select(blob.c.size).where(blob.c.digest == digest).with_for_update()
    size = (await transaction.execute(of_blob)).scalar()
    removed = (
        await transaction.execute(
            delete(link)
            .where(link.c.repository_id == repository_id, link.c.digest == digest)
            .returning(link.c.project_id)
        )
    ).scalar()
    if removed is None:
        return False
    if size is None:
        # The blob was gone. Then a push brought it and the link back, before the link was removed.
        size = (await transaction.execute(of_blob)).scalar()
    if not await linked_in_project(transaction, removed, digest):
        quotas.owe(transaction, repository_id, -(size or 0))
    await _remove_unlinked(transaction, digest, grace)
    return True


async def _remove_unlinked(transaction: Transaction, digest: Digest, grace: float) -> None:
    unlinked = ~select(link.c.digest).where(link.c.digest == digest).exists()
    statement = delete(blob).where(blob.c.digest == digest, unlinked).returning(blob.c.object_key)
    object_key = (await transaction.execute(statement)).scalar()
    if object_key is not None:
        await discard(transaction, object_key, grace)


async def unlink_some(
    transaction: Transaction, repository_id: int, limit: int, grace: float = OBJECT_GRACE_SECONDS
) -> int:
    """Remove up to ``limit`` blobs from a repository as `unlink` does; return how many were removed."""
    some = select(link.c.digest).where(link.c.repository_id == repository_id).order_by(link.c.digest).limit(limit)
    digests = [Digest(digest) for digest in (await transaction.execute(some)).scalars()]
    for digest in digests:
        await unlink(transaction, repository_id, digest, grace)
    return len(digests)


async def touch(transaction: Transaction, pulls: Mapping[tuple[int, str], float]) -> None:
    """Write when blobs were last pulled; ``pulls`` maps (repository id, digest) to Unix time."""
    if pulls:
        statement = (
            update(link)
            .where(link.c.repository_id == bindparam("r"), link.c.digest == bindparam("d"))
            .values(pulled_at=bindparam("t"))
        )
        await transaction.execute(statement, [{"r": r, "d": d, "t": t} for (r, d), t in sorted(pulls.items())])


async def coldest(
    transaction: Transaction, project_id: int, before: float, limit: int
) -> list[tuple[int, Digest, int]]:
    """List the project's least recently pulled blobs, all last pulled before ``before`` (Unix seconds).

    Each is (repository id, digest, size in bytes). Blobs that plans keep are left out.
    """
    statement = (
        select(link.c.repository_id, link.c.digest, blob.c.size)
        .join_from(link, blob, link.c.digest == blob.c.digest)
        .where(link.c.project_id == project_id, link.c.pulled_at < before, link.c.kept_until < time.time())
        .order_by(link.c.pulled_at)
        .limit(limit)
    )
    return [(row[0], Digest(row[1]), row[2]) for row in await transaction.execute(statement)]


async def total_size(transaction: Transaction, project_id: int) -> int:
    """Add up the sizes of a project's blobs in bytes."""
    theirs = select(link.c.digest).where(link.c.project_id == project_id)
    statement = select(func.coalesce(func.sum(blob.c.size), 0)).where(blob.c.digest.in_(theirs))
    return int((await transaction.execute(statement)).scalar_one())


async def discard(transaction: Transaction, object_key: str, grace: float) -> None:
    """Mark an object as garbage in ``grace`` seconds; an object that is marked already gets the new time.

    An object of a Harbor, whose key is a digest, is held back until the move is declared final (`moved.finish`).
    """
    remove_at = time.time() + grace
    if is_digest(object_key):
        # The lock lets no move become final between this question and the commit.
        final = select(setting.c.value).where(setting.c.name == MOVE).with_for_update(read=True)
        if (await transaction.execute(final)).scalar() != FINAL:
            remove_at = _HELD
    statement = insert(transaction, garbage).values(object_key=object_key, remove_at=remove_at)
    await transaction.execute(
        statement.on_conflict_do_update(index_elements=["object_key"], set_={"remove_at": remove_at})
    )


async def due_garbage(transaction: Transaction, limit: int) -> list[str]:
    """List the keys of objects that are due for removal; the rows stay locked until the transaction ends."""
    statement = (
        select(garbage.c.object_key)
        .where(garbage.c.remove_at < time.time())
        .order_by(garbage.c.remove_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list((await transaction.execute(statement)).scalars())


async def forget_garbage(transaction: Transaction, object_keys: Iterable[str]) -> None:
    """Remove the rows of objects that have been removed."""
    await transaction.execute(delete(garbage).where(garbage.c.object_key.in_(list(object_keys))))
