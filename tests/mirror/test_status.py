"""What people are shown of a mirror: its traffic, how hot it is, its budget over time, and what is being fetched."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from app.cache import Cache
from app.database import Database, budget_samples, projects, traffic
from app.database.budget_samples import BudgetSample
from app.database.quotas import ROW_BYTES
from app.database.traffic import Counts
from app.mirror.statistics import BudgetHistory, BudgetView, RunningFill, running_fills
from app.mirror.status import MirrorStatus, Room
from tests.parts.process import eventually
from tests.parts.service import Service
from tests.parts.valkey import Valkey
from tests.upstream.client import Hub

from .client import Client
from .conftest import Make, clean_log
from .inside import committed, database, filler, sql, worker_of

_LAYER = 3_000_000


@pytest.fixture(scope="module")
def started(hub_process: Hub, valkey_process: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    overrides = {
        "projects": {
            "mirror": {"upstream": "docker.io"},
            "bounded": {"upstream": "docker.io", "cache_bytes": 10**9},
            "team": {"upstream": "docker.io", "public": False},
        }
    }
    folder = tmp_path_factory.mktemp("status")
    with Service(
        folder, upstream=hub_process.url, processes=2, redis=valkey_process.url, overrides=overrides, hurried=True
    ) as service:
        yield service


@pytest.fixture
def watched(valkey: Valkey, started: Service) -> Iterator[Service]:
    with clean_log(started):
        yield started


@pytest.fixture
async def shared(watched: Service) -> AsyncIterator[Database]:
    opened = Database(database(watched))
    yield opened
    await opened.close()


@pytest.fixture
async def cache(valkey: Valkey) -> AsyncIterator[Cache]:
    opened = Cache(valkey.url)
    yield opened
    await opened.close()


@pytest.fixture
def status(shared: Database, cache: Cache) -> MirrorStatus:
    """As another process sees it."""
    return MirrorStatus(shared, cache, {})


async def project_id(shared: Database, name: str) -> int:
    async with shared.reading() as transaction:
        found = await projects.find(transaction, name)
    assert found is not None
    return found.id


async def test_what_a_mirror_served_and_fetched(
    hub: Hub, watched: Service, shared: Database, status: MirrorStatus, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(50_000,)), repository, "8.0")
    mine, name = await project_id(shared, "bounded"), f"bounded/{repository}"
    began = time.time()
    async with Client(watched.url) as client:
        await client.manifest(name, "8.0", method="HEAD")
        await client.pull(name, "8.0", image)
        await committed(watched)
        for _ in range(3):
            await client.pull(name, "8.0", image)
            await client.manifest(name, "8.0", method="HEAD")
            await client.blob(name, image.layers[0], method="HEAD")
    whole = len(image.payload) + sum(map(len, image.blobs.values()))
    expected = Counts(hits=3 * 3, misses=3, served_bytes=4 * whole, fetched_bytes=whole)

    async def written() -> bool:
        return await status.totals(mine, began) == expected

    await eventually(written, what="the traffic to be written down")
    assert expected.saved_bytes == 3 * whole
    hours = await shared.read(traffic.by_hour, mine, began)
    assert sum(counts.hits for counts in hours.values()) == 9
    assert all(began - 3600 < hour <= time.time() for hour in hours)

    async def counted() -> bool:
        (hot,) = await shared.read(traffic.hottest, mine, 20)
        return hot.pulls == 4 and hot.pulled_at >= began

    await eventually(counted, what="the pulls to be written down")
    (hot,) = await shared.read(traffic.hottest, mine, 20)
    size = sum(map(len, image.blobs.values()))
    assert (hot.name, hot.tags, hot.cached_bytes) == (repository, 1, size)
    # The manifest, which has no annotations, and the rows of the manifest, of its parts and of the tag.
    charged = len(image.payload) + len("{}") + ROW_BYTES * (2 + len(image.blobs))
    assert await status.room(mine) == Room(size + charged, 10**9)
    assert await status.room(await project_id(shared, "team")) == Room(0, None)
    assert await status.room(10**6) == Room(0, None)


async def test_fills_are_seen_from_everywhere(
    hub: Hub, watched: Service, valkey: Valkey, status: MirrorStatus, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(_LAYER,)), repository, "8.0")
    (layer,) = image.layers
    half = _LAYER // 2
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=half)
    login = (watched.username, watched.password)

    async def seen(clients: int) -> RunningFill:
        async def all_of_it() -> bool:
            fills = await status.fills()
            return len(fills) == 1 and fills[0].clients == clients and fills[0].received > half - 300_000

        await eventually(all_of_it, what="the fill to be told of")
        (fill,) = await status.fills()
        assert (fill.upstream, fill.digest, fill.size) == ("docker.io", layer, len(image.blobs[layer]))
        assert time.time() - 60 < fill.started <= time.time()
        return fill

    async with Client(watched.url) as client, Client(watched.url, login=login) as member:
        async with client.open("GET", f"/v2/mirror/{repository}/blobs/{layer}"):
            assert (await seen(1)).repositories == (f"mirror/{repository}",)
            async with member.open("GET", f"/v2/team/{repository}/blobs/{layer}"):
                fill = await seen(2)
                assert fill.repositories == (f"mirror/{repository}", f"team/{repository}")
                # Who looks at one project learns nothing of another.
                (mine,) = await status.fills("mirror")
                assert mine.repositories == (f"mirror/{repository}",)
                assert await status.fills("mirr") == await status.fills("bounded") == []
                # Whatever Redis forgets is said again.
                valkey.flush()
                await seen(2)
        hub.clear_faults()

        async def over() -> bool:
            return not await status.fills()

        await eventually(over, what="nothing to be told of any more")


async def test_what_a_dead_worker_said_is_forgotten(
    hub: Hub, started: Service, cache: Cache, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(_LAYER,)), repository, "8.0")
    (layer,) = image.layers
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=_LAYER // 2)
    async with Client(started.url) as client:
        async with client.open("GET", f"/v2/mirror/{repository}/blobs/{layer}") as response:

            async def told() -> bool:
                return bool(await running_fills(cache))

            await eventually(told, what="the fill to be told of")
            leader = filler(started, layer)
            assert leader == worker_of(started, response)
            os.kill(leader, signal.SIGKILL)

        async def forgotten() -> bool:
            return not await running_fills(cache)

        await eventually(forgotten, what="the dead worker's word to be old")
        hub.clear_faults()
        await client.pull(f"mirror/{repository}", "8.0", image)


async def test_without_redis_no_fill_is_seen(watched: Service, shared: Database, valkey: Valkey) -> None:
    nowhere = Cache("unix:///nowhere/redis.sock")
    assert await MirrorStatus(shared, nowhere, {}).fills() == []
    assert await MirrorStatus(shared, nowhere, {}).budgets("docker.io") == []
    await nowhere.close()


def view(account: str, limit: int | None, remaining: int | None) -> BudgetView:
    return BudgetView("docker.io", account, limit is None, limit, remaining, 0, None, None, {})


async def test_a_budget_is_noted_once_a_minute_and_for_four_weeks(
    watched: Service, shared: Database, cache: Cache, status: MirrorStatus
) -> None:
    now = int(time.time())
    said = [view("", 100, 60), view("university", 200, 0), view("unlimited", None, None), view("over", 100, None)]

    workers = [BudgetHistory(shared, cache, "docker.io") for _ in range(4)]
    await asyncio.gather(*(worker.sample(said) for worker in workers))
    samples = await shared.read(budget_samples.since, "docker.io", "", now - 60)
    # It may have become another minute meanwhile.
    assert 1 <= len(samples) <= 2
    assert {(sample.limit, sample.remaining) for sample in samples} == {(100, 60)}
    assert all(sample.at % 60 == 0 and abs(sample.at - now) <= 120 for sample in samples)
    assert {sample.remaining for sample in await shared.read(budget_samples.since, "docker.io", "university", 0)} == {0}
    for account in ("unlimited", "over"):
        assert await shared.read(budget_samples.since, "docker.io", account, 0) == []

    old, week = now - 29 * 86400, now - 27 * 86400
    async with shared.transaction() as transaction:
        for at in (old, week):
            await transaction.exec_driver_sql(f"INSERT INTO budget_sample VALUES ('docker.io', '', {at // 60}, 100, 1)")
    await cache.delete(*(f"sampled:docker.io:{now // 60 + minute}" for minute in range(3)))
    await BudgetHistory(shared, cache, "docker.io").sample(said)
    assert (await shared.read(budget_samples.since, "docker.io", "", 0))[0] == BudgetSample(week // 60 * 60, 100, 1)


async def test_a_running_service_notes_its_budget(
    hub: Hub,
    valkey: Valkey,
    watched: Service,
    shared: Database,
    status: MirrorStatus,
    repository: str,
    make: Make,
) -> None:
    hub.limit(100)
    # What was said without a limit, a moment ago, is believed for a while.
    valkey.flush()
    image = hub.add(make(sizes=(10,)), repository, "8.0")
    async with Client(watched.url) as client:
        await client.pull(f"mirror/{repository}", "8.0", image)
    # This minute may have been noted before the pull, and is noted once.
    sql(watched, "DELETE FROM budget_sample")
    valkey.command(f"DEL r:sampled:docker.io:{int(time.time()) // 60}")

    async def noted() -> bool:
        samples = await shared.read(budget_samples.since, "docker.io", "", time.time() - 3600)
        return any(sample.limit == 100 and sample.remaining == 99 for sample in samples)

    await eventually(noted, what="the budget to be noted", interval=0.2)
