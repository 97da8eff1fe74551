"""One task for all clients of this worker that want the same thing, belonging to none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """What is under way, by key. A client that leaves stops nothing; what comes of it reaches all who wait."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, tuple[list[str], asyncio.Task[T]]] = {}

    async def join(self, key: Hashable, client: str, start: Callable[[], Awaitable[T]]) -> T:
        """Wait for what is under way for ``key``, or start it, in the name of ``client``; raises what it raises."""
        self.begin(key, client, start)
        return await asyncio.shield(self._flights[key][1])

    def begin(self, key: Hashable, client: str, start: Callable[[], Awaitable[T]]) -> None:
        """Start it unless something is under way for ``key``, without waiting."""
        if key not in self._flights:
            task = asyncio.ensure_future(start())
            self._flights[key] = [], task
            task.add_done_callback(lambda done: self._ended(key, done))
        self._flights[key][0].append(client)

    def clients(self, key: Hashable) -> Sequence[str]:
        """Name those who joined what is under way for ``key``, in the order in which they came."""
        return list(dict.fromkeys(self._flights[key][0]))

    async def close(self) -> None:
        """Stop everything under way; the caller has waited as long as it wanted to."""
        tasks = [task for _, task in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: Hashable, task: asyncio.Future[T]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # those who waited have it; where all have left, nobody needs it
