"""Long computations on what a client sent: beside the event loop, one at a time, in turns.

Python runs one thread at a time. So while a thread computes, the event loop gets half of the time at most, and with
each further thread less. A pause as long as the computation follows each of them: together they slow down the loop for
half of the time. A thread that waits for a disk, or hashes, runs beside both and needs no turn here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from app.kit.threads import in_thread
from app.oci.errors import TooManyRequests

from .line import Line, LineFull

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Computations:
    """Runs the long computations of one worker."""

    def __init__(self) -> None:
        self._line = Line(1)

    async def run(self, whose: str, call: Callable[[*Args], T], *args: *Args) -> T:
        """Return what ``call`` returns in a thread. Raises what it raises, and TooManyRequests.

        It takes twice as long as the computation. ``whose``: those for whom it computes take turns by this text, such
        as the block of an address.
        """
        try:
            async with self._line.place(whose):
                began = time.monotonic()
                try:
                    return await in_thread(None, call, *args)
                finally:
                    await asyncio.sleep(time.monotonic() - began)
        except LineFull:
            raise TooManyRequests(
                "too many connections or too large requests from your address at once; try again in a few seconds",
                headers={"Retry-After": "5"},
            ) from None
