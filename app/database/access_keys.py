"""Queries on people's access keys."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select

from . import keyset
from .engine import Transaction, insert
from .ids import retire
from .tables import access_key, account


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key's row, without its hash; ``permissions`` and times as a `robots.Robot` has them."""

    id: int
    account_id: int
    name: str
    permissions: Mapping[str, Sequence[str]]
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    last_used_from: str | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose key it is, as the account is now."""

    username: str
    is_admin: bool
    disabled: bool
    groups: Sequence[str] | None


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
_holder: tuple[ColumnElement[Any], ...] = (account.c.username, account.c.is_admin, account.c.disabled, account.c.groups)


async def create(
    transaction: Transaction,
    *,
    account_id: int,
    name: str,
    secret_hash: str,
    permissions: Mapping[str, Sequence[str]],
    expires_at: float,
) -> AccessKey | None:
    """Make a key; None where the person has one of that name."""
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
    """List a person's keys by name; there are as many as `app.access.access_keys` allows."""
    statement = select(*_columns).where(access_key.c.account_id == account_id).order_by(access_key.c.name)
    return [AccessKey(*row) for row in await transaction.execute(statement)]


async def count(transaction: Transaction, account_id: int) -> int:
    """Count a person's keys."""
    statement = select(func.count()).select_from(access_key).where(access_key.c.account_id == account_id)
    return await keyset.count(transaction, statement)


async def find_by_hash(transaction: Transaction, secret_hash: str) -> tuple[AccessKey, Holder] | None:
    """Find the key of a secret, with whose it is."""
    statement = (
        select(*_columns, *_holder)
        .join_from(access_key, account, access_key.c.account_id == account.c.id)
        .where(access_key.c.secret_hash == secret_hash)
    )
    row = (await transaction.execute(statement)).first()
    return (AccessKey(*row[: len(_columns)]), Holder(*row[len(_columns) :])) if row else None


async def expiring(transaction: Transaction, after: float, until: float) -> list[tuple[AccessKey, str]]:
    """List the keys, with whose they are, that end after one time and not after another, soonest first."""
    statement = (
        select(*_columns, account.c.username)
        .join_from(access_key, account, access_key.c.account_id == account.c.id)
        .where(access_key.c.expires_at > after, access_key.c.expires_at <= until, account.c.disabled.is_(False))
        .order_by(access_key.c.expires_at, access_key.c.id)
    )
    return [(AccessKey(*row[:-1]), row[-1]) for row in await transaction.execute(statement)]


async def remove(transaction: Transaction, account_id: int, key_id: int) -> AccessKey | None:
    """Remove a key of this person; answers what it was, None where they have no such key."""
    await retire(transaction, access_key)
    statement = delete(access_key).where(access_key.c.id == key_id, access_key.c.account_id == account_id)
    row = (await transaction.execute(statement.returning(*_columns))).first()
    return AccessKey(*row) if row else None
