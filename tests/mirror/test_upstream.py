"""Manifests from an upstream: what is asked, what is believed, and how each failure is named."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
from collections import Counter

import pytest
from aiohttp import web

from app.mirror.address_guard import AddressGuard
from app.mirror.answers import (
    ManifestUnusable,
    RateLimit,
    UpstreamDown,
    UpstreamLimited,
    UpstreamRefused,
    WordlessRefusal,
    answer_of,
)
from app.mirror.transport import Timeouts
from app.oci.digest import Digest
from app.oci.errors import BlobUnknown, ManifestOutdated, ManifestUnknown, NameUnknown, OCIError, UpstreamInvalid
from app.oci.manifest import CARRIED_TYPES, MAX_MANIFEST_BYTES, SCHEMA_1_TYPES

from .odd_upstream import (
    BLOB_DIGEST,
    MANIFEST,
    MANIFEST_DIGEST,
    MANIFEST_TYPE,
    REPOSITORY,
    Names,
    Sent,
    always,
    client,
    manifest,
    raw,
    serving,
)


async def test_a_manifest_is_asked_for_as_a_client_of_docker_hub_would() -> None:
    async with serving(manifest()) as server, client(server.url + "/") as upstream:
        head = await upstream.head_manifest(REPOSITORY, "8.0")
        fetched = await upstream.get_manifest(REPOSITORY, head.digest or "")
    assert (head.digest, head.media_type, head.size) == (MANIFEST_DIGEST, MANIFEST_TYPE, len(MANIFEST))
    assert (fetched.digest, fetched.manifest.payload) == (MANIFEST_DIGEST, MANIFEST)
    assert fetched.manifest.media_type == MANIFEST_TYPE
    assert server.lines == [
        f"HEAD /v2/{REPOSITORY}/manifests/8.0",
        f"GET /v2/{REPOSITORY}/manifests/{MANIFEST_DIGEST}",
    ]
    for request in server.seen:
        assert set(request.headers["Accept"].split(", ")) == CARRIED_TYPES
        assert request.headers["Accept-Encoding"] == "identity"
        assert "registry" in request.headers["User-Agent"]
        assert request.authorization is None


@pytest.mark.parametrize("reference", ["8.0", MANIFEST_DIGEST])
async def test_without_a_stated_digest_the_digest_is_computed(reference: str) -> None:
    async with serving(manifest(Docker_Content_Digest=None)) as server, client(server.url) as upstream:
        assert (await upstream.head_manifest(REPOSITORY, reference)).digest is None
        assert (await upstream.get_manifest(REPOSITORY, reference)).digest == MANIFEST_DIGEST


async def test_a_manifest_asked_for_by_sha512_is_that_one() -> None:
    asked = Digest.of(MANIFEST, "sha512")
    async with serving(manifest()) as server, client(server.url) as upstream:
        assert (await upstream.get_manifest(REPOSITORY, asked)).digest == asked
        with pytest.raises(UpstreamInvalid):
            await upstream.get_manifest(REPOSITORY, Digest.of(b"another", "sha512"))


async def test_no_cookie_is_kept() -> None:
    guard = AddressGuard(
        "registry.test", Names({"registry.test": "127.0.0.1"})
    )  # to an address none would be sent anyway
    async with (
        serving(manifest(Set_Cookie="a=b; Path=/")) as server,
        client(server.url.replace("127.0.0.1", "registry.test"), guard=guard) as upstream,
    ):
        await upstream.head_manifest(REPOSITORY, "latest")
        await upstream.head_manifest(REPOSITORY, "latest")
    assert ["Cookie" in request.headers for request in server.seen] == [False, False]


@pytest.mark.parametrize("reference", ["latest", MANIFEST_DIGEST])
async def test_a_corrupt_manifest_is_refused(reference: str) -> None:
    async with serving(manifest(body=MANIFEST + b" ")) as server, client(server.url) as upstream:
        with pytest.raises(UpstreamInvalid):
            await upstream.get_manifest(REPOSITORY, reference)


async def test_an_address_with_a_path_keeps_it() -> None:
    async with serving(manifest()) as server, client(f"{server.url}/hub/") as upstream:
        await upstream.head_manifest(REPOSITORY, "a")
    assert server.lines == [f"HEAD /hub/v2/{REPOSITORY}/manifests/a"]


async def test_what_is_not_a_name_cannot_change_the_request() -> None:
    async with serving(manifest()) as server, client(server.url) as upstream:
        await upstream.head_manifest("a?b#c %2e", "x/../y?z")
    assert server.lines == ["HEAD /v2/a%3Fb%23c%20%252e/manifests/x%2F..%2Fy%3Fz"]


OTHER = Digest.of(b"other")
NOT_JSON = b"<!doctype html><title>Log in to the network</title>"


PAGE = {"body": NOT_JSON, "Content_Type": "text/html; charset=utf-8", "Docker_Content_Digest": None}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (PAGE, UpstreamDown),
        ({"body": NOT_JSON}, UpstreamInvalid),
        ({"Content_Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, ManifestOutdated),
        ({"body": MANIFEST[:-1] + b" "}, UpstreamInvalid),
        ({"body": MANIFEST[:-10]}, UpstreamInvalid),
        ({"body": MANIFEST + b"\n", "Docker_Content_Digest": None}, UpstreamInvalid),
        ({"Content_Encoding": "gzip", "body": gzip.compress(MANIFEST)}, UpstreamInvalid),
    ],
)
async def test_a_manifest_that_is_not_what_was_asked_for_is_refused(
    changes: dict[str, str], error: type[OCIError]
) -> None:
    async with serving(manifest(**changes)) as server, client(server.url) as upstream:
        with pytest.raises(error) as raised:
            await upstream.get_manifest(REPOSITORY, MANIFEST_DIGEST)
    assert type(raised.value) is error


@pytest.mark.parametrize("reference", ["latest", MANIFEST_DIGEST])
@pytest.mark.parametrize(
    "changes",
    [
        {"Content_Type": "application/json"},
        {"Content_Type": "application/octet-stream"},
        {"Content_Type": "text/plain; charset=utf-8"},
        {"Content_Type": ""},
        {"Content_Type": "text/html"},
        {"Content_Encoding": "gzip"},
        {"Docker_Content_Digest": None},
        {"Docker_Content_Digest": ""},
        {"Docker_Content_Digest": f'"{MANIFEST_DIGEST}"'},
        {"Docker_Content_Digest": f"{MANIFEST_DIGEST}, {MANIFEST_DIGEST}"},
        {"Docker_Content_Digest": f"{MANIFEST_DIGEST}, {OTHER}"},
        {"Docker_Content_Digest": "sha256:abc"},
        {"Docker_Content_Digest": "md5:d41d8cd98f00b204e9800998ecf8427e"},
    ],
)
async def test_a_manifest_with_an_odd_head_is_what_its_bytes_are(changes: dict[str, str], reference: str) -> None:
    async with serving(manifest(**changes)) as server, client(server.url) as upstream:
        head = await upstream.head_manifest(REPOSITORY, reference)
        fetched = await upstream.get_manifest(REPOSITORY, reference)
    assert head.digest in (None, MANIFEST_DIGEST)
    assert head.media_type in ("", MANIFEST_TYPE)
    assert (fetched.digest, fetched.manifest.payload) == (MANIFEST_DIGEST, MANIFEST)
    assert fetched.manifest.media_type == MANIFEST_TYPE


async def test_bytes_of_the_right_digest_count_more_than_a_stated_one() -> None:
    async with serving(manifest(Docker_Content_Digest=OTHER)) as server, client(server.url) as upstream:
        assert (await upstream.get_manifest(REPOSITORY, MANIFEST_DIGEST)).digest == MANIFEST_DIGEST
        head = await upstream.head_manifest(REPOSITORY, MANIFEST_DIGEST)
        assert (head.digest, head.media_type, head.size) == (None, "", None)
        with pytest.raises(UpstreamInvalid):
            await upstream.get_manifest(REPOSITORY, "latest")


@pytest.mark.parametrize("size", [100, 8_000, 60_000, 250_000])
async def test_headers_may_be_large(size: int) -> None:
    async with serving(manifest(Content_Security_Policy="x" * size)) as server, client(server.url) as upstream:
        assert (await upstream.get_manifest(REPOSITORY, "latest")).digest == MANIFEST_DIGEST


@pytest.mark.parametrize("stated", sorted(SCHEMA_1_TYPES))
async def test_schema_1_is_refused_before_its_get(stated: str) -> None:
    async with serving(manifest(Content_Type=stated)) as server, client(server.url) as upstream:
        for ask in (upstream.head_manifest, upstream.get_manifest):
            with pytest.raises(ManifestOutdated, match="schema 1") as caught:
                await ask(REPOSITORY, "latest")
            assert (caught.value.code, caught.value.answer_status) == ("MANIFEST_UNKNOWN", 404)


@pytest.mark.parametrize("stated", ["application/json", "application/octet-stream", "text/plain", "x/y", ""])
async def test_a_manifest_says_itself_what_it_is_if_its_label_does_not(stated: str) -> None:
    async with serving(manifest(Content_Type=stated)) as server, client(server.url) as upstream:
        fetched = await upstream.get_manifest(REPOSITORY, "latest")
    assert fetched.manifest.media_type == MANIFEST_TYPE


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", NOT_JSON, b'{"fsLayers":[]}', b"[" * 100_000, b"\xff\xfe"],
)
async def test_what_is_no_manifest_is_refused_under_its_own_digest_too(body: bytes) -> None:
    async with (
        serving(manifest(body=body, Docker_Content_Digest=Digest.of(body))) as server,
        client(server.url) as upstream,
    ):
        with pytest.raises(UpstreamInvalid):
            await upstream.get_manifest(REPOSITORY, "latest")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (PAGE, UpstreamDown),
        ({"Content_Type": "application/vnd.docker.distribution.manifest.v1+json"}, ManifestOutdated),
        ({"body": b"x" * (MAX_MANIFEST_BYTES + 1)}, ManifestUnusable),
    ],
)
async def test_a_head_saves_the_get_of_what_cannot_be_used(changes: dict[str, str], error: type[OCIError]) -> None:
    async with serving(manifest(**changes)) as server, client(server.url) as upstream:
        with pytest.raises(error):
            await upstream.head_manifest(REPOSITORY, "latest")


@pytest.mark.parametrize("status", [400, 405, 501])
@pytest.mark.parametrize("body", [b"", b'{"errors":[{"code":"UNSUPPORTED"}]}'])
async def test_a_registry_may_serve_no_head_of_manifests(status: int, body: bytes) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(status=status, body=body, content_type="application/json")
        return await manifest()(request)

    async with serving(handler) as server, client(server.url) as upstream:
        head = await upstream.head_manifest(REPOSITORY, "latest")
        assert (head.served, head.digest, head.media_type, head.size) == (False, None, "", None)
        assert (await upstream.get_manifest(REPOSITORY, "latest")).digest == MANIFEST_DIGEST


def unanswered(error: OCIError) -> None:
    """Assert that an error tells of a GET that may have arrived, and of no answer."""
    answer = answer_of(error)
    assert answer is not None
    assert (answer.kind, answer.status, answer.rate) == ("get_manifest", None, None)


def padded(size: int) -> bytes:
    document = json.loads(MANIFEST) | {"annotations": {"padding": ""}}
    document["annotations"]["padding"] = "x" * (size - len(json.dumps(document)))
    return json.dumps(document).encode()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("excess", [0, 1])
async def test_a_manifest_has_four_mebibytes_at_most(excess: int, chunked: bool) -> None:
    body = padded(MAX_MANIFEST_BYTES + excess)

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=body, headers={"Content-Type": MANIFEST_TYPE})
        if chunked:
            response.enable_chunked_encoding()
        return response

    async with serving(handler) as server, client(server.url) as upstream:
        if excess:
            with pytest.raises(UpstreamInvalid):
                await upstream.get_manifest(REPOSITORY, "latest")
        else:
            assert (await upstream.get_manifest(REPOSITORY, "latest")).manifest.payload == body


def errors(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": "<b>untrusted</b>"}]}).encode()


STATUSES: list[tuple[int, bytes, type[OCIError]]] = [
    (400, b"", UpstreamInvalid),
    (401, errors("UNAUTHORIZED"), UpstreamRefused),
    (403, errors("DENIED"), UpstreamRefused),
    (401, b"", WordlessRefusal),
    (403, NOT_JSON, WordlessRefusal),
    (404, errors("MANIFEST_UNKNOWN"), ManifestUnknown),
    (404, errors("NAME_UNKNOWN"), NameUnknown),
    (404, errors("SOMETHING_ELSE"), ManifestUnknown),
    (404, b'{"errors":[]}', WordlessRefusal),
    (404, b'{"errors":[{"code":{}}]}', WordlessRefusal),
    (404, NOT_JSON, WordlessRefusal),
    (404, b"", WordlessRefusal),
    (404, b"x" * 1_000_000, WordlessRefusal),
    (405, b"", UpstreamInvalid),
    (408, b"", UpstreamDown),
    (416, b"", UpstreamInvalid),
    (429, errors("TOOMANYREQUESTS"), UpstreamLimited),
    (429, b"", UpstreamLimited),
    (500, errors("UNKNOWN"), UpstreamDown),
    (502, NOT_JSON, UpstreamDown),
    (503, b"", UpstreamDown),
    (201, MANIFEST, UpstreamInvalid),
    (204, b"", UpstreamInvalid),
    (206, MANIFEST, UpstreamInvalid),
    (304, b"", UpstreamInvalid),
]


@pytest.mark.parametrize(("status", "body", "error"), STATUSES)
async def test_each_status_has_its_error(status: int, body: bytes, error: type[OCIError]) -> None:
    handler = always(status, body, {"Content-Type": MANIFEST_TYPE if body == MANIFEST else "application/json"})
    async with serving(handler) as server, client(server.url) as upstream:
        with pytest.raises(error) as raised:
            await upstream.get_manifest(REPOSITORY, "latest")
        assert type(raised.value) is error
        assert "untrusted" not in raised.value.message


JSON, PAGES = {"Content-Type": "application/json"}, {"Content-Type": "text/html"}
VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (403, JSON, UpstreamRefused),
        (403, PAGES | VERSION, UpstreamRefused),
        (403, PAGES, WordlessRefusal),
        (403, {}, WordlessRefusal),
        (404, {"Content-Type": "application/json; charset=utf-8"}, ManifestUnknown),
        (404, VERSION, ManifestUnknown),
        (404, PAGES, WordlessRefusal),
        (404, {"WWW-Authenticate": 'Bearer realm="x"'}, WordlessRefusal),
        (401, JSON, UpstreamRefused),
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, UpstreamRefused),
        (401, {"WWW-Authenticate": "Negotiate"}, WordlessRefusal),
        (401, PAGES, WordlessRefusal),
        (429, {}, UpstreamLimited),
        (500, {}, UpstreamDown),
    ],
)
async def test_only_a_registry_can_refuse_a_head(status: int, headers: dict[str, str], error: type[OCIError]) -> None:
    async with serving(always(status, b"", headers)) as server, client(server.url) as upstream:
        with pytest.raises(error) as raised:
            await upstream.head_manifest(REPOSITORY, "latest")
    assert type(raised.value) is error


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_the_distribution_header_makes_any_refusal_a_registrys(method: str) -> None:
    async with serving(always(404, NOT_JSON, PAGES | VERSION)) as server, client(server.url) as upstream:
        with pytest.raises(ManifestUnknown):
            await (upstream.head_manifest if method == "HEAD" else upstream.get_manifest)(REPOSITORY, "latest")


async def test_a_missing_blob_is_told_from_a_missing_manifest() -> None:
    async with serving(always(404)) as server, client(server.url) as upstream:
        with pytest.raises(BlobUnknown):
            await upstream.head_blob(REPOSITORY, BLOB_DIGEST)
        with pytest.raises(BlobUnknown):
            async with upstream.open_blob(REPOSITORY, BLOB_DIGEST):
                pass


@pytest.mark.parametrize(
    ("retry_after", "sent_on"), [(None, "60"), ("17", "17"), ("nonsense", "60"), ("999999999", "21600")]
)
async def test_a_429_says_when_to_come_back(retry_after: str | None, sent_on: str) -> None:
    headers = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"}
    async with (
        serving(always(429, b"", headers | ({"Retry-After": retry_after} if retry_after else {}))) as server,
        client(server.url) as upstream,
    ):
        with pytest.raises(UpstreamLimited) as raised:
            await upstream.get_manifest(REPOSITORY, "latest")
    assert (raised.value.retry_after, raised.value.headers["Retry-After"]) == (retry_after, sent_on)
    answer = answer_of(raised.value)
    assert answer is not None
    assert (answer.kind, answer.status, answer.retry_after) == ("get_manifest", 429, retry_after)
    assert answer.rate == RateLimit(100, 0, 21600, None)


async def test_a_manifest_comes_with_what_its_answer_says_of_the_limit() -> None:
    sent = Sent()
    handler = manifest(
        ratelimit_limit="100;w=21600", ratelimit_remaining="99;w=21600", docker_ratelimit_source="192.0.2.1"
    )
    async with serving(handler) as server, client(server.url) as upstream:
        head = (await upstream.head_manifest(REPOSITORY, "latest")).answer
        get = (await upstream.get_manifest(REPOSITORY, "latest")).answer
    assert sent.kinds == {("head_manifest", "200"): 1, ("get_manifest", "200"): 1}
    assert [(answer.kind, answer.status) for answer in (head, get)] == [("head_manifest", 200), ("get_manifest", 200)]
    assert head.rate == get.rate == RateLimit(100, 99, 21600, "192.0.2.1")
    assert head.sent_at <= get.sent_at


@pytest.mark.parametrize("changes", [{"body": MANIFEST + b" "}, {"body": b"{}"}])
async def test_an_answer_that_is_not_believed_still_counts(changes: dict[str, str]) -> None:
    async with (
        serving(manifest(ratelimit_remaining="99;w=21600", **changes)) as server,
        client(server.url) as upstream,
    ):
        with pytest.raises(UpstreamInvalid) as raised:
            await upstream.get_manifest(REPOSITORY, MANIFEST_DIGEST)
    answer = answer_of(raised.value)
    assert answer is not None
    assert (answer.status, answer.rate) == (200, RateLimit(99, 99, 21600, None))


async def test_an_upstream_that_is_not_there_is_away() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        sent = Sent()
        async with client(f"http://127.0.0.1:{bound.getsockname()[1]}") as upstream:
            with pytest.raises(UpstreamDown) as raised:
                await upstream.get_manifest(REPOSITORY, "latest")
    assert sent.kinds == {("get_manifest", "none"): 1}
    unanswered(raised.value)
    assert int(raised.value.headers["Retry-After"]) > 0


async def test_a_name_that_does_not_resolve_is_away() -> None:
    async with client("http://nowhere.invalid") as upstream:
        with pytest.raises(UpstreamDown):
            await upstream.head_manifest(REPOSITORY, "latest")


async def test_an_upstream_that_says_nothing_is_away() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    sent = Sent()
    async with serving(handler) as server, client(server.url, timeouts=Timeouts(answer=0.2)) as upstream:
        with pytest.raises(UpstreamDown) as raised:
            await upstream.get_manifest(REPOSITORY, "latest")
    assert sent.kinds == {("get_manifest", "none"): 1}
    unanswered(raised.value)


async def test_a_manifest_that_stalls_is_away() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": MANIFEST_TYPE})
        await response.prepare(request)
        await response.write(MANIFEST[:100])
        await asyncio.Event().wait()
        return response

    async with serving(handler) as server, client(server.url, timeouts=Timeouts(idle=0.2)) as upstream:
        with pytest.raises(UpstreamDown):
            await upstream.get_manifest(REPOSITORY, "latest")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("", b""),
        ("", b"SSH-2.0-OpenSSH_9.2\r\n"),
        (f"HTTP/1.1 200 OK\nContent-Type: {MANIFEST_TYPE}\nContent-Length: 9999", MANIFEST),
        (f"HTTP/1.1 200 OK\nContent-Type: {MANIFEST_TYPE}\nTransfer-Encoding: chunked", b"10\r\nhalf"),
    ],
)
async def test_an_answer_that_breaks_off_is_away_and_a_counted_get_is_sent_once(head: str, body: bytes) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await raw(request, head, body)

    sent = Sent()
    async with serving(handler) as server, client(server.url) as upstream:
        with pytest.raises(UpstreamDown):
            await upstream.get_manifest(REPOSITORY, "latest")
    assert server.lines == [f"GET /v2/{REPOSITORY}/manifests/latest"]
    assert sent.kinds.total() == 1


async def test_a_counted_get_is_not_repeated_on_a_used_connection_either() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await (raw(request, "") if request.method == "GET" else manifest()(request))

    async with serving(handler) as server, client(server.url) as upstream:
        await upstream.head_manifest(REPOSITORY, "latest")
        with pytest.raises(UpstreamDown):
            await upstream.get_manifest(REPOSITORY, "latest")
    assert [request.method for request in server.seen] == ["HEAD", "GET"]


class Forgetful:
    """Answers the first request on each connection, as behind a NAT that forgets connections; ``served`` by them."""

    def __init__(self) -> None:
        self.served: Counter[object] = Counter()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.served[request.transport] += 1
        if self.served[request.transport] > 1:
            await asyncio.Event().wait()
        return await manifest()(request)


async def test_a_dead_connection_costs_a_repeat_and_no_more() -> None:
    handler = Forgetful()
    timeouts = Timeouts(answer=60, reused=0.1)
    async with serving(handler) as server, client(server.url, timeouts=timeouts) as upstream:
        for _ in range(2):
            assert (await upstream.head_manifest(REPOSITORY, "latest")).digest == MANIFEST_DIGEST
        # Then no connection is trusted for a while.
        assert (await upstream.head_manifest(REPOSITORY, "latest")).digest == MANIFEST_DIGEST
    assert sorted(handler.served.values()) == [1, 1, 2]


async def test_a_counted_get_never_meets_a_dead_connection() -> None:
    handler = Forgetful()
    async with serving(handler) as server, client(server.url) as upstream:
        await upstream.head_manifest(REPOSITORY, "latest")
        for _ in range(2):
            await upstream.get_manifest(REPOSITORY, "latest")
    assert server.lines[1:] == [f"GET /v2/{REPOSITORY}/manifests/latest"] * 2
    assert list(handler.served.values()) == [1, 1, 1]


async def test_a_kept_connection_that_is_closed_costs_a_repeat() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        served[request.transport] += 1
        return await (raw(request, "") if served[request.transport] > 1 else manifest()(request))

    served: Counter[object] = Counter()
    async with serving(handler) as server, client(server.url) as upstream:
        for _ in range(2):
            assert (await upstream.head_manifest(REPOSITORY, "latest")).digest == MANIFEST_DIGEST


async def test_no_error_shows_more_than_is_meant_for_clients(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "app")
    async with client("http://127.0.0.1:1/secret-path") as upstream:
        with pytest.raises(UpstreamDown) as raised:
            await upstream.get_manifest(REPOSITORY, "latest")
    assert "secret-path" not in raised.value.message + str(raised.value) + caplog.text
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
