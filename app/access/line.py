"""A line for work that only a few may do at a time, in which those who wait take turns.

A flood from one address makes an honest client of another one wait for one turn more, not for the whole flood.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# A class of machines behind one address may log in at once.
_MOST_WAITING = 256


class LineFull(Exception):
    """Too many of the same stand in line already."""


class Line:
    """``places`` at a time; those who wait are served in turn by their names, and by their arrival under one name."""

    def __init__(self, places: int) -> None:
        self._places = self._free = places
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def turns(self, name: str) -> int:
        """Return how often a place has to become free before a newcomer of that name has done its work."""
        if self._free:
            return 1
        own = len(self._waiting.get(name, ()))
        before = own + sum(min(len(line), own + 1) for other, line in self._waiting.items() if other != name)
        return 2 + before // self._places

    @asynccontextmanager
    async def place(self, name: str) -> AsyncIterator[None]:
        """Hold a place during the block; raises LineFull."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(name)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, name: str) -> None:
        line = self._waiting.setdefault(name, deque())
        if len(line) >= _MOST_WAITING:
            raise LineFull
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(name, turn)
            else:
                self._pass_on()
            raise

    def _leave(self, name: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting.get(name, deque())
        if turn in line:
            line.remove(turn)
            if not line:
                del self._waiting[name]

    def _pass_on(self) -> None:
        """Give the place to the next in turn, or leave it free."""
        while self._waiting:
            name, line = self._waiting.popitem(last=False)
            turn = line.popleft()
            if line:
                self._waiting[name] = line
            # One that has just left is still in line until its task runs.
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
