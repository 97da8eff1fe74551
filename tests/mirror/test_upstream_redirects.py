"""Where an upstream sends us: which hosts are asked, what they get to see, and where nobody goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web

from app.config import Credential
from app.mirror.address_guard import AddressGuard, AddressKind, classify
from app.mirror.answers import RateLimit, UpstreamDown, UpstreamLimited, UpstreamRefused, answer_of
from app.mirror.login import basic
from app.mirror.upstream import Upstream
from app.oci.errors import BlobUnknown, OCIError, UpstreamInvalid

from .odd_upstream import (
    BLOB,
    BLOB_DIGEST,
    MANIFEST_DIGEST,
    REPOSITORY,
    Handler,
    Names,
    Sent,
    Server,
    always,
    client,
    manifest,
    raw,
    serving,
)

OCTETS = {"Content-Type": "application/octet-stream"}
ROBOT = Credential("robot", "s3cret")


async def read(upstream: Upstream) -> bytes:
    async with upstream.open_blob(REPOSITORY, BLOB_DIGEST) as body:
        return b"".join([chunk async for chunk in body.chunks()])


def registry(location: str, status: int = 307) -> Handler:
    """Ask for a login, then redirect everything."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return web.Response(status=status, headers={"Location": location}, body=b"moved")

    return handler


LIMIT = {"ratelimit-limit": "5;w=21600", "ratelimit-remaining": "4;w=21600"}


async def storage(request: web.Request) -> web.StreamResponse:
    """Refuse a request that carries a login beside its signature, as object stores do."""
    if "Authorization" in request.headers:
        return web.Response(status=400, text="only one auth mechanism allowed")
    start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-")) if "Range" in request.headers else 0
    content_range = {"Content-Range": f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"} if start else {}
    return web.Response(status=206 if start else 200, body=BLOB[start:], headers=OCTETS | content_range)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_another_host_or_port_never_sees_the_login(status: int, host: str) -> None:
    sent = Sent()
    async with serving(storage, host) as cdn:
        location = f"{cdn.url}/data/a%2Fb?X-Signature=a%2Bb%3D&expires=1"
        async with (
            serving(registry(location, status)) as server,
            client(server.url, credential=ROBOT) as upstream,
        ):
            assert await read(upstream) == BLOB
            async with upstream.open_blob(REPOSITORY, BLOB_DIGEST, 7) as body:
                assert (body.offset, body.size) == (7, len(BLOB))
            assert await upstream.head_blob(REPOSITORY, BLOB_DIGEST) == len(BLOB)
    path = "/data/a%2Fb?X-Signature=a%2Bb%3D&expires=1"
    assert cdn.lines == [f"GET {path}", f"GET {path}", f"HEAD {path}"]
    assert [request.headers.get("Range") for request in cdn.seen] == [None, "bytes=7-", None]
    assert [request.authorization for request in server.seen] == [None, basic(ROBOT), basic(ROBOT), basic(ROBOT)]
    assert sent.kinds == {
        ("get_blob", "401"): 1,
        ("get_blob", str(status)): 2,
        ("head_blob", str(status)): 1,
        ("storage", "200"): 2,
        ("storage", "206"): 1,
    }


async def test_the_own_host_keeps_the_login() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        if request.path.startswith("/data/"):
            return web.Response(body=BLOB, headers=OCTETS)
        return web.Response(status=307, headers={"Location": "/data/x"})

    async with serving(handler) as server, client(server.url, credential=ROBOT) as upstream:
        assert await read(upstream) == BLOB


async def test_on_the_way_there_and_back_only_the_own_host_sees_the_login() -> None:
    async def between(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": request.query["to"]})

    async with serving(between, "127.0.0.2") as other:

        async def home(request: web.Request) -> web.StreamResponse:
            if "Authorization" not in request.headers:
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            if request.path == "/back":
                return web.Response(body=BLOB, headers=OCTETS)
            return web.Response(status=307, headers={"Location": f"{other.url}/?to=http://{request.host}/back"})

        async with serving(home) as server, client(server.url, credential=ROBOT) as upstream:
            assert await read(upstream) == BLOB
    assert [request.authorization for request in other.seen] == [None]
    assert [request.authorization for request in server.seen] == [None, basic(ROBOT), basic(ROBOT)]


async def test_a_manifest_may_be_redirected_too() -> None:
    async with (
        serving(manifest(ratelimit_remaining="1"), "127.0.0.2") as other,
        serving(always(307, headers=LIMIT | {"Location": f"{other.url}/m"})) as server,
    ):
        sent = Sent()
        async with client(server.url) as upstream:
            fetched = await upstream.get_manifest(REPOSITORY, "latest")
            head = await upstream.head_manifest(REPOSITORY, "latest")
    assert fetched.digest == head.digest == MANIFEST_DIGEST
    assert sent.kinds == {("get_manifest", "307"): 1, ("head_manifest", "307"): 1, ("storage", "200"): 2}
    for answer in (fetched.answer, head.answer):
        assert (answer.status, answer.rate) == (307, RateLimit(5, 4, 21600, None)), "the upstream's own, not the host's"


@pytest.mark.parametrize("status", [None, 200, 404, 429, 503])
async def test_a_failure_elsewhere_carries_the_upstreams_own_answer(status: int | None) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        headers = {"ratelimit-remaining": "1", "Content-Type": "text/html"}
        return await (raw(request, "") if status is None else always(status, b"", headers)(request))

    async with (
        serving(elsewhere, "127.0.0.2") as other,
        serving(always(307, headers=LIMIT | {"Location": f"{other.url}/m"})) as server,
        client(server.url) as upstream,
    ):
        with pytest.raises(OCIError) as raised:
            await upstream.get_manifest(REPOSITORY, "latest")
    answer = answer_of(raised.value)
    assert answer is not None
    assert (answer.kind, answer.status, answer.rate) == ("get_manifest", 307, RateLimit(5, 4, 21600, None))


@pytest.mark.parametrize("hops", [5, 6])
async def test_five_redirects_are_followed_and_no_more(hops: int) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        done = int(request.query.get("hop", "0"))
        if done == hops:
            return web.Response(body=BLOB, headers=OCTETS)
        return web.Response(status=307, headers={"Location": f"{request.path}?hop={done + 1}"})

    async with serving(handler) as server, client(server.url) as upstream:
        if hops > 5:
            with pytest.raises(UpstreamInvalid):
                await read(upstream)
        else:
            assert await read(upstream) == BLOB
    assert len(server.seen) == 6


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (400, {}, UpstreamInvalid),
        (401, {"WWW-Authenticate": 'Basic realm="give me"'}, UpstreamDown),
        (403, {"Content-Type": "application/xml"}, UpstreamDown),
        (404, {"Content-Type": "application/xml"}, UpstreamDown),
        (429, {"Retry-After": "3"}, UpstreamLimited),
        (503, {}, UpstreamDown),
        (404, {"Docker-Distribution-Api-Version": "registry/2.0"}, BlobUnknown),
    ],
)
async def test_what_another_host_refuses_is_no_verdict_on_the_image(
    status: int, headers: dict[str, str], error: type[OCIError]
) -> None:
    async with (
        serving(always(status, b"", headers), "127.0.0.2") as cdn,
        serving(registry(f"{cdn.url}/x")) as server,
        client(server.url, credential=ROBOT) as upstream,
    ):
        with pytest.raises(error):
            await read(upstream)
    assert [request.authorization for request in cdn.seen] == [None]


def vanity(other: Server) -> Handler:
    """An address that asks for a login and redirects everything to another registry."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != basic(ROBOT):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return web.Response(status=307, headers={"Location": f"{other.url}{request.path}"})

    return handler


async def test_another_registry_gets_a_token_of_its_own() -> None:
    async def registry(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"token": "there", "expires_in": 300})
        if request.headers.get("Authorization") != "Bearer there":
            challenge = f'Bearer realm="http://{request.host}/token",service=there'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return await (manifest()(request) if "/manifests/" in request.path else storage_of_registry())

    async def storage_of_registry() -> web.StreamResponse:
        return web.Response(body=BLOB, headers=OCTETS)

    async with (
        serving(registry, "127.0.0.2") as other,
        serving(vanity(other)) as server,
        client(server.url, credential=ROBOT) as upstream,
    ):
        assert (await upstream.head_manifest(REPOSITORY, "latest")).digest == MANIFEST_DIGEST
        assert (await upstream.get_manifest(REPOSITORY, "latest")).digest == MANIFEST_DIGEST
        assert await read(upstream) == BLOB
    assert {request.authorization for request in other.seen} == {None, "Bearer there"}
    assert sum(request.path.startswith("/token") for request in other.seen) == 1
    assert {request.authorization for request in server.seen} == {None, basic(ROBOT)}


async def test_another_host_never_gets_the_login_that_it_asks_for() -> None:
    async def cdn_asks(request: web.Request) -> web.StreamResponse:
        challenge = f'Bearer realm="http://{request.host}/token", Basic realm="x"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async with (
        serving(cdn_asks, "127.0.0.2") as cdn,
        serving(registry(f"{cdn.url}/x")) as server,
        client(server.url, credential=ROBOT) as upstream,
    ):
        for _ in range(2):  # the second time a login is at hand from the start
            with pytest.raises(UpstreamRefused):
                await read(upstream)
    assert [line.partition("?")[0] for line in cdn.lines] == ["GET /x", "GET /token"] * 2
    assert {request.authorization for request in cdn.seen} == {None}


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[fe80::1%25lo]/",
        "http://100.100.100.200/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://127.1/",
        "http://inner.test/",
        "http://metadata.test/",
        "http://robot:s3cret@127.0.0.1/",
        "ftp://127.0.0.1/",
        "http://127.0.0.1:70000/",
        "http://exa mple/",
    ],
)
async def test_a_redirect_to_another_kind_of_place_is_not_followed(location: str | None) -> None:
    names = Names({"inner.test": "10.0.0.1", "metadata.test": "169.254.169.254"})
    sent = Sent()
    async with (
        serving(always(307, headers={"Location": location} if location is not None else {})) as server,
        client(server.url, guard=AddressGuard("127.0.0.1", names)) as upstream,
    ):
        with pytest.raises(UpstreamInvalid):
            await read(upstream)
    assert sent.kinds == {("get_blob", "307"): 1}, "nothing else was sent anywhere"


def as_if_public(home_port: str) -> Callable[[str], AddressKind]:
    """See 127.0.0.1, where the upstream of the test stands, as a public address; the rest as it is."""
    return lambda address: AddressKind.PUBLIC if address == home_port else classify(address)


@pytest.mark.parametrize("spelling", ["literal", "name", "upper-case name"])
async def test_a_public_upstream_cannot_lead_to_loopback(spelling: str) -> None:
    async with serving(storage, "127.0.0.2") as within:
        port = within.url.rpartition(":")[2]
        host = {"literal": "127.0.0.2", "name": "inner.test", "upper-case name": "INNER.test"}[spelling]
        names = Names({"registry.test": "127.0.0.1", "inner.test": "127.0.0.2", "INNER.test": "127.0.0.2"})
        async with serving(always(307, headers={"Location": f"http://{host}:{port}/x"})) as server:
            guard = AddressGuard("registry.test", names, as_if_public("127.0.0.1"))
            url = server.url.replace("127.0.0.1", "registry.test")
            async with client(url, guard=guard) as upstream:
                with pytest.raises(UpstreamInvalid):
                    await read(upstream)
                with pytest.raises(UpstreamInvalid):
                    await upstream.head_manifest(REPOSITORY, "latest")
    assert len(server.seen) == 2
    assert within.seen == []


async def test_a_public_upstream_leads_to_a_public_host() -> None:
    """The counterpart: the same set-up is followed where the address is allowed."""
    async with serving(storage) as cdn:
        port = cdn.url.rpartition(":")[2]
        names = Names({"registry.test": "127.0.0.1", "cdn.test": "127.0.0.1"})
        async with serving(always(307, headers={"Location": f"http://cdn.test:{port}/x"})) as server:
            guard = AddressGuard("registry.test", names, as_if_public("127.0.0.1"))
            async with client(server.url.replace("127.0.0.1", "registry.test"), guard=guard) as upstream:
                assert await read(upstream) == BLOB
    assert "cdn.test" in names.asked


async def test_an_upstream_whose_name_leads_within_is_the_operators_choice() -> None:
    names = Names({"registry.test": "127.0.0.1", "cdn.test": "127.0.0.2"})
    async with serving(storage, "127.0.0.2") as cdn:
        port = cdn.url.rpartition(":")[2]
        async with serving(always(307, headers={"Location": f"http://cdn.test:{port}/x"})) as server:
            guard = AddressGuard("registry.test", names)
            async with client(server.url.replace("127.0.0.1", "registry.test"), guard=guard) as upstream:
                assert await read(upstream) == BLOB
