"""Logging in to an upstream: one token for all who wait, kept while it is good, shown to nobody else."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from app.config import Credential
from app.mirror.address_guard import AddressGuard, AddressKind
from app.mirror.answers import UpstreamDown, UpstreamLimited, UpstreamRefused
from app.mirror.login import basic
from app.oci.errors import OCIError, UpstreamInvalid

from .odd_upstream import MANIFEST_DIGEST, REPOSITORY, Cache, Sent, always, client, manifest, serving

ROBOT = Credential("robot", "s3cret")
SCOPE = f"repository:{REPOSITORY}:pull"


class Hub:
    """A registry that wants the last token its realm gave out; both are on one server unless ``realm`` says else."""

    def __init__(self, **answer: object) -> None:
        self.answer = answer
        self.given = 0
        self.good = ""
        self.realm: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.came: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.came.put_nowait(request.path)
        if request.path == "/token":
            return await self.token()
        if self.good and request.headers.get("Authorization") == f"Bearer {self.good}":
            return await manifest()(request)
        realm = self.realm or f"http://{request.host}/token"
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="hub"'})

    async def token(self) -> web.StreamResponse:
        self.given += 1
        self.good = f"token-{self.given}"
        await self.gate.wait()
        return web.json_response({"token": self.good} | self.answer)


def tokens_asked(lines: list[str]) -> int:
    return sum("/token" in line for line in lines)


async def test_a_challenge_is_answered_and_the_token_kept() -> None:
    hub, sent = Hub(expires_in=300), Sent()
    async with serving(hub) as server, client(server.url) as upstream:
        for _ in range(3):
            fetched = await upstream.get_manifest(REPOSITORY, "latest")
            assert (fetched.digest, fetched.answer.status) == (MANIFEST_DIGEST, 200)
        await upstream.head_manifest(REPOSITORY, "latest")
    assert sent.kinds == {
        ("get_manifest", "401"): 1,
        ("token", "200"): 1,
        ("get_manifest", "200"): 3,
        ("head_manifest", "200"): 1,
    }
    asked = urlsplit(server.seen[1].path)
    assert (asked.path, parse_qs(asked.query)) == ("/token", {"service": ["hub"], "scope": [SCOPE]})
    assert server.seen[1].authorization is None


async def test_the_scope_of_the_challenge_is_the_one_asked_for() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"access_token": "t"})
        if "Authorization" in request.headers:
            return await manifest()(request)
        challenge = f'Bearer realm="http://{request.host}/token?a=b%26c",scope="repository:proxy/{REPOSITORY}:pull"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async with serving(handler) as server, client(server.url) as upstream:
        await upstream.get_manifest(REPOSITORY, "latest")
    query = parse_qs(urlsplit(server.seen[1].path).query)
    assert query == {"a": ["b&c"], "scope": [f"repository:proxy/{REPOSITORY}:pull"]}


async def test_the_credential_goes_to_the_realm_and_the_token_to_the_registry() -> None:
    hub = Hub()

    async def realm(request: web.Request) -> web.StreamResponse:
        return await hub.token()

    async with serving(realm, "127.0.0.2") as auth, serving(hub) as server:
        hub.realm = f"{auth.url}/t"
        async with client(server.url, credential=ROBOT) as upstream:
            await upstream.get_manifest(REPOSITORY, "latest")
    assert [request.authorization for request in auth.seen] == [basic(ROBOT)]
    assert [request.authorization for request in server.seen] == [None, "Bearer token-1"]


async def test_basic_is_answered_where_there_is_an_account_and_not_kept_with_others() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == basic(ROBOT):
            return await manifest()(request)
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="registry"'})

    cache = Cache()
    async with serving(handler) as server:
        async with client(server.url, credential=ROBOT, cache=cache) as upstream:
            await upstream.get_manifest(REPOSITORY, "latest")
            await upstream.get_manifest(REPOSITORY, "latest")
        assert len(server.seen) == 3
        async with client(server.url, cache=cache) as upstream:
            with pytest.raises(UpstreamRefused):
                await upstream.get_manifest(REPOSITORY, "latest")
    assert cache.kept == {}


async def test_everybody_waits_for_one_token() -> None:
    hub = Hub()
    hub.gate.clear()
    async with serving(hub) as server, client(server.url) as upstream:
        waiting = [asyncio.create_task(upstream.get_manifest(REPOSITORY, "latest")) for _ in range(30)]
        for _ in range(31):
            await hub.came.get()
        hub.gate.set()
        await asyncio.gather(*waiting)
    assert hub.given == 1
    assert tokens_asked(server.lines) == 1


async def test_who_asked_first_may_leave_without_taking_the_token_along() -> None:
    hub = Hub()
    hub.gate.clear()
    async with serving(hub) as server, client(server.url) as upstream:
        first = asyncio.create_task(upstream.get_manifest(REPOSITORY, "latest"))
        for _ in range(2):
            await hub.came.get()
        second = asyncio.create_task(upstream.get_manifest(REPOSITORY, "latest"))
        await hub.came.get()
        first.cancel()
        await asyncio.wait([first])
        hub.gate.set()
        assert (await second).digest == MANIFEST_DIGEST
    assert first.cancelled()
    assert hub.given == 1


async def test_a_failed_token_reaches_everybody_and_is_not_remembered() -> None:
    hub = Hub(token="", expires_in=60)
    async with serving(hub) as server, client(server.url) as upstream:
        got = await asyncio.gather(
            *(upstream.get_manifest(REPOSITORY, "latest") for _ in range(5)), return_exceptions=True
        )
        assert {type(error) for error in got} == {UpstreamDown}
        hub.answer.clear()
        await upstream.get_manifest(REPOSITORY, "latest")


async def test_another_repository_needs_another_token() -> None:
    hub = Hub()
    async with serving(hub) as server, client(server.url) as upstream:
        await upstream.get_manifest(REPOSITORY, "latest")
        await upstream.get_manifest("library/nginx", "latest")
    assert hub.given == 2
    assert "Bearer token-1" not in [request.authorization for request in server.seen[-3:]]


async def test_a_worker_takes_the_token_that_another_one_got() -> None:
    hub, cache = Hub(expires_in=300), Cache()
    async with serving(hub) as server:
        for credential in (None, None, ROBOT, ROBOT):
            async with client(server.url, credential=credential, cache=cache) as upstream:
                hub.good = {None: "token-1", ROBOT: "token-2"}[credential] if hub.given else ""
                await upstream.get_manifest(REPOSITORY, "latest")
    assert hub.given == 2, "an account's token serves nobody else"
    assert len(server.seen) == 8
    assert [ttl for _, ttl in cache.kept.values()] == pytest.approx([289, 289], abs=5)
    assert "s3cret" not in repr(cache.kept)


@pytest.mark.parametrize(
    "stored", ["", "x", "never token", "1 token", "{soon} ", "{soon} two words", "{soon} new\nline"]
)
async def test_a_spoilt_cache_is_an_empty_one(stored: str) -> None:
    hub, cache = Hub(), Cache()
    async with serving(hub) as server:
        async with client(server.url, cache=cache) as upstream:
            await upstream.get_manifest(REPOSITORY, "latest")
        (key,) = cache.kept
        cache.kept[key] = (stored.format(soon=int(time.time()) + 100), 100)
        async with client(server.url, cache=cache) as upstream:
            await upstream.get_manifest(REPOSITORY, "latest")
    assert [request.authorization for request in server.seen[3:]] == [None, None, "Bearer token-2"]


async def test_a_token_that_is_refused_is_renewed_once() -> None:
    hub = Hub(expires_in=300)
    async with serving(hub) as server, client(server.url) as upstream:
        await upstream.get_manifest(REPOSITORY, "latest")
        hub.good = "revoked"
        await asyncio.gather(*(upstream.get_manifest(REPOSITORY, "latest") for _ in range(10)))
        assert hub.given == 2
    authorizations = [request.authorization for request in server.seen[3:] if "/token" not in request.path]
    assert sorted(authorizations, key=str) == ["Bearer token-1"] * 10 + ["Bearer token-2"] * 10


@pytest.mark.parametrize("body", [b'{"errors":[{"code":"UNAUTHORIZED","message":"no account"}]}', b"<html>"])
async def test_a_realm_that_only_an_expired_token_is_sent_to_is_left_for_the_other_one(body: bytes) -> None:
    """nvcr.io: anonymous clients get tokens from the realm that a request without a token is sent to."""
    hub = Hub(expires_in=300)

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/accounts-only":
            return web.Response(status=401, body=body)
        hub.realm = f"http://{request.host}/accounts-only" if "Authorization" in request.headers else None
        return await hub(request)

    async with serving(handler) as server, client(server.url) as upstream:
        await upstream.get_manifest(REPOSITORY, "latest")
        hub.good = "another"
        await asyncio.gather(*(upstream.get_manifest(REPOSITORY, "latest") for _ in range(3)))
        assert hub.given == 2
        hub.good = "another"
        await upstream.get_manifest(REPOSITORY, "latest")
        assert hub.given == 3


async def test_a_repository_that_no_token_opens_is_refused_after_one_renewal() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"token": "t"})
        challenge = f'Bearer realm="http://{request.host}/token",error="insufficient_scope"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async with serving(handler) as server, client(server.url) as upstream:
        with pytest.raises(UpstreamRefused) as raised:
            await upstream.get_manifest("private/image", "latest")
        assert [line.partition("?")[0] for line in server.lines] == [
            "GET /v2/private/image/manifests/latest",
            "GET /token",
            "GET /v2/private/image/manifests/latest",
        ]
    assert (raised.value.code, raised.value.answer_status) == ("DENIED", 403)


@pytest.mark.parametrize(
    ("expires_in", "asked"), [(300, 1), (None, 1), ("soon", 1), (-5, 1), (1, 3), (10, 3), (10**30, 1)]
)
async def test_a_token_lives_as_long_as_it_says_less_a_margin(expires_in: object, asked: int) -> None:
    hub, cache = Hub(expires_in=expires_in), Cache()
    async with serving(hub) as server, client(server.url, cache=cache) as upstream:
        for _ in range(3):
            await upstream.get_manifest(REPOSITORY, "latest")
    assert hub.given == asked
    assert all(0 < ttl <= 3600 for _, ttl in cache.kept.values())


@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        (200, b"<html>", {"Content-Type": "text/html"}, UpstreamDown),
        (200, b"{}", {}, UpstreamDown),
        (200, b"[]", {}, UpstreamDown),
        (200, b'{"token": 5}', {}, UpstreamDown),
        (200, json.dumps({"token": "a\r\nX-Injected: b"}).encode(), {}, UpstreamDown),
        (200, json.dumps({"token": "a b"}).encode(), {}, UpstreamDown),
        (200, json.dumps({"token": "x" * 100_000}).encode(), {}, UpstreamInvalid),
        (200, b"[" * 60_000, {}, UpstreamDown),
        (302, b"", {}, UpstreamInvalid),
        (404, b"", {}, UpstreamDown),
        (401, b"", {}, UpstreamDown),
        (401, b"<html>", {"Content-Type": "text/html"}, UpstreamDown),
        (403, b"<html>", {"Content-Type": "text/html"}, UpstreamDown),
        (401, b'{"details":"incorrect username or password"}', {}, UpstreamRefused),
        (401, b"Auth failed.", {"WWW-Authenticate": 'Basic realm="x"'}, UpstreamRefused),
        (403, b'{"errors":[{"code":"DENIED"}]}', {}, UpstreamRefused),
        (429, b"", {"Retry-After": "9"}, UpstreamLimited),
        (500, b"", {}, UpstreamDown),
    ],
)
async def test_a_realm_that_gives_no_token(
    status: int, body: bytes, headers: Mapping[str, str], error: type[OCIError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(always(status, body, headers), "127.0.0.2") as auth:
        hub = Hub()
        hub.realm = f"{auth.url}/token?key=s3cret"
        async with serving(hub) as server, client(server.url, credential=ROBOT) as upstream:
            with pytest.raises(error) as raised:
                await upstream.get_manifest(REPOSITORY, "latest")
    assert len(auth.seen) == 1
    assert len(server.seen) == 1
    assert "s3cret" not in raised.value.message + caplog.text
    assert basic(ROBOT).split()[1] not in raised.value.message + caplog.text


@pytest.mark.parametrize(
    ("challenge", "error"),
    [
        ("", UpstreamDown),
        ("Negotiate", UpstreamDown),
        ("Digest realm=x, nonce=y", UpstreamDown),
        ('Basic realm="x"', UpstreamRefused),
        ("Bearer", UpstreamInvalid),
        ('Bearer realm=""', UpstreamInvalid),
        ("Bearer x", UpstreamInvalid),
    ],
)
async def test_a_challenge_that_cannot_be_answered(challenge: str, error: type[OCIError]) -> None:
    async with serving(always(401, b"", {"WWW-Authenticate": challenge})) as server, client(server.url) as upstream:
        with pytest.raises(error):
            await upstream.get_manifest(REPOSITORY, "latest")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "realm",
    [
        "http://169.254.169.254/latest/api/token",
        "http://10.0.0.1/token",
        "http://[fd00::1]/token",
        "http://[::ffff:169.254.169.254]/token",
        "http://robot@127.0.0.1/token",
        "file:///etc/passwd",
        "//10.0.0.1/token",
    ],
)
async def test_a_realm_within_gets_nothing(realm: str) -> None:
    hub, sent = Hub(), Sent()
    hub.realm = realm
    async with serving(hub) as server, client(server.url, credential=ROBOT) as upstream:
        with pytest.raises(UpstreamInvalid):
            await upstream.get_manifest(REPOSITORY, "latest")
    assert sent.kinds == {("get_manifest", "401"): 1}


async def test_a_public_upstream_cannot_send_the_credential_to_loopback() -> None:
    def see(address: str) -> AddressKind:
        return AddressKind.PUBLIC if address == "127.0.0.1" else AddressKind.LOOPBACK

    async with serving(always(200, b'{"token":"t"}'), "127.0.0.2") as auth:
        hub = Hub()
        hub.realm = f"{auth.url}/token"
        async with (
            serving(hub) as server,
            client(server.url, credential=ROBOT, guard=AddressGuard("127.0.0.1", classify=see)) as upstream,
        ):
            with pytest.raises(UpstreamInvalid):
                await upstream.get_manifest(REPOSITORY, "latest")
    assert auth.seen == []


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="/token",service="hub"',
        "Bearer realm=/token,service=hub",
        "Bearer realm=http://{host}/token,service=hub",
        'Bearer realm="http://{host}/token?a=b" service="hub"',
    ],
)
async def test_a_realm_may_be_relative_or_without_quotes(challenge: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"token": "t"})
        if request.headers.get("Authorization") == "Bearer t":
            return await manifest()(request)
        return web.Response(status=401, headers={"WWW-Authenticate": challenge.format(host=request.host)})

    async with serving(handler) as server, client(server.url) as upstream:
        assert (await upstream.get_manifest(REPOSITORY, "latest")).digest == MANIFEST_DIGEST
    assert parse_qs(urlsplit(server.seen[1].path).query)["service"] == ["hub"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_a_token_service_may_redirect_and_another_host_sees_no_credential(host: str) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return await hub.token()

    async def realm(request: web.Request) -> web.StreamResponse:
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": f"{other.url}/t"})
        return web.Response(status=301, headers={"Location": "/moved"})

    hub = Hub()
    async with serving(elsewhere, host) as other, serving(realm) as auth, serving(hub) as server:
        hub.realm = f"{auth.url}/token"
        async with client(server.url, credential=ROBOT) as upstream:
            assert (await upstream.get_manifest(REPOSITORY, "latest")).digest == MANIFEST_DIGEST
    assert [request.authorization for request in auth.seen] == [basic(ROBOT)] * 2
    assert [request.authorization for request in other.seen] == [None]
