"""Blobs from an upstream: ranges, lengths, and what ends too early."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from app.mirror.answers import UpstreamDown
from app.mirror.transport import Timeouts
from app.mirror.upstream import Upstream
from app.oci.errors import BlobUnknown, UpstreamInvalid

from .odd_upstream import BLOB, BLOB_DIGEST, REPOSITORY, Handler, Sent, always, client, raw, serving

OCTETS = {"Content-Type": "application/octet-stream"}
SIZE = len(BLOB)


async def read(upstream: Upstream, offset: int = 0) -> tuple[int, int | None, bytes]:
    async with upstream.open_blob(REPOSITORY, BLOB_DIGEST, offset) as body:
        return body.offset, body.size, b"".join([chunk async for chunk in body.chunks()])


def ranged(content_range: str | None, body: bytes, **headers: str) -> Handler:
    answer = OCTETS | headers | ({"Content-Range": content_range} if content_range else {})
    return always(206, body, answer)


async def test_a_blob_comes_whole_in_bounded_pieces() -> None:
    async with serving(always(200, BLOB, OCTETS)) as server, client(server.url) as upstream:
        async with upstream.open_blob(REPOSITORY, BLOB_DIGEST) as body:
            assert (body.offset, body.size) == (0, SIZE)
            chunks = [chunk async for chunk in body.chunks()]
        assert await upstream.head_blob(REPOSITORY, BLOB_DIGEST) == SIZE
    assert b"".join(chunks) == BLOB
    assert max(map(len, chunks)) <= 256 * 1024
    assert server.lines == [f"{method} /v2/{REPOSITORY}/blobs/{BLOB_DIGEST}" for method in ("GET", "HEAD")]
    assert "Range" not in server.seen[0].headers


async def test_a_blob_goes_on_from_an_offset() -> None:
    async with serving(ranged(f"bytes 1000-{SIZE - 1}/{SIZE}", BLOB[1000:])) as server, client(server.url) as upstream:
        assert await read(upstream, 1000) == (1000, SIZE, BLOB[1000:])
    assert server.seen[0].headers["Range"] == "bytes=1000-"


async def test_an_upstream_without_ranges_says_that_it_begins_anew() -> None:
    async with serving(always(200, BLOB, OCTETS)) as server, client(server.url) as upstream:
        assert await read(upstream, 1000) == (0, SIZE, BLOB)


async def test_a_size_may_be_unknown() -> None:
    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=BLOB, headers=OCTETS)
        response.enable_chunked_encoding()
        return response

    async with serving(chunked) as server, client(server.url) as upstream:
        assert await read(upstream) == (0, None, BLOB)
        with pytest.raises(UpstreamInvalid):
            await upstream.head_blob(REPOSITORY, BLOB_DIGEST)
        assert await upstream.head_blob(REPOSITORY, BLOB_DIGEST, SIZE) == SIZE
    async with serving(ranged("bytes 10-19/*", BLOB[10:20])) as server, client(server.url) as upstream:
        assert await read(upstream, 10) == (10, None, BLOB[10:20])


@pytest.mark.parametrize(
    "handler",
    [
        ranged(None, BLOB[1000:]),
        ranged("nonsense", BLOB[1000:]),
        ranged(f"bytes 0-{SIZE - 1}/{SIZE}", BLOB),
        ranged(f"bytes 999-{SIZE - 1}/{SIZE}", BLOB[999:]),
        ranged(f"bytes 1001-{SIZE - 1}/{SIZE}", BLOB[1001:]),
        ranged(f"bytes 1000-{SIZE}/{SIZE}", BLOB[1000:] + b"x"),
        ranged("bytes 1000-999/*", b""),
        ranged("bytes 1000-1999/1500", BLOB[1000:2000]),
        ranged("bytes 1000-1999/0", BLOB[1000:2000]),
        ranged(f"bytes 1000-{SIZE - 1}/{SIZE}", BLOB[1000:-5]),
        always(416, b"", {"Content-Range": f"bytes */{SIZE}"}),
    ],
)
async def test_another_part_than_was_asked_for_is_refused(handler: Handler) -> None:
    async with serving(handler) as server, client(server.url) as upstream:
        with pytest.raises(UpstreamInvalid):
            await read(upstream, 1000)


async def test_a_part_that_nobody_asked_for_is_refused() -> None:
    async with serving(ranged(f"bytes 0-{SIZE - 1}/{SIZE}", BLOB)) as server, client(server.url) as upstream:
        with pytest.raises(UpstreamInvalid):
            await read(upstream)


async def test_a_range_that_ends_before_the_blob_does_is_no_end() -> None:
    async with (
        serving(ranged(f"bytes 1000-1999/{SIZE}", BLOB[1000:2000])) as server,
        client(server.url) as upstream,
        upstream.open_blob(REPOSITORY, BLOB_DIGEST, 1000) as body,
    ):
        chunks = body.chunks()
        assert await anext(chunks) == BLOB[1000:2000]
        with pytest.raises(UpstreamDown):
            await anext(chunks)


async def collect(upstream: Upstream, into: bytearray) -> None:
    async with upstream.open_blob(REPOSITORY, BLOB_DIGEST) as body:
        async for chunk in body.chunks():
            into += chunk


HEAD = "HTTP/1.1 200 OK\nContent-Type: application/octet-stream\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (f"{HEAD}Content-Length: {SIZE}", BLOB[:1000]),
        (f"{HEAD}Transfer-Encoding: chunked", b"3E8\r\n" + BLOB[:1000] + b"\r\n"),
        (f"{HEAD}Transfer-Encoding: chunked", b"3E8\r\n" + BLOB[:1000] + b"\r\nnonsense\r\n"),
    ],
)
async def test_a_body_that_is_cut_gives_what_came_and_is_away(head: str, body: bytes) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await raw(request, head, body)

    got = bytearray()
    async with serving(handler) as server, client(server.url) as upstream:
        with pytest.raises(UpstreamDown):
            await collect(upstream, got)
    assert BLOB.startswith(got)


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers=OCTETS | {"Content-Length": str(SIZE)})
    await response.prepare(request)
    await response.write(BLOB[:1000])
    await asyncio.Event().wait()
    return response


async def test_a_body_that_stalls_is_away() -> None:
    async with (
        serving(half) as server,
        client(server.url, timeouts=Timeouts(idle=0.2)) as upstream,
        upstream.open_blob(REPOSITORY, BLOB_DIGEST) as body,
    ):
        chunks = body.chunks()
        assert await anext(chunks) == BLOB[:1000]
        with pytest.raises(UpstreamDown):
            await anext(chunks)


async def test_a_slow_body_is_not_a_stalled_one() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=OCTETS | {"Content-Length": "8"})
        await response.prepare(request)
        for number in range(8):
            await asyncio.sleep(0.15)
            await response.write(bytes([number]))
        return response

    async with serving(slow) as server, client(server.url, timeouts=Timeouts(answer=1, idle=1)) as upstream:
        assert await read(upstream) == (0, 8, bytes(range(8)))


async def test_leaving_a_body_ends_its_transfer() -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=OCTETS)
        await response.prepare(request)
        try:
            while True:
                await response.write(BLOB)
        except ConnectionError:
            gone.set()
            raise

    async with serving(endless) as server, client(server.url) as upstream:
        async with upstream.open_blob(REPOSITORY, BLOB_DIGEST) as body:
            assert await anext(body.chunks())
        await asyncio.wait_for(gone.wait(), 30)


async def test_closing_the_client_ends_a_body_as_a_cut_would() -> None:
    async with (
        serving(half) as server,
        client(server.url) as upstream,
        upstream.open_blob(REPOSITORY, BLOB_DIGEST) as body,
    ):
        chunks = body.chunks()
        await anext(chunks)
        await upstream.close()
        with pytest.raises(UpstreamDown):
            await anext(chunks)


@pytest.mark.parametrize(
    "labels",
    [{"Content-Type": "text/html"}, {"Content-Type": "application/x-gzip"}, {"Content-Encoding": "x-gzip"}, {}],
)
async def test_the_label_of_a_blob_does_not_matter(labels: dict[str, str]) -> None:
    async with serving(always(200, BLOB, labels)) as server, client(server.url) as upstream:
        assert await upstream.head_blob(REPOSITORY, BLOB_DIGEST, SIZE) == SIZE
        assert await read(upstream) == (0, SIZE, BLOB)


async def test_a_page_does_not_tell_a_blobs_size() -> None:
    page = b"<html>Log in to the network"
    async with serving(always(200, page, {"Content-Type": "text/html"})) as server, client(server.url) as upstream:
        for described in (None, SIZE):
            with pytest.raises(UpstreamDown):
                await upstream.head_blob(REPOSITORY, BLOB_DIGEST, described)


async def test_a_page_of_unknown_length_is_no_blob() -> None:
    async def portal(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=b"<html>", content_type="text/html")
        response.enable_chunked_encoding()
        return response

    async with serving(portal) as server, client(server.url) as upstream:
        with pytest.raises(UpstreamDown):
            await read(upstream)


def by_get(status: int, body: bytes = b"", **headers: str) -> Handler:
    """Refuse a HEAD in this way, and serve a GET."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(status=status, headers=headers)
        ranged = request.headers.get("Range") == "bytes=0-0"
        content_range = {"Content-Range": f"bytes 0-0/{SIZE}"} if ranged else {}
        return web.Response(status=206 if ranged else 200, body=BLOB[:1] if ranged else BLOB, headers=content_range)

    return handler


@pytest.mark.parametrize(
    "handler", [by_get(400), by_get(401), by_get(403), by_get(404), by_get(405), by_get(501), by_get(200)]
)
async def test_a_head_that_tells_no_size_is_asked_again_by_a_get_of_one_byte(handler: Handler) -> None:
    async with serving(handler) as server, client(server.url) as upstream:
        assert await upstream.head_blob(REPOSITORY, BLOB_DIGEST) == SIZE
    assert [request.headers.get("Range") for request in server.seen] == [None, "bytes=0-0"]


async def test_a_registrys_word_about_a_blob_is_not_asked_again() -> None:
    words = {"Content-Type": "application/json"}
    handler = always(404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}', words)
    async with serving(handler) as server, client(server.url) as upstream:
        with pytest.raises(BlobUnknown):
            await upstream.head_blob(REPOSITORY, BLOB_DIGEST)
    assert len(server.seen) == 1


async def test_requests_for_blobs_are_counted() -> None:
    sent = Sent()
    async with serving(always(200, BLOB, OCTETS)) as server, client(server.url) as upstream:
        await upstream.head_blob(REPOSITORY, BLOB_DIGEST)
        await read(upstream)
    assert sent.kinds == {("head_blob", "200"): 1, ("get_blob", "200"): 1}
