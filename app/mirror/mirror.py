"""Every upstream's mirror of one worker, put together: what `main` starts, drains and closes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from app.cache import Cache
from app.config import UpstreamConfig
from app.database import Database
from app.registry.blobs import Blobs
from app.registry.content import HostedContent
from app.registry.manifests import Manifests
from app.registry.pulls import Pulls
from app.storage import BlobStore

from .blobs import MirrorBlobs
from .budget import BudgetView
from .challenge import Credential
from .content import MirrorContent
from .manifests import MirrorManifests
from .progress import Progress
from .sampler import Sampler
from .sources import Sources
from .traffic import Traffic


class Mirror:
    """One upstream: `start` it, hand out its `content`, `close` it."""

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
        blobs: Blobs,
        pulls: Pulls,
        decrypt: Callable[[str], str],
    ) -> None:
        """``decrypt`` reads the credentials that projects keep for the upstream (`app.access.secrets.Secrets`)."""
        locks = spool / "locks"
        self._sources = Sources(
            name,
            config.url,
            [Credential(credential.username, credential.password) for credential in config.credentials],
            database=database,
            cache=cache,
            # A fill's bytes are its upstream's: two upstreams never share one, whatever digest they name.
            spool=spool / name.replace("/", "_"),
            locks=locks,
            decrypt=decrypt,
        )
        self._traffic = Traffic(database)
        self._manifests = MirrorManifests(database, self._sources, cache, locks, config.fresh_for, self._traffic)
        self._blobs = MirrorBlobs(database, store, blobs, self._sources, pulls, self._traffic)
        self.content = MirrorContent(database, hosted, stored, self._manifests, self._blobs, pulls, self._traffic)
        self._progress = Progress(cache, name, self._sources.running)
        self._sampler = Sampler(database, cache, name, self._sources.all_budgets)
        self._jobs: list[asyncio.Task[None]] = []
        locks.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Make ready, and begin to note what goes on; connects to no upstream yet."""
        await self._sources.start()
        jobs = (self._traffic.run(), self._progress.run(), self._sampler.run())
        self._jobs = [asyncio.create_task(job) for job in jobs]

    async def close(self, seconds: float) -> None:
        """Let running fills end within ``seconds``, then stop everything and close every connection."""
        await self._sources.drain(seconds)
        await self._manifests.close()
        await self._blobs.close()
        await self._sources.close()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self._progress.close()
        await self._traffic.flush()

    async def ping(self) -> None:
        """Ask whether the upstream answers; raises UpstreamAway, UpstreamLimited, UpstreamInvalid."""
        await self._sources.ping()

    async def budgets(self, project_id: int | None = None) -> list[BudgetView]:
        """Say how the budget of each account stands that a project uses, or with None of each that is configured."""
        return await self._sources.budgets(project_id)
