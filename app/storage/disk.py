"""Run blocking work on local files off the event loop, for the folder store and for S3's spool."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple

from app.kit.disk import DiskFailed, disk_errors, disk_failed
from app.kit.threads import in_thread

from .trouble import upload_busy

T = TypeVar("T")
Args = TypeVarTuple("Args")
Piece = bytes | memoryview

# A hop to a thread costs as much as copying some 100 KB. A batch is larger than that, and small enough for dozens of
# pushes in one process.
BATCH_BYTES = 512 * 1024
# The bytes that one system call writes. The kernel caches them in pages as large as the call, and can reuse pages it
# has already. On a virtual machine with untouched memory, a whole batch per call took two to three times longer.
WRITE_BYTES = 256 * 1024
# IOV_MAX of Linux, the most pieces that one pwritev takes. It also bounds the cost of a million one-byte pieces.
BATCH_PIECES = 1024
# More than there are cores, because threads that wait for the disk must not delay quick calls.
THREADS = 32


class Running(Protocol):
    """A running hash of hashlib."""

    def update(self, data: Piece, /) -> None: ...

    def digest(self) -> bytes: ...


def new_pool() -> ThreadPoolExecutor:
    """Make the thread pool of one store, which shuts it down; threads start when they are first needed."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="storage")


async def in_pool(pool: Executor, call: Callable[[*Args], T], *args: *Args) -> T:
    """Run a blocking call in a thread and return its result; raises DiskFailed for its OSError."""
    with disk_errors():
        return await in_thread(pool, call, *args)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, because a file's own fsync does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_key(path: Path, key: str) -> io.FileIO:
    """Take the lock of ``key`` among all processes that share the file ``path``; closing the returned file releases it.

    A lock is one byte of that file, far past its end, so a killed worker leaves nothing behind. It belongs to the
    open file and not to the process (F_OFD_SETLK). Otherwise two requests of one worker would share it. Raises
    BlobUploadInvalid if it is held.
    """
    file = io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    # struct flock: type, whence, start, length, and a process id that must be 0.
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, int(key[:15], 16), 1, 0)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)
    except BlockingIOError as error:
        file.close()
        raise upload_busy() from error
    except BaseException:
        file.close()
        raise
    return file


class AppendFile:
    """Appends to one open file; a batch is written in a thread while the next one is gathered.

    So an error may surface at a later call than the one that caused it. Every call after that raises it again, except
    `close`, which must be the last. ``hashed`` is updated with every appended byte, in the same thread.
    """

    def __init__(self, pool: Executor, file: io.FileIO, size: int = 0, hashed: Running | None = None) -> None:
        self._pool = pool
        self._file = file
        self._hashed = hashed
        self._written = size
        self._pending: list[Piece] = []
        self._pending_bytes = 0
        self._job: asyncio.Future[None] | None = None
        self._trouble: DiskFailed | None = None

    @property
    def size(self) -> int:
        """Return the size of the file in bytes after everything appended is written."""
        return self._written + self._pending_bytes

    @property
    def closed(self) -> bool:
        return self._file.closed

    async def append(self, piece: Piece) -> None:
        """Append a piece, which must not change afterwards. Waits if the disk is slower. Raises Unavailable."""
        if not piece:
            return
        self._pending.append(piece)
        self._pending_bytes += len(piece)
        if self._pending_bytes >= BATCH_BYTES or len(self._pending) >= BATCH_PIECES:
            await self._hand_over()

    async def flush(self) -> int:
        """Wait until everything appended is written, though not yet durable, and return the descriptor.

        Raises Unavailable, and ValueError after `close`.
        """
        if self._pending:
            await self._hand_over()
        await self._settle()
        return self._file.fileno()

    async def close(self, cut: int | None = None) -> None:
        """Close the file, which also releases its locks; never raises, and may be called again.

        ``cut``: first truncate the file to this many bytes, which frees the space.
        """
        if self._job is not None:
            await asyncio.wait([self._job])
            # Read, because asyncio would log it as never retrieved. The caller has been told, or need not be.
            self._job.cancelled() or self._job.exception()
        self._pending.clear()
        if cut is not None and not self._file.closed:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), cut)
        self._file.close()

    async def _hand_over(self) -> None:
        await self._settle()
        descriptor = self._file.fileno()
        batch, at = self._pending, self._written
        self._pending, self._written, self._pending_bytes = [], self.size, 0
        loop = asyncio.get_running_loop()
        self._job = loop.run_in_executor(self._pool, _write, descriptor, batch, at, self._hashed)

    async def _settle(self) -> None:
        if self._job is not None:
            await asyncio.wait([self._job])
            job, self._job = self._job, None
            error = job.exception()
            if isinstance(error, OSError):
                self._trouble = disk_failed(error)
                self._trouble.__cause__ = error
            elif error is not None:
                raise error
        if self._trouble is not None:
            raise self._trouble


def _write(descriptor: int, batch: list[Piece], at: int, hashed: Running | None) -> None:
    for group in _groups(batch):
        rest = group
        while rest:
            written = os.pwritev(descriptor, rest, at)
            at += written
            rest = _without(rest, written)
    if hashed is not None:
        for piece in batch:
            hashed.update(piece)


def _groups(batch: list[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    size = 0
    for piece in batch:
        group.append(piece)
        size += len(piece)
        if size >= WRITE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _without(pieces: Sequence[Piece], count: int) -> list[Piece]:
    # A short write is rare but happens: after a signal, or on the last free bytes of a disk.
    for number, piece in enumerate(pieces):
        if count < len(piece):
            return [memoryview(piece)[count:], *pieces[number + 1 :]]
        count -= len(piece)
    return []
