"""Uploads that go wrong: a clear answer, and nothing lost of what was right."""

from __future__ import annotations

from contextlib import closing as closing_of

import pytest

from tests.api.client import Registry, closing, digest_of, expect, location, refused
from tests.api.documents import fresh
from tests.api.wire import Connection, head
from tests.api.workers import objects
from tests.parts.process import wait_for
from tests.parts.service import Service

DATA = fresh(300_000)
DIGEST, WRONG = digest_of(DATA), digest_of(b"something else")


@pytest.fixture
def session(admin: Registry, name: str) -> str:
    """A session that has the first 100,000 bytes of `DATA`."""
    return location(expect(admin.call("PATCH", admin.begin(name), DATA[:100_000]), 202))


def finish(admin: Registry, name: str, session: str, sent: int) -> None:
    """Send the rest of `DATA` and see that the blob is whole."""
    assert expect(admin.call("GET", session), 204)["Range"] == f"0-{max(0, sent - 1)}"
    expect(admin.call("PATCH", session, DATA[sent:]), 202)
    expect(admin.call("PUT", closing(session, DIGEST), b""), 201)
    assert admin.blob(name, DIGEST).body == DATA


@pytest.mark.parametrize("wrong", [WRONG, digest_of(DATA[:100_000])], ids=["another blob's", "of the first part"])
def test_wrong_digest(first: Registry, second: Registry, name: str, wrong: str) -> None:
    """The session stays usable, on a worker that has the running hash and on one that has read the digest only."""
    session = first.begin(name)
    for part in (DATA[:100_000], DATA[100_000:]):
        expect(first.call("PATCH", session, part), 202)
    for user in (first, second, first):
        words = refused(user.call("PUT", closing(session, wrong), b""), 400, "DIGEST_INVALID")
        assert wrong in words
        assert DIGEST in words
    assert first.blob(name, wrong).status == 404
    finish(second, name, session, 300_000)


def test_wrong_digest_with_the_last_chunk(first: Registry, name: str) -> None:
    session = first.begin(name)
    expect(first.call("PATCH", session, DATA[:100_000]), 202)
    refused(first.call("PUT", closing(session, WRONG), DATA[100_000:]), 400, "DIGEST_INVALID")
    finish(first, name, session, 300_000)


def test_wrong_digest_of_what_another_worker_began(first: Registry, second: Registry, name: str) -> None:
    """It can be verified only when it is finished: the answer says that a new upload is needed."""
    session = first.begin(name)
    expect(first.call("PATCH", session, DATA[:100_000]), 202)
    words = refused(second.call("PUT", closing(session, WRONG), DATA[100_000:]), 400, "DIGEST_INVALID")
    assert "begin a new upload" in words
    refused(first.call("GET", session), 404, "BLOB_UPLOAD_UNKNOWN")
    assert first.blob(name, DIGEST).status == 404
    assert second.push_blob(name, DATA) == DIGEST


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_digest_in_one_post(admin: Registry, name: str, algorithm: str, stream: bool) -> None:
    wrong = digest_of(b"else", algorithm)
    path = f"/v2/{name}/blobs/uploads/?digest={wrong}"
    refused(admin.call("POST", path, iter([DATA]) if stream else DATA), 400, "DIGEST_INVALID")
    assert admin.blob(name, wrong).status == 404
    assert admin.blob(name, DIGEST).status == 404


@pytest.mark.parametrize(
    "digest",
    ["", "latest", "sha256:", f"sha256:{'G' * 64}", f"sha256:{'0' * 63}", f"md5:{'0' * 32}", f"sha1:{'0' * 40}",
     f"sha384:{'0' * 96}", "%00", f"sha256:{'0' * 64}%00", f"sha256:{'0' * 64}%0d%0aX-Header:%20x", "..%2f..", "%ff"],
)  # fmt: skip
def test_no_digest_at_all(admin: Registry, name: str, session: str, digest: str) -> None:
    for method, path in (
        ("PUT", f"{session}?digest={digest}"),
        ("PUT", session),
        ("POST", f"/v2/{name}/blobs/uploads/?digest={digest}"),
    ):
        refused(admin.call(method, path, DATA[:1000]), 400, "DIGEST_INVALID")
    finish(admin, name, session, 100_000)


@pytest.mark.parametrize("algorithm", ["", "md5", "SHA256", "sha256:", "%00", "sha-256", "x" * 3000])
def test_no_algorithm_of_ours(admin: Registry, name: str, algorithm: str) -> None:
    path = f"/v2/{name}/blobs/uploads/?digest-algorithm={algorithm}"
    assert "use sha256 or sha512" in refused(admin.call("POST", path, b""), 400, "DIGEST_INVALID")


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 999), (99_999, 100_998), (100_001, 101_000), (250_000, 250_999), (300_000, 300_999), (0, 99_999)],
)
def test_a_chunk_that_is_not_the_next(
    admin: Registry, name: str, session: str, method: str, first: int, last: int
) -> None:
    path = session if method == "PATCH" else closing(session, DIGEST)
    answer = admin.call(method, path, fresh(last - first + 1), {"Content-Range": f"{first}-{last}"})
    assert f"begin at byte 100000, but this one begins at {first}" in refused(answer, 416, "BLOB_UPLOAD_INVALID")
    assert answer["Range"] == "0-99999"
    finish(admin, name, session, 100_000)


def test_a_first_chunk_that_is_not_the_first(admin: Registry, name: str) -> None:
    session = admin.begin(name)
    for _ in range(2):
        answer = admin.call("PATCH", session, DATA[1000:], {"Content-Range": "1000-299999"})
        refused(answer, 416, "BLOB_UPLOAD_INVALID")
    finish(admin, name, session, 0)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize(
    "header",
    ["", "100000", "100000-", "-199999", "a-b", "199999-100000", "100000-199999-", "0x0-0xff", "100000–199999".encode()
     .decode("latin-1"), "9" * 40 + "-" + "9" * 40, "items 100000-199999", "100000-199999, 200000-299999", "\xb2-\xb3"],
)  # fmt: skip
def test_a_content_range_that_cannot_be_read(
    admin: Registry, name: str, session: str, method: str, header: str
) -> None:
    path = session if method == "PATCH" else closing(session, DIGEST)
    with Connection(admin.host) as connection:
        token = admin.token(f"repository:{name}:pull,push")
        headers = {"Authorization": f"Bearer {token}", "Content-Range": header, "Content-Length": "100000"}
        connection.request(method, path, headers, DATA[100_000:200_000])
        refused(connection.answer(), 400, "BLOB_UPLOAD_INVALID")
    finish(admin, name, session, 100_000)


@pytest.mark.parametrize("last", [100_000, 199_998, 200_000, 299_999])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_chunk_of_another_length_than_its_range(
    admin: Registry, name: str, session: str, method: str, last: int
) -> None:
    path, headers = session if method == "PATCH" else closing(session, DIGEST), {"Content-Range": f"100000-{last}"}
    refused(admin.call(method, path, DATA[100_000:200_000], headers), 400, "SIZE_INVALID")
    streamed = iter([DATA[100_000:150_000], DATA[150_000:200_000]])
    refused(admin.call(method, path, streamed, headers), 400, "BLOB_UPLOAD_INVALID")
    finish(admin, name, session, 100_000)


@pytest.mark.parametrize("upload", ["0", "x" * 300, "..", "%2e%2e", "%00", "a%20b", "00000000-0000-0000-0000-00000000"])
def test_unknown_upload(admin: Registry, name: str, upload: str) -> None:
    admin.push_blob(name, fresh())
    path = f"/v2/{name}/blobs/uploads/{upload}"
    for method, target in (("GET", path), ("PATCH", path), ("PUT", closing(path, DIGEST)), ("DELETE", path)):
        refused(admin.call(method, target, b"x" if method != "GET" else None), 404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("other", ["lab/never-made", "lab/made", "secret/made", "nowhere/app"])
def test_an_upload_of_another_repository(admin: Registry, name: str, session: str, other: str) -> None:
    if other.endswith("/made"):
        admin.push_blob(other, b"")
    path = session.replace(name, other)
    code = "NAME_UNKNOWN" if other.startswith("nowhere") else "BLOB_UPLOAD_UNKNOWN"
    for method, target in (("GET", path), ("PATCH", path), ("PUT", closing(path, DIGEST)), ("DELETE", path)):
        refused(admin.call(method, target, b"x" if method != "GET" else None), 404, code)
    finish(admin, name, session, 100_000)


def cut_request(user: Registry, name: str, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
    """Send a head and part of its body, and leave."""
    token = user.token(f"repository:{name}:pull,push")
    with closing_of(user.connect()) as connection:
        if connection.sock is None:
            connection.connect()
        connection.sock.sendall(
            head(method, target, {"Host": user.host, "Authorization": f"Bearer {token}", **headers}) + body
        )


CUT = {"length": {"Content-Length": "200000"}, "chunked": {"Transfer-Encoding": "chunked"}}


@pytest.mark.parametrize("framing", CUT)
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_connection_cut_in_the_middle(
    first: Registry, second: Registry, name: str, session: str, method: str, framing: str
) -> None:
    """The status tells what is kept, and the upload goes on from there on the other worker."""
    path = session if method == "PATCH" else closing(session, DIGEST)
    part = DATA[100_000:150_000]
    body = part if framing == "length" else b"%x\r\n%b\r\n" % (len(part), part)
    # With its place, or a server that comes to it late would append it to what was sent after it.
    cut_request(first, name, method, path, {**CUT[framing], "Content-Range": "100000-299999"}, body)
    wait_for(lambda: go_on(second, session), what="the worker that was cut to let go of the upload")
    expect(first.call("PUT", closing(session, DIGEST), b""), 201)
    assert second.blob(name, DIGEST).body == DATA


def go_on(user: Registry, session: str) -> bool:
    """Do as a client does after a cut: ask, and send from there; False where the other request has not ended yet."""
    kept = int(expect(user.call("GET", session), 204)["Range"].removeprefix("0-")) + 1
    answer = user.call("PATCH", session, DATA[kept:], {"Content-Range": f"{kept}-{len(DATA) - 1}"})
    assert (
        answer.status == 202 or answer.status == 416 or "another request" in refused(answer, 400, "BLOB_UPLOAD_INVALID")
    )
    return answer.status == 202


def test_what_arrived_before_the_cut_is_kept(first: Registry, second: Registry, name: str, session: str) -> None:
    cut_request(first, name, "PATCH", session, CUT["length"], DATA[100_000:150_000])
    wait_for(lambda: second.call("GET", session)["Range"] == "0-149999", what="the status to tell what arrived")
    finish(second, name, session, 150_000)


@pytest.mark.parametrize("framing", CUT)
def test_one_post_cut_in_the_middle(service: Service, admin: Registry, name: str, framing: str) -> None:
    """Nobody knows the address of its session: nothing of it stays."""
    body = DATA[:50_000] if framing == "length" else b"%x\r\n%b\r\n" % (50_000, DATA[:50_000])
    before = objects(service)
    cut_request(admin, name, "POST", f"/v2/{name}/blobs/uploads/?digest={DIGEST}", CUT[framing], body)
    wait_for(lambda: objects(service) <= before, what="the half-written object to go")
    assert admin.blob(name, DIGEST).status == 404


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"5\r\nabcdefgh\r\n", b"-5\r\nabcde\r\n", b"5\r\nabcde0\r\n\r\n", b"f" * 17 + b"\r\n"]
)
def test_chunks_that_are_none(admin: Registry, name: str, session: str, body: bytes) -> None:
    """Where the framing of a body breaks in the middle, nobody knows where it ends: 400, and the connection closes."""
    with Connection(admin.host) as connection:
        token = admin.token(f"repository:{name}:pull,push")
        headers = {"Authorization": f"Bearer {token}", "Transfer-Encoding": "chunked"}
        connection.request("PATCH", session, headers, body)
        answer = connection.answer()
        assert answer.status == 400, answer
        assert connection.ended()
    status = expect(admin.call("GET", session), 204)
    kept = int(status["Range"].removeprefix("0-")) + 1
    assert 100_000 <= kept <= 100_005
