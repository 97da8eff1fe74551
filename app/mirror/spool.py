"""Read and write the two files by which the processes of a host share a fill.

    FOLDER/<algorithm>-<hex>.part    the blob's bytes from the first one on; grows
    FOLDER/<algorithm>-<hex>.lock    locked by the leader; its notes for the other processes, one JSON object a line

Invariants:

- Only the holder of the lock writes, renames or removes either file.
- The blob's last byte is written only after the digest is verified. So a part as long as the blob is the blob, and any
  bytes before may be sent to any client.
- A leader's last note says how the fill ended. It is written after the lock file was removed. So only the processes
  that followed this fill, and have the file open, can read it. A later fill never finds it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.kit.disk import disk_errors
from app.kit.threads import in_thread
from app.oci import errors
from app.oci.digest import Digest, new_hash
from app.oci.errors import OCIError

from .locks import LockFile, try_host_lock

_REHASH_STEP = 8 * 1024 * 1024
_NOTES_LIMIT = 64 * 1024
# The bytes of a fill that wait at most while others are written.
_GATHER_BYTES = 512 * 1024
# The kernel writes so many pieces at once (IOV_MAX of limits.h(0P) on Linux).
_MOST_VIEWS = 1024

_PART, _LOCK = ".part", ".lock"


class SpoolPaths:
    """The paths of a blob's two files in ``folder``: the part, and the lock with the notes."""

    def __init__(self, folder: Path, digest: Digest) -> None:
        stem = f"{digest.algorithm}-{digest.hex}"
        self.part = folder / f"{stem}{_PART}"
        self.lock = folder / f"{stem}{_LOCK}"


class SpoolFile:
    """An open part. It is closed with its last reference, because readers may outlive the fill, path and lock."""

    def __init__(self, path: Path, flags: int) -> None:
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
        self.inode = os.fstat(self.fd).st_ino

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "fd"):
            close(self.fd)

    def size(self) -> int:
        """Return the size of the part in bytes."""
        return os.fstat(self.fd).st_size

    async def read(self, start: int, stop: int) -> bytes:
        """Return bytes of the part; uses a thread only if they must come from the disk."""
        if self._in_memory(stop - 1):
            return os.pread(self.fd, stop - start, start)
        return await in_thread(None, os.pread, self.fd, stop - start, start)

    def _in_memory(self, offset: int) -> bool:
        try:
            return os.preadv(self.fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False
        except OSError:  # A file system without the flag: on older kernels, one in memory.
            return True


class Spool:
    """The part as its leader sees it, with the running hash of all received bytes."""

    def __init__(self, path: Path, digest: Digest) -> None:
        self._path, self._digest = path, digest
        self._open()

    def _open(self) -> None:
        with disk_errors():
            self.file = SpoolFile(self._path, os.O_RDWR | os.O_CREAT)
        self._hash = new_hash(self._digest.algorithm)
        self._held = b""
        self.written = self.received = 0

    def rehash(self) -> bool:
        """Hash the next piece that an earlier leader left; False if there is none. Blocks for a few milliseconds."""
        with disk_errors():
            piece = os.pread(self.file.fd, _REHASH_STEP, self.received)
        self._hash.update(piece)
        self.received += len(piece)
        self.written = self.received
        return bool(piece)

    def append(self, chunks: Sequence[bytes]) -> None:
        """Hash some chunks, none of them empty, and write all bytes so far except the last one.

        Blocks; raises DiskFailed.
        """
        for chunk in chunks:
            self._hash.update(chunk)
            self.received += len(chunk)
        *whole, last = chunks
        self._write(self._held, *whole, memoryview(last)[:-1])
        self._held = last[-1:]

    def verified(self) -> bool:
        """Return whether the bytes so far have the digest."""
        return Digest.finish(self._hash) == self._digest

    def release_last_byte(self) -> None:
        """Write the last byte, so that readers see the end; call it only after the digest is verified."""
        self._write(self._held)
        self._held = b""

    def restart(self) -> None:
        """Discard the bytes that an earlier leader left."""
        self.remove()
        self._open()

    def remove(self) -> None:
        """Remove the part and free its space, even if other processes have it open. Raises nothing."""
        try:
            os.ftruncate(self.file.fd, 0)
            self._path.unlink(missing_ok=True)
        except OSError:
            pass  # The disk cannot even remove a file. The next leader gets the same error and raises it.

    def _write(self, *pieces: bytes | memoryview) -> None:
        views = deque(memoryview(piece) for piece in pieces if piece)
        with disk_errors():
            while views:
                count = os.pwritev(self.file.fd, list(islice(views, _MOST_VIEWS)), self.written)
                self.written += count
                while count:
                    view = views.popleft()
                    if count < len(view):
                        views.appendleft(view[count:])
                    count -= min(count, len(view))


class Appending:
    """Appends chunks to a spool, in a thread; while some are hashed and written, the next ones gather.

    An error of the disk may come at a later call than its chunk, at the latest at the end of the block.
    """

    def __init__(self, spool: Spool, grown: Callable[[int], None]) -> None:
        """``grown`` is told how many bytes of the part can be read."""
        self._spool = spool
        self._grown = grown
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        # All bytes of the blob so far, including those that are not written yet.
        self.received = spool.received

    async def add(self, chunk: bytes) -> None:
        """Append a chunk; waits if the disk is slower. Raises DiskFailed."""
        self._gathered.append(chunk)
        self._gathered_bytes += len(chunk)
        self.received += len(chunk)
        if self._writing is not None and (self._writing.done() or self._gathered_bytes >= _GATHER_BYTES):
            await self._settle()
        if self._writing is None and self._gathered:
            self._writing = asyncio.create_task(self._write())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._settle()
        await self._write()

    async def _settle(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    async def _write(self) -> None:
        while self._gathered:
            chunks, self._gathered, self._gathered_bytes = self._gathered, [], 0
            await in_thread(None, self._spool.append, chunks)
            self._grown(self._spool.written)


class Notes:
    """A leader's notes for the followers in other processes, in the lock file; each line has all notes so far.

    ``spool``: the part exists and has this inode. ``ready``: the upstream has answered, and ``size`` is in bytes or
    null. ``verified``: all bytes are there. ``disputed``: the upstream's size in bytes, if no descriptor agrees.
    ``ended``: null if the blob was committed, else the failure.
    """

    def __init__(self, lock: LockFile) -> None:
        self._lock = lock
        self._said: dict[str, Any] = {}
        self._end = 0

    def clear(self) -> None:
        """Remove the notes of a killed leader, which are no longer true."""
        with disk_errors():
            os.ftruncate(self._lock.fd, 0)

    def add(self, **note: Any) -> None:
        """Add to the notes; writes nothing if they are the same already."""
        if note.items() <= self._said.items():
            return
        self._said |= note
        line = json.dumps(self._said, default=str).encode() + b"\n"
        with disk_errors():
            os.pwrite(self._lock.fd, line, self._end)
        self._end += len(line)

    def read(self) -> dict[str, Any]:
        """Return the notes of the last complete line, {} before the first."""
        lines = os.pread(self._lock.fd, _NOTES_LIMIT, 0).split(b"\n")
        notes: dict[str, Any] = json.loads(lines[-2]) if len(lines) > 1 else {}
        return notes


def describe(error: OCIError) -> dict[str, Any]:
    """Return a failure as a note, which `revive` reads."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return {
        "class": kind.__name__,
        "message": error.message[:2000],
        "detail": error.detail,
        "headers": error.headers,
        "status": error.answer_status,
        "cause": error.cause,
    }


def revive(note: dict[str, Any]) -> OCIError:
    """Return the failure of a note as a new error, because every waiter must raise one of its own."""
    kind = getattr(errors, note["class"])
    error: OCIError = kind(note["message"], detail=note["detail"], headers=note["headers"], status=note["status"])
    # A leader of the release before notes no cause.
    error.cause = note.get("cause", error.cause)
    return error


async def sweep(folder: Path, older_than: float) -> int:
    """Remove the parts that dead fills left more than ``older_than`` seconds ago; return their number."""
    return await in_thread(None, _sweep, folder, time.time() - older_than)


def _sweep(folder: Path, before: float) -> int:
    removed = 0
    for stem in {path.stem for path in folder.glob("*") if path.suffix in (_PART, _LOCK)}:
        lock = try_host_lock(folder / f"{stem}{_LOCK}")
        if lock is None:
            continue
        with lock:
            part = folder / f"{stem}{_PART}"
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < before:
                    part.unlink()
                    removed += 1
            lock.path.unlink()
    return removed
