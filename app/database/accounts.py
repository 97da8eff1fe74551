"""Queries on local accounts and on the keys that tokens are signed with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import select, update

from .engine import Transaction, insert
from .tables import account, signing_key


@dataclass(frozen=True, slots=True)
class Account:
    """A person with a password kept here."""

    id: int
    username: str
    password_hash: str | None = field(repr=False)
    is_admin: bool
    disabled: bool
    groups: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that tokens are signed with; ``private_key`` as PEM, ``created_at`` in Unix seconds."""

    id: str
    private_key: str = field(repr=False)
    created_at: float


async def find(transaction: Transaction, username: str) -> Account | None:
    """Find an account by its exact name."""
    statement = select(
        account.c.id,
        account.c.username,
        account.c.password_hash,
        account.c.is_admin,
        account.c.disabled,
        account.c.groups,
    ).where(account.c.username == username)
    row = (await transaction.execute(statement)).first()
    return Account(*row) if row else None


async def create(transaction: Transaction, username: str, password_hash: str, *, is_admin: bool) -> bool:
    """Make an account unless the name is taken; answers whether it was made."""
    statement = insert(transaction, account).values(
        username=username, password_hash=password_hash, is_admin=is_admin, disabled=False, created_at=time.time()
    )
    return bool((await transaction.execute(statement.on_conflict_do_nothing())).rowcount)


async def set_password(transaction: Transaction, username: str, password_hash: str) -> bool:
    """Change the password of an account; answers whether it is there."""
    statement = update(account).where(account.c.username == username).values(password_hash=password_hash)
    return bool((await transaction.execute(statement)).rowcount)


async def signing_keys(transaction: Transaction) -> list[SigningKey]:
    """List every key, newest first; there are as many as rotations within a token's life, two as a rule."""
    statement = select(signing_key.c.id, signing_key.c.private_key, signing_key.c.created_at)
    return [SigningKey(*row) for row in await transaction.execute(statement.order_by(signing_key.c.created_at.desc()))]


async def add_signing_key(transaction: Transaction, key: SigningKey) -> None:
    """Put a new key down."""
    await transaction.execute(
        signing_key.insert().values(id=key.id, private_key=key.private_key, created_at=key.created_at)
    )


async def remove_signing_keys(transaction: Transaction, before: float) -> None:
    """Remove keys made before a time (Unix seconds)."""
    await transaction.execute(signing_key.delete().where(signing_key.c.created_at < before))
