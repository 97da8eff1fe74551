"""Single-flight: callers in one worker that want the same result at the same time share one task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Tasks under way, by key. A task belongs to no caller: a cancelled caller stops nothing for the others."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Future[T]] = {}

    async def join(self, key: Hashable, start: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the task for ``key``, and start it if none is under way. Raises the task's error."""
        self.begin(key, start)
        return await asyncio.shield(self._tasks[key])

    def begin(self, key: Hashable, start: Callable[[], Awaitable[T]]) -> None:
        """Start the task for ``key`` unless it is under way. Does not wait."""
        task = self._tasks.get(key)
        # A finished task stays in the table until its callback runs. A new caller must not get its result.
        if task is None or task.done():
            task = self._tasks[key] = asyncio.ensure_future(start())
            task.add_done_callback(lambda done: self._forget(key, done))

    async def wait(self, key: Hashable) -> None:
        """Wait for the task for ``key`` if one is under way. Raises the task's error."""
        if (task := self._tasks.get(key)) is not None:
            await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, key: Hashable, task: asyncio.Future[T]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # Marks the error as seen. If every caller has left, asyncio would log it.
