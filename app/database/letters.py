"""Queries on letters, the mail that waits for the mail server.

    waiting ── `take`: this worker alone ──► sending ── the server took it, or never will ──► removed
       ▲                                        │
       └────── the server said: later ──────────┘

A worker that is killed leaves a letter that is being sent. Nobody knows whether the server took it, so it is not sent
again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import delete, select, update

from .engine import Transaction, insert
from .tables import letter


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter; ``made_at`` is in Unix seconds."""

    id: str
    address: str
    subject: str
    text: str
    made_at: float


async def add(transaction: Transaction, address: str, subject: str, text: str, now: float) -> None:
    """Write a letter, which is due at once."""
    row = {"id": secrets.token_hex(16), "address": address, "subject": subject, "text": text}
    await transaction.execute(insert(transaction, letter).values(**row, made_at=now, try_at=now))


async def is_due(transaction: Transaction, now: float) -> bool:
    """Return whether a letter waits."""
    here = select(letter.c.id).where(letter.c.try_at <= now, letter.c.sending.is_(False)).limit(1)
    return (await transaction.execute(here)).first() is not None


async def take(transaction: Transaction, now: float) -> Letter | None:
    """Take the next letter that is due, so that nobody else sends it; None if there is none, or another was faster."""
    here = (letter.c.try_at <= now, letter.c.sending.is_(False))
    following = select(letter.c.id).where(*here).order_by(letter.c.try_at, letter.c.id).limit(1)
    statement = update(letter).where(letter.c.id == following.scalar_subquery(), *here).values(sending=True, try_at=now)
    row = (
        await transaction.execute(
            statement.returning(letter.c.id, letter.c.address, letter.c.subject, letter.c.text, letter.c.made_at)
        )
    ).first()
    return Letter(*row) if row else None


async def put_back(transaction: Transaction, letter_id: str, try_at: float) -> None:
    """Let a letter be tried again at a time (Unix seconds)."""
    await transaction.execute(update(letter).where(letter.c.id == letter_id).values(sending=False, try_at=try_at))


async def remove(transaction: Transaction, letter_id: str) -> None:
    """Remove a letter that was sent, or never will be."""
    await transaction.execute(delete(letter).where(letter.c.id == letter_id))


async def remove_unknown(transaction: Transaction, before: float) -> int:
    """Remove the letters that a worker took before a time and never settled; return their number."""
    here = letter.c.sending & (letter.c.try_at < before)
    return (await transaction.execute(delete(letter).where(here))).rowcount
