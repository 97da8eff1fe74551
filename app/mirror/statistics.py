"""Report a worker's activity to people: traffic by the hour, budgets by the minute, and running fills.

No decision depends on these reports. If one is lost with a killed worker or with Redis, no pull fails.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.cache import AWAY, Cache, keys
from app.database import JOB_SECONDS, Database, budget_samples, traffic
from app.database.budget_samples import MINUTE
from app.database.traffic import HOUR, Counts
from app.kit.write_behind import WriteBehind
from app.oci.digest import Digest

# Plans forecast the use of a budget from the last weeks.
SAMPLES_KEPT_SECONDS = 28 * 24 * 3600
# A living worker reports its fills again about every second.
_OLD_REPORT_SECONDS = 5

# KEYS[1] one hash: worker → "<time by the server's clock> <its report>"; it expires a minute after the last report.
# ARGV: the worker, its report ('': the worker has nothing to report any more).
_REPORT = """
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], redis.call('TIME')[1] .. ' ' .. ARGV[2])
return redis.call('EXPIRE', KEYS[1], 60)
"""
# ARGV: the seconds after which a report is old.
_REPORTS = """
local now, heard, fields = tonumber(redis.call('TIME')[1]), {}, redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local at, said = string.match(fields[i + 1], '^(%d+) (.*)$')
  if now - tonumber(at) > tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], fields[i])
  else heard[#heard + 1] = said end
end
return heard
"""


@dataclass(frozen=True, slots=True)
class BudgetView:
    """The state of a budget. Times are Unix times; None means unknown or none.

    After the window ends, at ``resets_at``, the remaining pulls are unknown until the upstream states them again.
    ``planned``: those that are reserved for plans now. ``window`` is in seconds.
    """

    upstream: str
    account: str
    unlimited: bool
    limit: int | None
    remaining: int | None
    reserved: int
    resets_at: float | None
    blocked_until: float | None
    clients: Mapping[str, int]
    planned: int = 0
    window: int | None = None


@dataclass(frozen=True, slots=True)
class FillProgress:
    """A fill that one process takes part in; sizes in bytes, ``started`` in Unix time.

    ``repositories`` (full names) and ``clients`` are those of this process.
    """

    digest: Digest
    received: int
    size: int | None
    started: float
    leading: bool
    repositories: frozenset[str]
    clients: int


@dataclass(frozen=True, slots=True)
class RunningFill:
    """A fill as all workers of all hosts report it together; sizes in bytes, ``started`` in Unix time.

    ``repositories`` are full names, in order; ``clients`` read it now. ``size`` is None if nobody knows it.
    """

    upstream: str
    digest: str
    repositories: tuple[str, ...]
    received: int
    size: int | None
    clients: int
    started: float


_TrafficKey = tuple[int, int]  # project id, hours since 1970


class Traffic(WriteBehind[_TrafficKey, Counts]):
    """Counts of the content that one worker's mirrors serve and fetch, by project and hour."""

    def __init__(self, database: Database) -> None:
        super().__init__("traffic")
        self._database = database

    def count(self, project_id: int, counts: Counts) -> None:
        """Add to the counts of a project in this hour."""
        self.note((project_id, int(time.time() // HOUR)), counts)

    def merge(self, old: Counts, new: Counts) -> Counts:
        """Return the sum."""
        hits, misses, served, fetched = new
        return Counts(old[0] + hits, old[1] + misses, old[2] + served, old[3] + fetched)

    async def write(self, notes: Mapping[_TrafficKey, Counts]) -> None:
        """Add the counts to those in the database; raises Unavailable."""
        await self._database.transact(partial(traffic.add, counted=notes), JOB_SECONDS)


class BudgetHistory:
    """Samples of one upstream's budgets, one a minute; the first worker in a minute writes it for all."""

    def __init__(self, database: Database, cache: Cache, upstream: str) -> None:
        self._database = database
        self._cache = cache
        self._upstream = upstream

    async def sample(self, budgets: Iterable[BudgetView]) -> None:
        """Write the known budgets, unless this minute has its sample. If Redis is down, nothing is written."""
        now = time.time()
        known = [
            (view.account, view.limit, view.remaining)
            for view in budgets
            if view.limit is not None and view.remaining is not None
        ]
        turn = keys.sampled(self._upstream, int(now // MINUTE))
        if not known or await self._cache.increment(turn, 2 * MINUTE) != 1:
            return
        async with self._database.transaction() as transaction:
            for account, limit, remaining in known:
                await budget_samples.add(transaction, self._upstream, account, now, limit=limit, remaining=remaining)
                await budget_samples.remove_before(transaction, self._upstream, account, now - SAMPLES_KEPT_SECONDS)


class FillReport:
    """One worker's report of its fills of one upstream, in Redis, so that people see all fills from any worker."""

    def __init__(self, cache: Cache, upstream: str) -> None:
        self._cache = cache
        self._upstream = upstream
        self._worker = f"{socket.gethostname()} {os.getpid()} {upstream}"
        self._reported = False

    async def report(self, running: Iterable[FillProgress]) -> None:
        """Replace the report; the caller does so about once a second, and with an empty list when the worker stops."""
        fills = [
            {
                "upstream": self._upstream,
                "digest": fill.digest,
                "repositories": sorted(fill.repositories),
                "received": fill.received,
                "size": fill.size,
                "clients": fill.clients,
                "started": fill.started,
            }
            for fill in running
        ]
        if fills or self._reported:
            text = json.dumps(fills) if fills else ""
            await self._cache.script(_REPORT, [keys.fills()], lambda: [self._worker, text])
        self._reported = bool(fills)


async def running_fills(cache: Cache) -> list[RunningFill]:
    """List the fills that run on any host, oldest first; none if Redis is down."""
    reports = await cache.script(_REPORTS, [keys.fills()], lambda: [_OLD_REPORT_SECONDS])
    if reports is AWAY:
        return []
    parts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for report in reports:
        for part in json.loads(report):
            parts.setdefault((part["upstream"], part["digest"]), []).append(part)
    return sorted((_joined(*key, said) for key, said in parts.items()), key=lambda fill: fill.started)


def _joined(upstream: str, digest: str, parts: list[dict[str, Any]]) -> RunningFill:
    """Return one fill from the reports of its leader and its followers."""
    sizes = [part["size"] for part in parts if part["size"] is not None]
    return RunningFill(
        upstream=upstream,
        digest=digest,
        repositories=tuple(sorted({name for part in parts for name in part["repositories"]})),
        received=max(part["received"] for part in parts),
        size=max(sizes, default=None),
        clients=sum(part["clients"] for part in parts),
        started=min(part["started"] for part in parts),
    )
