"""The two files of a fill, through which the processes of a host share it.

    FOLDER/<algorithm>-<hex>.part    the blob's bytes from the first one on; grows
    FOLDER/<algorithm>-<hex>.lock    locked by the leader; its notes for the other processes, one JSON object a line

Invariants. Only who holds the lock writes, renames or removes either file. The blob's last byte is written when the
digest has been verified and not before, so whatever stands in a part may be given to anyone, and a part as long as
the blob is the blob. A leader's last note, how the fill ended, is written after the lock file was removed: only
those who had it open, because they followed this very fill, can read it, and none is ever found by a later one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.kit.disk import disk_errors
from app.kit.threads import in_thread
from app.oci import errors
from app.oci.digest import Digest, new_hash
from app.oci.errors import OCIError

from .locks import LockFile

_REHASH_STEP = 8 * 1024 * 1024
_NOTES_LIMIT = 64 * 1024

PART, LOCK = ".part", ".lock"


class SpoolFile:
    """An open part. Closed when nothing refers to it any more: its readers outlive the fill, the path and the lock."""

    def __init__(self, path: Path, flags: int) -> None:
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
        self.inode = os.fstat(self.fd).st_ino

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "fd"):
            close(self.fd)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    async def read(self, start: int, stop: int) -> bytes:
        """Give bytes of the part; off the loop only where the disk has to be asked."""
        if self._in_memory(stop - 1):
            return os.pread(self.fd, stop - start, start)
        return await in_thread(None, os.pread, self.fd, stop - start, start)

    def _in_memory(self, offset: int) -> bool:
        try:
            return os.preadv(self.fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False
        except OSError:  # file systems without the flag: those in memory, on older kernels
            return True


class Spool:
    """The part as its leader sees it, with the running hash of all it received."""

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
        """Hash the next piece of what an earlier leader left; False when all of it has been. Blocks for a few ms."""
        with disk_errors():
            piece = os.pread(self.file.fd, _REHASH_STEP, self.received)
        self._hash.update(piece)
        self.received += len(piece)
        self.written = self.received
        return bool(piece)

    def append(self, chunk: bytes) -> None:
        """Hash and write all but the last byte so far. Blocks; raises DiskFailed."""
        self._hash.update(chunk)
        self.received += len(chunk)
        self._write(self._held)
        self._write(memoryview(chunk)[:-1])
        self._held = bytes(chunk[-1:])

    def verified(self) -> bool:
        return Digest.finish(self._hash) == self._digest

    def release_last_byte(self) -> None:
        """Let readers see the end; to be called once the digest is verified."""
        self._write(self._held)
        self._held = b""

    def restart(self) -> None:
        """Throw away what an earlier leader left."""
        self.remove()
        self._open()

    def remove(self) -> None:
        """Remove the part and give its space back, although other processes have it open. Raises nothing."""
        try:
            os.ftruncate(self.file.fd, 0)
            self._path.unlink(missing_ok=True)
        except OSError:
            pass  # a disk that does not even remove; the next leader meets it again and says so

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        with disk_errors():
            while view:
                count = os.pwrite(self.file.fd, view, self.written)
                self.written += count
                view = view[count:]


class Notes:
    """What a leader tells the followers in other processes, in the lock file; each line has all of it.

    ``spool``: the part stands, this is its inode. ``ready``: the upstream has answered, and ``size`` is in bytes or
    null. ``verified``: all bytes are there. ``disputed``: the size by the upstream, where no descriptor
    agrees. ``ended``: null when the blob was committed, else the failure.
    """

    def __init__(self, lock: LockFile) -> None:
        self._lock = lock
        self._said: dict[str, Any] = {}
        self._end = 0

    def clear(self) -> None:
        """Begin as the new leader: what a killed one said no longer holds."""
        with disk_errors():
            os.ftruncate(self._lock.fd, 0)

    def add(self, **note: Any) -> None:
        """Say more; what was said already is not written again."""
        if note.items() <= self._said.items():
            return
        self._said |= note
        line = json.dumps(self._said, default=str).encode() + b"\n"
        with disk_errors():
            os.pwrite(self._lock.fd, line, self._end)
        self._end += len(line)

    def read(self) -> dict[str, Any]:
        """Give the last word; a line that is being written is left for the next look."""
        lines = os.pread(self._lock.fd, _NOTES_LIMIT, 0).split(b"\n")
        notes: dict[str, Any] = json.loads(lines[-2]) if len(lines) > 1 else {}
        return notes


def describe(error: OCIError) -> dict[str, Any]:
    """Put a failure into a note."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return {
        "class": kind.__name__,
        "message": error.message[:2000],
        "detail": error.detail,
        "headers": error.headers,
        "status": error.answer_status,
    }


def revive(note: dict[str, Any]) -> OCIError:
    """Make the failure of a note anew: every waiter raises one of its own."""
    kind = getattr(errors, note["class"])
    error: OCIError = kind(note["message"], detail=note["detail"], headers=note["headers"], status=note["status"])
    return error
