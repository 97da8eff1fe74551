"""Queries on settings: one value by its name, for what has no table of its own."""

from __future__ import annotations

from sqlalchemy import select, update

from .engine import Transaction, insert
from .tables import setting


async def keep(transaction: Transaction, name: str, value: str) -> str:
    """Set a value unless there is one; answers the value that stands."""
    await transaction.execute(insert(transaction, setting).values(name=name, value=value).on_conflict_do_nothing())
    return str((await transaction.execute(select(setting.c.value).where(setting.c.name == name))).scalar_one())


async def swap(transaction: Transaction, name: str, old: str, new: str) -> bool:
    """Change a value from ``old``; False where it is another one, which on both databases one of two callers finds."""
    statement = update(setting).where(setting.c.name == name, setting.c.value == old).values(value=new)
    return bool((await transaction.execute(statement)).rowcount)
