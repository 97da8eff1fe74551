"""Queries on upload sessions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update

from .engine import Transaction
from .tables import upload


@dataclass(frozen=True, slots=True)
class UploadSession:
    """An upload's row: ``digest_so_far`` is the digest of its first ``bytes_written`` bytes."""

    id: str
    repository_id: int
    object_key: str
    state: Mapping[str, Any] | None
    bytes_written: int
    digest_so_far: str


_columns = (
    upload.c.id,
    upload.c.repository_id,
    upload.c.object_key,
    upload.c.state,
    upload.c.bytes_written,
    upload.c.digest_so_far,
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


async def remove(transaction: Transaction, upload_id: str) -> bool:
    """End a session; False where it is gone already."""
    return bool((await transaction.execute(delete(upload).where(upload.c.id == upload_id))).rowcount)


async def remove_idle(transaction: Transaction, before: float, limit: int) -> list[str]:
    """End sessions untouched since ``before``; answers the keys of their objects."""
    idle = select(upload.c.id).where(upload.c.updated_at < before).order_by(upload.c.updated_at).limit(limit)
    # The time is asked again: a session may have gone on since it was chosen.
    statement = delete(upload).where(upload.c.id.in_(idle), upload.c.updated_at < before)
    return list((await transaction.execute(statement.returning(upload.c.object_key))).scalars())
