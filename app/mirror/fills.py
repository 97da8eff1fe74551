"""Fills: one upstream fetch of a blob for all clients of a host, who read it from its first byte while it grows.

The first process that takes the lock of the spool (see `spool`) leads; the others follow it. The kernel releases the
lock of a killed leader. A follower that finds the lock free becomes the leader and resumes from the bytes on disk.

A fill belongs to no client and runs in a task of its own. Its end reaches every waiter in every process, and no later
client.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Counter, Gauge

from app.kit.disk import DiskFailed
from app.kit.facts import current
from app.kit.threads import in_thread
from app.oci.digest import Digest
from app.oci.errors import OCIError, Unavailable, UpstreamInvalid
from app.projects.service import Repository

from .fill import Fill, Follower
from .locks import LockFile
from .spool import Appending, Notes, Spool, SpoolPaths, describe
from .statistics import FillProgress
from .stored_blobs import StoredBlobs
from .upstream import BlobBody, Upstream

RUNNING = Gauge("registry_fills_running", "Fills that workers lead or follow now.", multiprocess_mode="livesum")
FILLS = Counter("registry_fills_total", "Fills that have ended: led or followed to their end, or failed.", ["outcome"])

# A fill fails after this many attempts in a row that brought no byte.
_FRUITLESS = 5
# The same before the upstream's first answer, because until then clients wait without any answer.
_FRUITLESS_OPENING = 2
_PAUSE = 0.1  # seconds before the second attempt; longer before each further one

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlobRequest:
    """A missing blob that a client may have; ``size`` in bytes is a descriptor's, None if unknown.

    ``client`` fetches it into the folder ``spool``, which the processes of the host share. Fills of another upstream,
    or with another account, have another folder.
    """

    repository: Repository
    digest: Digest
    size: int | None
    client: Upstream
    spool: Path


class _Disputed(UpstreamInvalid):
    """The upstream states another size than the descriptors of all waiting clients."""

    def __init__(self, size: int, expected: int) -> None:
        super().__init__(
            "the upstream says that the blob has %(size)s bytes, but the manifest says %(expected)s; try again later",
            size=size,
            expected=expected,
        )
        self.size = size


class Leader:
    """Drives a fill in the one process of the host that holds its lock: fetches the blob and commits it.

    It writes notes for the followers, because they cannot see everything in the part. The notes say that the upstream
    has answered, that all bytes are verified, and how the fill ended. The last note is written after the lock file was
    removed from its path.
    """

    def __init__(
        self, fill: Fill, request: BlobRequest, stored: StoredBlobs, paths: SpoolPaths, lock: LockFile
    ) -> None:
        self._fill = fill
        self._request = request
        self._stored = stored
        self._paths = paths
        self._notes = Notes(lock)

    async def lead(self) -> None:
        """Bring the fill to its end; raises its failure, which the notes tell the followers."""
        try:
            self._notes.clear()
            await self._bring()
        except Exception as error:
            self._note_end(error if isinstance(error, OCIError) else OCIError())
            raise
        with suppress(OSError):  # A part that stays is later removed as a leftover.
            await in_thread(None, self._paths.part.unlink, True)
        self._note_end(None)
        self._fill.end(None)

    def _note_end(self, failure: OCIError | None) -> None:
        with suppress(OSError, OCIError):  # Followers that miss the note find the lock free and begin again.
            self._paths.lock.unlink(missing_ok=True)
            self._notes.add(ended=describe(failure) if failure else None)

    async def _bring(self) -> None:
        """Fetch the blob, verify it and commit it to the store; raises the failure if that cannot be done."""
        midway = self._fill.file is not None and not self._fill.complete
        # Another worker may have committed it after the client's look at the store.
        if not midway and await self._stored.present(self._fill.digest):
            return
        spool = Spool(self._paths.part, self._fill.digest)
        try:
            await self._take_over(spool)
            if not spool.verified():
                await self._receive(spool)
            await in_thread(None, spool.release_last_byte)
        except OCIError as error:
            if isinstance(error, UpstreamInvalid | DiskFailed) or not spool.written:
                await in_thread(None, spool.remove)
            raise
        self._fill.finish(spool.received)
        self._notes.add(ready=True, size=spool.received, verified=True)
        await self._stored.commit(self._request.repository, self._fill.digest, self._paths.part, spool.received)

    async def _take_over(self, spool: Spool) -> None:
        """Resume from the bytes that an earlier leader left, if they are the whole blob or surely less than it."""
        while await in_thread(None, spool.rehash):
            pass
        bound = self._fill.bound
        if not spool.verified() and (bound is None or spool.received >= bound):
            spool.restart()
        if not self._fill.complete:
            self._fill.open(spool.file, spool.written)
        self._notes.add(spool=spool.file.inode)

    async def _receive(self, spool: Spool) -> None:
        fruitless = 0
        while True:
            before = spool.received
            cut = await self._attempt(spool)
            if cut is None or spool.received == self._fill.bound:
                break
            log.info("fill of %s cut at %d bytes: %s", self._fill.digest, spool.received, cut.message)
            fruitless = 0 if spool.received > before else fruitless + 1
            if fruitless == (_FRUITLESS if self._fill.answered else _FRUITLESS_OPENING):
                raise cut
            await asyncio.sleep(_PAUSE * (fruitless + 1))
        if not spool.verified():
            raise UpstreamInvalid(
                "the upstream's bytes do not have the digest %(digest)s; try again later", digest=self._fill.digest
            )

    async def _attempt(self, spool: Spool) -> Unavailable | None:
        """Take the bytes of one upstream request; return None if it ended properly, else the error that cut it."""
        repository = self._request.repository.name.repository
        try:
            async with (
                Appending(spool, self._fill.grow) as appending,
                self._request.client.open_blob(repository, self._fill.digest, spool.received) as body,
            ):
                skip = self._check(body, spool.received)
                async for chunk in body.chunks():
                    fresh = chunk[skip:]
                    skip -= len(chunk) - len(fresh)
                    bound = self._fill.bound
                    if bound is not None and appending.received + len(fresh) > bound:
                        raise UpstreamInvalid(
                            "the upstream sent more than the blob's %(bound)s bytes; try again later", bound=bound
                        )
                    if fresh:
                        await appending.add(fresh)
        except DiskFailed:
            raise
        except Unavailable as error:
            return error
        bound = self._fill.bound
        if bound is not None and spool.received < bound and (self._fill.size is not None or not spool.verified()):
            return Unavailable(
                "the upstream sent only %(received)s of %(bound)s bytes; try again later",
                received=spool.received,
                bound=bound,
                headers={"Retry-After": "10"},
            )
        return None

    def _check(self, body: BlobBody, have: int) -> int:
        """Compare an answer with the known size and the requested offset; return the number of bytes to skip."""
        fill = self._fill
        size = body.size if fill.size is None else fill.size
        known = fill.expected if fill.size is None else {fill.size}
        if body.size is not None and known and body.size not in known:
            self._notes.add(disputed=body.size)
            raise _Disputed(body.size, max(known))
        if size == 0:  # An empty blob would have been verified without a request.
            raise UpstreamInvalid("the upstream sent an empty body for a blob that is not empty; try again later")
        if body.offset > have:
            raise UpstreamInvalid(
                "the upstream began at byte %(offset)s, but byte %(asked)s was asked for; try again later",
                offset=body.offset,
                asked=have,
            )
        self._notes.add(ready=True, size=size)
        fill.answer(size)
        return have - body.offset


class Fills:
    """The fills of one process."""

    def __init__(self, stored: StoredBlobs) -> None:
        self._stored = stored
        self._fills: dict[tuple[Path, Digest], Fill] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def join(self, request: BlobRequest) -> Fill | None:
        """Return the fill of a blob on this host, and start it if none runs; None if the store has the blob by now.

        The caller has checked that its client may have the blob. Raises the fill's failure if it ends before its part
        can be read.
        """
        if self._closing:
            raise _stopping()
        key = request.spool, request.digest
        fill = self._fills.get(key)
        if fill is None:
            fill = self._fills[key] = Fill(request.digest)
            task = asyncio.create_task(self._run(fill, request), name=f"fill {request.digest}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        fill.repositories.add(str(request.repository.name))
        if request.size is not None:
            fill.expected.add(request.size)
        return fill if await fill.opened() else None

    def running(self) -> list[FillProgress]:
        """List the fills that this process leads or follows, oldest first."""
        return [fill.progress() for fill in self._fills.values()]

    async def close(self, timeout: float) -> None:
        """Let running fills end within ``timeout`` seconds, then stop them; another or a later worker resumes them."""
        self._closing = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, fill: Fill, request: BlobRequest) -> None:
        """Lead or follow until the fill has ended; sets its failure on the fill and does not raise it."""
        RUNNING.inc()
        try:
            while not fill.over:
                await self._drive(fill, request)
        except OCIError as error:
            log.warning("fill of %s failed: %s", fill.digest, error.message)
            fill.end(error)
        except asyncio.CancelledError:
            fill.end(_stopping())
            raise
        except Exception:
            log.exception("fill of %s failed", fill.digest)
            fill.end(OCIError())
        finally:
            del self._fills[request.spool, fill.digest]
            RUNNING.dec()
            led = "led" if fill.leading else "followed"
            FILLS.labels(led if fill.complete or fill.file is None else "failed").inc()

    async def _drive(self, fill: Fill, request: BlobRequest) -> None:
        paths = SpoolPaths(request.spool, request.digest)
        with LockFile(paths.lock) as lock:
            if not lock.try_lock():
                await Follower(fill, paths, lock).follow()
            elif lock.linked():  # Otherwise a leader has just ended and removed this lock file.
                fill.leading = True
                # This task has the facts of the request that began the fill.
                current().outcome = "filled"
                try:
                    await Leader(fill, request, self._stored, paths, lock).lead()
                except _Disputed as dispute:
                    # If a client that agrees with the upstream has joined meanwhile, the fill begins again.
                    if dispute.size not in fill.expected:
                        raise


def _stopping() -> Unavailable:
    return Unavailable("this worker is being stopped; try again", headers={"Retry-After": "1"})
