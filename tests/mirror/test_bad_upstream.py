"""An upstream that answers nonsense: clients are told so in words, nobody takes it for an image, nothing is kept."""

from __future__ import annotations

from functools import partial
from typing import Any

import aiohttp
import pytest

from tests.images import Image
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Answer, Client, matching
from .conftest import Make
from .crowd import at_once, crowd
from .inside import committed, sql

_CROWD = 8
_LAYER = 600_000


async def nothing_is_kept(service: Service, *digests: str) -> None:
    """Check that the service has neither a blob's row nor its bytes."""
    await committed(service)
    for digest in digests:
        assert sql(service, "SELECT object_key FROM blob WHERE digest = ?", digest) == []


def layer_of(image: Image) -> tuple[str, bytes]:
    (digest,) = image.layers
    return digest, image.blobs[digest]


# manifests


@pytest.mark.parametrize(
    ("method", "action", "details", "status"),
    [
        ("HEAD", "html", {}, 503),
        ("HEAD", "redirect", {"url": "http://127.0.0.1:9/v2/"}, 503),
        ("HEAD", "redirect", {"url": "ftp://127.0.0.1/"}, 502),
        ("HEAD", "redirect", {"url": ""}, 502),
        ("HEAD", "status", {"status": 299}, 502),
        ("HEAD", "status", {"status": 302}, 502),
        ("HEAD", "status", {"status": 410}, 502),
        ("HEAD", "status", {"status": 408}, 503),
        ("GET", "html", {}, 503),
        ("GET", "wrong_length", {"delta": 10}, 503),
        ("GET", "cut", {}, 503),
        ("GET", "redirect", {"url": "http://127.0.0.1:9/v2/"}, 503),
        ("GET", "status", {"status": 500}, 503),
    ],
)
async def test_a_manifest_that_cannot_be_used(
    hub: Hub,
    service: Service,
    repository: str,
    make: Make,
    method: str,
    action: Any,
    details: dict[str, Any],
    status: int,
) -> None:
    image = hub.add(make(sizes=(100,)), repository, "8.0")
    name = f"mirror/{repository}"
    hub.fault("manifest", action, method=method, times=None, **details)
    async with crowd(service, _CROWD) as clients:
        for reference in ("8.0", image.digest):
            for answer in await at_once(clients, partial(_pull, name, reference)):
                assert answer.status == status, answer
                assert "docker.io" in answer.words or "upstream" in answer.words
        catalogue = await clients[0].ask("GET", f"/v2/_catalog?last={name[:-1]}&n=1000")
        assert name not in catalogue.document["repositories"]
        hub.clear_faults()
        await clients[0].pull(name, "8.0", image)


@pytest.mark.parametrize(
    ("action", "details"),
    [("corrupt", {}), ("wrong_length", {"delta": -10}), ("status", {"status": 299}), ("status", {"status": 418})],
)
async def test_a_manifest_that_cannot_be_used_costs_once(
    hub: Hub, service: Service, repository: str, make: Make, action: Any, details: dict[str, Any]
) -> None:
    image = hub.add(make(sizes=(100,)), repository, "8.0")
    name = f"mirror/{repository}"
    hub.fault("manifest", action, method="GET", times=None, **details)
    said = set()
    async with crowd(service, _CROWD) as clients:
        for reference in ("8.0", image.digest):
            for _ in range(2):
                for answer in await at_once(clients, partial(_pull, name, reference)):
                    assert answer.status == 502, answer
                    said.add(answer.words)
                answer = await clients[0].manifest(name, reference, method="HEAD")
                assert answer.status == 502
        assert hub.counters().requests[f"GET /v2/{repository}/manifests/{image.digest}"] == 1
        assert len(said) == 1, "whoever comes later gets the reason, too"
        # A tag that moves is asked for at once.
        hub.clear_faults()
        await clients[0].pull(name, "8.0", hub.add(make(sizes=(100,)), repository, "8.0"))


@pytest.mark.parametrize("action", ["chunked", "no_digest"])
async def test_a_manifest_that_is_only_spelled_unusually(
    hub: Hub, client: Client, repository: str, make: Make, action: Any
) -> None:
    image = hub.add(make(), repository, "8.0")
    hub.fault("manifest", action, times=None)
    await client.pull(f"mirror/{repository}", "8.0", image)
    await client.pull(f"mirror/{repository}", "8.0", image)
    assert hub.counters().get_manifest == 2


@pytest.mark.parametrize(
    ("action", "details", "status"),
    [
        ("html", {}, 503),
        ("cut", {"after": 10}, 503),
        ("status", {"status": 400}, 503),
        ("status", {"status": 403}, 403),
        ("status", {"status": 500}, 503),
        ("redirect", {"url": "http://127.0.0.1:9/token"}, 503),
    ],
)
async def test_a_token_service_that_is_none(
    hub: Hub, client: Client, repository: str, make: Make, action: Any, details: dict[str, Any], status: int
) -> None:
    image = hub.add(make(sizes=(100,)), repository, "8.0")
    hub.fault("token", action, times=None, **details)
    answer = await client.manifest(f"mirror/{repository}", "8.0")
    assert answer.status == status, answer
    assert "docker.io" in answer.words
    hub.clear_faults()
    await client.pull(f"mirror/{repository}", "8.0", image)


# addresses


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "10.0.0.1", "192.168.1.1", "[fe80::1]", "[fd00::1]", "0.0.0.0", "[::ffff:10.0.0.1]"]
)
@pytest.mark.parametrize(("kind", "action"), [("manifest", "redirect"), ("manifest", "realm"), ("blob", "redirect")])
async def test_an_upstream_that_points_behind_the_firewall(
    hub: Hub, service: Service, repository: str, make: Make, kind: Any, action: Any, address: str
) -> None:
    """Refused without a connection: the upstream stands on loopback, which opens loopback to it and nothing else."""
    image = hub.add(make(sizes=(_LAYER,)), repository, "8.0")
    name, (digest, _) = f"mirror/{repository}", layer_of(image)
    async with Client(service.url) as client:
        if kind == "blob":
            await client.pull_manifest(name, "8.0", image.digest, image)
        hub.fault(kind, action, url=f"http://{address}:9/", times=None)
        before = await _sent_elsewhere(service)
        if kind == "blob":
            answers = [await client.blob(name, digest), await client.blob(name, digest, method="HEAD")]
        else:
            answers = [await client.manifest(name, "8.0"), await client.manifest(name, "8.0", method="HEAD")]
        assert [answer.status for answer in answers] == [502, 502]
        assert "points to an address that is refused here" in answers[0].words
        assert address.strip("[]") not in answers[0].words
        assert await _sent_elsewhere(service) == before
        hub.clear_faults()
        await client.pull(name, "8.0", image)


async def _sent_elsewhere(service: Service) -> float:
    """Count what was sent to where the upstream redirects, and what was sent anywhere in vain."""
    async with Client(service.url) as client:
        text = (await client.ask("GET", "/metrics")).body.decode()
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("registry_upstream_requests_total{")
        and ('kind="storage"' in line or 'status="none"' in line)
    )


# blobs


@pytest.mark.parametrize(
    ("kind", "action", "details", "status"),
    [
        ("cdn", "html", {}, 502),
        ("cdn", "wrong_length", {"delta": 10}, 502),
        ("cdn", "wrong_length", {"delta": -10}, 502),
        ("cdn", "status", {"status": 403}, 503),
        ("cdn", "status", {"status": 404}, 503),
        ("cdn", "status", {"status": 500}, 503),
        ("cdn", "status", {"status": 206}, 502),
        ("cdn", "status", {"status": 429, "retry_after": "3"}, 429),
        ("blob", "html", {}, 502),
        ("blob", "status", {"status": 401}, 403),
        ("blob", "status", {"status": 403}, 403),
        ("blob", "status", {"status": 404}, 404),
        ("blob", "status", {"status": 429}, 429),
        ("blob", "status", {"status": 500}, 503),
        ("blob", "redirect", {"url": "http://127.0.0.1:9/data"}, 503),
        ("blob", "redirect", {"url": "file:///etc/passwd"}, 502),
        ("blob", "redirect", {"url": ""}, 502),
    ],
)
async def test_a_blob_that_cannot_be_used(
    hub: Hub,
    service: Service,
    repository: str,
    make: Make,
    kind: Any,
    action: Any,
    details: dict[str, Any],
    status: int,
) -> None:
    image = hub.add(make(sizes=(_LAYER,)), repository, "8.0")
    name, (digest, _) = f"mirror/{repository}", layer_of(image)
    async with crowd(service, _CROWD) as clients:
        await clients[0].pull_manifest(name, "8.0", image.digest, image)
        hub.fault(kind, action, times=None, **details)
        for answer in await at_once(clients, lambda client: client.blob(name, digest)):
            assert answer.status == status, answer
            assert len(answer.words) > 20
            if answer.status in (429, 503):
                assert int(answer.headers["Retry-After"]) >= 1
        await nothing_is_kept(service, digest)
        hub.clear_faults()
        await clients[0].pull(name, "8.0", image)


async def test_a_blob_of_another_digest_reaches_nobody_whole(
    hub: Hub, service: Service, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(_LAYER,)), repository, "8.0")
    name, (digest, data) = f"mirror/{repository}", layer_of(image)
    hub.fault("cdn", "corrupt", path=f"/data/{digest}", times=None)

    async def pull(client: Client) -> None:
        async with client.open("GET", f"/v2/{name}/blobs/{digest}") as response:
            if response.status != 200:
                assert response.status == 502
                return
            assert response.content_length == len(data)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    async with crowd(service, _CROWD) as clients:
        await clients[0].pull_manifest(name, "8.0", image.digest, image)
        await at_once(clients, pull)
        await nothing_is_kept(service, digest)
        # A part of it only, from before the wrong byte and from behind it.
        for span in ("0-9", f"{len(data) - 10}-"):
            try:
                answer = await clients[0].blob(name, digest, span=span)
            except aiohttp.ClientPayloadError:
                continue
            first = int(span.partition("-")[0])
            assert answer.status == 502 or answer.body == data[first : first + 10]
        hub.clear_faults()
        await at_once(clients, lambda client: client.pull(name, "8.0", image))


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
async def test_a_blob_that_is_cut_is_gone_on_with(
    hub: Hub, service: Service, repository: str, make: Make, ranges: bool
) -> None:
    image = hub.add(make(sizes=(_LAYER,)), repository, "8.0")
    name, (digest, data) = f"mirror/{repository}", layer_of(image)
    hub.fault("cdn", "cut", path=f"/data/{digest}")
    if not ranges:
        hub.fault("cdn", "no_range", path=f"/data/{digest}")
    async with crowd(service, _CROWD) as clients:
        await clients[0].pull_manifest(name, "8.0", image.digest, image)
        await at_once(clients, lambda client: client.pull_blob(name, digest, image))
    asked = hub.counters()
    assert asked.blob_gets[digest] == 2
    assert asked.blob_bytes[digest] >= len(data)
    # The half that had come was not sent again where the upstream knows how to go on.
    assert (asked.blob_bytes[digest] < 1.4 * len(data)) is ranges


async def test_a_blob_that_never_comes_whole_is_not_waited_for_in_vain(
    hub: Hub, service: Service, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(_LAYER,)), repository, "8.0")
    name, (digest, data) = f"mirror/{repository}", layer_of(image)
    hub.fault("cdn", "cut", path=f"/data/{digest}", after=len(data) // 2)
    hub.fault("cdn", "cut", path=f"/data/{digest}", after=0, times=None)

    async def pull(client: Client) -> None:
        async with client.open("GET", f"/v2/{name}/blobs/{digest}") as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await matching(response, data)

    async with crowd(service, _CROWD) as clients:
        await clients[0].pull_manifest(name, "8.0", image.digest, image)
        await at_once(clients, pull)
        assert sql(service, "SELECT object_key FROM blob WHERE digest = ?", digest) == []
        # What had come was kept and is gone on with.
        hub.clear_faults()
        hub.reset_counters()
        await at_once(clients, lambda client: client.pull_blob(name, digest, image))
        assert hub.counters().blob_bytes[digest] < 0.9 * len(data)


@pytest.mark.parametrize(("kind", "action"), [("cdn", "chunked"), ("blob", "relative")])
async def test_a_blob_that_is_only_sent_unusually(
    hub: Hub, service: Service, repository: str, make: Make, kind: Any, action: Any
) -> None:
    image = hub.add(make(sizes=(_LAYER,)), repository, "8.0")
    hub.fault(kind, action, times=None)
    async with crowd(service, _CROWD) as clients:
        await at_once(clients, lambda client: client.pull(f"mirror/{repository}", "8.0", image))
    assert set(hub.counters().blob_gets.values()) == {1}


async def test_links_and_tokens_that_run_out_are_had_anew(
    hub: Hub, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    name = f"mirror/{repository}"
    await client.pull_manifest(name, "8.0", image.digest, image)
    hub.revoke_tokens()
    await client.pull(name, "8.0", image)
    assert hub.counters().get_manifest == 2


async def test_an_upstream_that_says_nothing_at_all(
    hub: Hub, client: Client, project: str, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(_LAYER,)), repository, "8.0")
    name = f"{project}/{repository}"
    hub.fault("manifest", "stall", times=None)
    answer = await client.manifest(name, "8.0")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert f"{project}.example does not answer" in answer.words
    assert int(answer.headers["Retry-After"]) >= 1
    hub.clear_faults()
    await client.pull(name, "8.0", image)


async def _pull(name: str, reference: str, client: Client) -> Answer:
    return await client.manifest(name, reference)
