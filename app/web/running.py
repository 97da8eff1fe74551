"""Keep the requests that this worker is answering: a stop waits for them, then ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol


class Endable(Protocol):
    """A request that a stop can end; the others end with their connection."""

    def cut(self) -> None:
        """Close the connection; the handler still stores what it received."""

    def cancel(self) -> None:
        """Cancel the handler."""


class Running:
    """Holds each request from the arrival of its head to the end of its answer."""

    def __init__(self) -> None:
        self._requests: dict[object, Endable | None] = {}
        self._one_less = asyncio.Event()

    def begin(self, request: object, endable: Endable | None = None) -> None:
        """Add a request, and itself again as ``endable`` if it can be ended."""
        self._requests[request] = endable

    def finish(self, request: object) -> None:
        """Remove a request; does nothing if it is not here."""
        self._requests.pop(request, None)
        self._one_less.set()

    async def drain(self) -> None:
        """Return when no request is running; the caller bounds the time."""
        await self._until(lambda: not self._requests)

    async def end(self, seconds: float) -> None:
        """Cut every endable request, wait ``seconds`` for their handlers, then cancel those that are left."""
        for request in self._endable():
            request.cut()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._until(lambda: not self._endable())
        for request in self._endable():
            request.cancel()
        await self._until(lambda: not self._endable())

    def _endable(self) -> list[Endable]:
        return [endable for endable in self._requests.values() if endable is not None]

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._one_less.clear()
            await self._one_less.wait()
