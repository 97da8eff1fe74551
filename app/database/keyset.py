"""Pages of a list, cut by key instead of offset: the entries after a key, or those just before one.

No page reads more than a bound, however long the list is. A condition that no index serves, such as a part of a name,
is looked for in at most `MOST_SEARCHED` entries; the page says where it stopped. A count ends at `MOST_COUNTED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, FromClause, ScalarSelect, Select, func, literal, select, tuple_, union

from .engine import Transaction
from .text import storable

# A count is exact up to here.
MOST_COUNTED = 1000
# A search looks at this many entries at most, and so does a sort that no index has.
MOST_SEARCHED = 10_000
# In `Sorts`: the order of the list's own keys.
KEY: tuple[ColumnElement[Any], ...] = ()
# The fields by which a list can be sorted: the columns of an index, or a column of which there is no index.
Sorts = Mapping[str, ColumnElement[Any] | tuple[ColumnElement[Any], ...]]

K = TypeVar("K", covariant=True)
L = TypeVar("L")
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Page(Generic[K]):
    """The wanted part of a list: at most ``limit`` entries after the key ``after``, or the last ones before ``before``.

    A key is the value of the column that orders the list, or a tuple if several columns do. ``search`` is a part of
    the name. ``offset`` and ``sort`` exist for the Harbor API: entries to skip, and fields of the list's `Sorts`, each
    with True for descending. Pages by a key need the list's own order.
    """

    limit: int
    after: K | None = None
    before: K | None = None
    offset: int = 0
    sort: tuple[tuple[str, bool], ...] = ()
    search: str = ""

    def with_keys(self, read: Callable[[K], L]) -> Page[L]:
        """Return this page with its keys converted by ``read``."""
        after, before = (None if key is None else read(key) for key in (self.after, self.before))
        return Page(self.limit, after, before, self.offset, self.sort, self.search)


class Entries(list[T]):
    """The entries of one page.

    ``reached`` is the key of the last entry that a search looked at, if it stopped before the end of the list.
    """

    def __init__(self, entries: Iterable[T] = (), reached: Any = None) -> None:
        super().__init__(entries)
        self.reached = reached

    def with_entries(self, entries: Iterable[U]) -> Entries[U]:
        """Return a part that has other entries and ends where this one ends."""
        return Entries(entries, self.reached)


@dataclass(frozen=True, slots=True)
class Count:
    """The number of entries; if not ``exact``, there are at least so many."""

    number: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Walk:
    """One way through a list: the entries that ``where`` chooses, which an index finds in the list's order.

    ``matches`` is a condition that no index serves. At most `MOST_SEARCHED` entries are asked for it.
    """

    where: tuple[ColumnElement[bool], ...] = ()
    matches: ColumnElement[bool] | None = None


EVERYTHING = (Walk(),)


@dataclass(frozen=True, slots=True)
class Walked:
    """A statement that finds the keys of a list in their order, the columns of a key in it, and the row's identity."""

    statement: Select[Any]
    columns: tuple[ColumnElement[Any], ...]
    identity: ColumnElement[Any]
    # The same in the statement that reads whole rows.
    reads: ColumnElement[Any] | None = None
    # The columns of this statement by which the list can be sorted.
    sorts: Sorts | None = None


async def fetch(
    transaction: Transaction,
    statement: Select[Any],
    make: Callable[..., T],
    page: Page[object],
    *columns: ColumnElement[Any],
    walks: Sequence[Walk] = EVERYTHING,
    descending: bool = False,
    sorts: Sorts | None = None,
    walked: Walked | None = None,
) -> Entries[T]:
    """Read a page of a list that is ordered by ``columns``; ``make`` makes an entry of the values of a row.

    The entries are those of all ``walks`` together. The last column is unique within one walk. ``sorts`` are the fields
    by which the page may be sorted. ``walked`` finds the keys, if ``statement`` itself cannot in their order. If no
    database can store the key, the page is empty.
    """
    walking = walked or Walked(statement, columns, columns[-1])
    chosen = [(sorts or {})[field] for field, _ in page.sort]
    if len(chosen) > 1 or any(isinstance(one, ColumnElement) for one in chosen):
        columns_of = [walking.columns if isinstance(one, tuple) and not one else one for one in chosen]
        terms = [(one, down) for one, (_, down) in zip(columns_of, page.sort, strict=True)]
        return await _sorted(transaction, statement, make, page, columns, walking, walks, terms, descending=descending)
    by_key, down = chosen in ([], [KEY]), goes_down(page, descending=descending)
    ordered: tuple[ColumnElement[Any], ...] = columns if by_key else chosen[0]  # type: ignore[assignment]
    key = page.after if page.before is None else page.before
    if by_key and key is not None:
        if not is_storable(key):
            return Entries()
        walking = replace(walking, statement=walking.statement.where(_beyond(walking.columns, key, down=down)))
        statement = statement.where(_beyond(columns, key, down=down))
    if len(walks) == 1 and walked is None:
        statement = statement.where(*walks[0].where)
    reached = None
    if page.offset or walked or len(walks) > 1 or walks[0].matches is not None:
        # The keys come first, from the indexes alone. The rest of a row, with its counts, is read for this page only.
        # If there are several walks, none of them may go further than the first one that stops.
        size = page.offset + page.limit
        if by_key and len(walks) > 1:
            reached = await _reached(transaction, walking, walks, down=down, size=size)
        names = walking.columns if by_key else ordered
        here = _keys(walking, names, walks, down=down, size=size, end=reached)
        found = list((await transaction.execute(here.limit(page.limit).offset(page.offset))).scalars())
        if len(found) == page.limit:
            reached = None
        elif by_key and len(walks) == 1:
            reached = await _reached(transaction, walking, walks, down=down)
        identity = columns[-1] if walking.reads is None else walking.reads
        statement = statement.where(identity.in_(found))
    rows = (await transaction.execute(statement.order_by(*_by(ordered, down=down)).limit(page.limit))).all()
    entries = [make(*row) for row in rows]
    end = reached[0] if reached is not None and len(reached) == 1 else reached
    return Entries(entries if page.before is None else entries[::-1], end)


def goes_down(page: Page[object], *, descending: bool = False) -> bool:
    """Return whether a page is read from the highest value down; ``descending`` says so of the list's own order."""
    return (page.sort[0][1] if page.sort else descending) != (page.before is not None)


async def count(
    transaction: Transaction,
    statement: Select[Any],
    *columns: ColumnElement[Any],
    walks: Sequence[Walk] = EVERYTHING,
    descending: bool = False,
) -> Count:
    """Count the entries of a list, as `fetch` reads it, up to `MOST_COUNTED`."""
    walking = Walked(statement, columns, columns[-1])
    keys = _keys(walking, columns, walks, down=descending, size=MOST_COUNTED + 1).limit(MOST_COUNTED + 1)
    number = await exactly(transaction, select(func.count()).select_from(keys.subquery()))
    exact = number <= MOST_COUNTED and await _reached(transaction, walking, walks, down=descending) is None
    return Count(number, exact)


async def exactly(transaction: Transaction, statement: Select[Any]) -> int:
    """Read the number that a statement counts."""
    return int((await transaction.execute(statement)).scalar_one())


def few(table: FromClause, *conditions: ColumnElement[bool], of: FromClause) -> ScalarSelect[Any]:
    """Return the SQL that counts rows of ``table`` for each row of ``of``, up to `MOST_COUNTED` and one more."""
    some = select(literal(1)).select_from(table).where(*conditions).limit(MOST_COUNTED + 1).correlate(of)
    return select(func.count()).select_from(some.subquery()).scalar_subquery()


async def _sorted(
    transaction: Transaction,
    statement: Select[Any],
    make: Callable[..., T],
    page: Page[object],
    columns: tuple[ColumnElement[Any], ...],
    walked: Walked,
    walks: Sequence[Walk],
    terms: Sequence[tuple[Any, bool]],
    *,
    descending: bool,
) -> Entries[T]:
    """Read a page in an order that no index has: the first `MOST_SEARCHED` entries of each walk are sorted for it."""
    named = [walked.identity.label("i"), *(column.label(f"o{at}") for at, column in enumerate(walked.columns))]
    # A term is one column, or the columns of an index.
    spread = [(one, down) for term, down in terms for one in (term if isinstance(term, tuple) else (term,))]
    named += [column.label(f"s{at}") for at, (column, _) in enumerate(spread)]
    parts = []
    for walk in walks:
        keys = walked.statement.with_only_columns(*named, maintain_column_froms=True).where(*walk.where)
        if walk.matches is not None:
            keys = keys.add_columns(walk.matches.label("matches"))
        looked = keys.order_by(*_by(walked.columns, down=descending)).limit(MOST_SEARCHED).subquery()
        part = select(*(looked.c[column.name] for column in named))
        parts.append(part if walk.matches is None else part.where(looked.c.matches))
    both = (parts[0] if len(parts) == 1 else union(*parts)).subquery()
    sorted_by = [
        (both.c[f"s{at}"].desc() if down else both.c[f"s{at}"].asc()).nulls_last()
        for at, (_, down) in enumerate(spread)
    ]
    keys = select(both.c.i).order_by(*sorted_by, *(both.c[f"o{at}"] for at in range(len(walked.columns))))
    found = list((await transaction.execute(keys.limit(page.limit).offset(page.offset))).scalars())
    identity = columns[-1] if walked.reads is None else walked.reads
    if len(walks) == 1 and walked.reads is None:
        statement = statement.where(*walks[0].where)
    rows = await transaction.execute(statement.add_columns(identity).where(identity.in_(found)))
    entries = {row[-1]: make(*row[:-1]) for row in rows}
    return Entries(entries[key] for key in found if key in entries)


def _keys(
    walked: Walked,
    ordered: tuple[ColumnElement[Any], ...],
    walks: Sequence[Walk],
    *,
    down: bool,
    size: int,
    end: tuple[Any, ...] | None = None,
) -> Select[Any]:
    """Return the SQL of the identities of the first ``size`` entries in their order, up to the key ``end``."""
    named = [walked.identity.label("i"), *(column.label(f"o{at}") for at, column in enumerate(ordered))]
    parts = []
    for walk in walks:
        keys = walked.statement.with_only_columns(*named, maintain_column_froms=True).where(*walk.where)
        keys = keys.order_by(*_by(ordered, down=down))
        if end is not None:
            row = _row(walked.columns)
            keys = keys.where(row >= _end(end) if down else row <= _end(end))
        if walk.matches is not None:
            # Both databases read these in order, and only until enough of them match.
            looked = keys.add_columns(walk.matches.label("matches")).limit(MOST_SEARCHED).subquery()
            keys = select(*(looked.c[column.name] for column in named)).where(looked.c.matches)
        parts.append(keys)
    if len(parts) == 1:
        return parts[0]
    both = union(*(select(part.limit(size).subquery()) for part in parts)).subquery()
    return select(both).order_by(*_by(tuple(both.c[f"o{at}"] for at in range(len(ordered))), down=down))


async def _reached(
    transaction: Transaction, walked: Walked, walks: Sequence[Walk], *, down: bool, size: int = 0
) -> tuple[Any, ...] | None:
    """Return the first key at which a search of one of the walks stops, None if all of them get to the end.

    A walk that finds ``size`` entries before it stops does not count.
    """
    ends = []
    for walk in walks:
        if walk.matches is None:
            continue
        found = _keys(walked, walked.columns, [walk], down=down, size=size).limit(size)
        if not size or await exactly(transaction, select(func.count()).select_from(found.subquery())) < size:
            keys = walked.statement.with_only_columns(*walked.columns, maintain_column_froms=True).where(*walk.where)
            last = keys.order_by(*_by(walked.columns, down=down)).limit(1).offset(MOST_SEARCHED - 1)
            if (row := (await transaction.execute(last)).first()) is not None:
                ends.append(tuple(row))
    return (max(ends) if down else min(ends)) if ends else None


def is_storable(key: object) -> bool:
    """Return whether a database can store a key."""
    values = key if isinstance(key, tuple) else (key,)
    return all(storable(value) for value in values if isinstance(value, str))


def _beyond(columns: tuple[ColumnElement[Any], ...], key: object, *, down: bool) -> ColumnElement[bool]:
    row, end = _row(columns), _end(key if isinstance(key, tuple) else (key,))
    beyond: ColumnElement[bool] = row < end if down else row > end
    return beyond


def _row(columns: tuple[ColumnElement[Any], ...]) -> ColumnElement[Any]:
    return columns[0] if len(columns) == 1 else tuple_(*columns)


def _end(key: tuple[Any, ...]) -> Any:
    return key[0] if len(key) == 1 else tuple_(*key)


def _by(columns: tuple[ColumnElement[Any], ...], *, down: bool) -> list[ColumnElement[Any]]:
    return [column.desc() if down else column for column in columns]
