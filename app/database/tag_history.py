"""Queries on what the tags of hosted repositories named before: since when, until when, and by whom.

A move or a removal of a tag adds an entry. Each tag keeps its newest entries, also after it is removed, so that
somebody can point it back. Entries are charged like tags. They go after `KEPT_SECONDS`, and with their repository.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, delete, func, select

from app.oci.digest import Digest

from . import quotas
from .engine import Transaction, insert
from .tables import tag, tag_history

# The entries of one tag.
MOST_ENTRIES = 20
KEPT_SECONDS = 180 * 24 * 3600.0


class Entry(NamedTuple):
    """A digest that a tag named between two times (Unix seconds).

    ``by`` is the principal's subject who pointed it there, "" if that is not known.
    """

    digest: Digest
    since: float
    until: float
    by: str


# Since when a tag names its digest. An older release wrote only when it was pushed last.
pointed_at: ColumnElement[float] = func.coalesce(tag.c.pointed_at, tag.c.updated_at)


async def entries(transaction: Transaction, repository_id: int, name: str) -> list[Entry]:
    """List what a tag named before, the newest first."""
    columns = tag_history.c.digest, tag_history.c.since, tag_history.c.until, tag_history.c.pointed_by
    here = (tag_history.c.repository_id == repository_id) & (tag_history.c.name == name)
    statement = select(*columns).where(here).order_by(tag_history.c.since.desc())
    return [Entry(Digest(row[0]), row[1], row[2], row[3] or "") for row in await transaction.execute(statement)]


async def current(transaction: Transaction, repository_id: int, name: str) -> Entry | None:
    """Return what a tag names now; ``until`` is now. None if there is no such tag."""
    here = (tag.c.repository_id == repository_id) & (tag.c.name == name)
    row = (await transaction.execute(select(tag.c.digest, pointed_at, tag.c.pointed_by).where(here))).first()
    return None if row is None else Entry(Digest(row[0]), row[1], time.time(), row[2] or "")


async def add(
    transaction: Transaction, repository_id: int, ended: Sequence[tuple[str, str, float, str | None]], until: float
) -> None:
    """Add entries that end at ``until``: each is a tag, the digest it named, since when, and who pointed it there."""
    if not ended:
        return
    rows = [
        {
            "repository_id": repository_id,
            "name": name,
            "since": since,
            "until": until,
            "digest": digest,
            "pointed_by": by,
            "charged_bytes": quotas.ROW_BYTES,
        }
        for name, digest, since, by in ended
    ]
    made = insert(transaction, tag_history).values(rows).on_conflict_do_nothing().returning(tag_history.c.name)
    quotas.owe(transaction, repository_id, quotas.ROW_BYTES * len((await transaction.execute(made)).all()))
    for name, _, _, _ in ended:
        await _trim(transaction, repository_id, name)


async def end_tag(transaction: Transaction, repository_id: int, name: str) -> None:
    """Add the entry of a tag that is about to be removed."""
    await _end(transaction, repository_id, tag.c.name == name)


async def end_tags_of(transaction: Transaction, repository_id: int, digests: Collection[str]) -> None:
    """Add the entries of all tags of manifests that are about to be removed."""
    await _end(transaction, repository_id, tag.c.digest.in_(digests))


async def _end(transaction: Transaction, repository_id: int, chosen: ColumnElement[bool]) -> None:
    here = (tag.c.repository_id == repository_id) & chosen
    statement = select(tag.c.name, tag.c.digest, pointed_at, tag.c.pointed_by).where(here).order_by(tag.c.name)
    now = time.time()
    rows = [tuple(row) for row in await transaction.execute(statement.with_for_update())]
    for start in range(0, len(rows), 100):
        await add(transaction, repository_id, rows[start : start + 100], now)


async def _trim(transaction: Transaction, repository_id: int, name: str) -> None:
    here = (tag_history.c.repository_id == repository_id) & (tag_history.c.name == name)
    newest_of_rest = (
        select(tag_history.c.since)
        .where(here)
        .order_by(tag_history.c.since.desc())
        .offset(MOST_ENTRIES)
        .limit(1)
        .scalar_subquery()
    )
    gone = delete(tag_history).where(here, tag_history.c.since <= newest_of_rest).returning(tag_history.c.charged_bytes)
    quotas.owe(transaction, repository_id, -sum((await transaction.execute(gone)).scalars()))


async def forget(transaction: Transaction, repository_id: int, names: Collection[str]) -> None:
    """Remove all entries of tags, because nothing that they named is to be kept; at most 500 tags."""
    await _remove(transaction, _keys((tag_history.c.repository_id == repository_id) & tag_history.c.name.in_(names)))


async def remove_of_repository(transaction: Transaction, repository_id: int, limit: int) -> int:
    """Remove up to ``limit`` entries of a repository; return how many there were."""
    return await _remove(transaction, _keys(tag_history.c.repository_id == repository_id).limit(limit))


async def remove_older(transaction: Transaction, before: float, limit: int) -> int:
    """Remove up to ``limit`` entries that ended before a time (Unix seconds); return how many there were."""
    old = _keys(tag_history.c.until < before).order_by(tag_history.c.until).limit(limit)
    return await _remove(transaction, old.with_for_update(skip_locked=True))


def _keys(chosen: ColumnElement[bool]) -> Select[Any]:
    return select(
        tag_history.c.repository_id, tag_history.c.name, tag_history.c.since, tag_history.c.charged_bytes
    ).where(chosen)


async def _remove(transaction: Transaction, keys: Select[Any]) -> int:
    found = (await transaction.execute(keys)).all()
    # One by one, because SQLite reads the whole table if it is asked for a list of keys.
    for repository_id, name, since, charged in found:
        here = (tag_history.c.repository_id == repository_id, tag_history.c.name == name)
        removed = await transaction.execute(delete(tag_history).where(*here, tag_history.c.since == since))
        quotas.owe(transaction, repository_id, -charged * removed.rowcount)
    return len(found)
