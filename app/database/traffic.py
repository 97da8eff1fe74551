"""Queries on the traffic of mirrors, by the hour: served and fetched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import func, select

from . import keyset
from .engine import Transaction, insert
from .keyset import MOST_COUNTED
from .tables import blob, link, manifest, project, repository, tag, traffic

HOUR = 3600


class Counts(NamedTuple):
    """Requests and bytes: ``hits`` were answered from the cache, ``misses`` from the upstream.

    A blob counts with its whole size.
    """

    hits: int = 0
    misses: int = 0
    served_bytes: int = 0
    fetched_bytes: int = 0

    @property
    def saved_bytes(self) -> int:
        """The bytes that were not downloaded from the upstream again."""
        return max(0, self.served_bytes - self.fetched_bytes)


_columns = (traffic.c.hits, traffic.c.misses, traffic.c.served_bytes, traffic.c.fetched_bytes)


async def add(transaction: Transaction, counted: Mapping[tuple[int, int], Counts]) -> None:
    """Add counts by (project id, hours since 1970); drop the counts of projects that are gone."""
    wanted = sorted({project_id for project_id, _ in counted})
    there = select(project.c.id).where(project.c.id.in_(wanted)).order_by(project.c.id)
    kept = set((await transaction.execute(there.with_for_update(key_share=True, read=True))).scalars())
    # Every worker writes in the same order, so that no two wait for each other.
    rows = [
        {
            "project_id": project_id,
            "hour": hour,
            "hits": counts.hits,
            "misses": counts.misses,
            "served_bytes": counts.served_bytes,
            "fetched_bytes": counts.fetched_bytes,
        }
        for (project_id, hour), counts in sorted(counted.items())
        if project_id in kept
    ]
    if rows:
        statement = insert(transaction, traffic)
        more = {column.name: column + statement.excluded[column.name] for column in _columns}
        statement = statement.on_conflict_do_update(index_elements=["project_id", "hour"], set_=more)
        await transaction.execute(statement, rows)


async def totals(transaction: Transaction, project_ids: Collection[int], since: float) -> dict[int, Counts]:
    """Return the sum of each project's counts from the hour of ``since`` (Unix seconds) on; zeros without traffic."""
    statement = (
        select(traffic.c.project_id, *map(func.sum, _columns))
        .where(traffic.c.project_id.in_(sorted(project_ids)), traffic.c.hour >= int(since // HOUR))
        .group_by(traffic.c.project_id)
    )
    found = {row[0]: Counts(*map(int, row[1:])) for row in await transaction.execute(statement)}
    return {project_id: found.get(project_id, Counts()) for project_id in project_ids}


async def by_hour(transaction: Transaction, project_id: int, since: float) -> dict[int, Counts]:
    """Return a project's counts from the hour of ``since`` (Unix seconds) on, by the Unix time of each hour's begin.

    The hours are in order; hours without traffic are left out.
    """
    here = (traffic.c.project_id == project_id) & (traffic.c.hour >= int(since // HOUR))
    rows = await transaction.execute(select(traffic.c.hour, *_columns).where(here).order_by(traffic.c.hour))
    return {int(row[0]) * HOUR: Counts(*row[1:]) for row in rows}


@dataclass(frozen=True, slots=True)
class CachedRepository:
    """A repository of a mirror: ``name`` is the name within the project, ``cached_bytes`` the size of its blobs.

    ``pulled_at`` is the time of the last pull in Unix seconds, 0 if the repository has no manifest. At most
    `keyset.MOST_COUNTED` blobs and newest manifests of a repository are looked at for it.
    """

    name: str
    pulls: int
    tags: int
    cached_bytes: int
    pulled_at: float


async def hottest(transaction: Transaction, project_id: int, limit: int) -> list[CachedRepository]:
    """List the project's most pulled repositories with a cached manifest."""
    top = (
        select(repository.c.id, repository.c.name, repository.c.pull_count)
        .where(
            repository.c.project_id == project_id,
            ~repository.c.pending,
            select(manifest.c.digest).where(manifest.c.repository_id == repository.c.id).exists(),
        )
        .order_by(repository.c.pull_count.desc(), repository.c.id.desc())
        .limit(limit)
        .subquery()
    )
    tags = keyset.few(tag, tag.c.repository_id == top.c.id, of=top)
    some = select(link.c.digest).where(link.c.repository_id == top.c.id).limit(MOST_COUNTED).correlate(top).subquery()
    size = (
        select(func.coalesce(func.sum(blob.c.size), 0))
        .join_from(some, blob, some.c.digest == blob.c.digest)
        .scalar_subquery()
    )
    newest = (
        select(manifest.c.pulled_at)
        .where(manifest.c.repository_id == top.c.id)
        .order_by(manifest.c.created_at.desc())
        .limit(MOST_COUNTED)
        .correlate(top)
        .subquery()
    )
    pulled_at = select(func.coalesce(func.max(newest.c.pulled_at), 0)).scalar_subquery()
    statement = select(top.c.name, top.c.pull_count, tags, size, pulled_at).order_by(
        top.c.pull_count.desc(), top.c.id.desc()
    )
    return [
        CachedRepository(row[0], row[1], row[2], int(row[3]), row[4]) for row in await transaction.execute(statement)
    ]
