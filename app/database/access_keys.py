"""Queries on people's access keys."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select

from . import changes, keyset
from .engine import Transaction, insert
from .ids import retire
from .tables import access_key, account


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key's row without its hash; ``permissions`` and times are as in `robots.Robot`."""

    id: int
    account_id: int
    name: str
    permissions: Mapping[str, Sequence[str]]
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    last_used_from: str | None


_columns: tuple[ColumnElement[Any], ...] = (
    access_key.c.id,
    access_key.c.account_id,
    access_key.c.name,
    access_key.c.permissions,
    access_key.c.created_at,
    access_key.c.expires_at,
    access_key.c.last_used_at,
    access_key.c.last_used_from,
)


async def create(
    transaction: Transaction,
    *,
    account_id: int,
    name: str,
    secret_hash: str,
    permissions: Mapping[str, Sequence[str]],
    expires_at: float,
) -> AccessKey | None:
    """Make a key; return None if the person has one of that name."""
    statement = (
        insert(transaction, access_key)
        .values(
            account_id=account_id,
            name=name,
            secret_hash=secret_hash,
            permissions=dict(permissions),
            created_at=time.time(),
            expires_at=expires_at,
        )
        .on_conflict_do_nothing()
        .returning(*_columns)
    )
    row = (await transaction.execute(statement)).first()
    return AccessKey(*row) if row else None


async def of_account(transaction: Transaction, account_id: int) -> list[AccessKey]:
    """List all keys of a person by name; `app.access.access_keys` limits their number."""
    statement = select(*_columns).where(access_key.c.account_id == account_id).order_by(access_key.c.name)
    return [AccessKey(*row) for row in await transaction.execute(statement)]


async def count(transaction: Transaction, account_id: int) -> int:
    """Count a person's keys."""
    statement = select(func.count()).select_from(access_key).where(access_key.c.account_id == account_id)
    return await keyset.exactly(transaction, statement)


async def remove(transaction: Transaction, account_id: int, key_id: int) -> AccessKey | None:
    """Remove a key of this person; return the removed row, None if they have no such key."""
    await retire(transaction, access_key)
    statement = delete(access_key).where(access_key.c.id == key_id, access_key.c.account_id == account_id)
    row = (await transaction.execute(statement.returning(*_columns))).first()
    if row is None:
        return None
    username = select(account.c.username).where(account.c.id == account_id)
    changes.changed(transaction, changes.account_named((await transaction.execute(username)).scalar_one()))
    return AccessKey(*row)
