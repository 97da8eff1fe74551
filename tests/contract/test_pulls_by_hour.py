"""Pulls of repositories by the hour: many workers add them up, old ones go, on both databases."""

from __future__ import annotations

import asyncio
import time

from app.database import Database, pulls
from app.oci.digest import Digest
from app.registry.pulls import Pulls

from .rows import add_manifest, image, make_project, make_repository, rows

HOUR = 500_000


async def add(database: Database, counted: dict[int, int], hour: int = HOUR) -> None:
    async with database.transaction() as transaction:
        await pulls.add(transaction, counted, hour)


async def test_pulls_of_many_workers_add_up(database: Database) -> None:
    project = await make_project(database)
    one, other = await make_repository(database, project, "one"), await make_repository(database, project, "other")
    await asyncio.gather(*(add(database, {other: 1, one: 2, one + other + 7: 5}) for _ in range(8)))
    await add(database, {one: 3}, HOUR + 2)
    await add(database, {})
    async with database.reading() as transaction:
        assert await pulls.by_hour(transaction, one, HOUR * 3600.0) == {HOUR * 3600: 16, (HOUR + 2) * 3600: 3}
        assert await pulls.by_hour(transaction, one, HOUR * 3600.0 + 3600) == {(HOUR + 2) * 3600: 3}
        assert await pulls.by_hour(transaction, other, 0) == {HOUR * 3600: 8}


async def test_a_pull_is_counted_in_its_hour_and_old_hours_go(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project, "app")
    digest = await add_manifest(database, repository, image("app", Digest.of(b"layer")), "1")
    noted = Pulls(database)
    for counts in (True, False, True):
        noted.manifest(repository, digest, counts=counts)
    noted.blob(repository, Digest.of(b"layer"))
    before = int(time.time() // 3600)
    await noted.flush()
    ((hour, number),) = await rows(database, "SELECT hour, pulls FROM pull_hour")
    assert before <= hour <= before + 1
    assert number == 2
    for day in range(88, 93):
        await add(database, {repository: 1}, before - 24 * day)
    await noted.remove_old()
    kept = await rows(database, "SELECT hour FROM pull_hour ORDER BY hour")
    assert kept == [(before - 24 * 90,), (before - 24 * 89,), (before - 24 * 88,), (hour,)]
