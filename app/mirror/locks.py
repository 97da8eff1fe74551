"""Locks: between all processes of one host, and the manifest lock, which reaches over hosts.

A host's lock is a `flock` on a file; the kernel releases it when its holder is killed. Every `LockFile` is an open
file description of its own, so two tasks of one process exclude each other as two processes do. The holder may remove
the file: a lock counts only while the locked file is still the one at its path.
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
from app.oci.digest import Digest
from app.oci.reference import Name

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.05
# A leader on another host is waited for no longer than this. Two leaders at once do the work twice, and both right.
_LEASE_SECONDS = 30.0
_LEASE_PAUSE = 0.05


class LockFile:
    """One open description of a lock file, which is made, with its folder, if it is missing. Closing it releases it.

    Raises OSError if the file can be neither opened nor made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
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
        """Return whether this is still the file at its path: a former holder may have removed or replaced it."""
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

    Waiters are not served in turn, and a stream of shared holders can keep an exclusive one waiting. Raises
    TimeoutError if the lock did not come free within ``timeout`` seconds; 0 tries once. ``remove``, for exclusive
    locks: the file is removed at the end, so that locks named after passing things leave nothing behind.
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

    Within a host the file's lock lets one process at a time get a manifest. Between hosts a lease in Redis does, for as
    long as Redis answers. Without Redis two hosts may get the same manifest at once, which costs a GET and no more.
    """

    def __init__(self, cache: Cache, locks: Path) -> None:
        self._cache = cache
        self._locks = locks

    @asynccontextmanager
    async def hold(self, name: Name, reference: str) -> AsyncIterator[None]:
        """Be the only one to get this manifest during the block."""
        what = f"{name}:{reference}"
        async with AsyncExitStack() as stack:
            lock = self._locks / f"manifest-{Digest.of(what.encode()).hex[:32]}"
            await stack.enter_async_context(host_lock(lock, remove=True))
            lease = Lease(self._cache, keys.lease("manifest", what))
            stack.push_async_callback(lease.release)
            until = time.monotonic() + _LEASE_SECONDS
            # The holder may be on another host: there is nothing here that an event could come from.
            while await lease.acquire() is Claim.TAKEN and time.monotonic() < until:  # noqa: ASYNC110
                await asyncio.sleep(_LEASE_PAUSE)
            yield
