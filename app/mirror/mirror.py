"""Build the mirror of one upstream in one worker; `main` starts and closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from app.cache import Cache
from app.config import Network, UpstreamConfig
from app.database import Database
from app.kit.jobs import repeat
from app.registry.content import HostedContent
from app.registry.manifests import Manifests
from app.registry.pulls import Pulls
from app.storage import BlobStore

from .blobs import MirrorBlobs
from .content import MirrorContent
from .fills import Fills
from .listings import MirrorListings
from .manifests import MirrorManifests
from .preparation import Preparation
from .spool import sweep
from .statistics import BudgetHistory, FillReport, Traffic
from .stored_blobs import StoredBlobs
from .upstream_access import AccessByProject
from .upstream_lists import UpstreamLists

_REPORT_SECONDS = 1.0
# A budget that becomes known within a minute is sampled soon after.
_SAMPLE_SECONDS = 10.0
# A part that nobody has resumed for this long is not worth resuming.
_STALE_SPOOL_SECONDS = 24 * 3600


class Mirror:
    """The mirror of one upstream; the owner calls `start` and `close`.

    `content` serves pulls, `access` shows the budgets, and `preparation` fetches images before anybody asks.
    """

    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        spool: Path,
        *,
        database: Database,
        store: BlobStore,
        cache: Cache,
        hosted: HostedContent,
        stored: Manifests,
        pulls: Pulls,
        decrypt: Callable[[str], str],
        refused: Sequence[Network] = (),
    ) -> None:
        """Build the parts; ``decrypt`` reads the projects' credentials for it (`app.access.secrets.Secrets`).

        The upstream must not lead us into the networks ``refused``.
        """
        locks = spool / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        # A fill's bytes come from one upstream. Two upstreams never share a fill, even for the same digest.
        self._spool = spool / name.replace("/", "_")
        self.access = AccessByProject(
            name,
            config.url,
            config.credentials,
            database=database,
            cache=cache,
            spool=self._spool,
            locks=locks,
            decrypt=decrypt,
            refused=refused,
        )
        self._name = name
        self._traffic = Traffic(database)
        self._manifests = MirrorManifests(database, self.access, cache, locks, config.fresh_for, self._traffic)
        self._lists = UpstreamLists(self.access, cache, locks, config.fresh_for)
        stored_blobs = StoredBlobs(database, store, self._traffic)
        self._fills = Fills(stored_blobs)
        self._blobs = MirrorBlobs(stored_blobs, self.access, self._fills, pulls, self._traffic)
        listings = partial(MirrorListings, name, hosted, self._lists)
        self.content = MirrorContent(database, stored, self._manifests, self._blobs, listings, pulls, self._traffic)
        self.preparation = Preparation(database, self.access, self._manifests, self._blobs, stored, stored_blobs)
        self._fill_report = FillReport(cache, name)
        self._budget_history = BudgetHistory(database, cache, name)
        self._jobs: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Make ready and start the reports; connects to no upstream yet."""
        await self.access.start()
        await sweep(self._spool, _STALE_SPOOL_SECONDS)
        jobs = (
            self._traffic.run(),
            repeat("reporting fills", self._report_fills, _REPORT_SECONDS, now=True),
            repeat(f"sampling what {self._name} allows", self._sample_budgets, _SAMPLE_SECONDS),
        )
        self._jobs = [asyncio.create_task(job) for job in jobs]

    async def close(self, seconds: float) -> None:
        """Let running fills end within ``seconds``, then stop everything and close every connection."""
        await self._fills.close(seconds)
        await self._manifests.close()
        await self._lists.close()
        await self._blobs.close()
        await self.access.close()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self._fill_report.report([])
        await self._traffic.flush()

    async def _report_fills(self) -> None:
        await self._fill_report.report(self._fills.running())

    async def _sample_budgets(self) -> None:
        await self._budget_history.sample(await self.access.all_budgets())
