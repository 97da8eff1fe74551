"""Odd upstreams × cold, fresh and stale × what is asked for: never a wrong byte, never a cached thing lost.

Each row plans one oddity. It is asked for an image that is not here, for one whose tag is fresh, for one whose tag is
older, and for one whose tag has moved. Each upstream has a name of its own, so that no row hears of another one. The
rows for lists, of tags and of referrers, are below: never a wrong list, never a cached one lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import pytest

from tests.images import Image, referrer, referrers_tag
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client
from .conftest import Make, clean_log
from .inside import committed, let_time_pass
from .test_freshness import is_stale

Plan = Callable[[Hub, Hub], None]

_LAYER = 5_000


@dataclass(frozen=True)
class Row:
    """One oddity, and what clients see of it.

    ``cold`` and ``cold_blob`` are the statuses for what is not here. ``stale`` and ``moved`` say what becomes of an
    older tag that is the same upstream, and of one that has moved: it is asked after ("new"), served as last known with
    a Warning ("old"), or answered with that status. ``gets`` are the GETs of manifests that a cold image costs, however
    often it is asked for. With ``counted``, the upstream counts them.
    """

    plan: Plan
    cold: int = 200
    cold_blob: int = 200
    stale: Literal["new", "old", 403, 404] = "new"
    moved: Literal["new", "old", 403, 404] = "new"
    gets: int = 1
    counted: bool = False


def fault(*kinds: str, **details: object) -> Plan:
    """Plan the same fault for requests of these kinds, until it is cleared."""

    def plan(hub: Hub, other: Hub) -> None:
        for kind in kinds:
            hub.fault(kind, **({"times": None} | details))  # type: ignore[arg-type]  # names come from the table

    return plan


def header(kind: str, text: str, **details: object) -> Plan:
    return fault(kind, action="header", text=text, **details)


def challenge(text: str) -> Plan:
    """Let the upstream ask for a login in other words; every token that is out is worthless."""

    def plan(hub: Hub, other: Hub) -> None:
        hub.revoke_tokens()
        for kind in ("manifest", "blob"):
            hub.fault(kind, "challenge", text=text.format(realm=hub.realm), times=None)

    return plan


def token(action: str, **details: object) -> Plan:
    """Let the token service answer so; every token that is out is worthless."""

    def plan(hub: Hub, other: Hub) -> None:
        hub.revoke_tokens()
        fault("token", action=action, **details)(hub, other)

    return plan


def token_moved(hub: Hub, other: Hub) -> None:
    hub.revoke_tokens()
    hub.fault("token", "moved", url=hub.realm.removesuffix("/token"))


def to_another_registry(hub: Hub, other: Hub) -> None:
    fault("manifest", "blob", action="moved", url=other.url)(hub, other)


def logins(kind: Literal["basic", "none"]) -> Plan:
    return lambda hub, other: hub.logins(kind)


_DOWN = {"cold": 503, "cold_blob": 200, "stale": "old", "moved": "old", "gets": 0}


def down(plan: Plan, **more: object) -> Row:
    """Make the row of an upstream that says nothing about its images."""
    return Row(plan, **(_DOWN | more))  # type: ignore[arg-type]  # names come from the table


ROWS = {
    "none": Row(lambda hub, other: None),
    # not as a registry says it
    "404 page": down(fault("manifest", action="page", status=404), cold=404, gets=8),
    "404 page, counted": down(fault("manifest", action="page", status=404), counted=True),
    "404 page to HEAD": Row(fault("manifest", action="page", status=404, method="HEAD")),
    "404 page to HEAD, counted": down(fault("manifest", action="page", status=404, method="HEAD"), counted=True),
    "403 page": down(fault("manifest", "blob", action="page", status=403), cold_blob=503, gets=8),
    "403 page, counted": down(fault("manifest", action="page", status=403), counted=True),
    "401 page": down(fault("manifest", "blob", action="page", status=401), cold_blob=503, gets=8),
    "200 page": down(fault("manifest", action="html")),
    "200 page for blobs": Row(fault("blob", "cdn", action="html"), cold_blob=502),
    "token page": down(token("html"), cold_blob=503),
    "token 403 page": down(token("page", status=403), cold_blob=503),
    "token 401 page": down(token("page", status=401), cold_blob=503),
    "token 404": down(token("status", status=404), cold_blob=503),
    "storage 403": Row(fault("cdn", action="status", status=403), cold_blob=503),
    "storage 404": Row(fault("cdn", action="status", status=404), cold_blob=503),
    "blob 404 page": Row(fault("blob", action="page", status=404), cold_blob=404),
    "away": down(lambda hub, other: hub.down(), cold_blob=503),
    "500": down(fault("manifest", action="status", status=500)),
    "429 alone": down(fault("manifest", action="status", status=429, retry_after="7"), cold=429),
    # in a registry's words
    "404": Row(fault("manifest", action="status", status=404), cold=404, stale=404, moved=404, gets=0),
    "404, counted": Row(
        fault("manifest", action="status", status=404), cold=404, stale=404, moved=404, gets=0, counted=True
    ),
    "403": Row(fault("manifest", action="status", status=403), cold=403, stale=403, moved=403, gets=0),
    "401": Row(fault("manifest", action="status", status=401), cold=403, stale=403, moved=403, gets=0),
    "token 403": Row(token("status", status=403), cold=403, cold_blob=403, stale=403, moved=403, gets=0),
    "Basic only": Row(logins("basic"), cold=403, cold_blob=403, stale=403, moved=403, gets=0),
    # manifests that cannot be used
    "corrupt": Row(fault("manifest", action="corrupt"), cold=502, moved="old", counted=True),
    "schema 1": down(
        header("manifest", "Content-Type: application/vnd.docker.distribution.manifest.v1+json"), cold=404
    ),
    # only unusual
    **{
        f"HEAD {status}{', counted' if counted else ''}": Row(
            fault("manifest", action="status", status=status, method="HEAD"), counted=counted
        )
        for status in (400, 405, 501)
        for counted in (False, True)
    },
    "another registry": Row(to_another_registry),
    "no login": Row(logins("none")),
    "token moved": Row(token_moved),
    "relative realm": Row(challenge('Bearer realm="/token",service="registry.docker.io"')),
    "unquoted realm": Row(challenge("Bearer realm={realm},service=registry.docker.io")),
    "forgotten": Row(fault("token", "manifest", "blob", "cdn", action="forgotten"), counted=True),
    "signed for GET": Row(fault("blob", action="get_signed")),
    "no length": Row(fault("manifest", "cdn", action="no_length")),
    "chunked": Row(fault("manifest", "cdn", action="chunked")),
    "no digest": Row(fault("manifest", action="no_digest")),
    "empty digest": Row(header("manifest", "Docker-Content-Digest: ")),
    "digest of another kind": Row(header("manifest", "Docker-Content-Digest: blake3:" + "0" * 64)),
    "application/json": Row(header("manifest", "Content-Type: application/json")),
    "application/octet-stream": Row(header("manifest", "Content-Type: application/octet-stream")),
    "text/plain": Row(header("manifest", "Content-Type: text/plain; charset=utf-8")),
    "no type": Row(header("manifest", "Content-Type: ")),
    "large headers": Row(header("manifest", "Content-Security-Policy: " + "x" * 100_000)),
    "text/html blobs": Row(header("cdn", "Content-Type: text/html")),
    "x-gzip blobs": Row(header("cdn", "Content-Encoding: x-gzip")),
}
_PROJECTS = {name: f"odd{number}" for number, name in enumerate([*ROWS, "few pulls", "asks to wait"])}

List = Literal["all", "old", "none", 403, 404, 405, 429, 502, 503]
_FRESH_SECONDS = 2


@dataclass(frozen=True)
class ListRow:
    """One oddity of lists, and what clients get: the whole list ("old" with a Warning), an empty one, or a status.

    ``cold`` is for what was never asked for, ``stale`` for what is no longer fresh, each for tags and for referrers.
    With ``fallback``, there is a fallback tag for the referrers.
    """

    plan: Plan
    cold: tuple[List, List] = ("all", "all")
    stale: tuple[List, List] = ("all", "all")
    fallback: bool = False


def unlisted(plan: Plan, status: List = 503) -> ListRow:
    """Make the row of an upstream that says nothing about its lists."""
    return ListRow(plan, cold=(status, status), stale=("old", "old"))


def refused(plan: Plan) -> ListRow:
    return ListRow(plan, cold=(403, 403), stale=(403, 403))


def tagged(action: str, **details: object) -> ListRow:
    """Make the row of an upstream without an API for referrers, which are in a tag."""
    return ListRow(fault("list", action=action, path="*/referrers/*", **details), fallback=True)


LIST_ROWS = {
    "none": ListRow(lambda hub, other: None),
    # not as a registry says it
    **{f"{status} page": unlisted(fault("list", action="page", status=status)) for status in (401, 403, 404)},
    "405 page": unlisted(fault("list", action="page", status=405), 502),
    "200 page": unlisted(fault("list", action="html")),
    "500": unlisted(fault("list", action="status", status=500)),
    "429": unlisted(fault("list", action="status", status=429, retry_after="7"), 429),
    "cut": unlisted(fault("list", action="cut")),
    "too short": unlisted(fault("list", action="wrong_length", delta=-5), 502),
    "away": unlisted(lambda hub, other: hub.down()),
    "token page": unlisted(token("html")),
    # in a registry's words
    "403": refused(fault("list", action="status", status=403)),
    "401": refused(fault("list", action="status", status=401)),
    "token 403": refused(token("status", status=403)),
    "404": ListRow(fault("list", action="status", status=404), cold=(404, "none"), stale=(404, "none")),
    "405": ListRow(fault("list", action="status", status=405), cold=(405, "none"), stale=("old", "none")),
    **{f"{status}, tagged": tagged("status", status=status) for status in (400, 404, 405, 501)},
    "303, tagged": tagged("see_other", url="/v2/page"),
    # only unusual
    "another registry": ListRow(lambda hub, other: fault("list", action="moved", url=other.url)(hub, other)),
    "no login": ListRow(logins("none")),
    "chunked": ListRow(fault("list", action="chunked")),
    "text/plain": ListRow(header("list", "Content-Type: text/plain; charset=utf-8")),
    "no type": ListRow(header("list", "Content-Type: ")),
}
_LIST_PROJECTS = {name: f"list{number}" for number, name in enumerate(LIST_ROWS)}


@pytest.fixture(scope="module")
def worker(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One worker with a mirror for each row."""
    overrides = {
        "upstreams": {f"{project}.example": {"url": hub_process.url} for project in _PROJECTS.values()}
        | {
            f"{name}.example": {"url": hub_process.url, "fresh_for": _FRESH_SECONDS} for name in _LIST_PROJECTS.values()
        },
        "projects": {name: {"upstream": f"{name}.example"} for name in [*_PROJECTS.values(), *_LIST_PROJECTS.values()]},
    }
    folder = tmp_path_factory.mktemp("odd")
    with Service(folder, upstream=hub_process.url, overrides=overrides, hurried=True) as service:
        yield service


@pytest.fixture(scope="module")
def other_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("other"), cdn_host="127.0.0.3") as hub:
        yield hub


@pytest.fixture
async def visitor(worker: Service) -> AsyncIterator[Client]:
    with clean_log(worker):
        async with Client(worker.url) as client:
            yield client


@pytest.fixture
def other(other_process: Hub) -> Hub:
    """Another registry, to which an upstream may redirect."""
    other_process.reset()
    other_process.limit(None)
    return other_process


@pytest.mark.parametrize("name", ROWS)
async def test_an_odd_upstream(
    hub: Hub, other: Hub, worker: Service, visitor: Client, repository: str, make: Make, name: str
) -> None:
    row, mirror = ROWS[name], f"{_PROJECTS[name]}/{repository}"
    hub.limit(100 if row.counted else None)

    def publish(where: str, tag: str) -> Image:
        image = hub.add(make(sizes=(_LAYER,)), where, tag)
        return other.add(image, where, tag)

    cached, cold, blobs = publish(repository, "8.0"), publish(repository + "-cold", "8.0"), repository + "-blobs"
    lone = publish(blobs, "8.0")
    await visitor.pull(mirror, "8.0", cached)
    await visitor.pull_manifest(f"{mirror}-blobs", "8.0", lone.digest, lone)
    await committed(worker)
    row.plan(hub, other)

    await _ask_cold(visitor, row, f"{mirror}-cold", cold)
    path = f"GET /v2/{repository}-cold/manifests/"
    seen = hub.counters()
    assert sum(count for line, count in seen.requests.items() if line.startswith(path)) == row.gets, seen.requests
    await _ask_cold_blob(visitor, row, f"{mirror}-blobs", lone)

    await visitor.pull(mirror, "8.0", cached)  # fresh
    let_time_pass(worker, mirror)
    await _ask_known(visitor, mirror, cached, cached, row.stale)
    moved = publish(repository, "8.0")
    let_time_pass(worker, mirror)
    await _ask_known(visitor, mirror, cached, moved, row.moved)

    # Nothing that was here is lost: what has a digest, at any time; a tag, once the upstream is itself again.
    await visitor.pull_manifest(mirror, cached.digest, cached.digest, cached)
    for digest in cached.blobs:
        await visitor.pull_blob(mirror, digest, cached)


async def test_an_upstream_without_head_is_pulled_from_within_its_limit(
    hub: Hub, visitor: Client, repository: str, make: Make
) -> None:
    mirror = f"{_PROJECTS['few pulls']}/{repository}"
    images = [hub.add(make(sizes=(10,)), repository, str(number)) for number in range(4)]
    hub.limit(100)
    hub.leave(2)
    hub.fault("manifest", "status", status=405, method="HEAD", times=None)
    answers = [await visitor.manifest(mirror, image.digest) for image in images]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert (hub.counters().get_manifest, hub.counters().get_manifest_429) == (2, 0)


async def test_an_upstream_without_words_that_asks_to_wait_is_left_alone(
    hub: Hub, visitor: Client, repository: str, make: Make
) -> None:
    mirror = f"{_PROJECTS['asks to wait']}/{repository}"
    for tag in ("1", "2"):
        hub.add(make(sizes=(10,)), repository, tag)
    hub.limit(None)
    hub.fault("manifest", "page", status=404, method="HEAD", times=None)
    hub.fault("manifest", "status", status=429, retry_after="600", method="GET", times=None)
    assert (await visitor.manifest(mirror, "1")).status == 429
    path = f"GET /v2/{repository}/manifests/"
    asked = {line for line in hub.counters().requests if line.startswith(path)}
    assert (await visitor.manifest(mirror, "2")).status in (429, 503)
    assert {line for line in hub.counters().requests if line.startswith(path)} == asked == {f"{path}1"}


@pytest.mark.parametrize("name", LIST_ROWS)
async def test_fresh_and_cold_lists_of_an_odd_upstream(
    hub: Hub, other: Hub, visitor: Client, repository: str, make: Make, name: str
) -> None:
    row, hubs = LIST_ROWS[name], [hub, other]
    known, _ = await _known_lists(name, hubs, visitor, repository, make)
    unknown = _publish_signed(row, hubs, f"{repository}-cold", make(sizes=(10,)))
    hub.limit(100)
    row.plan(hub, other)
    await _ask_lists(visitor, name, known, ("all", "all"))
    for _ in range(2):
        await _ask_lists(visitor, name, unknown, row.cold)
    # A list is no pull; a fallback tag is one, and costs it once.
    assert hub.counters().get_manifest == row.fallback


@pytest.mark.parametrize("name", LIST_ROWS)
async def test_stale_lists_of_an_odd_upstream(
    hub: Hub, other: Hub, visitor: Client, repository: str, make: Make, name: str
) -> None:
    row = LIST_ROWS[name]
    known, read_at = await _known_lists(name, [hub, other], visitor, repository, make)
    await asyncio.sleep(read_at + _FRESH_SECONDS - time.monotonic())
    hub.limit(100)
    row.plan(hub, other)
    for _ in range(2):
        await _ask_lists(visitor, name, known, row.stale)
    assert hub.counters().get_manifest == row.fallback


# The image of each row whose lists were read, its repository, and when that was.
_read: dict[str, tuple[Image, str, float]] = {}


async def _known_lists(
    name: str, hubs: list[Hub], visitor: Client, repository: str, make: Make
) -> tuple[_Signed, float]:
    """Publish the image of a row whose lists are known; read them if no test did, so that only one has to wait."""
    image, where, _ = _read.get(name, (make(sizes=(10,)), repository, 0.0))
    known = _publish_signed(LIST_ROWS[name], hubs, where, image)
    if name not in _read:
        await _ask_lists(visitor, name, known, ("all", "all"))
        _read[name] = image, where, time.monotonic()
    return known, _read[name][2]


@dataclass(frozen=True)
class _Signed:
    repository: str
    digest: str
    tags: list[str]
    referrers: list[str]


def _publish_signed(row: ListRow, hubs: list[Hub], repository: str, image: Image) -> _Signed:
    """Put an image with two tags and two signatures at each of ``hubs``."""
    added = [referrer(image, "application/vnd.example.signature", number=number) for number in ("1", "2")]
    tags, fallback = ["1", "2"], image.digest.replace(":", "-")
    for hub in hubs:
        hub.add(image, repository, *tags)
        for one in added:
            hub.add(one, repository)
        if row.fallback:
            hub.add(referrers_tag(*added), repository, fallback)
    listed = sorted([*tags, fallback] if row.fallback else tags)
    return _Signed(repository, image.digest, listed, sorted(one.digest for one in added))


async def _ask_lists(visitor: Client, row: str, image: _Signed, expected: tuple[List, List]) -> None:
    """Ask for tags and referrers; an answer of 200 has the whole list, or is empty where that is expected."""
    name = f"/v2/{_LIST_PROJECTS[row]}/{image.repository}"
    for path, whole, outcome in (
        (f"{name}/tags/list", image.tags, expected[0]),
        (f"{name}/referrers/{image.digest}", image.referrers, expected[1]),
    ):
        answer = await visitor.ask("GET", path)
        if isinstance(outcome, int):
            assert (answer.status, len(answer.words) > 20) == (outcome, True), (path, answer)
            continue
        assert answer.status == 200, (path, answer)
        document = answer.document
        found = document["tags"] if "tags" in document else [item["digest"] for item in document["manifests"]]
        assert found == ([] if outcome == "none" else whole), (path, answer)
        assert is_stale(answer) is (outcome == "old"), (path, answer)


async def _ask_cold(visitor: Client, row: Row, name: str, image: Image) -> None:
    """Ask for a manifest that is not here, in each way and twice."""
    for _ in range(2):
        for reference in ("8.0", image.digest):
            for method in ("HEAD", "GET"):
                answer = await visitor.manifest(name, reference, method=method)
                # A HEAD that is answered shows no fault of the manifest yet.
                unseen = method == "HEAD" and row.gets == 1 and answer.status == 200
                assert unseen or answer.status == row.cold, (reference, answer)
                if answer.status == 200:
                    assert answer.headers["Docker-Content-Digest"] == image.digest
                    assert answer.headers["Content-Type"] == image.media_type
                    assert answer.headers["Content-Length"] == str(len(image.payload))
                    assert answer.body == (image.payload if method == "GET" else b"")
                elif method == "GET":
                    assert len(answer.words) > 20


async def _ask_cold_blob(visitor: Client, row: Row, name: str, image: Image) -> None:
    """Ask for a blob that is not here, of an image whose manifest is."""
    (digest,) = image.layers
    for method in ("HEAD", "GET"):
        answer = await visitor.blob(name, digest, method=method)
        if method == "HEAD" and row.cold_blob != 200:
            assert answer.status >= 400
            continue
        assert answer.status == row.cold_blob, answer
        if answer.status == 200:
            assert answer.headers["Content-Length"] == str(len(image.blobs[digest]))
            assert answer.body == (image.blobs[digest] if method == "GET" else b"")


async def _ask_known(visitor: Client, name: str, old: Image, new: Image, outcome: object) -> None:
    """Ask for a tag that is here and older: it is the new image, the old one with a Warning, or a refusal."""
    answer = await visitor.manifest(name, "8.0")
    if outcome not in ("new", "old"):
        assert answer.status == outcome, answer
        return
    image = new if outcome == "new" else old
    assert (answer.status, answer.body) == (200, image.payload)
    assert is_stale(answer) is (outcome == "old")
