"""Store objects as files in a folder, which workers on every host that mounts it may share.

    <root>/
        objects/
            ab/                 the first two digits of the key
                ab34…           one object: writable while it is written, read-only (0444) after it is finished

No file is renamed when an upload ends, because the database's row names the object. A read-only file is never opened
for writing again, so a late request cannot change a committed object. A writer holds the flock of its file; the kernel
releases it when the worker dies.
"""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from pathlib import Path

from app.kit.disk import is_full
from app.kit.single_flight import SingleFlight
from app.oci.errors import BlobUnknown, Unavailable

from .disk import AppendFile, in_pool, new_pool, read_piece, sync_folder
from .interface import Piece, Running, State, Writer, checked
from .trouble import damaged, upload_busy, upload_gone

_COPY_PIECE = 1024 * 1024

_log = logging.getLogger(__name__)


class FilesystemStore:
    """A `BlobStore` in the folder ``root``, which it makes if it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._objects = self._root / "objects"
        self._pool = new_pool()
        # Folders whose own names are known to be durable.
        self._durable: set[Path] = set()
        # On a disk that does not answer, one thread waits for it.
        self._checking: SingleFlight[None] = SingleFlight()

    async def start(self) -> None:
        """Make the folder; raises Unavailable as `check` does."""
        await self.check()

    async def close(self) -> None:
        """Let the threads end after the calls they have begun."""
        self._pool.shutdown(wait=False)

    async def writer(self, key: str, state: State | None = None) -> Writer:
        """See `BlobStore.writer`."""
        path = self._path(key)
        offset = 0 if state is None else int(state["offset"])
        file = await in_pool(self._pool, self._take, path, offset, state is None)
        return _FileWriter(self._pool, file, path, offset, new=state is None)

    async def adopt(self, key: str, path: Path) -> None:
        """See `BlobStore.adopt`: a rename if both are on one file system, else a copy."""
        target = self._path(key)
        await in_pool(self._pool, self._adopt, path, target)

    async def read(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See `BlobStore.read`."""
        path = self._path(key)
        with await in_pool(self._pool, _open_finished, path) as file:
            while start < stop:
                piece = bytes(await read_piece(file.fileno(), start, stop, self._pool))
                if not piece:
                    _log.error("object %s ends before byte %d", key, stop)
                    raise damaged()
                start += len(piece)
                yield piece

    async def locate(self, key: str) -> Path:
        """See `BlobStore.locate`: always the path."""
        return self._path(key)

    async def delete(self, key: str) -> None:
        """See `BlobStore.delete`; durable, because a power cut could bring back a file that no row names any more."""
        path = self._path(key)
        await in_pool(self._pool, _remove, path)

    async def check(self) -> None:
        """See `BlobStore.check`; a folder on a full disk can be used.

        A caller that does not want to wait any more is not kept, however long the disk takes.
        """
        await self._checking.join(None, lambda: in_pool(self._pool, self._probe))

    def _path(self, key: str) -> Path:
        return self._objects / checked(key)[:2] / key

    def _take(self, path: Path, offset: int, new: bool) -> io.FileIO:
        if new:
            self._make_folder(path.parent)
        try:
            file = io.FileIO(os.open(path, os.O_RDWR | (os.O_CREAT if new else 0), 0o644), "r+")
        except FileNotFoundError as error:
            raise upload_gone() from error
        try:
            _hold(file, offset)
        except BaseException:
            file.close()
            raise
        return file

    def _adopt(self, path: Path, target: Path) -> None:
        self._make_folder(target.parent)
        with path.open("rb") as source:
            _seal(source.fileno())
            try:
                path.rename(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy(source, target)
                path.unlink(missing_ok=True)
        sync_folder(target.parent)

    def _copy(self, source: io.BufferedReader, target: Path) -> None:
        with self._take(target, 0, True) as file:
            shutil.copyfileobj(source, file, _COPY_PIECE)
            _seal(file.fileno())

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir()
        except FileExistsError:
            if folder in self._durable:
                return
        except FileNotFoundError:
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
        self._durable.add(folder)

    def _probe(self) -> None:
        try:
            self._make_folder(self._objects)
            with tempfile.TemporaryFile(dir=self._objects) as file:
                file.write(b"probe")
                file.flush()
                back = os.pread(file.fileno(), 100, 0)
        except OSError as error:
            if is_full(error):
                # The objects here can be pulled, and a push gets its own error. So the store is still usable.
                return
            raise Unavailable(
                "the blob folder %(folder)s cannot be used: %(reason)s", folder=self._root, reason=error.strerror
            ) from error
        if back != b"probe":
            raise Unavailable(
                "the blob folder %(folder)s cannot be used: it returns other bytes than were written", folder=self._root
            )


class _FileWriter:
    """The `Writer` of one file, whose flock it holds."""

    def __init__(self, pool: Executor, file: io.FileIO, path: Path, offset: int, *, new: bool) -> None:
        self._pool = pool
        self._file = AppendFile(pool, file, offset)
        self._path = path
        self._new = new
        self._kept = offset

    @property
    def offset(self) -> int:
        """See `Writer.offset`."""
        return self._file.size

    async def write(self, chunk: Piece, running: Running | None = None) -> None:
        """See `Writer.write`."""
        await self._file.append(chunk, () if running is None else (running,))

    async def suspend(self) -> State:
        """See `Writer.suspend`."""
        try:
            await in_pool(self._pool, self._keep, self._file.descriptor, self._file.size)
        except BaseException:
            await self.close()
            raise
        self._kept = self._file.size
        return {"offset": self._kept}

    async def finish(self) -> None:
        """See `Writer.finish`."""
        try:
            await in_pool(self._pool, self._complete, self._file.descriptor, self._file.size)
        finally:
            self._file.close()

    async def close(self) -> None:
        """See `Writer.close`; truncates the file, because another upload may need the space."""
        # A writer that wrote nothing may have begun from an old state. Then the bytes past it are not its own.
        self._file.close(cut=self._kept if self._file.size > self._kept else None)

    async def abort(self) -> None:
        """See `Writer.abort`."""
        try:
            if not self._file.closed:
                await in_pool(self._pool, _remove, self._path)
        finally:
            self._file.close()

    def _keep(self, descriptor: int, size: int) -> None:
        # A writer that was killed or closed may have left bytes past this size.
        os.ftruncate(descriptor, size)
        os.fdatasync(descriptor)
        if self._new:
            sync_folder(self._path.parent)

    def _complete(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)
        _seal(descriptor)
        if self._new:
            sync_folder(self._path.parent)
        if os.fstat(descriptor).st_nlink == 0:
            raise upload_gone()


def _hold(file: io.FileIO, offset: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise upload_busy() from error
    status = os.fstat(file.fileno())
    # Read under the lock, because before that another writer could finish or remove the file.
    if status.st_nlink == 0 or _finished(status) or status.st_size < offset:
        raise upload_gone()


def _finished(status: os.stat_result) -> bool:
    return not status.st_mode & stat.S_IWUSR


def _seal(descriptor: int) -> None:
    os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & ~0o222)
    os.fsync(descriptor)


def _open_finished(path: Path) -> io.FileIO:
    try:
        file = io.FileIO(path)
    except FileNotFoundError as error:
        raise BlobUnknown() from error
    if not _finished(os.fstat(file.fileno())):
        file.close()
        raise BlobUnknown()
    return file


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_folder(path.parent)
