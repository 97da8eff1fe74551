"""Queries on upload sessions and on the bytes reserved for each from its project's quota.

Every transaction locks the session's row before the project's, so that no two wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update

from . import quotas
from .engine import Transaction
from .tables import project, repository, upload


@dataclass(frozen=True, slots=True)
class UploadSession:
    """An upload session's row: ``digest_so_far`` is the digest of its first ``bytes_written`` bytes.

    ``charged_bytes`` is the number of bytes reserved for it from its project's quota. ``opened_by`` is a principal's
    subject, "" if an older release opened it.
    """

    id: str
    repository_id: int
    object_key: str
    state: Mapping[str, Any] | None
    bytes_written: int
    digest_so_far: str
    charged_bytes: int = 0
    opened_by: str = ""


_columns = (
    upload.c.id,
    upload.c.repository_id,
    upload.c.object_key,
    upload.c.state,
    upload.c.bytes_written,
    upload.c.digest_so_far,
    upload.c.charged_bytes,
    func.coalesce(upload.c.opened_by, ""),
)


async def create(transaction: Transaction, session: UploadSession, *, project_id: int | None = None) -> None:
    """Write the row of a new session."""
    await transaction.execute(
        upload.insert().values(
            id=session.id,
            repository_id=session.repository_id,
            object_key=session.object_key,
            state=session.state,
            bytes_written=session.bytes_written,
            digest_so_far=session.digest_so_far,
            updated_at=time.time(),
            opened_in=project_id,
            opened_by=session.opened_by,
        )
    )


async def count_open(transaction: Transaction, project_id: int, opened_by: str, most: int) -> tuple[int, int]:
    """Count the sessions in a project that one principal opened, and all of them; each count ends at ``most``."""
    in_project = select(upload.c.opened_in).where(upload.c.opened_in == project_id)
    counts = (
        select(func.count()).select_from(sessions.limit(most).subquery()).scalar_subquery()
        for sessions in (in_project.where(upload.c.opened_by == opened_by), in_project)
    )
    row = (await transaction.execute(select(*counts))).one()
    return row[0], row[1]


async def find(transaction: Transaction, repository_id: int, upload_id: str) -> UploadSession | None:
    """Find a session of this repository; another repository's session is not found."""
    statement = select(*_columns).where(upload.c.id == upload_id, upload.c.repository_id == repository_id)
    row = (await transaction.execute(statement)).first()
    return UploadSession(*row) if row else None


async def advance(transaction: Transaction, before: UploadSession, after: UploadSession) -> bool:
    """Write a session's progress; return False if another request has advanced or ended it meanwhile."""
    statement = (
        update(upload)
        .where(upload.c.id == before.id, upload.c.bytes_written == before.bytes_written)
        .values(
            state=after.state,
            bytes_written=after.bytes_written,
            digest_so_far=after.digest_so_far,
            updated_at=time.time(),
        )
    )
    return bool((await transaction.execute(statement)).rowcount)


async def set_aside(transaction: Transaction, upload_id: str, used_at: float) -> None:
    """Set when a session without bytes was used last (Unix seconds); does nothing to one that has some."""
    here = (upload.c.id == upload_id) & (upload.c.bytes_written == 0)
    await transaction.execute(update(upload).where(here).values(updated_at=used_at))


async def find_with_room(
    transaction: Transaction, repository_id: int, upload_id: str
) -> tuple[UploadSession, int | None] | None:
    """Find a session of this repository, and how many more bytes its project has left (None for no limit)."""
    statement = (
        select(*_columns, project.c.quota_bytes - project.c.used_bytes)
        .join_from(upload, repository, repository.c.id == upload.c.repository_id)
        .join(project, project.c.id == repository.c.project_id)
        .where(upload.c.id == upload_id, upload.c.repository_id == repository_id)
    )
    row = (await transaction.execute(statement)).first()
    return (UploadSession(*row[:-1]), row[-1]) if row else None


async def reserve(transaction: Transaction, project_id: int, upload_id: str, total: int, ahead: int) -> int | None:
    """Reserve ``total`` bytes of the quota for a session; return how many it has, None if the session has ended.

    Up to ``ahead`` more bytes are reserved, so that the session need not ask again soon. They are at most an eighth of
    the rest, because other sessions may be running as well. Raises QuotaExceeded.
    """
    charged = await _charged(transaction, upload_id)
    if charged is None:
        return None
    if total > charged:
        left = await quotas.room(transaction, project_id)
        needed = total - charged
        more = ahead if left is None else max(0, min(ahead, (left - needed) // 8))
        await quotas.charge(transaction, project_id, needed + more)
        charged = total + more
        # The time tells that the session is in use, although its request may last for hours.
        values = {"charged_bytes": charged, "updated_at": time.time()}
        await transaction.execute(update(upload).where(upload.c.id == upload_id).values(values))
    return charged


async def give_back(transaction: Transaction, project_id: int, upload_id: str, keep: int) -> None:
    """Return the bytes that a session has reserved beyond ``keep`` to the project's quota."""
    charged = await _charged(transaction, upload_id)
    if charged is not None and charged > keep:
        await transaction.execute(update(upload).where(upload.c.id == upload_id).values(charged_bytes=keep))
        await quotas.charge(transaction, project_id, keep - charged)


async def end(transaction: Transaction, upload_id: str) -> int | None:
    """End a session; return its reserved bytes, None if it is gone already.

    The bytes stay charged to the project: the caller uses or returns them.
    """
    statement = delete(upload).where(upload.c.id == upload_id).returning(upload.c.charged_bytes)
    return (await transaction.execute(statement)).scalar()


async def remove(transaction: Transaction, upload_id: str) -> bool:
    """End a session and return its bytes to the quota; return False if it is gone already."""
    return bool(await _remove(transaction, [upload_id], before=None))


async def remove_idle(transaction: Transaction, before: float, limit: int) -> list[str]:
    """End up to ``limit`` sessions idle since ``before`` (Unix seconds); return the keys of their objects."""
    idle = select(upload.c.id).where(upload.c.updated_at < before).order_by(upload.c.updated_at).limit(limit)
    # The time is checked again, because a session may have made progress since it was chosen.
    return await _remove(transaction, list((await transaction.execute(idle)).scalars()), before=before)


async def remove_idle_in(
    transaction: Transaction, project_id: int, opened_by: str | None, before: float, limit: int
) -> list[str]:
    """End sessions as `remove_idle` does, but only in a project, and of one principal unless ``opened_by`` is None."""
    here = [upload.c.opened_in == project_id, upload.c.updated_at < before]
    if opened_by is not None:
        here.append(upload.c.opened_by == opened_by)
    idle = select(upload.c.id).where(*here).limit(limit)
    return await _remove(transaction, list((await transaction.execute(idle)).scalars()), before=before)


async def remove_of_repository(transaction: Transaction, repository_id: int, limit: int) -> list[str]:
    """End up to ``limit`` sessions of a repository; return the keys of their objects."""
    theirs = select(upload.c.id).where(upload.c.repository_id == repository_id).limit(limit)
    return await _remove(transaction, list((await transaction.execute(theirs)).scalars()), before=None)


async def _remove(transaction: Transaction, upload_ids: list[str], *, before: float | None) -> list[str]:
    if not upload_ids:
        return []
    statement = delete(upload).where(upload.c.id.in_(upload_ids))
    if before is not None:
        statement = statement.where(upload.c.updated_at < before)
    rows = await transaction.execute(
        statement.returning(upload.c.object_key, upload.c.repository_id, upload.c.charged_bytes)
    )
    keys: list[str] = []
    for key, repository_id, size in rows:
        keys.append(key)
        quotas.owe(transaction, repository_id, -size)
    return keys


async def _charged(transaction: Transaction, upload_id: str) -> int | None:
    statement = select(upload.c.charged_bytes).where(upload.c.id == upload_id).with_for_update()
    return (await transaction.execute(statement)).scalar()
