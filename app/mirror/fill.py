"""A fill as the clients of one process see it: what has come so far, and how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from app.oci.digest import Digest
from app.oci.errors import OCIError, UpstreamInvalid

from .spool import SpoolFile, describe, revive

_PIECE = 256 * 1024
_GATHER = 0.005  # seconds


class Fill:
    """One blob on its way from the upstream.

    Nobody closes it: the open part goes with the last reference, be it long after the fill has ended. The methods
    after `read` are for the `Filler` that drives it.
    """

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self.started = time.time()
        # The repositories (full names) whose clients wait for it in this process, and how many read it now.
        self.repositories: set[str] = set()
        self.readers = 0
        self.size: int | None = None
        self.file: SpoolFile | None = None
        self.readable = 0
        self.complete = False
        self.over = False
        self.answered = False
        self._failure: OCIError | None = None
        self._news = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None

    async def ready(self) -> None:
        """Return when the upstream has answered; ``size`` then is the blob's, or None where the upstream did not say.

        Raises the fill's failure.
        """
        while not self.answered:
            await self._wait()

    async def done(self) -> None:
        """Return when the blob is committed; raises the fill's failure."""
        while not self.over:
            await self._news.wait()
        self._raise_failure()

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Give bytes ``start`` up to ``stop``, or up to the end, as they come, in pieces of at most 256 KiB.

        The last byte of a blob comes when its digest is verified: nobody gets the whole of a corrupt one. Raises
        the fill's failure; where all bytes are there and only their commit failed, they are given nevertheless.
        """
        self.readers += 1
        try:
            async for piece in self._pieces(start, stop):
                yield piece
        finally:
            self.readers -= 1

    async def _pieces(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        while stop is None or start < stop:
            end = min(start + _PIECE, self.readable if stop is None else min(self.readable, stop))
            piece = await self.file.read(start, end) if self.file and start < end else b""
            if piece:
                start += len(piece)
                yield piece
            elif self.complete:
                return
            else:
                await self._wait()

    async def read_as(self, size: int, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """As `read`, for one who was promised ``size`` bytes by a descriptor, where the upstream did not say.

        The last of them comes when the blob is verified to have so many. Raises UpstreamInvalid where it has not.
        """
        stop = size if stop is None else min(stop, size)
        async for piece in self.read(start, min(stop, size - 1)):
            yield piece
        if stop == size:
            while not self.complete:
                await self._wait()
            if self.size != size:
                raise UpstreamInvalid(f"{self.digest} has {self.size} bytes, the manifest says {size}")
            async for piece in self.read(max(start, size - 1), stop):
                yield piece

    async def opened(self) -> bool:
        """Return True when the part can be read; False when the store got the blob before that.

        Raises the fill's failure.
        """
        while self.file is None and not self.over:
            await self._wait()
        if self.file is None:
            self._raise_failure()
        return self.file is not None

    def open(self, file: SpoolFile, readable: int) -> None:
        self.file, self.readable = file, readable
        self._wake()

    def answer(self, size: int | None) -> None:
        self.size = size if self.size is None else self.size
        self.answered = True
        self._wake()

    def grow(self, readable: int) -> None:
        """Let readers have more, together with what comes in the next few milliseconds: waking 64 of them is dear."""
        self.readable = readable
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(_GATHER, self._wake)

    def finish(self, size: int) -> None:
        """All bytes are there and verified."""
        self.size = self.readable = size
        self.complete = self.answered = True
        self._wake()

    def end(self, failure: OCIError | None) -> None:
        self.over, self._failure = True, failure
        self._wake()

    async def _wait(self) -> None:
        if self.over and not self.complete:
            self._raise_failure()
        await self._news.wait()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise revive(describe(self._failure))

    def _wake(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        news, self._news = self._news, asyncio.Event()
        news.set()
