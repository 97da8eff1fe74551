"""Pages of a list, cut by key instead of offset: the entries after a key, or those just before one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, Select, false, tuple_

from .engine import Transaction
from .text import storable

# "key" is the order of a list's keys, "-key" the same order backwards. A list says which other orders it has.
Order = Literal["key", "-key", "created", "-created", "pulls", "-pulls", "-used"]

K = TypeVar("K", covariant=True)
L = TypeVar("L")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[K]):
    """The wanted part of a list: at most ``limit`` entries after the key ``after``, or the last ones before ``before``.

    A key is the value of the column that orders the list, or a tuple if several columns do. Keys need the order
    "key". ``search`` is a part of the name. ``offset`` skips entries; it exists for the Harbor API.
    """

    limit: int
    after: K | None = None
    before: K | None = None
    offset: int = 0
    order: Order = "key"
    search: str = ""

    def with_keys(self, read: Callable[[K], L]) -> Page[L]:
        """Return this page with its keys converted by ``read``."""
        after, before = (None if key is None else read(key) for key in (self.after, self.before))
        return Page(self.limit, after, before, self.offset, self.order, self.search)


async def fetch(
    transaction: Transaction,
    statement: Select[Any],
    make: Callable[..., T],
    page: Page[object],
    *columns: ColumnElement[Any],
    descending: bool = False,
    orders: Mapping[Order, tuple[ColumnElement[Any], ...]] | None = None,
) -> list[T]:
    """Read a page of a list that is ordered by ``columns``; ``make`` makes an entry of the values of a row.

    ``orders`` are the list's other orders. If no database can store the key, the page is empty.
    """
    statement = statement.limit(page.limit).offset(page.offset)
    if page.order not in ("key", "-key"):
        statement = statement.order_by(*(orders or {})[page.order])
    else:
        statement = _cut(statement, page, columns, descending=descending != (page.order == "-key"))
    found = [make(*row) for row in await transaction.execute(statement)]
    return found if page.before is None else found[::-1]


async def count(transaction: Transaction, statement: Select[Any]) -> int:
    """Read the number that a statement counts."""
    return int((await transaction.execute(statement)).scalar_one())


def _cut(
    statement: Select[Any], page: Page[object], columns: tuple[ColumnElement[Any], ...], *, descending: bool
) -> Select[Any]:
    """Order by ``columns`` and begin after ``after``, or backwards from ``before``, nearest first."""
    key, down = (page.after, descending) if page.before is None else (page.before, not descending)
    if key is not None:
        values = key if isinstance(key, tuple) else (key,)
        if not all(storable(value) for value in values if isinstance(value, str)):
            return statement.where(false())
        row, end = (columns[0], values[0]) if len(columns) == 1 else (tuple_(*columns), tuple_(*values))
        statement = statement.where(row < end if down else row > end)
    return statement.order_by(*(column.desc() if down else column for column in columns))
