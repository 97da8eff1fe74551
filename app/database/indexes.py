"""Make the indexes that `tables` has and the database lacks, beside live workers.

An index of a large table takes seconds or minutes. PostgreSQL makes it without holding up a writer, but not within a
transaction. SQLite holds up its writers for as long as one index takes, about a second for a million rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from sqlalchemy import Connection, Index, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex

from .engine import Database
from .tables import metadata

# The number of the advisory lock that means "indexes are being made"; any constant would do.
_LOCK = 0x72656770
_POLL_SECONDS = 0.5
_INVALID = """
SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
 WHERE NOT x.indisvalid AND i.relnamespace = current_schema()::regnamespace
"""
_NAMES = {
    "postgresql": "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'",
}

log = logging.getLogger(__name__)


async def create_missing(database: Database) -> None:
    """Make what is missing, one index after another. Several processes may call this at once: one of them does it.

    Raises Unavailable.
    """
    async with database.reading() as transaction:
        missing = await transaction.run_sync(lambda connection: list(_missing(connection)))
        is_whole = database.is_sqlite or not (await transaction.exec_driver_sql(_INVALID)).first()
    if not missing and is_whole:
        return
    if database.is_sqlite:
        for index in missing:
            async with database.transaction() as transaction:
                await transaction.execute(CreateIndex(index, if_not_exists=True))
        return
    async with database.apart() as connection:
        await _create(connection)


async def _create(connection: AsyncConnection) -> None:
    # Nobody waits for the lock within a statement: making an index waits for every statement that began before.
    while not await connection.scalar(select(func.pg_try_advisory_lock(_LOCK))):  # noqa: ASYNC110  # of other processes
        await asyncio.sleep(_POLL_SECONDS)
    # One that was interrupted stays behind, and is not used.
    for name in (await connection.exec_driver_sql(_INVALID)).scalars().all():
        await connection.exec_driver_sql(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
    for index in await connection.run_sync(lambda connection: list(_missing(connection))):
        log.info("making the index %s", index.name)
        spelled = str(CreateIndex(index, if_not_exists=True).compile(dialect=connection.dialect))
        await connection.exec_driver_sql(spelled.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1))


def _missing(connection: Connection) -> Iterator[Index]:
    there = set(connection.exec_driver_sql(_NAMES[connection.dialect.name]).scalars())
    return (index for index in _plain() if index.name not in there)


def _plain() -> Iterator[Index]:
    """List the indexes that hold no rule. A unique index comes with its table, in a step of the schema."""
    return (index for table in metadata.sorted_tables for index in sorted(table.indexes, key=str) if not index.unique)
