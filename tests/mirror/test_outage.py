"""The upstream is down: everything that is cached is served, from a service that has just started as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.images import multi, single
from tests.parts.process import eventually
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client
from .conftest import clean_log
from .crowd import at_once, crowd
from .inside import committed

IMAGE = multi("outage")
FLAT = single("outage, flat", sizes=(200_000, 1_000), style="docker")


@pytest.fixture
def cached(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers that believe a tag for one second, with a private Redis."""
    overrides = {"upstreams": {"docker.io": {"fresh_for": 1}}}
    with (
        Service(tmp_path_factory.mktemp("outage"), upstream=hub.url, processes=2, overrides=overrides) as service,
        clean_log(service),
    ):
        yield service


async def pull_everything(client: Client) -> None:
    for platform in ("linux/amd64", "linux/arm64"):
        await client.pull("mirror/library/app", "1", IMAGE, platform=platform)
    await client.pull("mirror/library/flat", "latest", FLAT)
    for digest in (*IMAGE.manifests, *FLAT.manifests):
        name = "mirror/library/app" if digest in IMAGE.manifests else "mirror/library/flat"
        answer = await client.manifest(name, digest)
        assert answer.status == 200
        assert "Warning" not in answer.headers


async def stale(client: Client) -> bool:
    """Say whether both tags come with a Warning; AssertionError where they do not come."""
    answers = [await client.manifest(f"mirror/library/{name}", tag) for name, tag in (("app", "1"), ("flat", "latest"))]
    assert [answer.status for answer in answers] == [200, 200]
    assert [answer.body for answer in answers] == [IMAGE.payload, FLAT.payload]
    return all(answer.headers.get("Warning", "").startswith('299 - "') for answer in answers)


async def test_everything_cached_is_served_without_the_upstream(hub: Hub, cached: Service) -> None:
    hub.add(IMAGE, "library/app", "1")
    hub.add(FLAT, "library/flat", "latest")
    async with crowd(cached, 12) as clients:
        await pull_everything(clients[0])
        await committed(cached)
        hub.down()

        async def all_stale() -> bool:
            return all(await at_once(clients, stale))

        await eventually(all_stale, what="the tags to be no longer fresh", interval=0.2)
        await at_once(clients, pull_everything)

    cached.restart()
    async with crowd(cached, 12) as clients:
        assert all(await at_once(clients, stale))
        await at_once(clients, pull_everything)
        assert (await clients[0].ask("GET", "/v2/mirror/library/app/tags/list")).document["tags"] == ["1"]
        assert (await clients[0].ask("GET", "/readyz")).status == 200

    cached.kill()
    cached.start()
    async with crowd(cached, 12) as clients:
        await at_once(clients, pull_everything)
        assert all(await at_once(clients, stale))


async def test_a_fill_outlives_the_service(hub: Hub, cached: Service) -> None:
    """What had come before the service was stopped is not asked for again."""
    image = hub.add(single("interrupted", sizes=(4_000_000,)), "library/big", "1")
    (layer,) = image.layers
    size = len(image.blobs[layer])
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=3_000_000)
    async with Client(cached.url) as client:
        await client.pull_manifest("mirror/library/big", "1", image.digest, image)
        async with client.open("GET", f"/v2/mirror/library/big/blobs/{layer}") as response:
            got = 0
            while got < 2_000_000:
                got += len(await response.content.readany())
            cached.kill()
    hub.clear_faults()
    cached.start()
    async with Client(cached.url) as client:
        await client.pull("mirror/library/big", "1", image)
    asked = hub.counters()
    assert asked.blob_gets[layer] == 2
    assert asked.blob_bytes[layer] < 1.5 * size
