"""The client of an upstream against the strict one: tokens, the limit, signed addresses on another host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from app.config import Credential
from app.mirror.answers import RateLimit, UpstreamDown, UpstreamLimited, UpstreamRefused
from app.mirror.transport import Timeouts
from app.mirror.upstream import BlobBody, Upstream
from app.oci.digest import Digest
from app.oci.errors import ManifestUnknown, OCIError, UpstreamInvalid
from tests.images import Image, multi
from tests.upstream.client import Hub
from tests.upstream.faults import Action, Kind

from .odd_upstream import client

REPOSITORY = "library/redis"
IMAGE = multi("redis")
AMD64 = IMAGE.platform("linux/amd64")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(running: Hub) -> Hub:
    running.reset()
    running.add(IMAGE, REPOSITORY, "8.0")
    return running


@pytest.fixture
async def upstream(hub: Hub) -> AsyncIterator[Upstream]:
    async with client(hub.url, timeouts=Timeouts(answer=5, idle=0.5)) as upstream:
        yield upstream


async def read(upstream: Upstream, digest: str, offset: int = 0) -> bytes:
    async with upstream.open_blob(REPOSITORY, Digest(digest), offset) as body:
        return b"".join([chunk async for chunk in body.chunks()])


async def collect(body: BlobBody, into: bytearray) -> None:
    async for chunk in body.chunks():
        into += chunk


async def pull(
    upstream: Upstream, image: Image, repository: str = REPOSITORY, tag: str = "8.0"
) -> list[RateLimit | None]:
    """Fetch an image for one platform as a mirror would, compare every byte, and give what each manifest told."""
    head = await upstream.head_manifest(repository, tag)
    assert (head.digest, head.media_type, head.size) == (image.digest, image.media_type, len(image.payload))
    index = await upstream.get_manifest(repository, image.digest)
    assert index.manifest.payload == image.payload
    child = image.platform("linux/amd64")
    fetched = await upstream.get_manifest(repository, child.digest)
    for part in fetched.manifest.blobs:
        assert await upstream.head_blob(repository, part.digest) == part.size
        async with upstream.open_blob(repository, part.digest) as body:
            assert (body.offset, body.size) == (0, part.size)
            assert b"".join([chunk async for chunk in body.chunks()]) == image.blobs[part.digest]
    return [head.answer.rate, index.answer.rate, fetched.answer.rate]


async def test_a_whole_image(hub: Hub) -> None:
    async with client(hub.url) as upstream:
        rates = await pull(upstream, IMAGE)
    counters = hub.counters()
    assert counters.token == 1
    assert dict(counters.blob_gets) == dict.fromkeys(AMD64.blobs, 1)
    assert [(rate.limit, rate.remaining, rate.window) for rate in rates if rate] == [
        (100, 100, 21600),
        (100, 99, 21600),
        (100, 98, 21600),
    ]


async def test_a_private_image_with_an_account_and_without(hub: Hub) -> None:
    hub.account("robot", "s3cret")
    hub.add(IMAGE, "lab/private", "1", readers=["robot"])
    async with client(hub.url, credential=Credential("robot", "s3cret")) as upstream:
        await pull(upstream, IMAGE, "lab/private", "1")
    for credential in (None, Credential("robot", "wrong")):
        async with client(hub.url, credential=credential) as upstream:
            with pytest.raises(UpstreamRefused):
                await upstream.head_manifest("lab/private", "1")


async def test_a_token_that_was_revoked_is_renewed(hub: Hub, upstream: Upstream) -> None:
    await upstream.head_manifest(REPOSITORY, "8.0")
    hub.revoke_tokens()
    await upstream.get_manifest(REPOSITORY, "8.0")
    assert hub.counters().token == 2


async def test_no_pulls_left(hub: Hub, upstream: Upstream) -> None:
    hub.leave(0)
    assert (await upstream.head_manifest(REPOSITORY, "8.0")).digest == IMAGE.digest
    with pytest.raises(UpstreamLimited) as raised:
        await upstream.get_manifest(REPOSITORY, "8.0")
    assert int(raised.value.headers["Retry-After"]) > 0


async def test_what_is_not_there(hub: Hub, upstream: Upstream) -> None:
    with pytest.raises(ManifestUnknown):
        await upstream.get_manifest(REPOSITORY, "9.9")
    with pytest.raises(UpstreamRefused):
        await upstream.head_manifest("library/nothing", "1")


async def test_a_blob_that_is_cut_goes_on_where_it_was(hub: Hub, upstream: Upstream) -> None:
    digest = max(AMD64.blobs, key=lambda digest: len(AMD64.blobs[digest]))
    data, got = AMD64.blobs[digest], bytearray()
    hub.fault("cdn", "cut")
    async with upstream.open_blob(REPOSITORY, Digest(digest)) as body:
        with pytest.raises(UpstreamDown):
            await collect(body, got)
    assert 0 < len(got) < len(data)
    assert got + await read(upstream, digest, len(got)) == data
    assert hub.counters().blob_bytes[digest] == len(data)


@pytest.mark.parametrize(
    ("kind", "action", "details", "error"),
    [
        ("manifest", "html", {}, UpstreamDown),
        ("manifest", "corrupt", {}, UpstreamInvalid),
        ("manifest", "wrong_length", {"delta": -10}, UpstreamInvalid),
        ("manifest", "wrong_length", {"delta": 10}, UpstreamDown),
        ("manifest", "cut", {}, UpstreamDown),
        ("manifest", "stall", {"after": 10}, UpstreamDown),
        ("manifest", "status", {"status": 401}, UpstreamRefused),
        ("manifest", "status", {"status": 403}, UpstreamRefused),
        ("manifest", "status", {"status": 404}, ManifestUnknown),
        ("manifest", "status", {"status": 429}, UpstreamLimited),
        ("manifest", "status", {"status": 429, "retry_after": "33"}, UpstreamLimited),
        ("manifest", "status", {"status": 500}, UpstreamDown),
        ("manifest", "redirect", {"url": "http://169.254.169.254/"}, UpstreamInvalid),
        ("manifest", "realm", {"url": "http://10.0.0.1/token"}, UpstreamInvalid),
        ("manifest", "no_digest", {}, None),
        ("manifest", "chunked", {}, None),
        ("token", "html", {}, UpstreamDown),
        ("token", "status", {"status": 429}, UpstreamLimited),
        ("token", "status", {"status": 500}, UpstreamDown),
        ("token", "cut", {}, UpstreamDown),
    ],
)
async def test_a_manifest_with_a_fault(
    hub: Hub,
    upstream: Upstream,
    kind: Kind,
    action: Action,
    details: dict[str, Any],
    error: type[OCIError] | None,
) -> None:
    hub.fault(kind, action, **details)
    if error is None:
        assert (await upstream.get_manifest(REPOSITORY, IMAGE.digest)).digest == IMAGE.digest
        return
    with pytest.raises(error) as raised:
        await upstream.get_manifest(REPOSITORY, IMAGE.digest)
    if "retry_after" in details:
        assert raised.value.headers["Retry-After"] == details["retry_after"]
    hub.clear_faults()
    assert (await upstream.get_manifest(REPOSITORY, IMAGE.digest)).digest == IMAGE.digest


@pytest.mark.parametrize(
    ("kind", "action", "details", "error"),
    [
        ("cdn", "stall", {"after": 10}, UpstreamDown),
        ("cdn", "cut", {}, UpstreamDown),
        ("cdn", "wrong_length", {"delta": 10}, UpstreamDown),
        ("cdn", "status", {"status": 500}, UpstreamDown),
        ("blob", "redirect", {"url": "http://10.0.0.1/x"}, UpstreamInvalid),
        ("blob", "status", {"status": 429}, UpstreamLimited),
        ("blob", "relative", {}, None),
        ("cdn", "chunked", {}, None),
        ("cdn", "no_range", {}, None),
    ],
)
async def test_a_blob_with_a_fault(
    hub: Hub,
    upstream: Upstream,
    kind: Kind,
    action: Action,
    details: dict[str, Any],
    error: type[OCIError] | None,
) -> None:
    digest = AMD64.layers[1]
    hub.fault(kind, action, **details)
    if error is None:
        assert await read(upstream, digest) == AMD64.blobs[digest]
        return
    with pytest.raises(error):
        await read(upstream, digest)
    hub.clear_faults()
    assert await read(upstream, digest) == AMD64.blobs[digest]


async def test_an_upstream_that_goes_away_and_comes_back(hub: Hub, upstream: Upstream) -> None:
    await upstream.head_manifest(REPOSITORY, "8.0")
    hub.down()
    with pytest.raises(UpstreamDown):
        await upstream.head_manifest(REPOSITORY, "8.0")
    hub.up()
    assert (await upstream.head_manifest(REPOSITORY, "8.0")).digest == IMAGE.digest
