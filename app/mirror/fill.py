"""A fill in one process: clients read the blob while it grows, and a follower watches its growth."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from typing import Any

from app.oci.digest import Digest
from app.oci.errors import OCIError, UpstreamInvalid

from .locks import LockFile
from .spool import Notes, SpoolFile, SpoolPaths, describe, revive
from .statistics import FillProgress

_PIECE = 256 * 1024
_GATHER = 0.005  # seconds
_LOOK_EVERY = 0.02  # seconds between two looks at a part that another process writes


class Fill:
    """One blob on its way from the upstream.

    Nobody closes it: the open part is closed with its last reference, which may be long after the fill has ended. The
    methods after `read_as` are for the leader or follower that drives the fill.

    Waiting clients bring the blob's size from descriptors, whose manifests may be wrong or malicious. A fill fails
    because of sizes only if the upstream agrees with none of them. So a wrong descriptor spoils no blob for others.
    """

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self.started = time.time()
        # In this process: the repositories (full names) whose clients wait for it, and how many clients read it now.
        self.repositories: set[str] = set()
        self.readers = 0
        self.leading = False
        # In bytes: the size that the upstream states, and those of the clients' descriptors.
        self.size: int | None = None
        self.expected: set[int] = set()
        self.file: SpoolFile | None = None
        self.readable = 0
        self.complete = False
        self.over = False
        self.answered = False
        self._failure: OCIError | None = None
        self._news = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None

    @property
    def bound(self) -> int | None:
        """Return how many bytes may come at most; None if neither upstream nor descriptors say."""
        return max(self.expected, default=None) if self.size is None else self.size

    def progress(self) -> FillProgress:
        """Return the fill's progress, for people."""
        return FillProgress(
            self.digest,
            self.readable,
            self.size,
            self.started,
            self.leading,
            frozenset(self.repositories),
            self.readers,
        )

    async def opened(self) -> bool:
        """Wait and return True when the part can be read, or False when the store got the blob before that.

        Raises the fill's failure.
        """
        while self.file is None and not self.over:
            await self._wait()
        if self.file is None:
            self._raise_failure()
        return self.file is not None

    async def ready(self) -> None:
        """Wait until the upstream has answered; then ``size`` is the blob's, or None if the upstream did not state it.

        Raises the fill's failure.
        """
        while not self.answered:
            await self._wait()

    async def done(self) -> None:
        """Wait until the blob is committed; raises the fill's failure."""
        while not self.over:
            await self._news.wait()
        self._raise_failure()

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to ``stop`` or the end, as they come, in pieces of at most 256 KiB.

        The last byte of a blob comes after its digest is verified, so nobody gets the whole of a corrupt blob. Raises
        the fill's failure. If all bytes are here and only their commit failed, they are still yielded.
        """
        self.readers += 1
        try:
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
        finally:
            self.readers -= 1

    async def read_as(self, size: int, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield as `read` does, for a client whose descriptor says ``size`` bytes, if the upstream states no size.

        The last byte comes after the blob's size is verified. Raises UpstreamInvalid if it is another.
        """
        stop = size if stop is None else min(stop, size)
        async for piece in self.read(start, min(stop, size - 1)):
            yield piece
        if stop == size:
            while not self.complete:
                await self._wait()
            if self.size != size:
                raise UpstreamInvalid(
                    "%(digest)s has %(size)s bytes, but the manifest says %(stated)s; tell the image's publisher",
                    digest=self.digest,
                    size=self.size,
                    stated=size,
                )
            async for piece in self.read(max(start, size - 1), stop):
                yield piece

    def open(self, file: SpoolFile, readable: int) -> None:
        """Let clients read this part."""
        self.file, self.readable = file, readable
        self._wake()

    def answer(self, size: int | None) -> None:
        """Note that the upstream has answered, with a size in bytes or without one."""
        self.size = size if self.size is None else self.size
        self.answered = True
        self._wake()

    def grow(self, readable: int) -> None:
        """Let readers read more, after a few milliseconds, because waking 64 readers for each chunk is expensive."""
        self.readable = readable
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(_GATHER, self._wake)

    def finish(self, size: int) -> None:
        """Note that all bytes are here and verified."""
        self.size = self.readable = size
        self.complete = self.answered = True
        self._wake()

    def end(self, failure: OCIError | None) -> None:
        """Note that the fill is over: it is committed, or has failed."""
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


class Follower:
    """Drives a fill in a process that does not lead it: watches the growing part and reads the leader's notes.

    The leader's last note says how the fill ended. If the lock becomes free without that note, the leader was killed.
    Then `follow` returns and holds the lock, and the process leads.
    """

    def __init__(self, fill: Fill, paths: SpoolPaths, lock: LockFile) -> None:
        self._fill = fill
        self._paths = paths
        self._lock = lock
        self._notes = Notes(lock)

    async def follow(self) -> None:
        """Wait until the fill is over or nobody leads it any more; raises the leader's failure."""
        while not self._lock.try_lock():
            self._look()
            if self._fill.over:
                return
            await asyncio.sleep(_LOOK_EVERY)
        self._look()

    def _look(self) -> None:
        fill, told = self._fill, self._notes.read()
        if "spool" in told and not fill.complete and (fill.file is None or fill.file.inode != told["spool"]):
            self._open_part()
        if fill.file is not None and not fill.complete:
            self._measure(fill.file, told)
        if "ready" in told:
            fill.answer(told.get("size"))
        if "ended" not in told:
            return
        if told["ended"] is not None:
            if told.get("disputed") in fill.expected:
                return  # A client here agrees with the upstream's size, so this process will lead.
            raise revive(told["ended"])
        if fill.file is None or fill.complete:
            fill.end(None)

    def _measure(self, file: SpoolFile, told: dict[str, Any]) -> None:
        readable = file.size()
        if "verified" in told and told["size"] == readable:
            self._fill.finish(readable)
        elif readable > self._fill.readable:
            self._fill.grow(readable)

    def _open_part(self) -> None:
        try:
            file = SpoolFile(self._paths.part, os.O_RDONLY)
        except FileNotFoundError:
            return  # The blob was committed just now; the notes will say so.
        if self._lock.linked():  # Otherwise it may be the part of a later fill.
            self._fill.open(file, file.size())
