"""Run blocking work on local files off the event loop, for the folder store and for S3's spool."""

from __future__ import annotations

import fcntl
import io
import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from app.kit.disk import DiskFailed, disk_errors
from app.kit.threads import in_thread

from .interface import Piece, Running
from .trouble import upload_busy

T = TypeVar("T")
Args = TypeVarTuple("Args")

# The bytes that one system call writes. The kernel caches them in pages as large as the call, and can reuse pages it
# has already. On a virtual machine with untouched memory, larger calls took two to three times longer.
WRITE_BYTES = 256 * 1024
_CACHED_PIECE = 256 * 1024
_DISK_PIECE = 1024 * 1024
# More than there are cores, because threads that wait for the disk must not delay quick calls.
THREADS = 32


def new_pool() -> ThreadPoolExecutor:
    """Make the thread pool of one store, which shuts it down; threads start when they are first needed."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="storage")


async def in_pool(pool: Executor | None, call: Callable[[*Args], T], *args: *Args) -> T:
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


async def read_piece(descriptor: int, start: int, stop: int, pool: Executor | None = None) -> memoryview:
    """Return some bytes between two offsets of a file, none at its end. Raises DiskFailed.

    Bytes in the page cache are copied on the event loop, which is five times cheaper than a thread. As this delays all
    other requests, they are at most 256 KiB; from the disk, they are at most 1 MiB.
    """
    buffer = bytearray(min(_CACHED_PIECE, max(0, stop - start)))
    try:
        if count := os.preadv(descriptor, [buffer], start, os.RWF_NOWAIT):
            return memoryview(buffer)[:count]
    except OSError:
        # The disk must be read, or the system cannot tell (NFS).
        pass
    return memoryview(await in_pool(pool, os.pread, descriptor, min(_DISK_PIECE, stop - start), start))


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
    """Appends to one open file, in a thread. After an error every call raises it again, except `close`."""

    def __init__(self, pool: Executor, file: io.FileIO, size: int = 0) -> None:
        self._pool = pool
        self._file = file
        self._size = size
        self._trouble: DiskFailed | None = None

    @property
    def size(self) -> int:
        """Return the size of the file in bytes."""
        return self._size

    @property
    def closed(self) -> bool:
        return self._file.closed

    @property
    def descriptor(self) -> int:
        """Return the descriptor, with everything appended, though not yet durable.

        Raises Unavailable, and ValueError after `close`.
        """
        if self._trouble is not None:
            raise self._trouble
        return self._file.fileno()

    async def append(self, piece: Piece, hashes: Sequence[Running] = ()) -> None:
        """Write a piece and update ``hashes`` with it, in one thread; raises Unavailable."""
        descriptor, at = self.descriptor, self._size
        self._size += len(piece)
        try:
            await in_pool(self._pool, _append, descriptor, memoryview(piece), at, hashes)
        except DiskFailed as error:
            self._trouble = error
            raise

    def close(self, cut: int | None = None) -> None:
        """Close the file, which also releases its locks; never raises, and may be called again.

        ``cut``: first truncate the file to this many bytes, which frees the space.
        """
        if cut is not None and not self._file.closed:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), cut)
        self._file.close()


def _append(descriptor: int, piece: memoryview, at: int, hashes: Sequence[Running]) -> None:
    done = 0
    while done < len(piece):
        # A short write is rare but happens: after a signal, or on the last free bytes of a disk.
        done += os.pwrite(descriptor, piece[done : done + WRITE_BYTES], at + done)
    for running in hashes:
        running.update(piece)
