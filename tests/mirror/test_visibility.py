"""Who sees what of a mirror: what the upstream shows for that very repository, and who may have it fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.api.client import Registry
from tests.images import Image
from tests.parts.process import eventually
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client, matching
from .conftest import ACCOUNT, Make
from .inside import committed, let_time_pass, sql

OUTSIDE = "127.0.0.2"


@pytest.fixture
async def outsider(service: Service) -> AsyncIterator[Client]:
    """Somebody without an account, and from where nobody may have anything fetched."""
    async with Client(service.url, source=OUTSIDE) as client:
        yield client


@pytest.fixture
def other(repository: str) -> str:
    """Make up a second repository."""
    return f"{repository}-other"


def layer_of(image: Image) -> str:
    return image.layers[0]


# from one repository to another


async def test_a_blob_is_cached_for_one_repository_alone(
    hub: Hub, service: Service, client: Client, repository: str, other: str, make: Make
) -> None:
    image = hub.add(make(sizes=(50_000,)), repository, "8.0")
    hub.add(make(sizes=(10,)), other, "8.0")
    layer = layer_of(image)
    await client.pull(f"mirror/{repository}", "8.0", image)
    await committed(service)

    assert (await client.manifest(f"mirror/{other}", "8.0")).status == 200
    for method in ("HEAD", "GET"):
        assert (await client.blob(f"mirror/{other}", layer, method=method)).status == 404
        # A name the upstream does not know is not told apart there from a private one.
        assert (await client.blob(f"mirror/{repository}-missing", layer, method=method)).status == 403
    assert (await client.manifest(f"mirror/{other}", image.digest)).status == 404


@pytest.mark.parametrize("known", [True, False], ids=["known", "never-heard-of"])
async def test_a_blob_that_the_upstream_has_there_too_is_not_sent_twice(
    hub: Hub, service: Service, client: Client, repository: str, other: str, make: Make, known: bool
) -> None:
    image = hub.add(make(sizes=(50_000,)), repository, "8.0")
    hub.add(image, other, "9.0")
    await client.pull(f"mirror/{repository}", "8.0", image)
    await committed(service)
    if known:
        await client.pull_manifest(f"mirror/{other}", "9.0", image.digest, image)
    for _ in range(2):
        for digest in image.blobs:
            await client.pull_blob(f"mirror/{other}", digest, image)
    asked = hub.counters()
    assert set(asked.blob_gets.values()) == {1}
    # Without a manifest that says how large it is, the size is asked for besides.
    assert asked.head_blob == len(image.blobs) * (1 if known else 2)


async def test_a_blob_on_its_way_is_no_more_public_than_a_cached_one(
    hub: Hub, service: Service, client: Client, repository: str, other: str, make: Make
) -> None:
    image = hub.add(make(sizes=(300_000,)), repository, "8.0")
    hub.add(image, f"{other}-too", "8.0")
    hub.add(make(sizes=(10,)), other, "8.0")
    layer = layer_of(image)
    data = image.blobs[layer]
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=1_000)
    async with client.open("GET", f"/v2/mirror/{repository}/blobs/{layer}") as response:
        first = await response.content.readany()
        assert data.startswith(first)
        assert (await client.blob(f"mirror/{other}", layer)).status == 404
        joined = asyncio.create_task(client.pull_blob(f"mirror/{other}-too", layer, image))

        async def looked() -> bool:
            return hub.counters().head_blob >= 2

        await eventually(looked, what="the upstream to be asked about the third repository")
        hub.clear_faults()
        assert await matching(response, data[len(first) :]) == len(data) - len(first)
        await joined
    assert hub.counters().blob_gets[layer] == 1


async def test_who_joined_anothers_fill_has_the_blob_afterwards_too(
    hub: Hub, service: Service, client: Client, repository: str, other: str, make: Make
) -> None:
    image = hub.add(make(sizes=(300_000,)), repository, "8.0")
    hub.add(image, other, "8.0")
    layer = layer_of(image)
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=1_000)
    async with client.open("GET", f"/v2/mirror/{repository}/blobs/{layer}") as response:
        await client.pull_manifest(f"mirror/{other}", "8.0", image.digest, image)
        async with client.open("GET", f"/v2/mirror/{other}/blobs/{layer}") as joined:
            assert joined.status == 200
            hub.clear_faults()
            assert await joined.read() == await response.read() == image.blobs[layer]

    async def linked() -> bool:
        return len(sql(service, "SELECT 1 FROM link WHERE digest = ?", layer)) == 2

    await eventually(linked, what="both repositories to have the blob")
    assert hub.counters().blob_gets[layer] == 1
    hub.down()
    for name in (repository, other):
        await client.pull_blob(f"mirror/{name}", layer, image)


# between hosting and mirroring


async def test_what_is_hosted_does_not_show_in_a_mirror_nor_the_other_way_round(
    hub: Hub, service: Service, client: Client, admin: Client, repository: str, make: Make
) -> None:
    pushed, mirrored = make(sizes=(1_000,)), hub.add(make(sizes=(2_000,)), repository, "8.0")
    registry = Registry(service.host, service.username, service.password)
    await asyncio.to_thread(registry.push_image, "secret/app", "1", pushed)
    name = f"mirror/{repository}"
    await admin.pull(name, "8.0", mirrored)
    await committed(service)
    for someone in (client, admin):
        assert (await someone.blob(name, layer_of(pushed))).status == 404
        assert (await someone.manifest(name, pushed.digest)).status == 404
    for hosted in ("secret/app", "lab/app"):
        assert (await admin.blob(hosted, layer_of(mirrored))).status == 404
        assert (await admin.manifest(hosted, mirrored.digest)).status == 404
        answer = await asyncio.to_thread(registry.put_manifest, hosted, "2", mirrored.payload, mirrored.media_type)
        assert (answer.status, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")
    # Without a source, a mount looks no further than its own project.
    answer = await asyncio.to_thread(
        registry.call, "POST", f"/v2/lab/app/blobs/uploads/?mount={layer_of(mirrored)}", b""
    )
    assert answer.status == 202


async def test_the_same_bytes_may_be_hosted_and_mirrored(
    hub: Hub, service: Service, client: Client, admin: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(1_000,)), repository, "8.0")
    registry = Registry(service.host, service.username, service.password)
    await asyncio.to_thread(registry.push_image, "secret/same", "1", image)
    for _ in range(2):
        await client.pull(f"mirror/{repository}", "8.0", image)
        await admin.pull("secret/same", "1", image)
    # The store has the bytes; the upstream said that this repository has them as well.
    assert hub.counters().bytes == 0
    assert hub.counters().head_blob == len(image.blobs)


# with an account


async def test_an_account_shows_nothing_in_public_that_the_upstream_does_not(
    hub: Hub, service: Service, client: Client, admin: Client, repository: str, other: str, make: Make
) -> None:
    image = hub.add(make(sizes=(300_000,)), repository, "8.0", readers=[ACCOUNT])
    layer = layer_of(image)

    async def refused(name: str) -> None:
        for someone in (client, admin):
            for reference in ("8.0", image.digest):
                answer = await someone.manifest(name, reference)
                assert (answer.status, answer.code) == (403, "DENIED")
            for method in ("HEAD", "GET"):
                assert (await someone.blob(name, layer, method=method)).status == 403

    await refused(f"paid/{repository}")
    await refused(f"mirror/{repository}")
    # Nor is it shown by a public image that names the private one's parts: who may push to the upstream could make one.
    hub.add(Image({}, image.manifests, image.digest), other, "8.0")
    await client.pull_manifest(f"paid/{other}", "8.0", image.digest, image)

    async def not_there() -> None:
        for method in ("HEAD", "GET"):
            assert (await client.blob(f"paid/{other}", layer, method=method)).status == 404

    hub.fault("cdn", "stall", path=f"/data/{layer}", after=1_000)
    async with admin.open("GET", f"/v2/vault/{repository}/blobs/{layer}") as response:
        assert response.status == 200
        await refused(f"paid/{repository}")
        await not_there()
        hub.clear_faults()
        await response.read()
    await admin.pull(f"vault/{repository}", "8.0", image)
    await committed(service)
    await refused(f"paid/{repository}")
    await refused(f"mirror/{repository}")
    await not_there()


async def test_an_account_pulls_what_is_public(hub: Hub, client: Client, repository: str, make: Make) -> None:
    image = hub.add(make(), repository, "8.0")
    hub.limit(0)
    hub.limit(50, source=ACCOUNT)
    await client.pull(f"paid/{repository}", "8.0", image)
    await client.pull(f"paid/{repository}", "8.0", image)
    assert (hub.counters().get_manifest, hub.counters().get_manifest_429) == (2, 0)


async def test_an_image_that_became_private_is_not_shown_by_its_tag(
    hub: Hub, service: Service, client: Client, admin: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    await client.pull(f"paid/{repository}", "8.0", image)
    hub.add(image, repository, "8.0", readers=[ACCOUNT])
    hub.revoke_tokens()
    let_time_pass(service, f"paid/{repository}")
    answer = await client.manifest(f"paid/{repository}", "8.0")
    assert (answer.status, answer.code) == (403, "DENIED")
    await admin.pull(f"vault/{repository}", "8.0", image)


async def test_a_private_mirror_is_there_for_those_who_may(
    hub: Hub, client: Client, admin: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    await admin.pull(f"team/{repository}", "8.0", image)
    requests = hub.counters().requests
    answers = [
        await client.ask("GET", path.format(project))
        for project in ("team", "no-such-project")
        for path in (
            f"/v2/{{}}/{repository}/manifests/8.0",
            f"/v2/{{}}/{repository}/blobs/{image.platform('linux/amd64').layers[0]}",
            f"/v2/{{}}/{repository}/tags/list",
        )
    ]
    for ours, nobodys in zip(answers[:3], answers[3:], strict=True):
        assert (ours.status, ours.code) == (nobodys.status, nobodys.code) == (401, "UNAUTHORIZED")
        assert ours.words.replace("team", "no-such-project") == nobodys.words
    assert hub.counters().requests == requests
    for someone, sees in ((client, False), (admin, True)):
        catalogue = await someone.ask("GET", "/v2/_catalog?last=team/")
        assert (f"team/{repository}" in catalogue.document["repositories"]) is sees


# from outside


async def test_an_outsider_pulls_what_is_cached_and_starts_no_fill(
    hub: Hub, service: Service, client: Client, outsider: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(50_000,)), repository, "8.0")
    name, layer = f"mirror/{repository}", layer_of(image)
    for reference in ("8.0", image.digest):
        assert (await outsider.manifest(name, reference, method="HEAD")).status == 403
        answer = await outsider.manifest(name, reference)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert "docker login" in answer.words
    answer = await outsider.blob(name, layer)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "docker login" in answer.words
    assert (await outsider.blob(name, layer, method="HEAD")).status == 403
    # An abuse limit counts every request, also those for names that an outsider made up.
    assert hub.counters().requests.total() == 0

    await client.pull(name, "8.0", image)
    await committed(service)
    await outsider.pull(name, "8.0", image)

    # A tag that has moved is had as it was, until somebody who may has the new one fetched.
    new = hub.add(make(sizes=(100,)), repository, "8.0")
    let_time_pass(service, name)
    answer = await outsider.manifest(name, "8.0")
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (200, image.digest)
    assert "Warning" in answer.headers
    assert (await outsider.manifest(name, new.digest)).status == 403
    let_time_pass(service, name)
    await client.pull(name, "8.0", new)
    await committed(service)
    await outsider.pull(name, "8.0", new)


async def test_outsiders_have_tags_compared_only_so_often(
    hub: Hub, service: Service, client: Client, outsider: Client, project: str, repository: str, make: Make
) -> None:
    most = 60
    image = hub.add(make(sizes=(10,)), repository, *(f"v{number}" for number in range(most + 20)))
    name = f"{project}/{repository}"
    for number in range(most + 20):
        await client.manifest(name, f"v{number}")
    let_time_pass(service, name)
    hub.reset_counters()
    for number in range(most + 20):
        answer = await outsider.manifest(name, f"v{number}")
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (200, image.digest)
        assert ("Warning" in answer.headers) == (number >= most)
    assert hub.counters().head_manifest == most
    # What outsiders did is nobody else's loss.
    assert "Warning" not in (await client.manifest(name, f"v{most + 1}")).headers


async def test_who_logs_in_may_have_it_fetched_from_anywhere(
    hub: Hub, service: Service, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    login = (service.username, service.password)
    async with Client(service.url, source=OUTSIDE, login=login) as client:
        await client.pull(f"mirror/{repository}", "8.0", image)


async def test_an_outsider_is_nobody_elses_obstacle(
    hub: Hub, service: Service, client: Client, outsider: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    hub.pace(latency=0.2)
    name = f"mirror/{repository}"
    refused, _ = await asyncio.gather(
        outsider.manifest(name, "8.0"),
        asyncio.gather(*(client.pull_manifest(name, "8.0", image.digest, image) for _ in range(8))),
    )
    assert refused.status in (200, 403)
    assert hub.counters().get_manifest == 1
