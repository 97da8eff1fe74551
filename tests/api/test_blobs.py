"""``/v2/<name>/blobs/<digest>``: GET, HEAD, Range and DELETE."""

from __future__ import annotations

import pytest

from tests.api.client import Registry, digest_of, expect, refused
from tests.api.documents import fresh, image

DATA = bytes(range(256)) * 8
ALGORITHMS = ("sha256", "sha512")


@pytest.fixture(scope="module")
def stored(admin: Registry) -> tuple[str, str]:
    """A repository and the digest of `DATA` in it."""
    return "lab/ranges", admin.push_blob("lab/ranges", DATA)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_001])
def test_pull(admin: Registry, outsider: Registry, name: str, size: int, algorithm: str) -> None:
    data = fresh(size)
    digest = admin.push_blob(name, data, algorithm)
    answer = expect(outsider.blob(name, digest), 200)
    assert answer.body == data
    assert answer["Docker-Content-Digest"] == digest
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Accept-Ranges"] == "bytes"
    head = expect(outsider.call("HEAD", f"/v2/{name}/blobs/{digest}"), 200)
    assert head["Content-Length"] == str(size)
    assert head.body == b""


def test_head_has_the_headers_of_get(outsider: Registry, stored: tuple[str, str]) -> None:
    name, digest = stored
    head, get = (outsider.call(method, f"/v2/{name}/blobs/{digest}") for method in ("HEAD", "GET"))
    for answer in (head, get):
        del answer.headers["Date"], answer.headers["X-Request-Id"]
    assert head.headers.items() == get.headers.items()


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=100-199", 100, 200),
        ("bytes=2000-", 2000, 2048),
        ("bytes=0-", 0, 2048),
        ("bytes=-1", 2047, 2048),
        ("bytes=-48", 2000, 2048),
        ("bytes=-99999", 0, 2048),
        ("bytes=2047-2047", 2047, 2048),
        ("bytes=2000-99999", 2000, 2048),
        ("bytes=0-2047", 0, 2048),
        ("bytes=0-9223372036854775807", 0, 2048),
    ],
)
def test_a_range(outsider: Registry, stored: tuple[str, str], header: str, start: int, stop: int) -> None:
    answer = expect(outsider.blob(*stored, {"Range": header}), 206)
    assert answer.body == DATA[start:stop]
    assert answer["Content-Range"] == f"bytes {start}-{stop - 1}/2048"
    assert answer["Docker-Content-Digest"] == stored[1]


@pytest.mark.parametrize(
    "header", ["bytes=2048-", "bytes=2048-2049", "bytes=99999-", "bytes=-0", "bytes=9223372036854775807-", "bytes=5-4"]
)
def test_a_range_outside(outsider: Registry, stored: tuple[str, str], header: str) -> None:
    answer = outsider.blob(*stored, {"Range": header})
    assert "2048 bytes" in refused(answer, 416, "BLOB_UPLOAD_INVALID")
    assert answer["Content-Range"] == "bytes */2048"


@pytest.mark.parametrize(
    "header",
    ["bytes=-", "bytes=", "bytes", "lines=0-1", "bytes=0-1,3-4", "bytes=a-b", "bytes=0x1-", "bytes=--1",
     "0-9", "bytes = 0-1", "", f"bytes={'9' * 5000}-", f"bytes=0-{'9' * 5000}", "bytes=\xb2-\xb3"],
)  # fmt: skip
def test_a_range_that_cannot_be_read_gives_all(outsider: Registry, stored: tuple[str, str], header: str) -> None:
    assert expect(outsider.blob(*stored, {"Range": header}), 200).body == DATA


def test_a_range_of_an_empty_blob(admin: Registry, name: str) -> None:
    digest = admin.push_blob(name, b"")
    refused(admin.blob(name, digest, {"Range": "bytes=0-"}), 416, "BLOB_UPLOAD_INVALID")
    assert expect(admin.blob(name, digest), 200).body == b""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_unknown(admin: Registry, name: str, method: str) -> None:
    path = f"/v2/{name}/blobs/{digest_of(b'nothing')}"
    assert admin.call(method, path).status == 404
    admin.push_blob(name, fresh())
    answer = admin.call(method, path)
    assert answer.status == 404
    assert method == "HEAD" or refused(answer, 404, "BLOB_UNKNOWN")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    "digest",
    ["latest", "sha256:", f"sha256:{'g' * 64}", f"sha256:{'A' * 64}", f"sha256:{'0' * 63}", f"sha256:{'0' * 65}",
     f"sha1:{'0' * 40}", f"md5:{'0' * 32}", f"sha512:{'0' * 64}", f"sha256:{'0' * 64}%00", f"sha256:{'0' * 64}%0a",
     f"sha256%3a{'0' * 63}", "..", "%2e%2e", "sha256:" + "0" * 9000],
)  # fmt: skip
def test_a_digest_that_is_none(admin: Registry, name: str, method: str, digest: str) -> None:
    answer = admin.call(method, f"/v2/{name}/blobs/{digest}")
    assert answer.status == 400
    assert method == "HEAD" or "expected sha256: or sha512:" in refused(answer, 400, "DIGEST_INVALID")


def test_delete(admin: Registry, name: str) -> None:
    data = fresh()
    digest = admin.push_blob(name, data)
    elsewhere = f"{name}-elsewhere"
    admin.push_blob(elsewhere, data)
    path = f"/v2/{name}/blobs/{digest}"
    expect(admin.call("DELETE", path), 202)
    for _ in range(4):  # whichever worker is asked
        refused(admin.call("GET", path), 404, "BLOB_UNKNOWN")
        assert admin.call("HEAD", path).status == 404
    refused(admin.call("DELETE", path), 404, "BLOB_UNKNOWN")
    assert expect(admin.blob(elsewhere, digest), 200).body == data


def test_a_deleted_blob_can_be_pushed_again(admin: Registry, name: str) -> None:
    data = fresh()
    digest = digest_of(data)
    for _ in range(3):
        admin.push_blob(name, data)
        assert expect(admin.blob(name, digest), 200).body == data
        expect(admin.call("DELETE", f"/v2/{name}/blobs/{digest}"), 202)
    refused(admin.blob(name, digest), 404, "BLOB_UNKNOWN")


def test_delete_where_nothing_is(admin: Registry, outsider: Registry, name: str) -> None:
    path = f"/v2/{name}/blobs/{digest_of(b'')}"
    assert admin.call("DELETE", path).status == 404
    admin.push_blob(name, b"")
    refused(outsider.call("DELETE", path), 401, "UNAUTHORIZED")
    expect(outsider.call("GET", path), 200)


def test_a_manifest_is_no_blob(admin: Registry, name: str) -> None:
    admin.push_blob(name, b"{}")
    payload = image()
    digest = admin.push_manifest(name, "latest", payload, "application/vnd.oci.image.manifest.v1+json")
    refused(admin.blob(name, digest), 404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    ("if_range", "status"),
    [('"{digest}"', 206), ('W/"{digest}"', 200), ('"other"', 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)],
)
def test_if_range(outsider: Registry, stored: tuple[str, str], if_range: str, status: int) -> None:
    """A range is of what the client has, or all is sent."""
    headers = {"Range": "bytes=5-9", "If-Range": if_range.format(digest=stored[1])}
    assert expect(outsider.blob(*stored, headers), status).body == (DATA[5:10] if status == 206 else DATA)
    outside = headers | {"Range": "bytes=9999-"}
    assert outsider.blob(*stored, outside).status == (416 if status == 206 else 200)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_that_the_client_has(outsider: Registry, stored: tuple[str, str], method: str) -> None:
    name, digest = stored
    for header, status in ((f'"{digest}"', 304), (f'W/"{digest}"', 304), ("*", 304), ('"other"', 200)):
        headers = {"If-None-Match": header, "Range": "bytes=0-1"}
        answer = expect(
            outsider.call(method, f"/v2/{name}/blobs/{digest}", None, headers),
            206 if (status, method) == (200, "GET") else status,
        )
        assert answer["ETag"] == f'"{digest}"'
        assert status == 200 or (answer.body == b"" and answer.get("Content-Length") is None)
    old = {"If-Modified-Since": "Wed, 21 Oct 2015 07:28:00 GMT", "If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT"}
    expect(outsider.call(method, f"/v2/{name}/blobs/{digest}", None, old), 200)
