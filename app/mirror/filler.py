"""Drives one fill of one process: leads it, or watches the process of this host that does.

Whoever gets the lock leads; when a leader is killed the kernel frees the lock, and a watcher that finds it free
goes on from the bytes that are there.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

from app.kit.disk import DiskFailed, disk_errors
from app.kit.threads import in_thread
from app.oci.errors import OCIError, Unavailable, UpstreamInvalid

from .fill import Fill
from .locks import LockFile
from .spool import LOCK, PART, Notes, Spool, SpoolFile, describe, revive

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.02  # seconds between two looks at a part that another process writes
_FRUITLESS = 5  # attempts in a row that brought no byte
_FRUITLESS_OPENING = 2  # while the upstream has answered nobody yet: clients had better be told soon
_PAUSE = 0.1  # seconds before the second attempt; longer before each further one


class Body(Protocol):
    """An opened answer of the upstream."""

    @property
    def size(self) -> int | None:
        """The size of the whole blob in bytes, where the upstream says so."""

    @property
    def offset(self) -> int:
        """The first byte this answer gives: 0 where the upstream ignored the range."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Give the bytes as they come, at most 1 MiB at once; raises Unavailable where they stop."""


Fetch = Callable[[int], AbstractAsyncContextManager[Body]]  # from this byte on; Unavailable is tried again
Commit = Callable[[Path, int], Awaitable[None]]  # takes over the verified file of this size, and records it
Present = Callable[[], Awaitable[bool]]  # whether the store has the blob by now


class _Disputed(UpstreamInvalid):
    """The upstream says another size than the descriptors of all who wait."""

    def __init__(self, size: int, expected: int) -> None:
        super().__init__(f"the upstream says the blob has {size} bytes, it should have {expected}")
        self.size = size


class Filler:
    """One process's part in a fill.

    Those who wait have the blob's size from descriptors, of manifests that may be wrong or malicious (see `expect`).
    A fill fails by them only where the upstream agrees with none: nobody spoils a blob for those who know it right.
    """

    def __init__(self, fill: Fill, folder: Path, fetch: Fetch, commit: Commit, present: Present) -> None:
        stem = f"{fill.digest.algorithm}-{fill.digest.hex}"
        self._part, self._lock = folder / f"{stem}{PART}", folder / f"{stem}{LOCK}"
        self._fill, self._fetch, self._commit, self._present = fill, fetch, commit, present
        # What the upstream says, and what the descriptors of those who wait say; in bytes.
        self._size: int | None = None
        self._expected: set[int] = set()
        self.leading = False

    def expect(self, size: int | None) -> None:
        """Take in what the descriptor of one who joins says."""
        if size is not None:
            self._expected.add(size)

    async def run(self) -> None:
        """Lead or watch until the fill has ended; its failure is the fill's, not raised here."""
        try:
            while not self._fill.over:
                with disk_errors():
                    lock = LockFile(self._lock)
                with lock:
                    if not lock.try_lock():
                        await self._watch(lock)
                    elif lock.linked():
                        self.leading = True
                        try:
                            await self._lead(lock)
                        except _Disputed as dispute:
                            if dispute.size not in self._expected:
                                raise
                            # Somebody who agrees with the upstream has joined meanwhile.
        except OCIError as error:
            log.warning("fill of %s failed: %s", self._fill.digest, error.message)
            self._fill.end(error)
        except asyncio.CancelledError:
            self._fill.end(Unavailable("this worker is being stopped; try again", headers={"Retry-After": "1"}))
            raise
        except Exception:
            log.exception("fill of %s failed", self._fill.digest)
            self._fill.end(OCIError())

    async def _watch(self, lock: LockFile) -> None:
        """Follow another process; returns when the fill is over or nobody leads it any more."""
        notes = Notes(lock)
        while not lock.try_lock():
            self._look(notes, lock)
            if self._fill.over:
                return
            await asyncio.sleep(_LOOK_EVERY)
        self._look(notes, lock)

    def _look(self, notes: Notes, lock: LockFile) -> None:
        fill, told = self._fill, notes.read()
        if "spool" in told and not fill.complete and (fill.file is None or fill.file.inode != told["spool"]):
            self._open_part(lock)
        if fill.file is not None and not fill.complete:
            self._measure(fill.file, told)
        if "ready" in told:
            fill.answer(told.get("size"))
        if "ended" not in told:
            return
        if told["ended"] is not None:
            if told.get("disputed") in self._expected:
                return  # the upstream was right: nobody there knew, and we shall lead
            raise revive(told["ended"])
        if fill.file is None or fill.complete:
            fill.end(None)

    def _measure(self, file: SpoolFile, told: dict[str, Any]) -> None:
        readable = file.size()
        if "verified" in told and told["size"] == readable:
            self._fill.finish(readable)
        elif readable > self._fill.readable:
            self._fill.grow(readable)

    def _open_part(self, lock: LockFile) -> None:
        try:
            file = SpoolFile(self._part, os.O_RDONLY)
        except FileNotFoundError:
            return  # committed just now: the notes will say so
        if lock.linked():  # else it may be the part of a later fill
            self._fill.open(file, file.size())

    async def _lead(self, lock: LockFile) -> None:
        notes = Notes(lock)
        try:
            notes.clear()
            await self._bring(notes)
        except Exception as error:
            self._say_end(notes, error if isinstance(error, OCIError) else OCIError())
            raise
        with suppress(OSError):  # what stays is taken for a leftover
            await in_thread(None, self._part.unlink, True)
        self._say_end(notes, None)
        self._fill.end(None)

    def _say_end(self, notes: Notes, failure: OCIError | None) -> None:
        with suppress(OSError, OCIError):  # followers who miss it find the lock free, and begin afresh
            self._lock.unlink(missing_ok=True)
            notes.add(ended=describe(failure) if failure else None)

    async def _bring(self, notes: Notes) -> None:
        """Get the blob into the store; whatever else happens to it is an exception."""
        midway = self._fill.file is not None and not self._fill.complete
        if not midway and await self._present():
            return
        spool = Spool(self._part, self._fill.digest)
        try:
            await self._take_over(spool, notes)
            if not spool.verified():
                await self._receive(spool, notes)
            await in_thread(None, spool.release_last_byte)
        except OCIError as error:
            if isinstance(error, UpstreamInvalid | DiskFailed) or not spool.written:
                await in_thread(None, spool.remove)
            raise
        self._fill.finish(spool.received)
        notes.add(ready=True, size=spool.received, verified=True)
        await self._commit(self._part, spool.received)

    async def _take_over(self, spool: Spool, notes: Notes) -> None:
        """Go on with what an earlier leader left, where it is the blob or surely less than the blob."""
        if self._size is None:
            self._size = self._fill.size
        while await in_thread(None, spool.rehash):
            pass
        bound = self._bound
        if not spool.verified() and (bound is None or spool.received >= bound):
            spool.restart()
        if not self._fill.complete:
            self._fill.open(spool.file, spool.written)
        notes.add(spool=spool.file.inode)

    async def _receive(self, spool: Spool, notes: Notes) -> None:
        fruitless = 0
        while True:
            before = spool.received
            cut = await self._attempt(spool, notes)
            if cut is None or spool.received == self._bound:
                break
            log.info("fill of %s cut at %d bytes: %s", self._fill.digest, spool.received, cut.message)
            fruitless = 0 if spool.received > before else fruitless + 1
            if fruitless == (_FRUITLESS if self._fill.answered else _FRUITLESS_OPENING):
                raise cut
            await asyncio.sleep(_PAUSE * (fruitless + 1))
        if not spool.verified():
            raise UpstreamInvalid(f"the upstream's bytes are not those of {self._fill.digest}; try again later")

    async def _attempt(self, spool: Spool, notes: Notes) -> Unavailable | None:
        """Take what one upstream request gives; None at its proper end, else what cut it."""
        try:
            async with self._fetch(spool.received) as body:
                skip = self._check(body, spool.received, notes)
                notes.add(ready=True, size=self._size)
                self._fill.answer(self._size)
                async for chunk in body.chunks():
                    fresh = chunk[skip:]
                    skip -= len(chunk) - len(fresh)
                    bound = self._bound
                    if bound is not None and spool.received + len(fresh) > bound:
                        raise UpstreamInvalid(f"the upstream gave more than the blob's {bound} bytes; try again later")
                    if fresh:
                        await in_thread(None, spool.append, fresh)
                        self._fill.grow(spool.written)
        except DiskFailed:
            raise
        except Unavailable as error:
            return error
        bound = self._bound
        if bound is not None and spool.received < bound and (self._size is not None or not spool.verified()):
            return Unavailable(
                f"the upstream gave {spool.received} of {bound} bytes and no more; try again later",
                headers={"Retry-After": "10"},
            )
        return None

    @property
    def _bound(self) -> int | None:
        """How many bytes may come, as far as anybody says."""
        return max(self._expected, default=None) if self._size is None else self._size

    def _check(self, body: Body, have: int, notes: Notes) -> int:
        """Compare an answer with what is known and asked for; gives the number of bytes to skip."""
        size = body.size if self._size is None else self._size
        known = self._expected if self._size is None else {self._size}
        if body.size is not None and known and body.size not in known:
            notes.add(disputed=body.size)
            raise _Disputed(body.size, max(known))
        if size == 0:  # the empty blob would have been verified without asking
            raise UpstreamInvalid("the upstream gave an empty body for a blob that is not empty; try again later")
        if body.offset > have:
            raise UpstreamInvalid(
                f"the upstream began at byte {body.offset} where {have} was asked for; try again later"
            )
        self._size = size
        return have - body.offset
