"""Lists from an upstream: which Link is followed, what is believed, and where it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web

from app.config import Credential
from app.mirror.answers import UpstreamDown, UpstreamLimited
from app.mirror.upstream import ListPage
from app.oci.errors import NameUnknown, OCIError, Unsupported, UpstreamInvalid
from tests.parts.service import Service

from .client import Client
from .odd_upstream import REPOSITORY, always, client, serving

FIRST = f"/v2/{REPOSITORY}/tags/list?n=2"
SECOND = f"/v2/{REPOSITORY}/tags/list?n=2&last=a,%3Cb%3E"
DISTRIBUTION = {"Docker-Distribution-Api-Version": "registry/2.0"}
DIGEST = f"sha256:{'1' * 64}"


async def pages(url: str, path: str = "tags/list?n=2", credential: Credential | None = None) -> list[ListPage]:
    async with client(url, credential=credential) as upstream:
        return [page async for page in upstream.list_pages(REPOSITORY, path)]


@pytest.mark.parametrize(
    "link",
    [
        '<{second}>; rel="next"',
        "<{second}>; rel=next",
        '<{home}{second}>;rel="next"',
        '<{second}>; title="x" ; REL="Next"',
        '</elsewhere>; rel="first", <{second}>; rel="prev next"; type="x", </more>; rel="last"',
        '<list?n=2&last=a,%3Cb%3E>; rel="next"',
    ],
)
async def test_a_link_is_followed_byte_for_byte(link: str) -> None:
    link = link.replace("prev next", "next")

    async def handler(request: web.Request) -> web.StreamResponse:
        if "last" in request.query:
            return web.json_response({"tags": ["c"]})
        home = f"http://{request.host}"
        return web.json_response({"tags": ["a"]}, headers={"Link": link.format(home=home, second=SECOND)})

    async with serving(handler) as server:
        found = await pages(server.url)
    assert [(page.document["tags"], page.more) for page in found] == [(["a"], True), (["c"], False)]
    assert server.lines == [f"GET {FIRST}", f"GET {SECOND}"]


@pytest.mark.parametrize(
    "link",
    [
        '<http://127.0.0.2:1/v2/x/tags/list>; rel="next"',
        '<https://{host}/v2/x/tags/list>; rel="next"',
        '<http://somebody@{host}/v2/x/tags/list>; rel="next"',
        '<{first}>; rel="next"',
        '<>; rel="next"',
        '<file:///etc/passwd>; rel="next"',
        '<http://[/>; rel="next"',
    ],
)
async def test_a_link_that_must_not_be_followed_ends_the_list(link: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"tags": ["a"]}, headers={"Link": link.format(host=request.host, first=FIRST)})

    async with serving(handler) as server:
        found = await pages(server.url, credential=Credential("ours", "secret"))
    assert [page.more for page in found] == [True]
    assert server.lines == [f"GET {FIRST}"]


@pytest.mark.parametrize("link", ['<{second}>; rel="prev"', "{second}", "<{second}>", '<{second}; rel="next"'])
async def test_what_is_no_link_to_a_next_page_is_none(link: str) -> None:
    async with serving(always(200, b'{"tags":["a"]}', {"Link": link.format(second=SECOND)})) as server:
        await pages(server.url)
    assert len(server.seen) == 1


_REFUSAL = json.dumps({"errors": [{"code": "UNSUPPORTED", "message": ""}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        (404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', {}, NameUnknown),
        (404, b"404 page not found", DISTRIBUTION, NameUnknown),
        (405, _REFUSAL, {}, Unsupported),
        (400, b"", DISTRIBUTION, Unsupported),
        (501, _REFUSAL, {}, Unsupported),
        (303, b"", {"Location": "/a/page"}, Unsupported),
        (303, b"", {"Location": "http://127.0.0.2:1/"}, Unsupported),
        (405, b"<html>", {"Content-Type": "text/html"}, UpstreamInvalid),
        (501, b"<html>", {"Content-Type": "text/html"}, UpstreamDown),
        (503, b"", {}, UpstreamDown),
        (429, b"", {"Retry-After": "7"}, UpstreamLimited),
        (200, b"<html>", {"Content-Type": "text/html"}, UpstreamDown),
        (200, b"", {}, UpstreamInvalid),
        (200, b"[]", {}, UpstreamInvalid),
        (200, b"[" * 100_000, {}, UpstreamInvalid),
        (200, b"{" + b" " * 4 * 1024 * 1024 + b"}", {}, UpstreamInvalid),
    ],
)
async def test_what_is_no_list_is_named(
    status: int, body: bytes, headers: dict[str, str], error: type[OCIError]
) -> None:
    async with serving(always(status, body, headers)) as server:
        with pytest.raises(error):
            await pages(server.url)
    assert len(server.seen) == 1


async def test_a_list_without_an_end_is_cut(tmp_path: Path) -> None:
    """Tags with a Warning; referrers not at all, since a signature may be missing."""

    async def handler(request: web.Request) -> web.StreamResponse:
        number = int(request.query.get("page", "0"))
        more = {"Link": f'<{request.path}?page={number + 1}>; rel="next"'}
        if request.path.endswith("/tags/list"):
            return web.json_response({"tags": [f"v{number:04}", "v", "not a tag", None]}, headers=more)
        return web.json_response({"manifests": []}, headers=more)

    async with serving(handler) as server:
        with Service(tmp_path, upstream=server.url) as service:
            async with Client(service.url) as somebody:
                for _ in range(2):
                    answer = await somebody.ask("GET", f"/v2/mirror/{REPOSITORY}/tags/list")
                    assert answer.document["tags"] == ["v", *(f"v{number:04}" for number in range(200))]
                    assert answer.headers["Warning"].startswith('299 - "')
                for _ in range(2):
                    answer = await somebody.ask("GET", f"/v2/mirror/{REPOSITORY}/referrers/{DIGEST}")
                    assert answer.status == 502
    assert len(server.seen) == 400


@pytest.mark.parametrize(
    ("tags", "listed"),
    [(b'{"name":"x","tags":null}', []), (b'{"tags":["b","a","b"],"child":[],"manifest":{}}', ["a", "b"])],
)
async def test_tags_as_registries_spell_them(tmp_path: Path, tags: bytes, listed: list[str]) -> None:
    async with serving(always(200, tags, {"Content-Type": "application/json"})) as server:
        with Service(tmp_path, upstream=server.url) as service:
            async with Client(service.url) as somebody:
                answer = await somebody.ask("GET", f"/v2/mirror/{REPOSITORY}/tags/list")
                assert (answer.status, answer.document["tags"]) == (200, listed)
