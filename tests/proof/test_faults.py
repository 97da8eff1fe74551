"""The faults a test can plan come as planned, and as often."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests import images
from tests.upstream.client import Hub
from tests.upstream.faults import Action, Kind

from .raw import Raw

NAME = "library/app"


@pytest.fixture
def image(hub: Hub) -> images.Image:
    return hub.add(images.single(), NAME, "1")


@pytest.fixture
async def bearer(raw: Raw, image: images.Image) -> dict[str, str]:
    return await raw.bearer(NAME)


@pytest.fixture
async def link(raw: Raw, image: images.Image, bearer: dict[str, str]) -> str:
    """Where the last layer can be had."""
    return await raw.link(NAME, image.layers[-1], bearer)


@pytest.mark.parametrize(
    ("status", "retry_after"),
    [(401, None), (403, None), (404, None), (429, None), (429, "30"), (429, "Wed, 21 Oct 2026 07:28:00 GMT"),
     (429, "1792567680"), (500, None), (503, "5")],
)  # fmt: skip
async def test_statuses(hub: Hub, raw: Raw, bearer: dict[str, str], status: int, retry_after: str | None) -> None:
    hub.fault("manifest", "status", status=status, retry_after=retry_after, times=2)
    for _ in range(2):
        answer = await raw.manifest(NAME, "1", bearer)
        assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after)
        assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert (await raw.manifest(NAME, "1", bearer)).status == 200
    assert (hub.counters().get_manifest, hub.counters().faults) == (1, 2)


async def test_a_fault_has_a_kind_a_path_and_a_method(hub: Hub, raw: Raw, bearer: dict[str, str], link: str) -> None:
    hub.fault("manifest", "status", path="*/manifests/1", method="GET", times=None)
    hub.fault("token", "status", status=503, path="*library/app:*", times=None)
    assert (await raw.manifest(NAME, "1", bearer, method="HEAD")).status == 200
    assert (await raw.manifest(NAME, "1", bearer)).status == 500
    assert (await raw.manifest(NAME, "2", bearer)).status == 404
    assert (await raw.request("GET", link)).status == 200
    asked = f"{hub.realm}?service=registry.docker.io&scope=repository%3A"
    assert (await raw.request("GET", asked + "library%2Fapp%3Apull")).status == 503
    assert (await raw.request("GET", asked + "library%2Fother%3Apull")).status == 200
    hub.clear_faults()
    assert (await raw.manifest(NAME, "1", bearer)).status == 200


async def test_a_fault_strikes_no_challenge(hub: Hub, raw: Raw, image: images.Image) -> None:
    hub.fault("manifest", "status", status=500)
    assert (await raw.request("GET", f"/v2/{NAME}/manifests/1")).status == 401
    assert (await raw.manifest(NAME, "1", await raw.bearer(NAME))).status == 500


@pytest.mark.parametrize(
    ("kind", "action"), [("manifest", "explode"), ("blob", "cut"), ("manifest", "no_range"), ("cdn", "realm")]
)
async def test_a_fault_that_could_not_strike_is_refused(hub: Hub, kind: Kind, action: Action) -> None:
    with pytest.raises(ValueError, match="no such fault"):
        hub.fault(kind, action)


async def test_a_fault_of_the_body_waits_for_a_body(
    hub: Hub, raw: Raw, image: images.Image, bearer: dict[str, str]
) -> None:
    hub.fault("manifest", "corrupt")
    assert (await raw.manifest(NAME, "1", bearer, method="HEAD")).status == 200
    assert hub.counters().faults == 0
    assert (await raw.manifest(NAME, "1", bearer)).body != image.payload


async def test_faults_of_the_realm(hub: Hub, raw: Raw, image: images.Image) -> None:
    hub.fault("token", "html")
    hub.fault("token", "cut")
    url = f"{hub.realm}?service=registry.docker.io"
    assert (await raw.request("GET", url)).headers["Content-Type"][:9] == "text/html"
    with pytest.raises(aiohttp.ClientPayloadError):
        await raw.request("GET", url)


async def test_html(hub: Hub, raw: Raw, bearer: dict[str, str], link: str) -> None:
    hub.fault("manifest", "html")
    hub.fault("cdn", "html")
    for answer in (await raw.manifest(NAME, "1", bearer), await raw.request("GET", link)):
        assert (answer.status, answer.headers["Content-Type"][:9]) == (200, "text/html")


async def test_corrupt_bytes(hub: Hub, raw: Raw, image: images.Image, bearer: dict[str, str], link: str) -> None:
    hub.fault("manifest", "corrupt")
    hub.fault("cdn", "corrupt")
    for answer, right in (
        (await raw.manifest(NAME, "1", bearer), image.payload),
        (await raw.request("GET", link), image.blobs[image.layers[-1]]),
    ):
        assert len(answer.body) == len(right)
        assert answer.body != right


async def test_wrong_lengths(hub: Hub, raw: Raw, image: images.Image, link: str) -> None:
    hub.fault("cdn", "wrong_length", delta=-5)
    assert (await raw.request("GET", link)).body == image.blobs[image.layers[-1]][:-5]
    hub.fault("cdn", "wrong_length", delta=5)
    with pytest.raises(aiohttp.ClientPayloadError):
        await raw.request("GET", link)


@pytest.mark.parametrize("after", [0, 100, 20_001, None])
async def test_a_cut_comes_after_just_that_many_bytes(
    hub: Hub, image: images.Image, link: str, after: int | None
) -> None:
    hub.fault("cdn", "cut", after=after)
    size, received = len(image.blobs[image.layers[-1]]), bytearray()

    async def read(response: aiohttp.ClientResponse) -> None:
        async for chunk in response.content.iter_any():
            received.extend(chunk)

    async with aiohttp.ClientSession() as session, session.get(link) as response:
        assert response.content_length == size
        with pytest.raises(aiohttp.ClientPayloadError):
            await read(response)
    expected = size // 2 if after is None else after
    assert received == image.blobs[image.layers[-1]][:expected]
    assert hub.counters().bytes == expected


async def test_stalls(hub: Hub, raw: Raw, image: images.Image, bearer: dict[str, str], link: str) -> None:
    """What a stall holds back comes after it; until then there is nothing."""
    hub.fault("manifest", "stall", seconds=0.3)
    hub.fault("cdn", "stall", seconds=3600, after=1000)
    waiting = asyncio.create_task(raw.manifest(NAME, "1", bearer))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    assert (await waiting).body == image.payload
    async with aiohttp.ClientSession() as session, session.get(link) as response:
        assert await response.content.readexactly(1000) == image.blobs[image.layers[-1]][:1000]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(response.content.readany(), 0.2)
        hub.clear_faults()
        assert await response.read() == image.blobs[image.layers[-1]][1000:]


async def test_a_trickle(hub: Hub, image: images.Image, link: str) -> None:
    hub.fault("cdn", "slow", rate=100)
    async with aiohttp.ClientSession() as session, session.get(link) as response:
        assert await response.content.readexactly(20) == image.blobs[image.layers[-1]][:20]
        assert hub.counters().bytes < 1000


async def test_redirects_and_realms(hub: Hub, raw: Raw, image: images.Image, bearer: dict[str, str]) -> None:
    hub.fault("blob", "redirect", url="http://10.0.0.1/secret")
    assert await raw.link(NAME, image.layers[0], bearer) == "http://10.0.0.1/secret"
    hub.fault("manifest", "realm", url="http://10.0.0.1/token")
    assert (await raw.manifest(NAME, "1", bearer)).status == 200
    challenges = [(await raw.request("GET", f"/v2/{NAME}/manifests/1")).headers["WWW-Authenticate"] for _ in range(2)]
    assert ["10.0.0.1" in challenge for challenge in challenges] == [True, False]


async def test_a_relative_location(hub: Hub, raw: Raw, image: images.Image, bearer: dict[str, str]) -> None:
    hub.fault("blob", "relative")
    location = await raw.link(NAME, image.layers[0], bearer)
    assert location.startswith("/")
    assert (await raw.request("GET", location, bearer)).body == image.blobs[image.layers[0]]


async def test_no_range_no_length_no_digest(
    hub: Hub, raw: Raw, image: images.Image, bearer: dict[str, str], link: str
) -> None:
    hub.fault("cdn", "no_range")
    whole = await raw.request("GET", link, {"Range": "bytes=10-"})
    assert (whole.status, whole.body) == (200, image.blobs[image.layers[-1]])
    hub.fault("cdn", "chunked")
    chunked = await raw.request("GET", link)
    assert "Content-Length" not in chunked.headers
    assert chunked.body == whole.body
    hub.fault("manifest", "no_digest")
    assert "Docker-Content-Digest" not in (await raw.manifest(NAME, "1", bearer)).headers


async def test_down_and_up_again(hub: Hub, raw: Raw, bearer: dict[str, str], link: str) -> None:
    hub.fault("cdn", "stall", seconds=3600, after=10)
    async with aiohttp.ClientSession() as session, session.get(link) as response:
        await response.content.readexactly(10)
        hub.down()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
        for url in (hub.url, hub.realm, link):
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(url)
    hub.up()
    assert (await raw.manifest(NAME, "1", bearer)).status == 200
    hub.down("cdn")
    assert (await raw.manifest(NAME, "1", bearer)).status == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await raw.request("GET", link)


async def test_the_line_is_shared(hub: Hub, raw: Raw, image: images.Image, link: str) -> None:
    """Two at once get half each: together they cannot be done before the line has carried both."""
    size = len(image.blobs[image.layers[-1]])
    hub.pace(bandwidth=size * 5, latency=0.1)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await asyncio.gather(raw.request("GET", link), raw.request("GET", link))
    assert loop.time() - begun > 0.1 + 2 * size / (size * 5) - 0.06  # never faster; how much slower is the machine's
    assert hub.counters().concurrent["cdn"] == 2
