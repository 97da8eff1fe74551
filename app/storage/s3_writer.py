"""Uploads to S3: parts gather in files on the local disk and go out while the next one comes in.

The state of a suspended upload is all that another host needs:

    {"offset": bytes so far, "upload": S3's upload id, or null before the first part, "etags": those of its parts,
     "tail": [name, bytes] of what came after the last part, or null, "stale": name of the tail before, or null}

Who writes to one upload at the same time as another cannot harm it. On one host the second is refused by a lock.
From elsewhere: a part that was replaced has another ETag, a later upload of the same key ends the earlier one,
tails have names of their own, and what completes an object does not replace one; so one of the two completes
exactly what it sent, and the other is told.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import tempfile
from collections import deque
from concurrent.futures import Executor
from contextlib import aclosing
from pathlib import Path

from app.oci.errors import BlobUnknown, Unavailable

from .disk import AppendFile, Piece, in_pool
from .interface import State
from .s3_body import FileBody
from .s3_wire import MIN_PART, S3Wire, part_size
from .trouble import upload_gone

# While a part is spooled these are on their way: what S3 takes to answer is hidden, and little disk is used.
_IN_FLIGHT = 2

_log = logging.getLogger(__name__)


class _Spool(AppendFile):
    """The file of one part; it has no name, so it goes with its worker."""

    def __init__(self, pool: Executor, folder: Path) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        super().__init__(pool, _unnamed(folder), hashed=self._md5)

    async def body(self) -> FileBody:
        """Give everything appended so far. Raises Unavailable."""
        descriptor = await self.flush()
        return FileBody(descriptor, 0, self.size, self._md5.digest())


def _unnamed(folder: Path) -> io.FileIO:
    return tempfile.TemporaryFile(dir=folder, buffering=0)


class S3Writer:
    """The `Writer` of one key; ``lock`` is held, and closed at the end."""

    def __init__(self, wire: S3Wire, pool: Executor, folder: Path, lock: io.FileIO, key: str) -> None:
        self._wire = wire
        self._pool = pool
        self._folder = folder
        self._lock = lock
        self._key = key
        # Bytes in parts, also those on their way; what is in the spool comes on top, so that a request cancelled at
        # any await leaves the two in step.
        self._sent = 0
        self._upload: str | None = None
        self._etags: list[str] = []
        self._tail: str | None = None
        self._stale: str | None = None
        self._resumed = False
        self._flying: deque[tuple[asyncio.Task[str], _Spool]] = deque()
        self._spool: _Spool | None = None

    @property
    def offset(self) -> int:
        """See `Writer.offset`."""
        return self._sent + (self._spool.size if self._spool is not None else 0)

    async def open(self, state: State | None) -> None:
        """Make the first spool, and fill it with the tail; raises BlobUploadUnknown where that is gone."""
        self._spool = await in_pool(self._pool, _Spool, self._pool, self._folder)
        if state is None:
            return
        self._resumed = True
        self._sent, self._upload, self._etags = state["offset"], state["upload"], list(state["etags"])
        self._stale = state["stale"]
        if state["tail"] is not None:
            self._tail, size = state["tail"]
            self._sent -= size
            await self._load(self._wire.name(self._key, self._tail), size)

    async def write(self, chunk: Piece) -> None:
        """See `Writer.write`."""
        view = memoryview(chunk)
        while view:
            spool = self._current()
            # A resumed upload repeats the boundaries of the parts that a killed worker may have sent already:
            # Ceph refuses to complete an upload that has parts beyond the last one named.
            room = part_size(self._next) - spool.size
            if room <= 0:
                await self._roll()
                continue
            piece, view = view[:room], view[room:]
            await spool.append(piece)
            if len(piece) == room:
                await self._roll()

    async def suspend(self) -> State:
        """See `Writer.suspend`."""
        try:
            if self._current().size >= MIN_PART:
                await self._roll()
            await self._land_all()
            spool = self._current()
            tail = await self._wire.put_tail(self._key, await spool.body()) if spool.size else None
            # The state before this one may still be what the database has: its tail stays for one more round.
            if self._stale is not None:
                await self._wire.remove(self._wire.name(self._key, self._stale))
        except BaseException:
            await self.close()
            raise
        return {
            "offset": self.offset,
            "upload": self._upload,
            "etags": self._etags,
            "tail": [tail, spool.size] if tail else None,
            "stale": self._tail,
        }

    async def finish(self) -> None:
        """See `Writer.finish`."""
        try:
            if self._etags or self._flying:
                if self._current().size:
                    await self._roll()
                await self._land_all()
                await self._wire.complete(self._key, str(self._upload), self._etags)
            else:
                if self._upload is not None:
                    await self._wire.abort(self._key, self._upload)
                await self._wire.put(self._key, await self._current().body())
            if self._resumed:
                await self._remove_tails()
        finally:
            await self.close()

    async def abort(self) -> None:
        """See `Writer.abort`."""
        if self._spool is None:
            return
        await self.close()
        if self._upload is not None:
            await self._wire.abort(self._key, self._upload)
        for tail in (self._tail, self._stale):
            if tail is not None:
                await self._wire.remove(self._wire.name(self._key, tail))

    async def close(self) -> None:
        """See `Writer.close`; may be called again."""
        self._sent = self.offset
        spool, self._spool = self._spool, None
        flying, self._flying = self._flying, deque()
        for task, _ in flying:
            task.cancel()
        await asyncio.gather(*(task for task, _ in flying), return_exceptions=True)
        for _, sent in flying:
            await sent.close()
        if spool is not None:
            await spool.close()
        self._lock.close()

    @property
    def _next(self) -> int:
        return len(self._etags) + len(self._flying) + 1

    def _current(self) -> _Spool:
        if self._spool is None:
            raise ValueError("this writer has ended")
        return self._spool

    async def _load(self, name: str, size: int) -> None:
        spool = self._current()
        try:
            async with aclosing(self._wire.get(name, 0, size)) as pieces:
                async for piece in pieces:
                    await spool.append(piece)
        except BlobUnknown as error:
            raise upload_gone() from error

    async def _roll(self) -> None:
        while len(self._flying) >= _IN_FLIGHT:
            await self._land()
        if self._upload is None:
            self._upload = await self._wire.begin(self._key)
        spool, body = self._current(), await self._current().body()
        fresh = await in_pool(self._pool, _Spool, self._pool, self._folder)
        # Nothing is awaited from here on: a cancelled request leaves the part either here or on its way.
        sending = self._wire.part(self._key, self._upload, self._next, body)
        self._flying.append((asyncio.create_task(sending), spool))
        self._sent, self._spool = self._sent + spool.size, fresh

    async def _land(self) -> None:
        task, spool = self._flying[0]
        await asyncio.wait([task])
        # A part that failed stays where it is, and fails every call after this: nothing can go on without it.
        etag = task.result()
        self._flying.popleft()
        self._etags.append(etag)
        await spool.close()

    async def _land_all(self) -> None:
        while self._flying:
            await self._land()

    async def _remove_tails(self) -> None:
        # The object is complete: what cannot be removed now goes with it.
        try:
            for name in await self._wire.names(self._key):
                if name != self._wire.name(self._key):
                    await self._wire.remove(name)
        except Unavailable:
            _log.warning("S3: the tails of %s stay until it is deleted", self._key)
