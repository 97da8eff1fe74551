"""Queries on the pulls of repositories, by the hour."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select, tuple_

from .engine import Transaction, insert
from .tables import pull_hour, repository

HOUR = 3600


async def add(transaction: Transaction, pulls: Mapping[int, int], hour: int) -> None:
    """Add pulls by repository id in an hour (since 1970); drop those of repositories that are gone."""
    if not pulls:
        return
    there = select(repository.c.id).where(repository.c.id.in_(sorted(pulls))).order_by(repository.c.id)
    kept = (await transaction.execute(there.with_for_update(key_share=True, read=True))).scalars().all()
    # Every worker writes in the same order, so that no two wait for each other.
    rows = [{"repository_id": number, "hour": hour, "pulls": pulls[number]} for number in kept]
    if rows:
        statement = insert(transaction, pull_hour)
        more = {"pulls": pull_hour.c.pulls + statement.excluded["pulls"]}
        statement = statement.on_conflict_do_update(index_elements=["repository_id", "hour"], set_=more)
        await transaction.execute(statement, rows)


async def by_hour(transaction: Transaction, repository_id: int, since: float) -> dict[int, int]:
    """Return a repository's pulls from the hour of ``since`` (Unix seconds) on, by the Unix time of each hour's begin.

    The hours are in order; hours without pulls are left out.
    """
    here = (pull_hour.c.repository_id == repository_id) & (pull_hour.c.hour >= int(since // HOUR))
    rows = await transaction.execute(select(pull_hour.c.hour, pull_hour.c.pulls).where(here).order_by(pull_hour.c.hour))
    return {int(row[0]) * HOUR: int(row[1]) for row in rows}


async def remove_before(transaction: Transaction, before: float, limit: int) -> int:
    """Remove up to ``limit`` hours before a time (Unix seconds); return how many."""
    old = (
        select(pull_hour.c.repository_id, pull_hour.c.hour)
        .where(pull_hour.c.hour < int(before // HOUR))
        .order_by(pull_hour.c.hour)
        .limit(limit)
    )
    statement = delete(pull_hour).where(tuple_(pull_hour.c.repository_id, pull_hour.c.hour).in_(old))
    return (await transaction.execute(statement)).rowcount
