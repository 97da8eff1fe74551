"""The upstream holds clients to what Docker Hub holds them to."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests import images
from tests.upstream.client import Hub

from .raw import Raw

NAME = "library/app"


@pytest.fixture
def image(hub: Hub) -> images.Image:
    return hub.add(images.multi(), NAME, "1", "latest")


def code(body: bytes) -> str:
    return str(json.loads(body)["errors"][0]["code"])


async def test_no_token_is_a_challenge(hub: Hub, raw: Raw, image: images.Image) -> None:
    for path in ("/v2/", f"/v2/{NAME}/manifests/1", f"/v2/{NAME}/blobs/{next(iter(image.blobs))}"):
        answer = await raw.request("GET", path)
        assert (answer.status, code(answer.body)) == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"].startswith(f'Bearer realm="{hub.realm}",service="registry.docker.io"')
    assert hub.counters().unauthorized == 3


async def test_any_token_opens_the_base(raw: Raw, image: images.Image) -> None:
    assert (await raw.request("GET", "/v2/", await raw.bearer(NAME))).status == 200


async def test_a_token_is_good_for_its_repository_only(hub: Hub, raw: Raw, image: images.Image) -> None:
    hub.add(image, "library/other", "1")
    other = await raw.bearer("library/other")
    assert (await raw.manifest("library/other", "1", other)).status == 200
    assert (await raw.manifest(NAME, "1", other)).status == 401
    assert (await raw.request("GET", f"/v2/{NAME}/blobs/{next(iter(image.blobs))}", other)).status == 401


@pytest.mark.parametrize("name", ["app", "library/unknown", "library/secret"])
async def test_short_unknown_and_private_names_are_alike_for_anonymous(hub: Hub, raw: Raw, name: str) -> None:
    hub.add(images.single(), NAME, "latest")
    hub.add(images.single(), "library/secret", "latest", readers=["mari"])
    answer = await raw.manifest(name, "latest", await raw.bearer(name))
    assert (answer.status, code(answer.body)) == (401, "UNAUTHORIZED")


async def test_a_reader_pulls_what_is_private(hub: Hub, raw: Raw) -> None:
    hub.add(images.single(), "library/secret", "latest", readers=["mari"])
    hub.account("mari", "maripass")
    bearer = await raw.bearer("library/secret", "mari", "maripass")
    assert (await raw.manifest("library/secret", "latest", bearer)).status == 200
    wrong = {"Authorization": aiohttp.encode_basic_auth("mari", "juripass")}
    assert (await raw.request("GET", f"{hub.realm}?service=registry.docker.io", wrong)).status == 401


async def test_a_token_expires(hub: Hub, raw: Raw, image: images.Image) -> None:
    hub.lifetimes(token=0)
    assert (await raw.manifest(NAME, "1", await raw.bearer(NAME))).status == 401
    hub.lifetimes(token=300)
    bearer = await raw.bearer(NAME)
    assert (await raw.manifest(NAME, "1", bearer)).status == 200
    hub.revoke_tokens()
    assert (await raw.manifest(NAME, "1", bearer)).status == 401


@pytest.mark.parametrize("reference", ["1", "digest"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_manifests_come_byte_for_byte(raw: Raw, image: images.Image, method: str, reference: str) -> None:
    reference = image.digest if reference == "digest" else reference
    answer = await raw.manifest(NAME, reference, await raw.bearer(NAME), method=method)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == images.OCI_INDEX
    assert answer.headers["Docker-Content-Digest"] == image.digest
    assert answer.headers["Content-Length"] == str(len(image.payload))
    assert answer.body == (image.payload if method == "GET" else b"")


async def test_unknown_tags_and_moved_ones(hub: Hub, raw: Raw, image: images.Image) -> None:
    bearer = await raw.bearer(NAME)
    answer = await raw.manifest(NAME, "9", bearer)
    assert (answer.status, code(answer.body)) == (404, "MANIFEST_UNKNOWN")
    child = image.platform("linux/arm64").digest
    hub.tag(NAME, "latest", child)
    assert (await raw.manifest(NAME, "latest", bearer, method="HEAD")).headers["Docker-Content-Digest"] == child
    hub.remove(NAME, "latest")
    assert (await raw.manifest(NAME, "latest", bearer)).status == 404


async def test_accept_is_honoured(hub: Hub, raw: Raw, image: images.Image) -> None:
    docker = hub.add(images.multi(style="docker"), "library/old", "1")
    for accept in (images.OCI_MANIFEST, "*/*"):
        assert (await raw.manifest(NAME, "1", await raw.bearer(NAME), accept=accept)).status == 404
    bearer = await raw.bearer("library/old")
    by_tag = await raw.manifest("library/old", "1", bearer, accept=images.DOCKER_MANIFEST)
    assert by_tag.body == docker.platform("linux/amd64").payload
    assert (await raw.manifest("library/old", docker.digest, bearer, accept=images.DOCKER_MANIFEST)).status == 404


async def test_gets_count_and_heads_do_not(hub: Hub, raw: Raw, image: images.Image) -> None:
    bearer = await raw.bearer(NAME)
    hub.limit(3)
    left = []
    for method in ("HEAD", "GET", "HEAD", "GET", "HEAD"):
        answer = await raw.manifest(NAME, "1", bearer, method=method)
        assert answer.headers["ratelimit-limit"] == "3;w=21600"
        assert answer.headers["docker-ratelimit-source"] == "127.0.0.1"
        left.append(answer.headers["ratelimit-remaining"])
    assert left == ["3;w=21600", "2;w=21600", "2;w=21600", "1;w=21600", "1;w=21600"]
    counters = hub.counters()
    assert (counters.get_manifest, counters.head_manifest, counters.token) == (2, 3, 1)


async def test_past_the_limit_gets_are_refused_and_heads_are_not(hub: Hub, raw: Raw, image: images.Image) -> None:
    bearer = await raw.bearer(NAME)
    hub.leave(3)
    hub.spend(1)
    answers = await asyncio.gather(*(raw.manifest(NAME, "1", bearer) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 200, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status == 429)
    assert code(refused.body) == "TOOMANYREQUESTS"
    assert refused.headers["ratelimit-remaining"] == "0;w=21600"
    assert (await raw.manifest(NAME, "1", bearer, method="HEAD")).status == 200
    assert (hub.counters().get_manifest, hub.counters().get_manifest_429) == (2, 3)


async def test_each_account_has_a_limit_of_its_own(hub: Hub, raw: Raw, image: images.Image) -> None:
    hub.account("mari", "maripass")
    hub.leave(0)
    hub.limit(200, source="mari")
    answer = await raw.manifest(NAME, "1", await raw.bearer(NAME, "mari", "maripass"))
    assert (answer.status, answer.headers["ratelimit-remaining"]) == (200, "199;w=21600")
    assert answer.headers["docker-ratelimit-source"] != "127.0.0.1"
    assert (await raw.manifest(NAME, "1", await raw.bearer(NAME))).status == 429


async def test_without_a_limit_there_are_no_headers(hub: Hub, raw: Raw, image: images.Image) -> None:
    hub.limit(None)
    answer = await raw.manifest(NAME, "1", await raw.bearer(NAME))
    assert answer.status == 200
    assert not [name for name in answer.headers if "ratelimit" in name.lower()]


async def test_blobs_are_at_the_cdn(hub: Hub, raw: Raw, image: images.Image) -> None:
    bearer = await raw.bearer(NAME)
    digest, data = max(image.blobs.items(), key=lambda item: len(item[1]))
    link = await raw.link(NAME, digest, bearer)
    assert link.startswith(hub.cdn)
    assert "127.0.0.2" in link
    assert (await raw.request("GET", link)).body == data
    assert (await raw.request("GET", link, bearer)).status == 400
    assert (await raw.request("HEAD", link)).status == 403
    assert (await raw.request("GET", link[:-1] + ("0" if link[-1] != "0" else "1"))).status == 403
    head = await raw.request("HEAD", await raw.link(NAME, digest, bearer, method="HEAD"))
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(data)))
    hub.lifetimes(link=-1)
    assert (await raw.request("GET", await raw.link(NAME, digest, bearer))).status == 403
    assert hub.counters().blob_bytes == {digest: len(data)}
    assert hub.counters().redirects == 3


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=5-999999999", 5, None)],
)
async def test_ranges(raw: Raw, image: images.Image, asked: str, start: int, stop: int | None) -> None:
    digest, data = max(image.blobs.items(), key=lambda item: len(item[1]))
    link = await raw.link(NAME, digest, await raw.bearer(NAME))
    answer = await raw.request("GET", link, {"Range": asked})
    first = start % len(data)
    assert (answer.status, answer.body) == (206, data[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(data)}"
    assert (await raw.request("GET", link, {"Range": f"bytes={len(data)}-"})).status == 416


async def test_a_blob_of_another_repository_is_unknown(hub: Hub, raw: Raw, image: images.Image) -> None:
    elsewhere = hub.add(images.single("elsewhere"), "library/elsewhere", "1")
    answer = await raw.request("GET", f"/v2/{NAME}/blobs/{elsewhere.layers[0]}", await raw.bearer(NAME))
    assert (answer.status, code(answer.body)) == (404, "BLOB_UNKNOWN")


async def test_nothing_can_be_pushed(raw: Raw, image: images.Image) -> None:
    bearer = await raw.bearer(NAME)
    for method, path in (("POST", "blobs/uploads/"), ("PUT", "manifests/2"), ("DELETE", "manifests/1")):
        assert (await raw.request(method, f"/v2/{NAME}/{path}", bearer)).status == 401
