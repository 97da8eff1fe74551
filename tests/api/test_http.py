"""What no client library would send: broken framing, endless heads, answers nobody waits for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.client import Answer, Registry, check_answer, closing, digest_of, expect, location, refused
from tests.api.documents import OCI_INDEX, OCI_MANIFEST, fresh, index
from tests.api.wire import Connection, head
from tests.parts.process import wait_for
from tests.parts.service import Service


@pytest.fixture
def session(admin: Registry, name: str) -> str:
    return admin.begin(name)


@pytest.fixture
def bearer(admin: Registry, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {admin.token(f'repository:{name}:pull,push,delete')}"}


LENGTHS = ["", "abc", "-1", "+5", "5.0", "0x5", "5 5", "5, 6", "1e3", "\xb2", "5_0", "9" * 19, "9" * 400, "5;x", "null"]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST", "GET"])
def test_a_length_that_is_none(
    admin: Registry, session: str, name: str, bearer: dict[str, str], method: str, length: str
) -> None:
    path = {"POST": f"/v2/{name}/blobs/uploads/", "PUT": closing(session, digest_of(b"hello"))}.get(method, session)
    with Connection(admin.host) as connection:
        connection.request(method, path, {**bearer, "Content-Length": length}, b"hello")
        answer = connection.answer()
        assert connection.ended()
    check_answer(answer, method, path)
    assert "Content-Length must be a number of bytes" in refused(answer, 400, "SIZE_INVALID")
    assert answer["Connection"] == "close"
    assert expect(admin.call("GET", session), 204)["Range"] == "0-0"


@pytest.mark.parametrize(
    "framing",
    [
        {"Content-Length": "5", "Transfer-Encoding": "chunked"},
        {"Transfer-Encoding": "gzip"},
        {"Transfer-Encoding": "gzip, chunked"},
        {"Transfer-Encoding": "identity"},
        {"Transfer-Encoding": ""},
        {"Transfer-Encoding": "chunked, chunked"},
        {"Transfer-Encoding": "xchunked"},
    ],
)
def test_a_framing_that_is_none(admin: Registry, session: str, bearer: dict[str, str], framing: dict[str, str]) -> None:
    with Connection(admin.host) as connection:
        connection.request("PATCH", session, {**bearer, **framing}, b"5\r\nhello\r\n0\r\n\r\nGET /v2/ HTTP/1.1\r\n\r\n")
        answer = connection.answer()
        assert connection.ended(), "what followed was taken for a request"
    check_answer(answer, "PATCH", session)
    refused(answer, 400, "SIZE_INVALID")
    assert expect(admin.call("GET", session), 204)["Range"] == "0-0"


def test_chunks_are_unknown_to_http_1_0(admin: Registry, session: str, bearer: dict[str, str]) -> None:
    with Connection(admin.host) as connection:
        lines = head(
            "PATCH", session, {"Host": "x", "Transfer-Encoding": "chunked", "Connection": "keep-alive", **bearer}
        )
        connection.send(lines.replace(b"HTTP/1.1", b"HTTP/1.0") + b"5\r\nhello\r\n0\r\n\r\n")
        refused(connection.answer(), 400, "SIZE_INVALID")
        assert connection.ended()


CHUNKED = {
    "plain": b"5\r\nhello\r\n0\r\n\r\n",
    "zeros and upper case": b"0000A\r\nhellohello\r\n000\r\n\r\n",
    "an extension": b"5;sig=abc\r\nhello\r\n0\r\n\r\n",
    "extensions, one quoted": b'5 ; a="b;c" ; d\r\nhello\r\n0;x\r\n\r\n',
    "a trailer": b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n",
    "trailers that belong into a head": b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n",
    "many small chunks": b"1;x\r\nh\r\n" * 3000 + b"0\r\n\r\n",
    "long extensions of long chunks": (b"2000;%b\r\n%b\r\n" % (b"x" * 3000, b"h" * 0x2000)) * 20 + b"0\r\n\r\n",
    "no chunk": b"0\r\n\r\n",
}


@pytest.mark.parametrize("body", CHUNKED.values(), ids=CHUNKED)
def test_chunks(admin: Registry, session: str, bearer: dict[str, str], body: bytes) -> None:
    """What belongs to the coding is dropped, and the connection serves the next request."""
    headers = {**bearer, "Transfer-Encoding": "Chunked"}
    with Connection(admin.host) as connection:
        connection.request("PATCH", session, headers, body)
        answer = expect(connection.answer(), 202)
        sent = body.count(b"h") if b"ell" not in body else 5 * body.count(b"hello")
        assert answer["Range"] == f"0-{max(sent - 1, 0)}"
        connection.request("GET", session, bearer)
        assert expect(connection.answer(), 204)["Range"] == answer["Range"]


BROKEN_CHUNKS = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a size in words": b"five\r\nhello\r\n0\r\n\r\n",
    "a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a space": b"5 \r\nhello\r\n0\r\n\r\n",
    "larger than anything": b"F" * 32 + b"\r\nhello\r\n0\r\n\r\n",
    "longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "a bare line feed": b"5\nhello\r\n0\r\n\r\n",
    "a bare line feed in an extension": b"5;x\ny\r\nhello\r\n0\r\n\r\n",
    "a NUL in an extension": b"5;\0\r\nhello\r\n0\r\n\r\n",
    "a folded trailer": b"5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n",
    "a trailer without a colon": b"5\r\nhello\r\n0\r\nGET /v2/ HTTP/1.1\r\n\r\n",
    "a bare line feed in a trailer": b"5\r\nhello\r\n0\r\nX: 1\nY: 2\r\n\r\n",
    "extensions without end": (b"1;%b\r\nh\r\n" % (b"x" * 100)) * 300 + b"0\r\n\r\n",
    "trailers without end": b"5\r\nhello\r\n0\r\n" + b"X-Y: z\r\n" * 5000 + b"\r\n",
}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_broken_chunks(admin: Registry, name: str, session: str, bearer: dict[str, str], body: bytes) -> None:
    """Told in the specification's JSON; nothing after it is taken for a request, and the upload can go on."""
    headers = {**bearer, "Transfer-Encoding": "chunked"}
    for method, path in (("PATCH", session), ("PUT", f"/v2/{name}/manifests/x")):
        with Connection(admin.host) as connection:
            connection.request(method, path, headers, body + head("GET", "/v2/", {"Host": "x"}))
            answer = connection.answer()
            assert connection.ended(), "what followed was taken for a request"
        check_answer(answer, method, path)
        refused(answer, 400, "SIZE_INVALID")
    assert expect(admin.call("PATCH", session, b"hello"), 202)


def test_a_line_without_end(admin: Registry, session: str, bearer: dict[str, str]) -> None:
    with Connection(admin.host) as connection:
        connection.request("PATCH", session, {**bearer, "Transfer-Encoding": "chunked"}, b"5;" + b"x" * 10_000_000)
        # The connection is reset if bytes were still on their way, and then the answer may be lost.
        with contextlib.suppress(ConnectionError):
            refused(connection.answer(), 400, "SIZE_INVALID")
        assert connection.ended()


@pytest.mark.parametrize("lines", [[], ["Host: a", "Host: a"], ["Host: a, b"], ["Host: a/b"], ["Host: me@a"]])
@pytest.mark.parametrize("path", ["/v2/", "/", "/service/token", "/api/v2.0/projects"])
def test_a_host_is_named_once(admin: Registry, lines: list[str], path: str) -> None:
    with Connection(admin.host) as connection:
        connection.send("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
        answer = connection.answer()
    check_answer(answer, "GET", path)
    assert "Host header" in refused(answer, 400, "UNSUPPORTED")


def test_a_target_that_is_a_whole_url(admin: Registry, name: str, bearer: dict[str, str]) -> None:
    digest = admin.push_blob(name, b"data")
    for target in (f"http://{admin.host}/v2/{name}/blobs/{digest}", f"HTTP://else.where/v2/{name}/blobs/{digest}"):
        with Connection(admin.host) as connection:
            connection.request("GET", target, bearer)
            assert expect(connection.answer(), 200).body == b"data"
    with Connection(admin.host) as connection:
        connection.request("GET", f"http://{admin.host}/healthz")
        expect(connection.answer(), 200)


HEADS = {
    "no host": b"GET /v2/ HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no version": b"GET /v2/\r\nHost: x\r\n\r\n",
    "version 9": b"GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "no slash": b"GET v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a whole url": b"GET http://x/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no colon": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
    "a space before the colon": b"GET /v2/ HTTP/1.1\r\nHost : x\r\n\r\n",
    "a folded line": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Y: a\r\n b\r\n\r\n",
    "a NUL": b"GET /v2/\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in a header": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Y: a\0b\r\n\r\n",
    "bytes above ASCII": b"GET /v2/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes above ASCII in a header": b"GET /v2/ HTTP/1.1\r\nHost: \xff\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    "a space in the path": b"GET /v2/a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "line feeds only": b"GET /v2/ HTTP/1.1\nHost: x\n\n",
    "empty lines before": b"\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "http 1.0": b"GET /v2/ HTTP/1.0\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": bytes.fromhex("160301020001000001fc0303") + b"\0" * 80,
    "noise": bytes(range(256)) + b"\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing": b"\r\n\r\n\r\n",
}


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
def test_heads_that_are_none(service: Service, admin: Registry, data: bytes) -> None:
    """An answer below 500 or a closed connection, in any case no harm done."""
    with Connection(admin.host) as connection:
        connection.send(data)
        with contextlib.suppress(OSError):  # it may have hung up already
            connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.settimeout(20)
        try:
            answer = connection.answer()
        except ConnectionError:
            pass
        else:
            assert answer.status < 500, answer
            assert answer.status >= 400, answer
    expect(admin.call("GET", "/v2/"), 200)


@pytest.mark.parametrize("size", [10_000, 60_000])
def test_a_large_head(admin: Registry, size: int) -> None:
    with Connection(admin.host) as connection:
        connection.request("GET", "/v2/", {"X-Filling": "x" * size})
        answer = connection.answer()
    check_answer(answer, "GET", "/v2/")
    refused(answer, 401, "UNAUTHORIZED")


@pytest.mark.parametrize("build", [lambda: b"X-Filling: " + b"x" * 10_000_000, lambda: b"X-Y: z\r\n" * 500_000])
def test_a_head_without_end(admin: Registry, build: Callable[[], bytes]) -> None:
    """Nobody keeps reading it: the connection closes."""
    with Connection(admin.host) as connection:
        connection.send(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + build())
        assert connection.ended()
    expect(admin.call("GET", "/v2/"), 200)


def test_many_headers(admin: Registry) -> None:
    with Connection(admin.host) as connection:
        connection.request("GET", "/v2/", {f"X-Header-{number}": "x" for number in range(1500)})
        answer = connection.answer()
    refused(answer, 401, "UNAUTHORIZED")


@pytest.mark.parametrize("given", ["abcdefgh", "0" * 64, "short", "x" * 65, "with space", "a\tb", "<script>", "", "ä"])
def test_a_request_id_of_the_clients(admin: Registry, given: str) -> None:
    with Connection(admin.host) as connection:
        connection.request("GET", "/v2/", {"X-Request-Id": given})
        answer = connection.answer()
    taken = given in ("abcdefgh", "0" * 64)
    assert (answer["X-Request-Id"] == given) == taken
    assert answer["X-Request-Id"].isalnum()


class TestAnswersBeforeTheBody:
    """Whoever is told "no" in the middle of sending hears it, and the connection is not used again."""

    BODY = b"x" * 8_000_000

    @pytest.fixture(params=["length", "chunked"])
    def framing(self, request: pytest.FixtureRequest) -> dict[str, str]:
        whole = {"Content-Length": str(len(self.BODY))}
        return whole if request.param == "length" else {"Transfer-Encoding": "chunked"}

    def refused_while_sending(self, admin: Registry, method: str, path: str, headers: dict[str, str]) -> Answer:
        body = self.BODY
        if "Transfer-Encoding" in headers:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        with Connection(admin.host) as connection:
            # Strict: nothing that is sent may meet a closed connection before the answer is there to be read.
            connection.socket.sendall(head(method, path, {"Host": admin.host, **headers}) + body)
            answer = connection.answer()
            assert answer["Connection"] == "close"
            assert connection.ended()
        check_answer(answer, method, path)
        return answer

    def test_without_a_token(self, admin: Registry, session: str, framing: dict[str, str]) -> None:
        for method in ("PATCH", "PUT"):
            refused(self.refused_while_sending(admin, method, session, framing), 401, "UNAUTHORIZED")

    def test_a_manifest_too_large(
        self, admin: Registry, name: str, bearer: dict[str, str], framing: dict[str, str]
    ) -> None:
        headers = {**bearer, **framing, "Content-Type": OCI_MANIFEST}
        answer = self.refused_while_sending(admin, "PUT", f"/v2/{name}/manifests/large", headers)
        refused(answer, 413, "MANIFEST_INVALID")

    def test_a_chunk_out_of_order(
        self, admin: Registry, session: str, bearer: dict[str, str], framing: dict[str, str]
    ) -> None:
        headers = {**bearer, **framing, "Content-Range": f"5-{len(self.BODY) + 4}"}
        refused(self.refused_while_sending(admin, "PATCH", session, headers), 416, "BLOB_UPLOAD_INVALID")
        assert admin.call("GET", session)["Range"] == "0-0"

    def test_an_unknown_path(self, admin: Registry, bearer: dict[str, str], framing: dict[str, str]) -> None:
        answer = self.refused_while_sending(admin, "PUT", "/v2/nothing", {**bearer, **framing})
        refused(answer, 404, "NAME_UNKNOWN")

    def test_a_session_that_is_gone(
        self, admin: Registry, name: str, session: str, bearer: dict[str, str], framing: dict[str, str]
    ) -> None:
        expect(admin.call("DELETE", session), 204)
        answer = self.refused_while_sending(admin, "PATCH", session, {**bearer, **framing})
        refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")

    def test_nobody_is_heard_out_for_ever(self, admin: Registry, session: str, bearer: dict[str, str]) -> None:
        with Connection(admin.host) as connection:
            connection.request("PATCH", f"{session}-gone", {**bearer, "Content-Length": str(10**15)})
            stop, sent = threading.Event(), list[int]()

            def pour() -> None:
                while not stop.is_set() and len(sent) < 100_000:
                    try:
                        connection.socket.sendall(b"x" * 65_536)
                    except OSError:
                        return
                    sent.append(1)

            pouring = threading.Thread(target=pour)
            pouring.start()
            refused(connection.answer(), 404, "BLOB_UPLOAD_UNKNOWN")
            assert connection.ended()
            stop.set()
            pouring.join(30)
            assert not pouring.is_alive()


class TestKeepAlive:
    def test_many_requests_on_one_connection(self, admin: Registry, name: str, bearer: dict[str, str]) -> None:
        """Answers of every kind leave the connection usable, refusals among them."""
        data = fresh(100_000)
        digest = digest_of(data)
        with Connection(admin.host) as connection:

            def ask(method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
                length = {} if body is None else {"Content-Length": str(len(body))}
                spelled = {key.replace("_", "-"): value for key, value in headers.items()}
                connection.request(method, path, {**bearer, **length, **spelled}, body or b"")
                return connection.answer(method)

            for _ in range(3):
                assert ask("GET", f"/v2/{name}/manifests/none").status == 404
                assert ask("GET", "/v2/x").status == 404
                session = location(expect(ask("POST", f"/v2/{name}/blobs/uploads/", b""), 202))
                expect(ask("PATCH", session, data), 202)
                expect(ask("GET", session), 204)
                expect(ask("PUT", closing(session, digest), b""), 201)
                expect(ask("HEAD", f"/v2/{name}/blobs/{digest}"), 200)
                expect(ask("GET", f"/v2/{name}/blobs/{digest}"), 200)
                expect(ask("GET", f"/v2/{name}/blobs/{digest}", Range="bytes=5-9"), 206)
                assert ask("GET", f"/v2/{name}/blobs/{digest}", Range="bytes=999999-").status == 416
                assert ask("HEAD", f"/v2/{name}/blobs/{digest_of(b'no')}").status == 404
                assert ask("BREW", f"/v2/{name}/tags/list").status == 405
                payload = index()
                expect(ask("PUT", f"/v2/{name}/manifests/latest", payload, Content_Type=OCI_INDEX), 201)
                etag = f'"{digest_of(payload)}"'
                expect(ask("GET", f"/v2/{name}/manifests/latest", If_None_Match=etag), 304)
                expect(ask("GET", f"/v2/{name}/manifests/latest"), 200)
                expect(ask("DELETE", f"/v2/{name}/manifests/latest"), 202)
                # A body that was read to its end before the refusal.
                assert ask("PUT", f"/v2/{name}/manifests/latest", b"nonsense").status == 400
                assert ask("GET", "/healthz").status == 200
                assert ask("GET", "/nothing/here").status == 404

    def test_requests_sent_ahead(self, admin: Registry, name: str, bearer: dict[str, str]) -> None:
        """Pipelined: answers come in order, each its own."""
        digests = [admin.push_blob(name, fresh(size)) for size in (10, 20_000, 30)]
        with Connection(admin.host) as connection:
            lines = {"Host": admin.host, **bearer}
            connection.send(b"".join(head("GET", f"/v2/{name}/blobs/{digest}", lines) for digest in digests * 3))
            for digest in digests * 3:
                answer = connection.answer()
                assert digest_of(answer.body) == digest == answer["Docker-Content-Digest"]

    def test_a_body_for_a_get(self, admin: Registry, name: str, bearer: dict[str, str]) -> None:
        """It is not taken for the next request."""
        digest = admin.push_blob(name, b"data")
        smuggled = head("GET", "/v2/", {"Host": "x"})
        with Connection(admin.host) as connection:
            headers = {**bearer, "Content-Length": str(len(smuggled))}
            connection.request("GET", f"/v2/{name}/blobs/{digest}", headers, smuggled)
            assert expect(connection.answer(), 200).body == b"data"
            assert connection.ended()

    def test_close_when_asked(self, admin: Registry) -> None:
        for version, headers in (("1.1", b"Connection: close\r\n"), ("1.0", b"")):
            with Connection(admin.host) as connection:
                connection.send(b"GET /v2/ HTTP/%b\r\nHost: x\r\n%b\r\n" % (version.encode(), headers))
                refused(connection.answer(), 401, "UNAUTHORIZED")
                assert connection.ended()

    @pytest.mark.parametrize("expects", ["100-continue", "100-Continue"])
    def test_who_waits_to_send_is_admitted_first(
        self, admin: Registry, name: str, session: str, bearer: dict[str, str], expects: str
    ) -> None:
        """The refusal is the first that is heard, and no "continue" comes before it."""
        large = {"Expect": expects, "Content-Length": str(10**9)}
        for method, path, headers, status in (
            ("PATCH", session, {}, 401),
            ("PATCH", f"{session}-gone", bearer, 404),
            ("PUT", f"/v2/{name}/manifests/x", bearer, 413),
            ("PATCH", session, bearer | {"Content-Range": "5-1000000004"}, 416),
            ("PATCH", session, bearer | {"Transfer-Encoding": "chunked"}, 400),
        ):
            with Connection(admin.host) as connection:
                connection.request(method, path, {**headers, **large})
                assert connection.socket.recv(1000).startswith(b"HTTP/1.1 %d " % status)
        with Connection(admin.host) as connection:
            connection.request("PATCH", session, {**bearer, "Expect": expects, "Content-Length": "5"})
            assert connection.socket.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.send(b"hello")
            assert expect(connection.answer(), 202)["Range"] == "0-4"

    def test_expect_100_continue(self, admin: Registry, name: str, bearer: dict[str, str]) -> None:
        data = fresh()
        with Connection(admin.host) as connection:
            path = f"/v2/{name}/blobs/uploads/?digest={digest_of(data)}"
            headers = {**bearer, "Content-Length": str(len(data)), "Expect": "100-continue"}
            connection.request("POST", path, headers)
            connection.send(data)
            expect(connection.answer(), 201)


def test_clients_that_leave(service: Service, admin: Registry, name: str, bearer: dict[str, str]) -> None:
    """In the middle of a download, before an answer, in the middle of a head: nobody minds."""
    digest = admin.push_blob(name, fresh(20_000_000))

    def leave(number: int) -> None:
        with Connection(admin.host) as connection:
            lines = head("GET", f"/v2/{name}/blobs/{digest}", {"Host": admin.host, **bearer})
            connection.send(lines if number % 3 else lines[:-10])
            if number % 3 == 2:
                connection.socket.recv(100_000)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(leave, range(60)))
    with Connection(admin.host) as connection:
        connection.request("GET", f"/v2/{name}/blobs/{digest}", bearer)
        assert digest_of(connection.answer().body) == digest


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_a_client_that_leaves_while_it_is_answered(
    service: Service, admin: Registry, name: str, bearer: dict[str, str], what: str
) -> None:
    """The request ends with the client: a call that waited for ever would hold its blob, and the next stop."""
    filling = "x" * 4_100_000
    path = f"manifests/{admin.push_manifest(name, 'large', index(annotations={'filling': filling}), OCI_INDEX)}"
    if what == "blob":
        path = f"blobs/{admin.push_blob(name, fresh(20_000_000))}"
    given = [f"leaving-{what}-{number}-{name[4:]}" for number in range(5)]
    for request_id in given:
        with Connection(admin.host, receive_buffer=4096) as connection:
            connection.request("GET", f"/v2/{name}/{path}", {**bearer, "X-Request-Id": request_id})
            connection.socket.recv(1)
    wait_for(lambda: all(map(service.log().count, given)), what="the end of every one of these requests")


def test_a_slow_head(admin: Registry) -> None:
    """A head in single bytes, and other clients are answered meanwhile."""
    with Connection(admin.host) as connection:
        for byte in head("GET", "/v2/", {"Host": admin.host}):
            connection.send(bytes([byte]))
            if byte == ord("/"):
                expect(admin.call("GET", "/v2/"), 200)
        refused(connection.answer(), 401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "path", ["/nothing", "/V2/", "//v2/", "/v3/", "/v2%2f..%2fx".replace("%2f", "/"), "/..", "/%00", "/static/../x",
             "/service/token/x", "/api/v2.0/nothing", "/healthz/x", "/metrics/", "/x" * 3000],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "FOO"])
def test_paths_outside(admin: Registry, path: str, method: str) -> None:
    with Connection(admin.host) as connection:
        connection.request(method, path, {"Content-Length": "0"} if method == "POST" else {})
        answer = connection.answer(method)
    assert answer.status in (401, 404, 405), answer
    assert answer.json()["errors"], answer
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_every_request_is_in_the_log_once(service: Service, admin: Registry, name: str) -> None:
    given = f"log-{name.replace('/', '-')}"
    for status, path in ((404, f"/v2/{name}/manifests/x"), (400, "/v2/UPPER/tags/list"), (404, "/nothing")):
        answer = Connection(admin.host)
        with answer as connection:
            connection.request("GET", path, {"X-Request-Id": given, "Authorization": f"Bearer {admin.token()}"})
            assert connection.answer().status in (status, 401)
    wait_for(lambda: service.log().count(given) == 3, what="three log lines")
