"""Row ids that are never given twice.

Sessions, URLs, the rights of robots and the memory of workers name rows by id, and outlive them. PostgreSQL takes ids
from a sequence, which never goes back. SQLite takes the highest id in the table plus one, which may be the id of a
removed row. So on SQLite `setting` keeps the highest removed id of each table, and an INSERT takes a higher one.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Table, Text, cast, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from .tables import setting


def next_id(table: Table) -> ColumnElement[int]:
    """Return the SQL of the next row's id, for SQLite."""
    return _highest(table) + 1


async def retire(transaction: AsyncConnection, table: Table) -> None:
    """Keep ids from being given again.

    Call it before a row of ``table`` is removed. It covers the rows that the database removes with it.
    """
    if transaction.dialect.name != "sqlite":
        return
    for each in _removed_with(table):
        if each.autoincrement_column is not None:
            put = insert(setting).values(name=_name(each), value=cast(_highest(each), Text))
            await transaction.execute(
                put.on_conflict_do_update(index_elements=["name"], set_={"value": put.excluded.value})
            )


def _highest(table: Table) -> ColumnElement[int]:
    """Return the SQL of the highest id that a table is known to have had, 0 if none."""
    column = table.c.id
    kept = select(func.max(column)).scalar_subquery()
    removed = select(cast(setting.c.value, column.type)).where(setting.c.name == _name(table)).scalar_subquery()
    # On SQLite, max() with two arguments is no aggregate: it returns the larger argument.
    return select(func.max(func.coalesce(kept, 0), func.coalesce(removed, 0))).scalar_subquery()


def _name(table: Table) -> str:
    return f"highest removed {table.name}"


def _removed_with(table: Table) -> Iterator[Table]:
    """List a table, and the tables whose rows the database removes together with its rows."""
    yield table
    for other in table.metadata.sorted_tables:
        if any(key.column.table is table and key.ondelete == "CASCADE" for key in other.foreign_keys):
            yield from _removed_with(other)
