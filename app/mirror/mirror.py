"""Every upstream's mirror of one worker, put together: what `main` starts, drains and closes."""

from __future__ import annotations

from pathlib import Path

from app.cache import Cache
from app.config import UpstreamConfig
from app.database import Database
from app.projects.service import Projects
from app.registry.blobs import Blobs
from app.registry.content import HostedContent
from app.registry.manifests import Manifests
from app.registry.pulls import Pulls
from app.storage import BlobStore

from .blobs import MirrorBlobs
from .budget import BudgetView
from .challenge import Credential
from .content import MirrorContent
from .fills import FillProgress, Fills
from .manifests import MirrorManifests
from .source import Source

# A spool nobody has gone on with for so long is not worth resuming.
_STALE_SPOOL_SECONDS = 24 * 3600


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
        opened: Projects,
        hosted: HostedContent,
        stored: Manifests,
        blobs: Blobs,
        pulls: Pulls,
    ) -> None:
        locks = spool / "locks"
        # A fill's bytes are its upstream's: two upstreams never share one, whatever digest they name.
        self._fills = Fills(spool / name.replace("/", "_"))
        credentials = [Credential(credential.username, credential.password) for credential in config.credentials]
        self._source = Source(name, config.url, credentials, cache, locks)
        self._manifests = MirrorManifests(database, self._source, cache, locks, config.fresh_for)
        self._blobs = MirrorBlobs(database, store, blobs, self._source, self._fills, pulls)
        self.content = MirrorContent(database, opened, hosted, stored, self._manifests, self._blobs, pulls)
        locks.mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Make ready; connects to nothing yet."""
        await self._source.start()
        await self._fills.sweep(_STALE_SPOOL_SECONDS)

    async def close(self, seconds: float) -> None:
        """Let running fills end within ``seconds``, then stop everything and close every connection."""
        await self._fills.close(seconds)
        await self._manifests.close()
        await self._blobs.close()
        await self._source.close()

    def fills(self) -> list[FillProgress]:
        """List the fills this worker takes part in."""
        return self._fills.running()

    async def budgets(self) -> list[BudgetView]:
        """Say how the budget of each account stands."""
        return await self._source.budgets()
