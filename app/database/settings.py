"""Queries on settings: single values by name, for everything that needs no table of its own."""

from __future__ import annotations

from sqlalchemy import select, update

from .engine import Transaction, insert
from .tables import setting


async def keep(transaction: Transaction, name: str, value: str) -> str:
    """Set a value unless there is one; return the stored value."""
    await transaction.execute(insert(transaction, setting).values(name=name, value=value).on_conflict_do_nothing())
    return str((await transaction.execute(select(setting.c.value).where(setting.c.name == name))).scalar_one())


async def find(transaction: Transaction, name: str) -> str | None:
    """Return a value, None if there is none."""
    return (await transaction.execute(select(setting.c.value).where(setting.c.name == name))).scalar_one_or_none()


async def swap(transaction: Transaction, name: str, old: str, new: str) -> bool:
    """Change a value from ``old`` to ``new``; return False if it is not ``old``.

    If two callers do this at once, one of them gets False, on both databases.
    """
    statement = update(setting).where(setting.c.name == name, setting.c.value == old).values(value=new)
    return bool((await transaction.execute(statement)).rowcount)
