"""Queries on samples of the upstreams' rate limits, one a minute."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select

from .engine import Transaction, insert
from .tables import budget_sample

MINUTE = 60


@dataclass(frozen=True, slots=True)
class BudgetSample:
    """The rest of a rate limit in one minute; ``at`` is the Unix time at which the minute begins."""

    at: int
    limit: int
    remaining: int


async def add(
    transaction: Transaction, upstream: str, credential: str, at: float, *, limit: int, remaining: int
) -> None:
    """Write a sample at ``at`` (Unix seconds) unless its minute has one. ``credential`` is a user name, "" for none."""
    statement = insert(transaction, budget_sample).values(
        upstream=upstream, credential=credential, minute=int(at // MINUTE), limit=limit, remaining=remaining
    )
    await transaction.execute(statement.on_conflict_do_nothing())


async def remove_before(transaction: Transaction, upstream: str, credential: str, before: float) -> None:
    """Remove the samples before a time (Unix seconds)."""
    statement = delete(budget_sample).where(
        budget_sample.c.upstream == upstream,
        budget_sample.c.credential == credential,
        budget_sample.c.minute < int(before // MINUTE),
    )
    await transaction.execute(statement)


async def since(transaction: Transaction, upstream: str, credential: str, start: float) -> list[BudgetSample]:
    """List the samples from ``start`` (Unix seconds) on, in order."""
    statement = (
        select(budget_sample.c.minute, budget_sample.c.limit, budget_sample.c.remaining)
        .where(
            budget_sample.c.upstream == upstream,
            budget_sample.c.credential == credential,
            budget_sample.c.minute >= int(start // MINUTE),
        )
        .order_by(budget_sample.c.minute)
    )
    return [BudgetSample(row[0] * MINUTE, row[1], row[2]) for row in await transaction.execute(statement)]
