"""Pages of a list, cut by key and never by offset: what comes past a key, or what comes just before one."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, tuple_

# The value of the column a list is ordered by, or of each of its columns; None and "" are no key.
Key = tuple[Any, ...] | str | None

T = TypeVar("T")


def cut(
    statement: Select[Any], *columns: ColumnElement[Any], after: Key, before: Key, descending: bool = False
) -> Select[Any]:
    """Order a list by ``columns`` and begin past ``after``; or, with ``before``, give what precedes it, nearest first.

    `in_order` turns what was found with ``before`` round.
    """
    key, down = before or after, descending != bool(before)
    if key:
        row = columns[0] if len(columns) == 1 else tuple_(*columns)
        end = tuple_(*key) if isinstance(key, tuple) else key
        statement = statement.where(row < end if down else row > end)
    return statement.order_by(*(column.desc() if down else column for column in columns))


def in_order(found: list[T], before: Key) -> list[T]:
    """Give a page in the order of its list."""
    return found[::-1] if before else found
