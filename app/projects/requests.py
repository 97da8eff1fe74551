"""Keep the requests that were refused, failed, were slow or filled the cache, for operators who ask why.

Requests wait in memory and are written every few seconds, so that no client waits for them. A killed worker loses
those of the last seconds. Plain hits stand only in the log.

A client that repeats itself must not push out the others. Of requests that ended in the same way, the first twenty that
one client sends in an hour are kept one by one. After that, one row a minute says how many there were, and shows the
latest of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cachetools import LRUCache

from app.access.principal import PrincipalKind, address_block
from app.database import JOB_SECONDS, Database, requests
from app.database.requests import KeptRequest, RequestEntry
from app.database.text import storable_part
from app.kit.jobs import repeat
from app.kit.write_behind import WriteBehind

KEPT_DAYS = 14
_KEPT_ROWS = 100_000
_TIDY_SECONDS = 3600.0
_REMOVED_AT_ONCE = 1000
_DAY = 86400

# Of one kind and one client, in an hour.
_MOST_SINGLE = 20
_HOUR = 3600.0
_FOLD_SECONDS = 60.0
_MOST_KINDS = 10_000
_MOST_CHARACTERS = 500
_WITH_NAMES = (PrincipalKind.PERSON, PrincipalKind.ROBOT)
# A client may send any text in these.
_OF_CLIENTS = ("method", "path", "why", "client", "repository", "reference")


@dataclass(slots=True)
class _Kind:
    """Like requests of one client in this hour; ``folded`` waits until ``due`` (monotonic seconds)."""

    until: float
    number: int = 0
    due: float = 0.0
    folded: KeptRequest | None = None


class Requests(WriteBehind[int, KeptRequest]):
    """Takes requests and lists them; `run` writes and tidies until cancelled, `close` writes the rest."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("requests")
        self._database = database
        self._clock = clock
        self._number = 0
        self._kinds: LRUCache[tuple[str, ...], _Kind] = LRUCache(_MOST_KINDS)

    def keep(self, request: KeptRequest) -> None:
        """Take a request; never waits and never fails."""
        texts: Any = {name: storable_part(getattr(request, name), _MOST_CHARACTERS) for name in _OF_CLIENTS}
        request = replace(request, **texts)
        if request.outcome == "filled":
            self._put(request)
            return
        whose = request.who if request.who not in ("", "anonymous") else address_block(request.client)
        key, now = (whose, request.outcome, request.code, request.cause), self._clock()
        kind = self._kinds.get(key)
        if kind is None or now >= kind.until:
            if kind is not None and kind.folded is not None:
                self._put(kind.folded)
            kind = self._kinds[key] = _Kind(now + _HOUR)
        kind.number += 1
        if kind.number <= _MOST_SINGLE:
            self._put(request)
        elif kind.folded is None:
            kind.folded, kind.due = request, now + _FOLD_SECONDS
        else:
            kind.folded = replace(request, times=kind.folded.times + 1)

    async def recent(
        self, *, outcomes: Collection[str] = (), after: int | None = None, limit: int = 50
    ) -> Sequence[RequestEntry]:
        """List the newest requests, or among the newest thousand those with one of some ``outcomes``.

        ``after``: only those older than the entry with this id.
        """
        return await self._database.read(requests.newest, outcomes=outcomes, after=after, limit=limit)

    async def find(self, what: str, *, after: int | None = None, limit: int = 20) -> Sequence[RequestEntry]:
        """List the newest requests with an id, from a client's address, in a repository, or of a person or a robot.

        They are tried in this order. Those of a person or a robot are looked for among the newest thousand.
        """
        for query in (
            partial(requests.newest, request_id=what),
            partial(requests.newest, client=what),
            partial(requests.newest, repository=what),
            partial(requests.newest, who=[f"{kind}:{what}" for kind in _WITH_NAMES]),
        ):
            if found := await self._database.read(query, after=after, limit=limit):
                return found
        return []

    async def run(self) -> None:
        """Write every few seconds and remove old requests every hour, until cancelled."""
        await asyncio.gather(super().run(), repeat("removing old requests", self.remove_old, _TIDY_SECONDS, now=True))

    async def flush(self) -> None:
        """Write what waits, and the numbers of repeats that are due."""
        self._unfold(self._clock())
        await super().flush()

    async def close(self) -> None:
        """Write everything."""
        self._unfold(float("inf"))
        await super().flush()

    async def write(self, notes: Mapping[int, KeptRequest]) -> None:
        """Write requests in one transaction; raises Unavailable."""
        await self._database.transact(partial(requests.add, requests=list(notes.values())), JOB_SECONDS)

    def merge(self, old: KeptRequest, new: KeptRequest) -> KeptRequest:
        """Return the newer one; no two have the same key."""
        return new

    async def remove_old(self) -> None:
        """Remove requests beyond the days or the rows that are kept, in batches; raises Unavailable."""
        removed = _REMOVED_AT_ONCE
        while removed == _REMOVED_AT_ONCE:
            async with self._database.transaction(JOB_SECONDS) as transaction:
                removed = await requests.remove_older(
                    transaction, time.time() - KEPT_DAYS * _DAY, _KEPT_ROWS, _REMOVED_AT_ONCE
                )

    def _unfold(self, now: float) -> None:
        for kind in self._kinds.values():
            if kind.folded is not None and now >= kind.due:
                self._put(kind.folded)
                kind.folded = None

    def _put(self, request: KeptRequest) -> None:
        self._number += 1
        self.note(self._number, request)
