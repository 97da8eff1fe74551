"""Queries on upload sessions, and on what each was given of its project's quota.

Rows are locked in one order everywhere, session before project.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update

from . import quotas
from .engine import Transaction
from .tables import project, repository, upload


@dataclass(frozen=True, slots=True)
class UploadSession:
    """An upload's row: ``digest_so_far`` is the digest of its first ``bytes_written`` bytes.

    ``charged_bytes`` are what it has been given of its project's quota.
    """

    id: str
    repository_id: int
    object_key: str
    state: Mapping[str, Any] | None
    bytes_written: int
    digest_so_far: str
    charged_bytes: int = 0


_columns = (
    upload.c.id,
    upload.c.repository_id,
    upload.c.object_key,
    upload.c.state,
    upload.c.bytes_written,
    upload.c.digest_so_far,
    upload.c.charged_bytes,
)


async def create(transaction: Transaction, session: UploadSession) -> None:
    """Begin a session."""
    await transaction.execute(
        upload.insert().values(
            id=session.id,
            repository_id=session.repository_id,
            object_key=session.object_key,
            state=session.state,
            bytes_written=session.bytes_written,
            digest_so_far=session.digest_so_far,
            updated_at=time.time(),
        )
    )


async def find(transaction: Transaction, repository_id: int, upload_id: str) -> UploadSession | None:
    """Find a session of this repository; another repository's is not found."""
    statement = select(*_columns).where(upload.c.id == upload_id, upload.c.repository_id == repository_id)
    row = (await transaction.execute(statement)).first()
    return UploadSession(*row) if row else None


async def advance(transaction: Transaction, before: UploadSession, after: UploadSession) -> bool:
    """Write a session's progress; False where another request has moved or ended it meanwhile."""
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


async def find_with_room(
    transaction: Transaction, repository_id: int, upload_id: str
) -> tuple[UploadSession, int | None] | None:
    """Find a session of this repository, and how many bytes its project has left beyond it (None: no end)."""
    statement = (
        select(*_columns, project.c.quota_bytes - project.c.used_bytes)
        .join_from(upload, repository, repository.c.id == upload.c.repository_id)
        .join(project, project.c.id == repository.c.project_id)
        .where(upload.c.id == upload_id, upload.c.repository_id == repository_id)
    )
    row = (await transaction.execute(statement)).first()
    return (UploadSession(*row[:-1]), row[-1]) if row else None


async def reserve(transaction: Transaction, project_id: int, upload_id: str, total: int, ahead: int) -> int | None:
    """Give a session what it needs of the quota for ``total`` bytes; answers how much it has, None: it has ended.

    It is given up to ``ahead`` bytes more, so as not to ask again soon, but an eighth of what is left at most: others
    may be sending as well. Raises QuotaExceeded.
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
        await transaction.execute(update(upload).where(upload.c.id == upload_id).values(charged_bytes=charged))
    return charged


async def give_back(transaction: Transaction, project_id: int, upload_id: str, keep: int) -> None:
    """Take from a session what it has of the quota beyond ``keep`` bytes."""
    charged = await _charged(transaction, upload_id)
    if charged is not None and charged > keep:
        await transaction.execute(update(upload).where(upload.c.id == upload_id).values(charged_bytes=keep))
        await quotas.charge(transaction, project_id, keep - charged)


async def end(transaction: Transaction, upload_id: str) -> int | None:
    """End a session and hand what it was given of the quota to the caller; None where it is gone already."""
    statement = delete(upload).where(upload.c.id == upload_id).returning(upload.c.charged_bytes)
    return (await transaction.execute(statement)).scalar()


async def remove(transaction: Transaction, upload_id: str) -> bool:
    """End a session and give its part of the quota back; False where it is gone already."""
    return bool(await _remove(transaction, [upload_id], before=None))


async def remove_idle(transaction: Transaction, before: float, limit: int) -> list[str]:
    """End sessions untouched since ``before``; answers the keys of their objects."""
    idle = select(upload.c.id).where(upload.c.updated_at < before).order_by(upload.c.updated_at).limit(limit)
    # The time is asked again: a session may have gone on since it was chosen.
    return await _remove(transaction, list((await transaction.execute(idle)).scalars()), before=before)


async def remove_of_repository(transaction: Transaction, repository_id: int, limit: int) -> list[str]:
    """End sessions of a repository; answers the keys of their objects."""
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
    charged: dict[int, int] = {}
    for key, repository_id, size in rows:
        keys.append(key)
        if size:
            charged[repository_id] = charged.get(repository_id, 0) + size
    for repository_id, size in sorted(charged.items()):
        of = select(repository.c.project_id).where(repository.c.id == repository_id)
        await quotas.charge(transaction, (await transaction.execute(of)).scalar_one(), -size)
    return keys


async def _charged(transaction: Transaction, upload_id: str) -> int | None:
    statement = select(upload.c.charged_bytes).where(upload.c.id == upload_id).with_for_update()
    return (await transaction.execute(statement)).scalar()
