"""Whose account a project's mirror uses: the upstream's configured ones, or the project's own.

A project with a credential of its own has a budget, tokens and fills of its own. Nobody else joins a fill that was
begun with its eyes, and another project that claims the same user name gets nothing by its tokens. What is cached
stays where it is when the credential changes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.cache import Cache
from app.database import Database, projects
from app.oci.digest import Digest
from app.oci.errors import Unavailable

from .budget import BudgetView
from .challenge import Credential
from .fills import FillProgress, Fills
from .source import Source

# A spool nobody has gone on with for so long is not worth resuming.
_STALE_SPOOL_SECONDS = 24 * 3600

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reach:
    """How an upstream is reached: with which accounts, and through which fills."""

    source: Source
    fills: Fills


@dataclass(frozen=True, slots=True)
class _Own:
    """A project's own reach, and the encrypted credential it was made for."""

    kept: str
    reach: Reach


class Sources:
    """One upstream as its projects reach it; `start` it and `close` it.

    ``spool`` is the folder of this upstream's fills; those of a project's own stand beside it. ``decrypt`` reads a
    project's credential, a JSON list of user name and password, and raises ValueError where it cannot.
    """

    def __init__(
        self,
        name: str,
        url: str,
        credentials: Sequence[Credential],
        *,
        database: Database,
        cache: Cache,
        spool: Path,
        locks: Path,
        decrypt: Callable[[str], str],
    ) -> None:
        self.name = name
        self._url = url
        self._database = database
        self._cache = cache
        self._spool = spool
        self._locks = locks
        self._decrypt = decrypt
        self._configured = Reach(Source(name, url, credentials, cache, locks), Fills(spool))
        self._own: dict[int, _Own] = {}
        # What was under way with a former credential goes on with it.
        self._former: list[Source] = []

    async def start(self) -> None:
        """Make ready; connects to nothing yet."""
        await self._configured.source.start()
        await self._configured.fills.sweep(_STALE_SPOOL_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Let running fills end within so long, then stop them."""
        await asyncio.gather(*(reach.fills.close(seconds) for reach in self._all()))

    async def close(self) -> None:
        """Close every connection."""
        for source in [*(reach.source for reach in self._all()), *self._former]:
            await source.close()

    async def of(self, project_id: int) -> Reach:
        """Choose for a project; asked whenever something is not cached, so that a change counts at once.

        Raises Unavailable where its credential cannot be read.
        """
        async with self._database.reading() as transaction:
            kept = await projects.upstream_credential(transaction, project_id)
        if kept is None:
            return self._configured
        known = self._own.get(project_id)
        if known is not None and known.kept == kept:
            return known.reach
        return await self._make(project_id, kept)

    def running(self) -> list[FillProgress]:
        """List the fills this process takes part in."""
        return [fill for reach in self._all() for fill in reach.fills.running()]

    async def ping(self) -> None:
        """Ask whether the upstream answers; raises as `Upstream.ping` does."""
        await self._configured.source.ping()

    async def budgets(self, project_id: int | None = None) -> list[BudgetView]:
        """Say how the budget of each account stands that a project uses, or with None of each that is configured."""
        reach = self._configured if project_id is None else await self.of(project_id)
        return await reach.source.budgets()

    async def all_budgets(self) -> list[BudgetView]:
        """Say how the budget of each account stands that was used by this worker."""
        return [view for reach in self._all() for view in await reach.source.budgets()]

    async def _make(self, project_id: int, kept: str) -> Reach:
        credential = self._read(project_id, kept)
        former = self._own.get(project_id)
        source = Source(
            self.name,
            self._url,
            [credential],
            self._cache,
            self._locks,
            owner=f"project {project_id}",
            tokens=f"project {project_id} {Digest.of(kept.encode()).hex[:16]}|",
        )
        own_spool = self._spool.with_name(f"{self._spool.name}.project-{project_id}")
        reach = Reach(source, former.reach.fills if former else Fills(own_spool))
        if former is not None:
            self._former.append(former.reach.source)
        await source.start()
        self._own[project_id] = _Own(kept, reach)
        return reach

    def _read(self, project_id: int, kept: str) -> Credential:
        try:
            username, password = json.loads(self._decrypt(kept))
        except ValueError as error:
            raise self._unreadable(project_id, str(error)) from None
        return Credential(username, password)

    def _unreadable(self, project_id: int, reason: str) -> Unavailable:
        log.warning("the credential of project %d for %s cannot be read: %s", project_id, self.name, reason)
        return Unavailable(
            f"the account that this project keeps for {self.name} cannot be read any more; "
            "whoever administers the project must enter it again",
            headers={"Retry-After": "600"},
        )

    def _all(self) -> list[Reach]:
        return [self._configured, *(own.reach for own in self._own.values())]
