"""Upload to S3: a part gathers in a file on the local disk and is sent while the next one comes in.

Another host needs nothing except the state of a suspended upload:

    {"offset": bytes so far, "upload": S3's upload id, or null before the first part, "etags": those of its parts,
     "tail": [name, bytes] of the bytes after the last part, or null, "stale": name of the tail before, or null}

Two writers of one upload cannot harm each other. On one host, a lock refuses the second writer. Between hosts, four
facts protect the object. A replaced part has another ETag. A later upload of the same key ends the earlier one. Tails
have names of their own. The request that completes an object does not replace one. So one of the two writers completes
exactly the bytes it sent, and the other gets an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from pathlib import Path

from app.oci.errors import BlobUnknown, Unavailable

from .disk import AppendFile, in_pool
from .interface import Piece, Running, State
from .s3_body import FileBody
from .s3_wire import MIN_PART, S3Wire, part_size
from .trouble import upload_gone

# Parts that are being sent while the next one is spooled. This hides the latency of S3 and uses little disk.
_IN_FLIGHT = 2

_log = logging.getLogger(__name__)


class _Spool(AppendFile):
    """The file of one part; it has no name, so it vanishes with its worker."""

    def __init__(self, pool: Executor, folder: Path) -> None:
        super().__init__(pool, _unnamed(folder))
        self._md5 = hashlib.md5(usedforsecurity=False)

    async def append(self, piece: Piece, hashes: Sequence[Running] = ()) -> None:
        """See `AppendFile.append`."""
        await super().append(piece, (*hashes, self._md5))

    @property
    def body(self) -> FileBody:
        """Return everything appended so far as a body. Raises Unavailable."""
        return FileBody(self.descriptor, 0, self.size, self._md5.digest())


def _unnamed(folder: Path) -> io.FileIO:
    return tempfile.TemporaryFile(dir=folder, buffering=0)


class S3Writer:
    """The `Writer` of one key; it holds ``lock`` and closes it at the end."""

    def __init__(self, wire: S3Wire, pool: Executor, folder: Path, lock: io.FileIO, key: str) -> None:
        self._wire = wire
        self._pool = pool
        self._folder = folder
        self._lock = lock
        self._key = key
        # Bytes in parts, also those being sent. The bytes in the spool are not counted here, so that a request that is
        # cancelled at any await leaves both counts consistent.
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
        """Make the first spool and fill it with the tail; raises BlobUploadUnknown if the tail is gone."""
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

    async def write(self, chunk: Piece, running: Running | None = None) -> None:
        """See `Writer.write`."""
        view = memoryview(chunk)
        while view:
            spool = self._current()
            # A resumed upload repeats the part boundaries of a killed worker, which may have sent more parts. Ceph
            # refuses to complete an upload that has parts beyond the last one named.
            room = part_size(self._next) - spool.size
            if room <= 0:
                await self._roll()
                continue
            piece, view = view[:room], view[room:]
            await spool.append(piece, () if running is None else (running,))
            if len(piece) == room:
                await self._roll()

    async def suspend(self) -> State:
        """See `Writer.suspend`."""
        try:
            if self._current().size >= MIN_PART:
                await self._roll()
            await self._land_all()
            spool = self._current()
            tail = await self._wire.put_tail(self._key, spool.body) if spool.size else None
            # The database may still have the state before this one. So its tail stays until the next suspend.
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
                await self._wire.put(self._key, self._current().body)
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
            sent.close()
        if spool is not None:
            spool.close()
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
        spool, body = self._current(), self._current().body
        fresh = await in_pool(self._pool, _Spool, self._pool, self._folder)
        # Nothing is awaited from here on, so a cancelled request leaves the part either spooled or being sent.
        sending = self._wire.part(self._key, self._upload, self._next, body)
        self._flying.append((asyncio.create_task(sending), spool))
        self._sent, self._spool = self._sent + spool.size, fresh

    async def _land(self) -> None:
        task, spool = self._flying[0]
        await asyncio.wait([task])
        # A failed part stays in the queue and fails every later call, because the upload cannot complete without it.
        etag = task.result()
        self._flying.popleft()
        self._etags.append(etag)
        spool.close()

    async def _land_all(self) -> None:
        while self._flying:
            await self._land()

    async def _remove_tails(self) -> None:
        # The object is complete. A tail that cannot be removed now is removed with the object.
        try:
            for name in await self._wire.names(self._key):
                if name != self._wire.name(self._key):
                    await self._wire.remove(name)
        except Unavailable:
            _log.warning("S3: the tails of %s stay until it is deleted", self._key)
