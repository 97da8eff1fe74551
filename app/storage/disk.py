"""Blocking work on local files, off the event loop; what the folder store and S3's spool have in common."""

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

# A hop to a thread costs as much as copying some 100 KB; what is handed over is larger than that, and small enough for
# dozens of pushes in one process.
BATCH_BYTES = 512 * 1024
# What one system call writes. The kernel caches it in pages as large as the call, and finds such that are already
# its own: a whole batch at once took two to three times longer on a virtual machine with memory not yet touched.
WRITE_BYTES = 256 * 1024
# IOV_MAX of Linux, the most that one pwritev takes; it also bounds what a million one-byte pieces cost.
BATCH_PIECES = 1024
# More than there are cores: threads that wait for the disk must not hold up calls that are done at once.
THREADS = 32


class Running(Protocol):
    """A running hash, as hashlib makes them."""

    def update(self, data: Piece, /) -> None: ...

    def digest(self) -> bytes: ...


def new_pool() -> ThreadPoolExecutor:
    """Make the threads of one store, which shuts them down; they start when they are first needed."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="storage")


async def in_pool(pool: Executor, call: Callable[[*Args], T], *args: *Args) -> T:
    """Return what a blocking call returns, run in a thread; raise DiskFailed for its OSError."""
    with disk_errors():
        return await in_thread(pool, call, *args)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a file's own fsync does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_key(path: Path, key: str) -> io.FileIO:
    """Take the lock that ``key`` has among all that share the file ``path``; closing what is returned gives it up.

    A lock is one byte of that file, far past its end, so a killed worker leaves nothing behind. It belongs to the
    open file and not to the process (F_OFD_SETLK), or two requests of one worker would share it. Raises
    BlobUploadInvalid where it is held.
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

    So an error shows at a later call than the one it belongs to, and every call after that raises it again, but for
    `close`, which must be the last. ``hashed`` takes in every byte appended, in the same thread.
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
        """How many bytes the file has once everything appended is written."""
        return self._written + self._pending_bytes

    @property
    def closed(self) -> bool:
        return self._file.closed

    async def append(self, piece: Piece) -> None:
        """Take a piece over; waits where the disk is slower than what comes. Raises Unavailable."""
        if not piece:
            return
        self._pending.append(piece)
        self._pending_bytes += len(piece)
        if self._pending_bytes >= BATCH_BYTES or len(self._pending) >= BATCH_PIECES:
            await self._hand_over()

    async def flush(self) -> int:
        """Wait until everything appended is written, though not yet durable; gives the descriptor.

        Raises Unavailable, and ValueError after `close`.
        """
        if self._pending:
            await self._hand_over()
        await self._settle()
        return self._file.fileno()

    async def close(self, cut: int | None = None) -> None:
        """Close the file, which also gives up its locks; never raises, and may be called again.

        ``cut``: first cut off what lies past so many bytes, which gives the room back.
        """
        if self._job is not None:
            await asyncio.wait([self._job])
            # Asked for, or asyncio would log as forgotten what somebody has been told, or need not be.
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
    # A short write is rare but real: a signal, or the last free bytes of a disk.
    for number, piece in enumerate(pieces):
        if count < len(piece):
            return [memoryview(piece)[count:], *pieces[number + 1 :]]
        count -= len(piece)
    return []
