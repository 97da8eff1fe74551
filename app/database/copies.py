"""The interface of copies of rows, which `shared_copies` implements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .changes import Changes

if TYPE_CHECKING:
    from .engine import PointQuery

Row = Sequence[Any]
Ask = Callable[..., Awaitable[Row | None]]


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
