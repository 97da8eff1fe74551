"""Locks between all processes of one host, and the manifest lock, which works across hosts.

A host's lock is a `flock` on a file; the kernel releases it when its holder is killed. Every `LockFile` is an open
file description of its own, so two tasks of one process exclude each other as two processes do. The holder may remove
the file, so a lock counts only while the locked file is still the one at its path.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from app.cache import Cache, Claim, Lease, keys
from app.kit.disk import disk_errors
from app.oci.digest import Digest
from app.oci.reference import Name

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.05
# The longest wait for a leader on another host. Two leaders at once do the work twice, but both do it correctly.
_LEASE_SECONDS = 30.0
_LEASE_PAUSE = 0.05


class LockFile:
    """One open description of a lock file; makes the file and its folder if missing. Closing it releases the lock.

    Raises DiskFailed if the file can be neither opened nor made: the disk fails, or no file descriptor is left.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with disk_errors():
            try:
                self.fd = os.open(path, flags, 0o666)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.fd = os.open(path, flags, 0o666)

    def try_lock(self, *, shared: bool = False) -> bool:
        """Take the lock if it is free; return whether it was. Never waits."""
        try:
            fcntl.flock(self.fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def linked(self) -> bool:
        """Return whether this is still the file at its path; a former holder may have removed or replaced it."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self.fd))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def try_host_lock(path: Path, *, shared: bool = False) -> LockFile | None:
    """Return the lock at ``path`` if it is free, else None. The caller closes it."""
    while True:
        file = LockFile(path)
        try:
            taken = file.try_lock(shared=shared)
            if taken and file.linked():
                return file
        except BaseException:
            file.close()
            raise
        file.close()
        if not taken:
            return None


@asynccontextmanager
async def host_lock(
    path: Path, *, shared: bool = False, timeout: float | None = None, remove: bool = False
) -> AsyncIterator[None]:
    """Hold the lock at ``path`` during the block, after waiting for it without blocking the loop.

    Waiters are not served in order, and a stream of shared holders can keep an exclusive one waiting. Raises
    TimeoutError if the lock did not become free within ``timeout`` seconds; 0 tries once. With ``remove``, for
    exclusive locks, the file is removed at the end, so that short-lived names leave no files behind.
    """
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    pause = _FIRST_PAUSE
    while (lock := try_host_lock(path, shared=shared)) is None:
        left = pause if deadline is None else deadline - loop.time()
        if left <= 0:
            raise TimeoutError(f"{path.name} is held by another worker of this host")
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    try:
        yield
    finally:
        if remove:
            lock.path.unlink(missing_ok=True)
        lock.close()


class ManifestLock:
    """Locks for the manifests of one upstream's repositories; ``locks`` is a folder of this host.

    Within a host, the file's lock lets one process at a time fetch a manifest. Between hosts, a lease in Redis does the
    same while Redis answers. Without Redis, two hosts may fetch the same manifest at once, which costs one more GET.
    """

    def __init__(self, cache: Cache, locks: Path) -> None:
        self._cache = cache
        self._locks = locks

    @asynccontextmanager
    async def hold(self, name: Name, reference: str) -> AsyncIterator[None]:
        """Hold the lock of this manifest during the block."""
        what = f"{name}:{reference}"
        async with AsyncExitStack() as stack:
            lock = self._locks / f"manifest-{Digest.of(what.encode()).hex[:32]}"
            await stack.enter_async_context(host_lock(lock, remove=True))
            lease = Lease(self._cache, keys.lease("manifest", what))
            stack.push_async_callback(lease.release)
            until = time.monotonic() + _LEASE_SECONDS
            # The holder may be on another host, so no event of this process can tell that it has finished.
            while await lease.acquire() is Claim.TAKEN and time.monotonic() < until:  # noqa: ASYNC110
                await asyncio.sleep(_LEASE_PAUSE)
            yield
