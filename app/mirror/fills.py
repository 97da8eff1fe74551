"""Fills: one upstream fetch of a blob for all clients of a host, who read it from its first byte while it grows.

Invariants. A host fetches a digest once at a time: its leader holds the lock of the spool (see `spool`), which the
kernel frees when the leading process is killed. A fill belongs to no client, it runs in a task of its own. What
ends it reaches all who wait for it, in every process, and nobody who comes later.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from prometheus_client import Counter, Gauge

from app.kit.threads import in_thread
from app.oci.digest import Digest
from app.oci.errors import Unavailable

from .fill import Fill
from .filler import Commit, Fetch, Filler, Present
from .locks import try_host_lock
from .spool import LOCK, PART
from .statistics import FillProgress

RUNNING = Gauge("registry_fills_running", "Fills that workers lead or follow now.", multiprocess_mode="livesum")
FILLS = Counter("registry_fills_total", "Fills that have ended: led or followed to their end, or failed.", ["outcome"])


class Fills:
    """The fills of one process; ``folder`` is shared with the other processes of the host, and with nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fills: dict[Digest, tuple[Fill, Filler]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def follow(
        self,
        digest: Digest,
        fetch: Fetch,
        commit: Commit,
        present: Present,
        size: int | None = None,
        *,
        repository: str = "",
    ) -> Fill | None:
        """Join the fill of ``digest`` on this host, or start it; None where the store has the blob by now.

        The caller has made sure that its client may have the blob. ``present`` is asked once more before a fetch
        begins, since another worker may have committed between the caller's look and this call. ``commit`` gets a
        verified, complete file and may move it away; it must stand being called for a blob that is there. ``size``
        is a descriptor's, in bytes; one that is wrong does not spoil the fill for those who join with the right one.
        ``repository`` is for people who look on.
        Raises the fill's failure where it ends before there is anything to read.
        """
        if self._closing:
            raise Unavailable("this worker is being stopped; try again", headers={"Retry-After": "1"})
        if digest in self._fills:
            fill, filler = self._fills[digest]
            filler.expect(size)
        else:
            fill = Fill(digest)
            filler = Filler(fill, self._folder, fetch, commit, present)
            filler.expect(size)
            self._fills[digest] = fill, filler
            task = asyncio.create_task(self._run(fill, filler), name=f"fill {digest}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        fill.repositories.add(repository)
        return fill if await fill.opened() else None

    def running(self) -> list[FillProgress]:
        """List the fills this process leads or follows, oldest first."""
        return [
            FillProgress(
                fill.digest,
                fill.readable,
                fill.size,
                fill.started,
                filler.leading,
                frozenset(fill.repositories),
                fill.readers,
            )
            for fill, filler in self._fills.values()
        ]

    async def close(self, timeout: float) -> None:
        """Let what runs end within ``timeout`` seconds, then stop it; another worker goes on, or a later one."""
        self._closing = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def sweep(self, older_than: float) -> int:
        """Remove what dead fills left more than ``older_than`` seconds ago; gives the number of parts."""
        return await in_thread(None, _sweep, self._folder, time.time() - older_than)

    async def _run(self, fill: Fill, filler: Filler) -> None:
        RUNNING.inc()
        try:
            await filler.run()
        finally:
            del self._fills[fill.digest]
            RUNNING.dec()
            led = "led" if filler.leading else "followed"
            FILLS.labels(led if fill.complete or fill.file is None else "failed").inc()


def _sweep(folder: Path, before: float) -> int:
    removed = 0
    for stem in {path.stem for path in folder.glob("*") if path.suffix in (PART, LOCK)}:
        lock = try_host_lock(folder / f"{stem}{LOCK}")
        if lock is None:
            continue
        with lock:
            part = folder / f"{stem}{PART}"
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < before:
                    part.unlink()
                    removed += 1
            lock.path.unlink()
    return removed
