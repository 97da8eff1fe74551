"""``/v2/<name>/blobs/uploads/``: every way to push a blob, its status, and giving it up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.client import Answer, Registry, closing, digest_of, expect, location, refused
from tests.api.documents import fresh

ALGORITHMS = ("sha256", "sha512")
# Beyond one piece of what hashing and storing take at a time, and of what one read of the connection gives.
SIZES = [0, 1, 100_000, 2_500_000]


def created(answer: Answer, name: str, digest: str) -> None:
    expect(answer, 201)
    assert answer["Docker-Content-Digest"] == digest
    assert location(answer) == f"/v2/{name}/blobs/{digest}"


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", SIZES)
class TestEveryWay:
    """Each test pushes one blob and pulls it."""

    @pytest.fixture
    def data(self, size: int) -> bytes:
        return fresh(size)

    @pytest.fixture
    def digest(self, data: bytes, algorithm: str) -> str:
        return digest_of(data, algorithm)

    @pytest.fixture(autouse=True)
    def _pulled(self, outsider: Registry, name: str, data: bytes, digest: str) -> Iterator[None]:
        yield
        assert expect(outsider.blob(name, digest), 200).body == data

    def test_one_post(self, admin: Registry, name: str, data: bytes, digest: str) -> None:
        created(admin.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data), name, digest)

    def test_one_post_streamed(self, admin: Registry, name: str, data: bytes, digest: str) -> None:
        created(admin.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", pieces(data, 7_000)), name, digest)

    def test_post_and_put(self, admin: Registry, name: str, data: bytes, digest: str) -> None:
        created(admin.call("PUT", closing(admin.begin(name), digest), data), name, digest)

    def test_post_and_put_streamed(self, admin: Registry, name: str, data: bytes, digest: str) -> None:
        created(admin.call("PUT", closing(admin.begin(name), digest), pieces(data, 70_000)), name, digest)

    def test_algorithm_named_first(self, admin: Registry, name: str, data: bytes, digest: str, algorithm: str) -> None:
        session = admin.begin(name, f"?digest-algorithm={algorithm}")
        session = location(expect(admin.call("PATCH", session, data), 202))
        created(admin.call("PUT", closing(session, digest), b""), name, digest)

    def test_one_patch(self, admin: Registry, name: str, data: bytes, digest: str) -> None:
        session = location(expect(admin.call("PATCH", admin.begin(name), data), 202))
        created(admin.call("PUT", closing(session, digest), b""), name, digest)

    def test_one_patch_streamed(self, admin: Registry, name: str, data: bytes, digest: str) -> None:
        session = location(expect(admin.call("PATCH", admin.begin(name), pieces(data, 300_000)), 202))
        created(admin.call("PUT", closing(session, digest)), name, digest)

    def test_chunks(self, admin: Registry, name: str, data: bytes, digest: str) -> None:
        session, sent = admin.begin(name), 0
        for piece in pieces(data, len(data) // 3 + 1):
            headers = {"Content-Range": f"{sent}-{sent + len(piece) - 1}"}
            answer = expect(admin.call("PATCH", session, piece, headers), 202)
            sent += len(piece)
            assert answer["Range"] == f"0-{sent - 1}"
            session = location(answer)
            status = expect(admin.call("GET", session), 204)
            assert (status["Range"], location(status)) == (f"0-{sent - 1}", session)
        created(admin.call("PUT", closing(session, digest), b""), name, digest)

    def test_last_chunk_in_the_put(self, admin: Registry, name: str, data: bytes, digest: str) -> None:
        half = len(data) // 2
        session = location(expect(admin.call("PATCH", admin.begin(name), data[:half]), 202))
        headers = {"Content-Range": f"{half}-{len(data) - 1}"} if data else {}
        created(admin.call("PUT", closing(session, digest), data[half:], headers), name, digest)

    def test_every_request_on_the_other_worker(
        self, first: Registry, second: Registry, name: str, data: bytes, digest: str
    ) -> None:
        third = len(data) // 3
        session = first.begin(name)
        expect(second.call("PATCH", session, data[:third]), 202)
        expect(first.call("PATCH", session, data[third : 2 * third]), 202)
        created(second.call("PUT", closing(session, digest), data[2 * third :]), name, digest)


@pytest.mark.parametrize("chunk_size", [1, 65_535, 1_048_576])
def test_chunk_boundaries(admin: Registry, name: str, chunk_size: int) -> None:
    data = fresh(chunk_size * 3 + 1)
    session = admin.begin(name)
    for piece in pieces(data, chunk_size):
        session = location(expect(admin.call("PATCH", session, piece), 202))
    digest = digest_of(data)
    created(admin.call("PUT", closing(session, digest), b""), name, digest)
    assert admin.blob(name, digest).body == data


def test_a_new_session_says_where_it_stands(admin: Registry, name: str) -> None:
    for suffix in ("/", ""):
        answer = expect(admin.call("POST", f"/v2/{name}/blobs/uploads{suffix}", b""), 202)
        session = location(answer)
        assert session == f"/v2/{name}/blobs/uploads/{answer['Docker-Upload-UUID']}"
        assert answer["Range"] == "0-0"
        status = expect(admin.call("GET", session), 204)
        assert (status["Range"], location(status)) == ("0-0", session)
        assert status["Docker-Upload-UUID"] == answer["Docker-Upload-UUID"]


def test_cancel(first: Registry, second: Registry, name: str) -> None:
    session = first.begin(name)
    expect(first.call("PATCH", session, fresh()), 202)
    expect(second.call("DELETE", session), 204)
    for worker in (first, second):
        for method, path in (
            ("GET", session),
            ("PATCH", session),
            ("PUT", closing(session, digest_of(b"more"))),
            ("DELETE", session),
        ):
            body = None if method == "GET" else b"more"
            assert "begin a new one" in refused(worker.call(method, path, body), 404, "BLOB_UPLOAD_UNKNOWN")


def test_a_closed_session_is_gone(admin: Registry, name: str) -> None:
    data = fresh()
    session = admin.begin(name)
    path = closing(session, digest_of(data))
    expect(admin.call("PUT", path, data), 201)
    for method, target in (("GET", session), ("PATCH", session), ("PUT", path), ("DELETE", session)):
        refused(admin.call(method, target, data), 404, "BLOB_UPLOAD_UNKNOWN")
    assert admin.blob(name, digest_of(data)).body == data


def test_the_same_blob_again(admin: Registry, name: str) -> None:
    data = fresh()
    digest = digest_of(data)
    for _ in range(3):
        assert admin.push_blob(name, data) == digest
        created(admin.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data), name, digest)
    assert admin.blob(name, digest).body == data


def test_one_blob_under_two_algorithms(admin: Registry, name: str) -> None:
    data = fresh()
    for algorithm in ALGORITHMS:
        admin.push_blob(name, data, algorithm)
    for algorithm in ALGORITHMS:
        assert admin.blob(name, digest_of(data, algorithm)).body == data


def test_nothing_shows_before_it_is_closed(admin: Registry, name: str) -> None:
    data = fresh()
    session = admin.begin(name)
    expect(admin.call("PATCH", session, data), 202)
    assert admin.blob(name, digest_of(data)).status == 404
    expect(admin.call("PUT", closing(session, digest_of(data)), b""), 201)
    assert admin.blob(name, digest_of(data)).status == 200


@pytest.mark.parametrize("target", ["lab", "mirror/library/redis", "nowhere/app"])
def test_where_nothing_can_be_pushed(admin: Registry, target: str) -> None:
    answer = admin.call("POST", f"/v2/{target}/blobs/uploads/", b"")
    code = "DENIED" if target.startswith("mirror") else "NAME_UNKNOWN"
    refused(answer, 403 if code == "DENIED" else 404, code)
