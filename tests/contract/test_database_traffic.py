"""What mirrors served and fetched, and what upstreams still allowed, on both databases."""

from __future__ import annotations

import asyncio

from app.database import Database, budget_samples, manifests, projects, traffic
from app.database.budget_samples import BudgetSample
from app.database.traffic import CachedRepository, Counts
from app.oci.digest import Digest

from .rows import add_blob, add_manifest, image, make_project, make_repository, rows

NOON = 500_000 * 3600.0
HOUR = 500_000


async def add(database: Database, counted: dict[tuple[int, int], Counts]) -> None:
    async with database.transaction() as transaction:
        await traffic.add(transaction, counted)


async def test_counts_of_many_workers_add_up(database: Database) -> None:
    one, other = await make_project(database), await make_project(database, "other")
    mine = {(one, HOUR): Counts(2, 1, 300, 100), (other, HOUR): Counts(1, 0, 7, 0), (one, HOUR + 2): Counts(1, 1, 9, 5)}
    await asyncio.gather(*(add(database, mine) for _ in range(8)))
    async with database.reading() as transaction:
        both = await traffic.totals(transaction, [one, other], NOON)
        assert both == {one: Counts(24, 16, 8 * 309, 8 * 105), other: Counts(8, 0, 56, 0)}
        assert both[one].saved_bytes == 8 * 204
        assert await traffic.totals(transaction, [one], NOON + 3600) == {one: Counts(8, 8, 72, 40)}
        assert await traffic.totals(transaction, [one], NOON + 3 * 3600) == {one: Counts()}
        assert await traffic.totals(transaction, [], NOON) == {}
        hours = await traffic.by_hour(transaction, one, NOON + 1800)
        assert list(hours.items()) == [
            (HOUR * 3600, Counts(16, 8, 2400, 800)),
            ((HOUR + 2) * 3600, Counts(8, 8, 72, 40)),
        ]
        assert await traffic.by_hour(transaction, one + other + 1, 0) == {}
    assert Counts(served_bytes=1, fetched_bytes=5).saved_bytes == 0


async def test_what_is_of_a_project_that_is_gone_is_dropped(database: Database) -> None:
    project = await make_project(database)
    await add(database, {(project + 1, HOUR): Counts(hits=1), (project, HOUR): Counts(hits=2)})
    await add(database, {(project + 1, HOUR): Counts(hits=1)})
    assert await rows(database, "SELECT project_id, hits FROM traffic") == [(project, 2)]


async def test_the_hottest_repositories(database: Database) -> None:
    project = await make_project(database)
    for name, pulls, sizes in (("b", 5, (10, 20)), ("a", 9, (10,)), ("empty", 99, ()), ("c", 0, (1,))):
        repository = await make_repository(database, project, name)
        for number, size in enumerate(sizes):
            await add_blob(database, project, repository, name[:1].encode() * size, f"{name}{number}")
        if sizes:
            digest = await add_manifest(database, repository, image(name, Digest.of(b"layer")), "1", "latest")
            async with database.transaction() as transaction:
                await manifests.touch(transaction, {(repository, digest): 1000.0 + pulls})
        async with database.transaction() as transaction:
            await transaction.exec_driver_sql(f"UPDATE repository SET pull_count = {pulls} WHERE id = {repository}")
    async with database.reading() as transaction:
        assert await traffic.hottest(transaction, project, 2) == [
            CachedRepository("a", 9, 2, 10, 1009.0),
            CachedRepository("b", 5, 2, 30, 1005.0),
        ]
        assert [found.name for found in await traffic.hottest(transaction, project, 9)] == ["a", "b", "c"]
        assert await traffic.hottest(transaction, project + 1, 9) == []


async def test_samples_of_a_budget(database: Database) -> None:
    async def note(account: str, at: float, remaining: int) -> None:
        async with database.transaction() as transaction:
            await budget_samples.add(transaction, "docker.io", account, at, limit=100, remaining=remaining)

    await asyncio.gather(*(note("", 600.0 + n, 90) for n in range(4)))
    await note("", 610.0, 80)
    await note("", 725.0, 70)
    await note("university", 725.0, 1)
    async with database.transaction() as transaction:
        assert await budget_samples.since(transaction, "docker.io", "", 0) == [
            BudgetSample(600, 100, 90),
            BudgetSample(720, 100, 70),
        ]
        assert await budget_samples.since(transaction, "docker.io", "", 661) == [BudgetSample(720, 100, 70)]
        await budget_samples.remove_before(transaction, "docker.io", "", 720)
        assert await budget_samples.since(transaction, "docker.io", "", 0) == [BudgetSample(720, 100, 70)]
        assert await budget_samples.since(transaction, "docker.io", "university", 0) == [BudgetSample(720, 100, 1)]
        assert await budget_samples.since(transaction, "quay.io", "", 0) == []


async def test_when_a_mirrors_manifest_was_pulled(database: Database) -> None:
    hosting = await make_project(database)
    async with database.transaction() as transaction:
        await projects.create(transaction, "mirror", public=True, upstream="docker.io", settings={})
        found = await projects.find(transaction, "mirror")
    assert found is not None
    for project, expected in ((hosting, None), (found.id, 12.0)):
        repository = await make_repository(database, project)
        digest = await add_manifest(database, repository, image("app"))
        async with database.transaction() as transaction:
            await manifests.touch(transaction, {(repository, digest): 12.0})
            assert await manifests.pulled_from_mirror(transaction, repository, digest) == expected
            assert await manifests.pulled_from_mirror(transaction, repository, Digest.of(b"never")) is None
