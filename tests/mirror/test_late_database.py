"""Workers that start while PostgreSQL is down: they serve what the others knew, and need no restart afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.database.shared_copies import _EPOCH_PAUSE
from tests.api.client import Registry, exchange, expect
from tests.images import single
from tests.parts.postgres import Postgres
from tests.parts.process import eventually
from tests.parts.service import Service
from tests.parts.valkey import Valkey
from tests.upstream.client import Hub

from .client import Client
from .test_database_away import House, stopped

IMAGE = single("late", sizes=(30_000, 2_000))
NAME, TAG = "mirror/library/late", "1"
HOSTED = "lab/late"


@contextmanager
def started(folder: Path, hub: Hub, database: str, valkey: Valkey, until: str = "/readyz") -> Iterator[House]:
    overrides = {"projects": {"mirror": {"upstream": "docker.io"}, "lab": {"public": True}}}
    with Service(
        folder, upstream=hub.url, processes=2, database=database, redis=valkey.url, overrides=overrides, until=until
    ) as service:
        yield House(service, database)


async def test_an_empty_database_is_prepared_when_it_comes(
    hub: Hub, postgres: Postgres, valkey: Valkey, tmp_path: Path
) -> None:
    hub.add(IMAGE, "library/late", TAG)
    url = postgres.database()
    with stopped(postgres):
        context = started(tmp_path, hub, url, valkey, "/healthz")
        house = context.__enter__()
    try:
        await eventually(house.works, what="both workers to be ready")
        async with Client(house.service.url) as client:
            await client.pull(NAME, TAG, IMAGE)
        house.admin.push_image(HOSTED, TAG, IMAGE)
        assert house.service.faults(foreseen={503}) == []
    finally:
        context.__exit__(None, None, None)


async def test_what_was_pulled_lately_is_served_by_new_workers(
    hub: Hub, postgres: Postgres, valkey: Valkey, tmp_path: Path
) -> None:
    """Everybody takes a new token. What nobody has asked for is refused, and nothing older than the last push comes."""
    hub.add(IMAGE, "library/late", TAG)
    old, new = single("late, old"), single("late, new")
    with started(tmp_path, hub, postgres.database(), valkey) as house:
        service, logins = house.service, (None, house.make_robot())

        async def pull() -> bool:
            for login in logins:
                async with Client(service.url, login=login) as client:
                    await client.pull(NAME, TAG, IMAGE)
            return True

        house.admin.push_image(HOSTED, TAG, old)
        for _ in range(8):
            await pull()
            expect(Registry(service.host).manifest(HOSTED, TAG), 200)
        house.admin.push_image(HOSTED, TAG, new)
        for _ in range(8):
            assert Registry(service.host).manifest(HOSTED, TAG).body == new.payload
        # What an answer leaves in Redis may still be on its way.
        await asyncio.sleep(1)
        with stopped(postgres):
            service.kill()
            service.until = "/healthz"
            service.start()

            async def warm() -> bool:
                try:
                    return await pull()
                except AssertionError:
                    return False

            # A worker asks Redis when it has found that SQL is down.
            await eventually(warm, what="the new workers to know what the others knew", interval=_EPOCH_PAUSE)
            for _ in range(8):
                await pull()
            answer = Registry(service.host).manifest(HOSTED, TAG)
            assert (answer.status, answer.body) == (200, new.payload)
            refused = exchange(service.host, "GET", "/api/v2.0/projects", None, {})
            assert (refused.status, refused["Retry-After"]) == (503, "5")
        await eventually(house.works, what="both workers to be ready")
        house.admin.push_image(HOSTED, TAG, old)
        assert Registry(service.host).manifest(HOSTED, TAG).body == old.payload
        assert service.faults(foreseen={503}) == []
