"""HEAD of a manifest that is not cached: answered from the upstream's own HEAD, which no upstream counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from tests.images import Image
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.upstream.faults import Action

from .client import Answer, Client
from .conftest import Make
from .crowd import at_once, crowd
from .inside import let_time_pass

_CROWD = 12


def describes(answer: Answer, image: Image) -> None:
    """Check that an answer without a body says everything of the image's manifest."""
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Docker-Content-Digest"] == image.digest
    assert answer.headers["Content-Type"] == image.media_type
    assert answer.headers["Content-Length"] == str(len(image.payload))
    assert answer.headers["ETag"] == f'"{image.digest}"'
    assert "Warning" not in answer.headers


async def test_a_cold_head_costs_nothing_and_leaves_nothing(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    child = image.platform("linux/arm64")
    name = f"mirror/{repository}"
    hub.limit(0)
    for reference, expected in (("8.0", image), (image.digest, image), (child.digest, child)):
        describes(await client.manifest(name, reference, method="HEAD"), expected)
    asked = hub.counters()
    assert (asked.get_manifest, asked.get_manifest_429) == (0, 0)
    catalogue = await client.ask("GET", f"/v2/_catalog?last={name[:-1]}&n=1000")
    assert name not in catalogue.document["repositories"]


async def test_a_pull_as_docker_does_it_costs_two_and_keeps_its_tags(
    hub: Hub, service: Service, repository: str, make: Make
) -> None:
    """HEAD by tag, GET by digest: many clients, who call the image by different names."""
    image = hub.add(make(), repository, "8", "8.0", "latest")
    name = f"mirror/{repository}"

    async def pull(client: Client, tag: str) -> None:
        describes(await client.manifest(name, tag, method="HEAD"), image)
        await client.pull(name, image.digest, image)

    async with crowd(service, _CROWD) as clients:
        tags = ["8", "8.0", "latest"] * (_CROWD // 3)
        await asyncio.gather(*(pull(client, tag) for client, tag in zip(clients, tags, strict=True)))
        asked = hub.counters()
        assert asked.get_manifest == 2
        for tag in ("8", "8.0", "latest"):
            describes(await clients[0].manifest(name, tag, method="HEAD"), image)
        answer = await clients[0].ask("GET", f"/v2/{name}/tags/list")
        assert answer.document["tags"] == ["8", "8.0", "latest"]
        hub.down()
        for tag in ("8", "8.0", "latest"):
            await clients[1].pull(name, tag, image)
        hub.up()
    assert hub.counters().get_manifest == 2


async def test_a_tag_heard_of_later_is_kept_too(hub: Hub, client: Client, repository: str, make: Make) -> None:
    image = hub.add(make(sizes=(10,)), repository, "8.0")
    name = f"mirror/{repository}"
    await client.pull(name, image.digest, image)
    describes(await client.manifest(name, "8.0", method="HEAD"), image)
    hub.down()
    describes(await client.manifest(name, "8.0", method="HEAD"), image)
    await client.pull(name, "8.0", image)
    hub.up()


async def test_a_note_of_a_tag_does_not_turn_it_back(hub: Hub, client: Client, repository: str, make: Make) -> None:
    old = hub.add(make(sizes=(10,)), repository, "8.0")
    name = f"mirror/{repository}"
    describes(await client.manifest(name, "8.0", method="HEAD"), old)
    new = hub.add(make(sizes=(10,)), repository, "8.0")
    await client.pull_manifest(name, "8.0", new.digest, new)
    await client.pull_manifest(name, old.digest, old.digest, old)
    describes(await client.manifest(name, "8.0", method="HEAD"), new)


async def test_a_tag_that_is_cached_is_headed_as_it_is_pulled(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(10,)), repository, "8.0")
    name = f"mirror/{repository}"
    await client.pull(name, "8.0", image)
    let_time_pass(service, name)
    hub.reset_counters()
    for _ in range(3):
        describes(await client.manifest(name, "8.0", method="HEAD"), image)
    assert hub.counters().requests == {f"HEAD /v2/{repository}/manifests/8.0": 1}


async def test_an_older_tag_is_headed_although_the_upstream_is_away(
    hub: Hub, service: Service, client: Client, project: str, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(10,)), repository, "8.0")
    name = f"{project}/{repository}"
    await client.pull(name, "8.0", image)
    let_time_pass(service, name)
    hub.down()
    answer = await client.manifest(name, "8.0", method="HEAD")
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (200, image.digest)
    assert answer.headers["Content-Length"] == str(len(image.payload))
    assert answer.headers["Warning"].startswith('299 - "')
    hub.up()


@pytest.mark.parametrize("action", ["no_digest", "html"])
async def test_an_upstream_that_does_not_describe_what_it_has(
    hub: Hub, client: Client, repository: str, make: Make, action: Action
) -> None:
    image = hub.add(make(sizes=(10,)), repository, "8.0")
    name = f"mirror/{repository}"
    hub.fault("manifest", action, method="HEAD", times=None)
    answer = await client.manifest(name, "8.0", method="HEAD")
    if action == "html":
        assert (answer.status, answer.body) == (503, b"")
        return
    describes(answer, image)
    assert hub.counters().get_manifest == 1
    await client.pull(name, "8.0", image)
    assert hub.counters().get_manifest == 1


async def test_a_digest_needs_no_digest_from_the_upstream(
    hub: Hub, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(10,)), repository, "8.0")
    hub.fault("manifest", "no_digest", method="HEAD", times=None)
    describes(await client.manifest(f"mirror/{repository}", image.digest, method="HEAD"), image)
    assert hub.counters().get_manifest == 0


@pytest.mark.parametrize(
    ("status", "retry_after", "answered"),
    [(401, None, 403), (403, None, 403), (404, None, 404), (418, None, 502), (429, "7", 429), (500, None, 503)],
)
async def test_what_stands_in_the_way_of_a_get_stands_in_the_way_of_a_head(
    hub: Hub, service: Service, project: str, repository: str, make: Make, status: int, retry_after: str | None,
    answered: int,
) -> None:  # fmt: skip
    image = hub.add(make(sizes=(10,)), repository, "8.0")
    name = f"{project}/{repository}"
    hub.fault("manifest", "status", status=status, retry_after=retry_after, times=None)
    async with crowd(service, _CROWD) as clients:
        for reference in ("8.0", image.digest):

            def head(one: Client, wanted: str = reference) -> Awaitable[Answer]:
                return one.manifest(name, wanted, method="HEAD")

            for answer in await at_once(clients, head):
                assert (answer.status, answer.body) == (answered, b"")
                assert answered not in (429, 503) or int(answer.headers["Retry-After"]) >= 1
    asked = hub.counters()
    assert asked.get_manifest == asked.get_manifest_429 == 0


async def test_a_tag_that_is_not_there_is_remembered_from_a_head(
    hub: Hub, client: Client, repository: str, make: Make
) -> None:
    hub.add(make(sizes=(10,)), repository, "8.0")
    name = f"mirror/{repository}"
    for method in ("HEAD", "HEAD", "GET"):
        assert (await client.manifest(name, "9.0", method=method)).status == 404
    # Without a token, and with one.
    assert hub.counters().requests[f"HEAD /v2/{repository}/manifests/9.0"] == 2


async def test_who_may_have_nothing_fetched_asks_the_upstream_nothing(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    name = f"mirror/{repository}"
    async with Client(service.url, source="127.0.0.2") as outsider:
        for reference in ("8.0", "no-such-tag", image.digest):
            for method in ("HEAD", "GET"):
                assert (await outsider.manifest(name, reference, method=method)).status == 403
        assert hub.counters().requests.total() == 0
        await client.pull_manifest(name, "8.0", image.digest, image)
        for reference in ("8.0", image.digest):
            describes(await outsider.manifest(name, reference, method="HEAD"), image)
