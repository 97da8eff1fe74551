"""Blobs through nginx with the role's own configuration: from S3 through its cache, and from a folder."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.database import Transaction
from app.database.tables import blob
from app.oci.digest import Digest
from app.storage import key_in_harbor
from tests.api.client import Answer, Registry, basic, digest_of, expect, refused
from tests.api.documents import fresh
from tests.conftest import require
from tests.contract.storage_line import Line
from tests.images import single
from tests.parts.harbor import Folder, blob_path
from tests.parts.process import ROOT, free_port, run, wait_for
from tests.parts.service import Service
from tests.parts.weed import ObjectStore
from tests.upstream.client import Hub
from tests.web.scene import within

from . import webserver as part
from .authority import Authority
from .webserver import NAME, WebServer, webserver

SLICE = 8 << 20
PROJECTS = {"lab": {"public": True}, "secret": {"public": False}}
# What differs from one answer to the next, or is the web server's own.
_PASSING = {"Date", "X-Request-Id", "Connection", "Server"}


@dataclass
class Delivery:
    """A service and the nginx before it."""

    service: Service
    nginx: WebServer

    def __post_init__(self) -> None:
        self.admin = Registry(self.service.host, self.service.username, self.service.password)
        self.outsider = Registry(self.service.host)

    def push(self, data: bytes, name: str = "lab/blobs") -> str:
        """Push a blob past nginx; give its digest."""
        return self.admin.push_blob(name, data)

    def get(self, digest: str, headers: dict[str, str] | None = None, *, method: str = "GET") -> Answer:
        """Ask for a blob of the public project as nobody."""
        token = self.outsider.token("repository:lab/blobs:pull")
        return self.nginx.call(
            method, f"/v2/lab/blobs/blobs/{digest}", {"Authorization": f"Bearer {token}", **(headers or {})}
        )


@dataclass
class FromS3(Delivery):
    """And the line to S3 behind both."""

    line: TlsLine


class TlsLine(Line):
    """A line with TLS at this end, in a thread of its own."""

    def __init__(self, server_url: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server_url)
        self._loop = loop

    def hang_up(self) -> None:
        """Cut what is open."""
        self._loop.call_soon_threadsafe(self.close)


@contextmanager
def tls_line(server_url: str, authority: Authority, folder: Path) -> Iterator[TlsLine]:
    """Lay such a line to a server."""
    pair = authority.certify(NAME)
    (folder / "line.pem").write_text(pair.certificate + pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "line.pem")
    loop = asyncio.new_event_loop()
    line = TlsLine(server_url, loop)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def close() -> None:
        server.close()
        line.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(line.serve, "127.0.0.1", 0, ssl=context), loop
        ).result(30)
        line.url = f"https://{NAME}:{server.sockets[0].getsockname()[1]}"
        try:
            yield line
        finally:
            asyncio.run_coroutine_threadsafe(close(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require(part)
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def delivery(
    object_store: ObjectStore, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FromS3]:
    """S3 over TLS whose authority is the tests', and a cache of four slices."""
    folder = tmp_path_factory.mktemp("delivery")
    with pytest.MonkeyPatch.context() as patch, tls_line(object_store.endpoint_url, authority, folder) as line:
        patch.setenv("AWS_CA_BUNDLE", str(authority.file))
        s3 = {**object_store.bucket("delivery"), "endpoint_url": line.url, "prefix": "a prefix+/"}
        storage = {"storage": {"delivery": "accel"}, "projects": PROJECTS}
        with Service(folder / "service", processes=2, s3=s3, overrides=storage) as service:
            settings = {"nginx_s3_endpoint": line.url, "__nginx_authorities": str(authority.file)}
            with webserver(
                folder / "nginx", authority, service.host, **settings, nginx_blob_cache_megabytes=40
            ) as nginx:
                yield FromS3(service, nginx, line)


@contextmanager
def another(delivery: FromS3, authority: Authority, folder: Path, **variables: Any) -> Iterator[FromS3]:
    """Put a second nginx before the same service, configured in another way."""
    with webserver(folder, authority, delivery.service.host, **variables) as nginx:
        yield FromS3(delivery.service, nginx, delivery.line)


@pytest.mark.parametrize("size", [0, 1, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE + 5])
def test_a_blob_comes_whole_cold_and_cached(delivery: FromS3, size: int) -> None:
    data = fresh(size)
    digest = delivery.push(data)
    for _ in range(2):
        answer = expect(delivery.get(digest), 200)
        assert digest_of(answer.body) == digest
        assert int(answer["Content-Length"]) == size


def test_http_2_gives_the_same(delivery: FromS3, tmp_path: Path) -> None:
    digest = delivery.push(fresh(SLICE + 1000))
    token = delivery.outsider.token("repository:lab/blobs:pull")
    url = f"https://{NAME}:{delivery.nginx.port}/v2/lab/blobs/blobs/{digest}"
    arguments = ["--http2", "--cacert", str(delivery.nginx.authority), "--header", f"Authorization: Bearer {token}"]
    arguments += ["--output", str(tmp_path / "blob"), "--write-out", "%{http_version} %{http_code}"]
    assert run(["curl", "--silent", "--show-error", *arguments, url]) == "2 200"
    assert digest_of((tmp_path / "blob").read_bytes()) == digest


def test_what_is_cached_is_not_fetched_again(delivery: FromS3) -> None:
    digest = delivery.push(fresh(SLICE + 1000))
    before = delivery.line.passed
    expect(delivery.get(digest), 200)
    assert delivery.line.passed - before >= SLICE + 1000
    before = delivery.line.passed
    assert digest_of(expect(delivery.get(digest), 200).body) == digest
    assert delivery.line.passed == before


def test_a_cached_blob_is_removed_as_the_document_says(delivery: FromS3) -> None:
    digest, other = delivery.push(fresh(SLICE + 1000)), delivery.push(fresh(1000))
    for each in (digest, other):
        expect(delivery.get(each), 200)
    text = (ROOT / "docs/operations.md").read_text()
    section = text.partition("\n## A pushed secret\n")[2].partition("\n## ")[0]
    (command,) = re.findall(r"^    (grep .*)$", section, re.MULTILINE)
    folder = delivery.nginx.folder / "cache/blobs"
    spelled = command.replace("sha256:DIGEST", digest).replace("/var/cache/nginx/blobs", str(folder))
    assert command.count("DIGEST") == command.count("/var/cache/nginx/blobs") == 1
    run(["sh", "-c", spelled])
    before = delivery.line.passed
    expect(delivery.get(other), 200)
    assert delivery.line.passed == before
    expect(delivery.get(digest), 200)
    assert delivery.line.passed - before >= SLICE + 1000


def test_twenty_clients_of_a_cold_blob_cost_one_read(delivery: FromS3) -> None:
    size = 2 * SLICE + 1000
    digest = delivery.push(fresh(size))
    before = delivery.line.passed
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda _: delivery.get(digest), range(20)))
    assert {digest_of(expect(answer, 200).body) for answer in answers} == {digest}
    assert delivery.line.passed - before < size * 1.1


def test_a_range_costs_its_slices_only(delivery: FromS3) -> None:
    digest = delivery.push(fresh(3 * SLICE))
    before = delivery.line.passed
    expect(delivery.get(digest, {"Range": f"bytes={SLICE + 5}-{SLICE + 9}"}), 206)
    assert delivery.line.passed - before < 1.1 * SLICE


@pytest.fixture(scope="module")
def ranged(delivery: FromS3) -> tuple[str, bytes]:
    data = fresh(2 * SLICE + 100)
    return delivery.push(data), data


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 2 * SLICE + 100),
        (f"bytes={SLICE - 1}-{SLICE}", SLICE - 1, SLICE + 1),
        (f"bytes={SLICE}-{2 * SLICE - 1}", SLICE, 2 * SLICE),
        (f"bytes={2 * SLICE + 99}-", 2 * SLICE + 99, 2 * SLICE + 100),
        ("bytes=-1", 2 * SLICE + 99, 2 * SLICE + 100),
        (f"bytes=5-{1 << 40}", 5, 2 * SLICE + 100),
    ],
)
def test_a_range(delivery: FromS3, ranged: tuple[str, bytes], header: str, start: int, stop: int) -> None:
    digest, data = ranged
    answer = expect(delivery.get(digest, {"Range": header}), 206)
    assert answer.body == data[start:stop]
    assert answer["Content-Range"] == f"bytes {start}-{stop - 1}/{len(data)}"
    assert answer["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("header", [f"bytes={2 * SLICE + 100}-", "bytes=9-5", f"bytes={1 << 50}-"])
def test_a_range_outside(delivery: FromS3, ranged: tuple[str, bytes], header: str) -> None:
    digest, data = ranged
    answer = delivery.get(digest, {"Range": header})
    refused(answer, 416, "BLOB_UPLOAD_INVALID")
    assert answer["Content-Range"] == f"bytes */{len(data)}"


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "lines=0-1"])
def test_a_range_that_is_not_served_gives_all(delivery: FromS3, ranged: tuple[str, bytes], header: str) -> None:
    assert expect(delivery.get(ranged[0], {"Range": header}), 200).body == ranged[1]


def test_if_range_holds_for_this_blob_only(delivery: FromS3, ranged: tuple[str, bytes]) -> None:
    digest, data = ranged
    for tag, status in ((digest, 206), (f"sha256:{'0' * 64}", 200)):
        answer = expect(delivery.get(digest, {"Range": "bytes=1-2", "If-Range": f'"{tag}"'}), status)
        assert answer.body == (data[1:3] if status == 206 else data)


def test_conditions(delivery: FromS3, ranged: tuple[str, bytes]) -> None:
    for _ in range(2):  # cold or cached, then cached
        _check_conditions(delivery, *ranged)


def test_conditions_on_a_manifest_that_nginx_caches(authority: Authority, tmp_path: Path, hub_process: Hub) -> None:
    image = hub_process.add(single("conditions"), "library/conditions", "1")
    with (
        Service(tmp_path / "service", upstream=hub_process.url) as service,
        webserver(tmp_path / "nginx", authority, service.host) as nginx,
    ):
        token = Registry(service.host).token("repository:mirror/library/conditions:pull")
        for condition, status in (
            ({"If-None-Match": f'"{image.digest}"'}, 304),
            ({"If-None-Match": '"other"'}, 200),
            ({"If-Match": '"other"'}, 412),
            ({"If-Match": f'"{image.digest}"'}, 200),
        ) * 2:
            headers = {"Authorization": f"Bearer {token}", **condition}
            answer = expect(nginx.call("GET", "/v2/mirror/library/conditions/manifests/1", headers), status)
            assert status != 200 or answer.body == image.payload
            assert status != 304 or answer["ETag"] == f'"{image.digest}"'
            if status == 412:
                refused(answer, 412, "UNSUPPORTED")


def _check_conditions(delivery: Delivery, digest: str, data: bytes) -> None:
    """Check that the worker's answer to a precondition reaches the client, and nginx adds none of its own."""
    for condition, status in (
        ({"If-None-Match": f'W/"{digest}"'}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": f'"{digest}"'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Range": f'"{digest}"', "Range": "bytes=1-2"}, 206),
        ({"If-Range": '"other"', "Range": "bytes=1-2"}, 200),
        ({"If-Range": '"other"', "Range": f"bytes={len(data)}-"}, 200),
    ):
        answer = expect(delivery.get(digest, condition), status)
        assert answer["ETag"] == f'"{digest}"', condition
        assert status != 200 or answer.body == data


def test_get_has_the_headers_of_head(delivery: FromS3, ranged: tuple[str, bytes]) -> None:
    digest, _ = ranged
    head, cold, cached = delivery.get(digest, method="HEAD"), *(delivery.get(digest) for _ in range(2))
    assert head.body == b""
    assert _headers(cold) == _headers(cached) == _headers(head)
    assert cached["X-Request-Id"] != cold["X-Request-Id"]


def test_a_private_blob_that_is_cached_is_for_its_readers_only(delivery: FromS3) -> None:
    delivery.push(b"the public repository is there")
    data = fresh(1000)
    digest = delivery.push(data, "secret/blobs")
    path = f"/v2/secret/blobs/blobs/{digest}"
    allowed = {"Authorization": f"Bearer {delivery.admin.token('repository:secret/blobs:pull')}"}
    assert expect(delivery.nginx.call("GET", path, allowed), 200).body == data
    refused(delivery.nginx.call("GET", path), 401, "UNAUTHORIZED")
    outsiders = {"Authorization": f"Bearer {delivery.outsider.token('repository:secret/blobs:pull')}"}
    refused(delivery.nginx.call("GET", path, outsiders), 401, "UNAUTHORIZED")
    refused(delivery.get(digest), 404, "BLOB_UNKNOWN")


def test_nobody_reaches_s3_but_by_a_worker(delivery: FromS3, ranged: tuple[str, bytes]) -> None:
    before = delivery.line.passed
    for path in ("/_objects/delivery/", "/_blobs/x", "/%5fobjects/delivery/", "//_objects/delivery/"):
        assert delivery.nginx.call("GET", path).status == 404
    assert delivery.line.passed == before


@pytest.mark.long
def test_the_cache_is_bounded(delivery: FromS3) -> None:
    digests = [delivery.push(fresh(2 * SLICE)) for _ in range(5)]
    for digest in digests:
        assert digest_of(expect(delivery.get(digest), 200).body) == digest
    # It may be more for a moment: what is too much is looked for every ten seconds.
    wait_for(lambda: 0 < delivery.nginx.cached_bytes() <= 40 << 20, what="the cache to be within its bound", timeout=60)


def test_an_object_that_is_missing(delivery: FromS3, object_store: ObjectStore) -> None:
    before = _objects(object_store)
    digest = delivery.push(fresh(1000))
    _remove_others(object_store, before)
    refused(delivery.get(digest), 404, "BLOB_UNKNOWN")


def test_s3_that_is_away(delivery: FromS3, ranged: tuple[str, bytes]) -> None:
    cold = delivery.push(fresh(1000))
    expect(delivery.get(ranged[0]), 200)
    delivery.line.away = True
    delivery.line.hang_up()
    try:
        answer = delivery.get(cold)
        refused(answer, 503, "UNAVAILABLE")
        assert answer["Retry-After"] == "10"
        assert expect(delivery.get(ranged[0]), 200).body == ranged[1]
    finally:
        delivery.line.away = False
    expect(delivery.get(cold), 200)


def test_s3_that_hangs_up_in_the_first_slice(delivery: FromS3) -> None:
    digest = delivery.push(fresh(1000 + SLICE))
    with _cutting(delivery, SLICE // 2):
        refused(delivery.get(digest), 503, "UNAVAILABLE")
    expect(delivery.get(digest), 200)


@pytest.mark.long
@pytest.mark.parametrize("cached", [1, 2])
def test_s3_that_hangs_up_later(delivery: FromS3, cached: int) -> None:
    """The client gets bytes of slices that are whole, and the connection's end; nothing after a hole, nor an error."""
    data = fresh(4 * SLICE)
    digest = delivery.push(data)
    expect(delivery.get(digest, {"Range": f"bytes=0-{cached * SLICE - 1}"}), 206)
    with _cutting(delivery, SLICE // 2):
        received = _until_cut(delivery, digest, 0)
    assert len(received) <= cached * SLICE
    assert data.startswith(received)
    assert expect(delivery.get(digest), 200).body == data


def test_s3_that_refuses_in_the_middle_of_a_blob(delivery: FromS3, object_store: ObjectStore) -> None:
    data, before = fresh(2 * SLICE), _objects(object_store)
    digest = delivery.push(data)
    expect(delivery.get(digest, {"Range": "bytes=0-0"}), 206)
    _remove_others(object_store, before)
    # The first slice is there, the second cannot be had. A range with one byte of the first is the narrowest case.
    for start in (0, SLICE - 1):
        received = _until_cut(delivery, digest, start)
        assert received == data[start : start + len(received)]
        assert len(received) <= SLICE - start
    refused(delivery.get(digest, {"Range": f"bytes={SLICE}-"}), 404, "BLOB_UNKNOWN")


@pytest.mark.long
def test_s3_whose_certificate_is_of_nobody_known(delivery: FromS3, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    digest = delivery.push(fresh(1000))
    settings = {"nginx_s3_endpoint": delivery.line.url, "__nginx_authorities": str(other.file)}
    with another(delivery, authority, tmp_path / "nginx", **settings) as strict:
        before = delivery.line.passed
        refused(strict.get(digest), 503, "UNAVAILABLE")
        assert delivery.line.passed == before


def test_what_s3_refuses_is_said_in_our_words(
    delivery: FromS3, authority: Authority, object_store: ObjectStore, tmp_path: Path
) -> None:
    digest = delivery.push(fresh(1000))
    # Another name than the one that was signed: S3 answers 403 and a page of XML.
    with another(delivery, authority, tmp_path / "nginx", nginx_s3_endpoint=object_store.endpoint_url) as unsigned:
        refused(unsigned.get(digest), 503, "UNAVAILABLE")
        wait_for(lambda: '"answered":"403"' in unsigned.nginx.logged(), what="the refusal in the log")
        assert "X-Amz-Signature" not in unsigned.nginx.logged()


def test_signatures_are_in_no_log(delivery: FromS3) -> None:
    assert "/v2/lab/blobs/" in delivery.nginx.logged()
    assert "X-Amz" not in delivery.nginx.logged() + delivery.service.log()


def test_blobs_of_a_folder(authority: Authority, tmp_path: Path) -> None:
    settings = {"storage": {"delivery": "accel"}, "projects": PROJECTS}
    with (
        Service(tmp_path / "service", overrides=settings) as service,
        webserver(tmp_path / "nginx", authority, service.host, nginx_data_dir=str(tmp_path / "service/data")) as nginx,
    ):
        folder = Delivery(service, nginx)
        data = fresh(100_000)
        digest = folder.push(data)
        head, whole = folder.get(digest, method="HEAD"), expect(folder.get(digest), 200)
        assert whole.body == data
        # Of a file, nginx says when it was changed as well.
        assert {name: value for name, value in _headers(whole).items() if name != "Last-Modified"} == _headers(head)
        assert expect(folder.get(digest, {"Range": "bytes=5-9"}), 206).body == data[5:10]
        _check_conditions(folder, digest, data)
        refused(folder.get(digest, {"Range": "bytes=100000-"}), 416, "BLOB_UPLOAD_INVALID")
        assert folder.get(folder.push(b"")).body == b""
        shutil.rmtree(tmp_path / "service/data/blobs/objects")
        refused(folder.get(digest), 404, "BLOB_UNKNOWN")


def test_blobs_of_a_harbor_in_a_folder(authority: Authority, tmp_path: Path) -> None:
    """nginx sends what a move has left in Harbor's place, beside our own blobs."""
    place = tmp_path / "harbor"
    moved_in = {"harbor": {"driver": "filesystem", "folder": str(place)}}
    settings = {"storage": {"delivery": "accel"}, "projects": PROJECTS, **moved_in}
    variables = {"nginx_data_dir": str(tmp_path / "service/data"), "registry_config": moved_in}
    with (
        Service(tmp_path / "service", overrides=settings) as service,
        webserver(tmp_path / "nginx", authority, service.host, **variables) as nginx,
    ):
        folder = Delivery(service, nginx)
        data = fresh(100_000)
        digest, ours = folder.push(data), folder.push(fresh(1000))
        Folder(place).put(blob_path(digest), data)

        async def adopt(transaction: Transaction) -> None:
            row = update(blob).where(blob.c.digest == digest)
            await transaction.execute(row.values(object_key=key_in_harbor(Digest(digest))))

        within(service.folder, adopt)
        whole = expect(folder.get(digest), 200)
        assert whole.body == data
        assert whole["Last-Modified"], "nginx has sent the file"
        assert expect(folder.get(digest, {"Range": "bytes=5-9"}), 206).body == data[5:10]
        _check_conditions(folder, digest, data)
        assert expect(folder.get(ours), 200)["Last-Modified"]
        assert nginx.call("GET", f"/_harbor/{blob_path(digest).partition('blobs/')[2]}").status == 404
        shutil.rmtree(place)
        refused(folder.get(digest), 404, "BLOB_UNKNOWN")


@pytest.mark.long
def test_workers_that_are_away(delivery: FromS3, authority: Authority, tmp_path: Path) -> None:
    with webserver(tmp_path / "nginx", authority, f"127.0.0.1:{free_port()}") as alone:
        answer = alone.call("GET", "/v2/lab/blobs/manifests/latest")
        refused(answer, 503, "UNAVAILABLE")
        assert answer["Retry-After"] == "10"


@pytest.mark.long
def test_only_wrong_log_ins_are_limited(delivery: FromS3) -> None:
    """The registry tells them from right ones, at every spelling of an address; a lab shares one address."""
    service, nginx = delivery.service, delivery.nginx
    right = {"Authorization": basic(service.username, service.password)}
    wrong = {"Authorization": basic("nobody", "wrong")}
    with ThreadPoolExecutor(16) as pool:
        statuses = pool.map(lambda _: nginx.call("GET", "/service/token", right).status, range(64 * 6))
        assert set(statuses) == {200}
    for path in ("/service/token", "/mirror/service/token", "/v2/", "/api/v2.0/projects"):
        # More than two minutes allow.
        answers = [nginx.call("GET", path, wrong) for _ in range(25)]
        limited = next(answer for answer in answers if answer.status == 429)
        refused(limited, 429, "TOOMANYREQUESTS")
        assert limited["Retry-After"]
    assert nginx.call("GET", "/service/token", right).status == 200


def _headers(answer: Answer) -> dict[str, str]:
    """Give an answer's headers; one that is there twice is a fault."""
    names = [name.lower() for name in answer.headers]
    assert len(names) == len(set(names)), answer
    return {name.title(): value for name, value in answer.headers.items() if name.title() not in _PASSING}


@contextmanager
def _cutting(delivery: FromS3, after: int) -> Iterator[None]:
    """Have S3 hang up in the middle of an answer."""
    delivery.line.hang_up()
    delivery.line.cut_after = after
    try:
        yield
    finally:
        delivery.line.cut_after = 0


def _until_cut(delivery: FromS3, digest: str, start: int) -> bytes:
    """Ask for a blob whose end does not come; give what comes before the connection ends."""
    token = delivery.outsider.token("repository:lab/blobs:pull")
    headers = {"Authorization": f"Bearer {token}", "Range": f"bytes={start}-"}
    received = b""
    with closing(delivery.nginx.connection()) as connection:
        connection.request("GET", f"/v2/lab/blobs/blobs/{digest}", headers=headers)
        # Where not even the head was out, there is no answer at all.
        with suppress(ConnectionError), connection.getresponse() as answer:
            assert answer.status == 206
            while piece := answer.read1(1 << 20):
                received += piece
    return received


def _objects(object_store: ObjectStore) -> set[str]:
    return {one["Key"] for one in object_store.client().list_objects_v2(Bucket="delivery").get("Contents", [])}


def _remove_others(object_store: ObjectStore, before: set[str]) -> None:
    """Remove the objects that came since ``before``."""
    for key in _objects(object_store) - before:
        object_store.client().delete_object(Bucket="delivery", Key=key)
