"""What a mirror answers when all is well: byte for byte what the upstream has, and no more of it than was asked for."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.client import Registry
from tests.images import PLATFORMS, Style
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client
from .conftest import Make
from .inside import committed


@pytest.mark.parametrize("style", ["oci", "docker"])
async def test_an_index_is_kept_byte_for_byte_and_its_children_come_when_asked_for(
    hub: Hub, client: Client, repository: str, make: Make, style: Style
) -> None:
    image = hub.add(make(style=style), repository, "8.0")
    name = f"mirror/{repository}"

    await client.pull_manifest(name, "8.0", image.digest, image)
    asked = hub.counters()
    assert asked.get_manifest == 1
    assert asked.get_blob == 0

    await client.pull(name, "8.0", image)
    asked = hub.counters()
    assert asked.get_manifest == 2
    assert set(asked.blob_gets) == set(image.platform("linux/amd64").blobs)

    for platform in PLATFORMS:
        await client.pull(name, "8.0", image, platform=platform)
        await client.pull(name, image.digest, image, platform=platform)
    asked = hub.counters()
    assert asked.get_manifest == 3
    assert asked.blob_gets == dict.fromkeys(image.blobs, 1)
    assert asked.bytes == image.size


async def test_a_manifest_may_be_asked_for_by_head(hub: Hub, client: Client, repository: str, make: Make) -> None:
    image = hub.add(make(), repository, "8.0")
    child = image.platform("linux/arm64")
    for name in (f"mirror/{repository}", f"mirror/{repository}"):  # cold, then warm
        for reference, expected in (("8.0", image), (child.digest, child)):
            answer = await client.manifest(name, reference, method="HEAD")
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["Docker-Content-Digest"] == expected.digest
            assert answer.headers["Content-Type"] == expected.media_type
            assert answer.headers["Content-Length"] == str(len(expected.payload))


async def test_a_digest_without_its_tag_is_pulled_too(hub: Hub, client: Client, repository: str, make: Make) -> None:
    image = hub.add(make(), repository, "8.0")
    await client.pull(f"mirror/{repository}", image.digest, image)
    assert hub.counters().get_manifest == 2
    answer = await client.ask("GET", f"/v2/mirror/{repository}/tags/list")
    assert (answer.status, answer.document["tags"]) == (200, ["8.0"])


async def test_head_of_a_blob_fetches_nothing(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(50_000,)), repository, "8.0")
    name, (layer,) = f"mirror/{repository}", image.layers
    for pulled in (False, True):
        if pulled:
            await client.pull(name, "8.0", image)
            await committed(service)
        answer = await client.blob(name, layer, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Length"] == str(len(image.blobs[layer]))
        assert answer.headers["Docker-Content-Digest"] == layer
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert hub.counters().blob_gets[layer] == int(pulled)
    assert hub.counters().head_blob == 1

    absent = f"sha256:{'0' * 64}"
    answer = await client.blob(name, absent, method="HEAD")
    assert answer.status == 404
    answer = await client.blob(name, absent)
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    ("span", "first", "stop"),
    [("0-0", 0, 1), ("20000-29999", 20_000, 30_000), ("40000-", 40_000, None), ("-100", -100, None)],
)
async def test_a_range_of_a_blob_cold_and_warm(
    hub: Hub, client: Client, repository: str, make: Make, span: str, first: int, stop: int | None
) -> None:
    image = hub.add(make(sizes=(50_000,)), repository, "8.0")
    name, (layer,) = f"mirror/{repository}", image.layers
    data = image.blobs[layer]
    await client.pull_manifest(name, "8.0", image.digest, image)
    start, end, _ = slice(first, stop).indices(len(data))
    for _temperature in ("cold", "warm"):
        answer = await client.blob(name, layer, span=span)
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(data)}"
        assert answer.body == data[start:end]
        # The whole of it came for the part, and is there for the next one.
        await client.pull_blob(name, layer, image)
    assert hub.counters().blob_gets[layer] == 1


async def test_a_range_past_the_end_of_a_cold_blob(hub: Hub, client: Client, repository: str, make: Make) -> None:
    image = hub.add(make(sizes=(50_000,)), repository, "8.0")
    (layer,) = image.layers
    for _temperature in ("cold", "warm"):
        answer = await client.blob(f"mirror/{repository}", layer, span="9999999-")
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(image.blobs[layer])}"


async def test_a_blob_may_come_before_any_manifest(hub: Hub, client: Client, repository: str, make: Make) -> None:
    image = hub.add(make(sizes=(50_000,)), repository, "8.0")
    await client.pull_blob(f"mirror/{repository}", image.layers[0], image)
    assert hub.counters().get_manifest == 0


async def test_nothing_can_be_pushed_to_a_mirror(hub: Hub, service: Service, repository: str, make: Make) -> None:
    image = hub.add(make(sizes=(2_000,)), repository, "8.0")
    name = f"mirror/{repository}"
    admin = Registry(service.host, service.username, service.password)

    async def refuse(method: str, path: str, body: bytes = b"") -> None:
        answer = await asyncio.to_thread(
            admin.call, method, f"/v2/{name}{path}", body, {"Content-Type": image.media_type}
        )
        assert (answer.status, answer.json()["errors"][0]["code"]) == (403, "DENIED"), (method, path)
        assert "pull-through cache of docker.io" in answer.json()["errors"][0]["message"]

    await refuse("POST", "/blobs/uploads/")
    await refuse("POST", f"/blobs/uploads/?mount={image.layers[0]}&from=lab/x")
    await refuse("PUT", "/manifests/8.0", image.payload)
    await refuse("PUT", f"/manifests/{image.digest}", image.payload)

    outsider = await asyncio.to_thread(Registry(service.host).call, "POST", f"/v2/{name}/blobs/uploads/", b"")
    assert (outsider.status, outsider.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")


async def test_what_is_upstream_shows_in_tags_and_what_is_cached_in_the_catalogue(
    hub: Hub, client: Client, admin: Client, repository: str, make: Make
) -> None:
    for tag in ("8.0", "latest", "7"):
        hub.add(make(sizes=(100,)), repository, tag)
    name = f"mirror/{repository}"
    answer = await client.ask("GET", f"/v2/{name}/tags/list")
    assert answer.document == {"name": name, "tags": ["7", "8.0", "latest"]}
    catalogue = await client.ask("GET", f"/v2/_catalog?last={name[:-1]}&n=1000")
    assert name not in catalogue.document["repositories"]

    for tag in ("8.0", "latest"):
        assert (await client.manifest(name, tag)).status == 200
    answer = await client.ask("GET", f"/v2/{name}/tags/list?n=2")
    assert answer.document["tags"] == ["7", "8.0"]
    assert answer.headers["Link"] == f'</v2/{name}/tags/list?n=2&last=8.0>; rel="next"'

    catalogue = await client.ask("GET", f"/v2/_catalog?last={name[:-1]}&n=1000")
    assert name in catalogue.document["repositories"]
