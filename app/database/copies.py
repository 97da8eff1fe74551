"""Copies of rows, so that a warm pull asks SQL nothing: the interface, and its implementation for SQLite.

PostgreSQL's copies are in `shared_copies`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cachetools import LRUCache

from .changes import Changes

if TYPE_CHECKING:
    from .engine import PointQuery

Row = Sequence[Any]
Ask = Callable[..., Awaitable[Row | None]]
T = TypeVar("T")

_MEMORY_BYTES = 16 * 1024 * 1024
# The size of an entry beside its texts: the key, the copy and their places in the table.
_ENTRY_BYTES = 600


class Copies(Protocol):
    """Finds copies of rows for `Database`, which tells it what has changed."""

    async def point(
        self, query: PointQuery, parameters: tuple[Any, ...], ask: Ask, *, renew: bool = False
    ) -> Row | None:
        """Return the row of a question as it is now; ``ask`` asks SQL, with ``renew`` always. Raises Unavailable."""

    async def tell(self, changes: Changes, *, answers: bool) -> None:
        """End the copies of what a transaction has changed.

        With ``answers``, a client waits for the answer: return when nobody uses such a copy any more. Raises
        Unavailable if that is not sure.
        """


class FileCopies:
    """Copies of rows of an SQLite file, in the memory of this worker; implements `Copies`.

    The head of SQLite's log says whether anybody has committed since, in any process. So a writer tells nobody.
    """

    def __init__(self, version: Callable[[], bytes]) -> None:
        """``version`` returns something else after every commit (`file_version`); raises Unavailable."""
        self._version = version
        self._rows: LRUCache[tuple[Any, ...], tuple[bytes, Row | None]] = memory(lambda kept: kept[1])

    async def point(
        self, query: PointQuery, parameters: tuple[Any, ...], ask: Ask, *, renew: bool = False
    ) -> Row | None:
        version = self._version()
        kept = self._rows.get((query, *parameters))
        if kept is not None and kept[0] == version:
            return kept[1]
        row = await ask(query, *parameters)
        self._rows[(query, *parameters)] = version, row
        return row

    async def tell(self, changes: Changes, *, answers: bool) -> None:
        pass


def memory(row: Callable[[T], Row | None]) -> LRUCache[tuple[Any, ...], T]:
    """Return a cache that is bounded by the bytes of its rows; ``row`` finds the row of an entry."""
    return LRUCache(
        _MEMORY_BYTES, lambda kept: _ENTRY_BYTES + sum(len(one) for one in row(kept) or () if isinstance(one, str))
    )
