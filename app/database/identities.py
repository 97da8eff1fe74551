"""Queries on what the university calls people, whatever their names are: an attribute's name, a space and its value."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, or_, select

from .engine import Transaction, insert
from .tables import identity


async def owners(transaction: Transaction, values: Collection[str]) -> set[int]:
    """Return the ids of the accounts that have one of these values."""
    here = select(identity.c.account_id).where(identity.c.value.in_(values))
    return set((await transaction.execute(here)).scalars())


async def of_account(transaction: Transaction, account_id: int) -> set[str]:
    """Return an account's values."""
    return set(
        (await transaction.execute(select(identity.c.value).where(identity.c.account_id == account_id))).scalars()
    )


async def keep(transaction: Transaction, account_id: int, values: Collection[str]) -> None:
    """Give an account these values, in place of its others of the same attributes."""
    attributes = {value.partition(" ")[0] for value in values}
    same = or_(*(identity.c.value.startswith(f"{name} ", autoescape=True) for name in attributes))
    here = (identity.c.account_id == account_id, same, identity.c.value.not_in(values))
    await transaction.execute(delete(identity).where(*here))
    rows = [{"value": value, "account_id": account_id} for value in sorted(values)]
    await transaction.execute(insert(transaction, identity).on_conflict_do_nothing(), rows)


async def forget(transaction: Transaction, account_id: int | None) -> int:
    """Remove an account's values, or everybody's; return their number."""
    statement = delete(identity)
    if account_id is not None:
        statement = statement.where(identity.c.account_id == account_id)
    return (await transaction.execute(statement)).rowcount
