"""When the upstream is asked whether a tag has moved, what that costs, and what is served when it does not say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from tests.parts.process import eventually
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Answer, Client
from .conftest import Make
from .crowd import at_once, crowd
from .inside import committed, let_time_pass

_CROWD = 24


def is_stale(answer: Answer) -> bool:
    warning = answer.headers.get("Warning")
    assert warning is None or re.fullmatch(r'299 - "[^"]{20,}"', warning), warning
    return warning is not None


async def test_a_fresh_tag_costs_the_upstream_nothing(hub: Hub, service: Service, repository: str, make: Make) -> None:
    image = hub.add(make(), repository, "8.0")
    name = f"mirror/{repository}"
    async with Client(service.url) as client:
        await client.pull(name, "8.0", image)
    hub.reset_counters()
    async with crowd(service, _CROWD) as clients:
        await at_once(clients, lambda client: client.pull_manifest(name, "8.0", image.digest, image))
    assert hub.counters().requests.total() == 0


async def test_an_older_tag_is_asked_after_once_by_head(
    hub: Hub, service: Service, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    name = f"mirror/{repository}"
    async with crowd(service, _CROWD) as clients:
        await clients[0].pull(name, "8.0", image)
        await committed(service)
        hub.reset_counters()
        let_time_pass(service, name)
        await at_once(clients, lambda client: client.pull(name, "8.0", image))
    assert hub.counters().requests == {f"HEAD /v2/{repository}/manifests/8.0": 1}


async def test_a_tag_that_moved_is_fetched_once(hub: Hub, service: Service, repository: str, make: Make) -> None:
    old = hub.add(make(), repository, "8.0")
    name = f"mirror/{repository}"
    async with crowd(service, _CROWD) as clients:
        await clients[0].pull(name, "8.0", old)
        await committed(service)
        new = hub.add(make(), repository, "8.0")
        hub.reset_counters()
        # Believed for as long as it is fresh, ...
        await clients[1].pull(name, "8.0", old)
        assert hub.counters().requests.total() == 0
        let_time_pass(service, name)
        await at_once(clients, lambda client: client.pull_manifest(name, "8.0", new.digest, new))
        asked = hub.counters()
        assert (asked.head_manifest, asked.get_manifest) == (1, 1)
        # ... and by its digest for ever.
        await clients[2].pull(name, old.digest, old)
        assert hub.counters().requests == asked.requests

        hub.tag(repository, "8.0", old.digest)
        let_time_pass(service, name)
        await clients[3].pull(name, "8.0", old)
        asked = hub.counters()
        assert (asked.head_manifest, asked.get_manifest) == (2, 1)


async def test_several_names_of_one_manifest_cost_one_pull(
    hub: Hub, service: Service, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(10,)), repository, "8", "8.0", "latest")
    hub.pace(latency=0.05)
    name = f"mirror/{repository}"
    names = ["8", "8.0", "latest", image.digest] * (_CROWD // 4)
    async with crowd(service, _CROWD) as clients:
        await asyncio.gather(
            *(
                client.pull_manifest(name, wanted, image.digest, image)
                for client, wanted in zip(clients, names, strict=True)
            )
        )
        assert hub.counters().get_manifest == 1
        answer = await clients[0].ask("GET", f"/v2/{name}/tags/list")
        assert answer.document["tags"] == ["8", "8.0", "latest"]


async def test_a_digest_that_is_no_manifest_is_not_paid_for_again(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    name, missing = f"mirror/{repository}", image.platform("linux/arm64")
    await client.pull(name, "8.0", image)
    hub.remove(repository, missing.digest)
    hub.reset_counters()
    for digest in (missing.digest, image.platform("linux/amd64").layers[0]):
        for _ in range(3):
            answer = await client.manifest(name, digest)
            assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
        assert hub.counters().requests[f"GET /v2/{repository}/manifests/{digest}"] <= 1


async def test_a_tag_that_is_gone_is_gone_and_that_is_remembered(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0", "9.0")
    name = f"mirror/{repository}"
    for tag in ("8.0", "9.0"):
        await client.pull_manifest(name, tag, image.digest, image)
    hub.remove(repository, "8.0")
    let_time_pass(service, name)
    for _ in range(3):
        answer = await client.manifest(name, "8.0")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    asked = hub.counters()
    assert asked.requests[f"HEAD /v2/{repository}/manifests/8.0"] == 3  # without a token, cold; and 404
    assert (await client.ask("GET", f"/v2/{name}/tags/list")).document["tags"] == ["9.0"]
    await client.pull(name, image.digest, image)
    await client.pull(name, "9.0", image)


async def test_what_never_was_is_asked_for_once(hub: Hub, service: Service, repository: str, make: Make) -> None:
    hub.add(make(sizes=(10,)), repository, "8.0")
    name = f"mirror/{repository}"
    absent = f"sha256:{'1' * 64}"
    async with crowd(service, _CROWD) as clients:
        await clients[0].manifest(name, "8.0")
        hub.reset_counters()
        for reference in ("no-such-tag", absent):
            for answer in await at_once(clients, partial(_pull, name, reference)):
                assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
            assert hub.counters().requests[f"HEAD /v2/{repository}/manifests/{reference}"] == 1
        assert hub.counters().get_manifest == 0


async def test_a_crowd_that_may_not_see_an_image_asks_once_for_all(hub: Hub, service: Service, repository: str) -> None:
    hub.pace(latency=0.2)  # Longer than the crowd needs to arrive.
    async with crowd(service, _CROWD) as clients:
        for answer in await at_once(clients, lambda client: client.manifest(f"mirror/{repository}", "8.0")):
            assert (answer.status, answer.code) == (403, "DENIED")
            assert "docker.io has no such image, or a private one" in answer.words
    # Each of the two workers: without a token, and with the one it was told to get.
    assert hub.counters().requests[f"HEAD /v2/{repository}/manifests/8.0"] <= 4


@pytest.mark.parametrize("status", [401, 403])
async def test_what_the_upstream_refuses_is_refused_although_it_is_cached(
    hub: Hub, service: Service, client: Client, repository: str, make: Make, status: int
) -> None:
    image = hub.add(make(), repository, "8.0")
    name = f"mirror/{repository}"
    await client.pull(name, "8.0", image)
    hub.fault("manifest", "status", status=status, times=None)
    let_time_pass(service, name)
    for _ in range(3):
        answer = await client.manifest(name, "8.0")
        assert (answer.status, answer.code) == (403, "DENIED")
    hub.clear_faults()
    await client.pull(name, "8.0", image)


async def test_an_image_that_became_private_is_refused(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    name = f"mirror/{repository}"
    await client.pull(name, "8.0", image)
    hub.add(image, repository, "8.0", readers=["somebody"])
    hub.revoke_tokens()
    let_time_pass(service, name)
    answer = await client.manifest(name, "8.0")
    assert (answer.status, answer.code) == (403, "DENIED")


def _no_tokens(hub: Hub) -> None:
    hub.revoke_tokens()
    hub.fault("token", "status", status=500, times=None)


_TROUBLES: dict[str, Callable[[Hub], None]] = {
    "stalls": lambda hub: hub.fault("manifest", "stall", times=None),
    "429": lambda hub: hub.fault("manifest", "status", status=429, times=None),
    "429 for a while": lambda hub: hub.fault("manifest", "status", status=429, retry_after="120", times=None),
    "500": lambda hub: hub.fault("manifest", "status", status=500, times=None),
    "503": lambda hub: hub.fault("manifest", "status", status=503, retry_after="Thu, 01 Jan 2099", times=None),
    "is down": lambda hub: hub.down(),
    "answers with a page": lambda hub: hub.fault("manifest", "html", times=None),
    "answers with nonsense": lambda hub: hub.fault("manifest", "status", status=418, times=None),
    "leads nowhere": lambda hub: hub.fault("manifest", "redirect", url="ftp://127.0.0.1/", times=None),
    "issues no tokens": _no_tokens,
}


@pytest.mark.parametrize("trouble", _TROUBLES)
async def test_an_upstream_in_trouble_leaves_what_is_cached(
    hub: Hub, service: Service, project: str, repository: str, make: Make, trouble: str
) -> None:
    image = hub.add(make(), repository, "8.0")
    name = f"{project}/{repository}"
    async with crowd(service, 6) as clients:
        await clients[0].pull(name, "8.0", image)
        let_time_pass(service, name)
        _TROUBLES[trouble](hub)
        for answer in await at_once(clients, lambda client: client.manifest(name, "8.0")):
            assert (answer.status, answer.body) == (200, image.payload)
            assert is_stale(answer)
            assert answer.headers["Docker-Content-Digest"] == image.digest
        await at_once(clients, lambda client: client.pull(name, "8.0", image))
        hub.clear_faults()
        hub.up()


async def test_a_moved_tag_that_cannot_be_fetched_is_served_as_it_was(
    hub: Hub, service: Service, client: Client, project: str, repository: str, make: Make
) -> None:
    old = hub.add(make(), repository, "8.0")
    name = f"{project}/{repository}"
    await client.pull(name, "8.0", old)
    new = hub.add(make(), repository, "8.0")
    let_time_pass(service, name)
    hub.fault("manifest", "status", method="GET", status=503, times=None)
    answer = await client.manifest(name, "8.0")
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (200, old.digest)
    assert is_stale(answer)
    # What is asked for by its digest is not to be had otherwise.
    answer = await client.manifest(name, new.digest)
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")


@pytest.mark.parametrize("action", ["html", "corrupt", "wrong_length", "cut"])
async def test_a_moved_tag_that_comes_spoilt_is_served_as_it_was(
    hub: Hub, service: Service, project: str, repository: str, make: Make, action: Any
) -> None:
    old = hub.add(make(), repository, "8.0")
    name = f"{project}/{repository}"
    async with crowd(service, 6) as clients:
        await clients[0].pull(name, "8.0", old)
        new = hub.add(make(), repository, "8.0")
        let_time_pass(service, name)
        hub.fault("manifest", action, method="GET", times=None)
        before = hub.counters().get_manifest
        for _ in range(3):
            for method in ("GET", "HEAD"):

                def ask(client: Client, how: str = method) -> Awaitable[Answer]:
                    return client.manifest(name, "8.0", method=how)

                for answer in await at_once(clients, ask):
                    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (200, old.digest)
                    assert is_stale(answer)
        # What came spoilt was paid for; it is not paid for again by everybody who asks.
        assert hub.counters().get_manifest <= before + 2
        await clients[0].pull(name, "8.0", old)
        answer = await clients[0].manifest(name, new.digest)
        assert answer.status in (502, 503)
        # One that is pushed anew is had at once; the spare time after a cut connection must be over.
        hub.clear_faults()
        newest = hub.add(make(), repository, "8.0")

        async def had() -> bool:
            answer = await clients[0].manifest(name, "8.0")
            return answer.headers["Docker-Content-Digest"] == newest.digest

        await eventually(had, what="the newest one", timeout=40, interval=0.2)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_moved_tag_that_is_refused_is_refused(
    hub: Hub, service: Service, client: Client, project: str, repository: str, make: Make, status: int, method: str
) -> None:
    old = hub.add(make(), repository, "8.0")
    name = f"{project}/{repository}"
    await client.pull(name, "8.0", old)
    hub.add(make(), repository, "8.0")
    let_time_pass(service, name)
    hub.fault("manifest", "status", status=status, method=method, times=None)
    for how in ("GET", "HEAD"):
        assert (await client.manifest(name, "8.0", method=how)).status == 403


async def test_an_upstream_that_is_well_again_is_asked_again(
    hub: Hub, service: Service, project: str, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "8.0")
    name = f"{project}/{repository}"
    async with crowd(service, 6) as clients:
        await clients[0].pull(name, "8.0", image)
        let_time_pass(service, name)
        hub.down()
        assert all(map(is_stale, await at_once(clients, lambda client: client.manifest(name, "8.0"))))
        hub.up()
        new = hub.add(make(), repository, "8.0")

        async def asked() -> bool:
            # Clients that never stop asking must not keep the upstream from being asked.
            let_time_pass(service, name)
            answers = await at_once(clients, lambda client: client.manifest(name, "8.0"))
            return all(answer.headers["Docker-Content-Digest"] == new.digest for answer in answers)

        await eventually(asked, what="the upstream to be asked again", timeout=40, interval=0.2)


@pytest.mark.parametrize(
    ("status", "retry_after", "answered", "code"),
    [
        (500, None, 503, "UNAVAILABLE"),
        (503, "7", 503, "UNAVAILABLE"),
        (429, "7", 429, "TOOMANYREQUESTS"),
        (429, None, 429, "TOOMANYREQUESTS"),
        (404, None, 404, "MANIFEST_UNKNOWN"),
        (403, None, 403, "DENIED"),
        (401, None, 403, "DENIED"),
        (418, None, 502, "UNKNOWN"),
    ],
)
async def test_what_is_not_cached_fails_in_words(
    hub: Hub,
    service: Service,
    project: str,
    repository: str,
    make: Make,
    status: int,
    retry_after: str | None,
    answered: int,
    code: str,
) -> None:
    hub.add(make(), repository, "8.0")
    hub.fault("manifest", "status", status=status, retry_after=retry_after, times=None)
    async with crowd(service, 6) as clients:
        # One after the other as well: not everybody comes while the first is still being told.
        for crowded in (clients, clients[:1], clients[1:2]):
            for answer in await at_once(crowded, lambda client: client.manifest(f"{project}/{repository}", "8.0")):
                assert (answer.status, answer.code) == (answered, code)
                assert len(answer.words) > 20
                if answered in (429, 503):
                    assert 1 <= int(answer.headers["Retry-After"]) <= 21600
    if status == 429:
        # Who limits us is not asked again by everybody.
        assert hub.counters().head_manifest <= 2


async def test_nothing_is_had_from_an_upstream_that_is_down(
    hub: Hub, client: Client, project: str, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(1_000,)), repository, "8.0")
    name = f"{project}/{repository}"
    await client.pull_manifest(name, "8.0", image.digest, image)
    hub.down()
    answers = await asyncio.gather(
        client.manifest(name, "9.0"),
        client.manifest(f"{project}/library/other", "1"),
        client.manifest(name, f"sha256:{'2' * 64}"),
        client.blob(name, image.layers[0]),
    )
    for answer in answers:
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) >= 1
        assert "try again" in answer.words
    hub.up()
    await client.pull(name, "8.0", image)


async def _pull(name: str, reference: str, client: Client) -> Answer:
    return await client.manifest(name, reference)
