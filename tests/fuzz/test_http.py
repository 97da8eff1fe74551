"""Requests to a running service: bytes that are nearly HTTP, and well-formed requests that are odd otherwise.

Each connection is answered or closed, nothing unforeseen is in the log, and the next connection is answered.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from urllib.parse import quote, urlencode

import pytest

from app.web.api.document import BASE, document
from app.web.pages import routes as pages
from tests.api.client import Registry
from tests.images import single
from tests.parts.postgres import Postgres
from tests.parts.service import ADMIN, PASSWORD, Service
from tests.web.http import Person

from .inputs import edit, edited, example, fuzz, header, odd_json
from .test_wire import DIGEST

# The upstream is not there.
_FORESEEN = (502, 503, 504)
_IMAGE = single("fuzzed", sizes=(500,))
_SECONDS = 20
# It stands in a request for what says who asks.
_WHO = "X-Who: -"
_BASIC = "Basic " + b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()


class Target:
    """The service, and what has been read of its log."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.cookie = Person(service.host).log_in(ADMIN, PASSWORD).cookies["session"]
        self._log = service.folder / "service.log"
        self._read = self._log.stat().st_size

    def send(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own, and read until it is closed."""
        host, _, port = self.service.host.partition(":")
        with socket.create_connection((host, int(port)), timeout=_SECONDS) as connection:
            answer = b""
            # The service may have closed it already.
            with suppress(ConnectionError):
                connection.sendall(data)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while piece := connection.recv(65536):
                    answer += piece
        return answer

    def check(self, answer: bytes) -> None:
        """Raise AssertionError if an answer is none, the log has a fault, or the next connection is not answered."""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer[:200]
        with self._log.open(newline="") as log:
            log.seek(self._read)
            # The service may be in the middle of a line.
            entries = log.read().rpartition("\n")[0]
            self._read += len(entries.encode())
        faults = [line for line in entries.splitlines() if _is_fault(line)]
        assert not faults, faults
        connection = http.client.HTTPConnection(self.service.host, timeout=_SECONDS)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()


def _is_fault(line: str) -> bool:
    if not line.startswith("{"):
        return "Traceback" in line or "Error" in line
    entry = json.loads(line)
    failed = entry.get("status", 0) >= 500 and entry["status"] not in _FORESEEN
    return entry["level"] in ("error", "critical") or "exception" in entry or failed


@pytest.fixture(scope="module")
def target(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    overrides = {"projects": {"mirror": {"upstream": "docker.io"}, "lab": {"public": True}}}
    with Service(tmp_path_factory.mktemp("fuzz"), database=postgres.database(), overrides=overrides) as service:
        Registry(service.host, ADMIN, PASSWORD).push_image("lab/app", "v1", _IMAGE)
        yield Target(service)


_BODY = b'{"schemaVersion": 2}'
_PART = b'\r\n\r\n--x\r\nContent-Disposition: form-data; name="next"\r\n\r\n/projects\r\n--x--'
_HEADS = (
    b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nCookie: session=x; visitor=y\r\nAccept-Language: et\r\n\r\n",
    b"GET http://a/v2/_catalog?n=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a.b.c\r\nForwarded: x\r\n\r\n",
    b"PUT /v2/lab/app/manifests/x HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n" + _BODY,
    b"POST /addresses HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\ntext=\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 67\r\n\r\n"
    + _PART,
    b"HEAD /healthz HTTP/1.0\r\n\r\n",
)
_PIECES = (
            b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\r\n\r\n", b"HTTP/1.0", b"HTTP/2", b"%00", b"%",
            b"//", b"?",
            b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"Expect: 100-continue\r\n",
            b"Connection: keep-alive, close\r\n", b"Upgrade: h2c\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-5",
            b"X: " + b"x" * 70_000, b"\x16\x03\x01", b"Range: bytes=0-\r\n", b"Content-Encoding: gzip\r\n",
            b"Content-Type: multipart/form-data; boundary=\r\n", b"Sec-WebSocket-Key: x\r\n",
)  # fmt: skip


@fuzz(edited(lambda chance: b"".join(chance.choices(_HEADS, k=chance.randrange(1, 4))), *_PIECES), costs=4)
@example(b"\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
def test_framing(target: Target, data: bytes) -> None:
    target.check(target.send(data))


def _spelled(pattern: str) -> str:
    """Turn a pattern of the pages into a path with what is there."""
    path = pattern.replace(pages._PROJECT, "/projects/lab").replace(pages._REPOSITORY, "app")
    path = path.replace(pages._DIGEST, f"@{_IMAGE.digest}").replace(pages._TAG, ":v1").replace(pages._ROBOT, "1")
    path = path.replace(pages._PLAN, "1")
    return path.replace("\\", "")


_THERE = {"project_name": "lab", "project_name_or_id": "lab", "repository_name": "app", "reference": "v1"}
_API = [BASE + re.sub(r"\{(\w+)\}", lambda match: _THERE.get(match[1], "1"), path) for path in document().paths]
_V2 = [
    "/v2/", "/v2/_catalog", "/v2/lab/app/tags/list", f"/v2/lab/app/blobs/{DIGEST}", f"/v2/lab/app/manifests/{DIGEST}",
    "/v2/lab/app/manifests/v1", "/v2/lab/app/blobs/uploads/", "/v2/lab/app/blobs/uploads/x",
    f"/v2/lab/app/referrers/{DIGEST}",
    "/v2/mirror/library/redis/manifests/7", "/mirror/v2/library/redis/tags/list", "/service/token",
    "/mirror/service/token",
]  # fmt: skip
_OTHERS = [
    "/login",
    "/logout",
    "/saml/acs",
    "/healthz",
    "/readyz",
    "/metrics",
    "/static/x.css",
    "/help/images/x",
    "/nowhere",
]
_PATHS = [*_V2, *_API, *(_spelled(pattern) for pattern, _ in pages._PAGES), *_OTHERS]
_IN_PATHS = ("%00", "%ff", "..", "%2f", "%0d%0a", "/", "%", "x" * 300, "\xe4", "@", ":")
_NAMES = sorted(
    {name for item in document().paths.values() for one in item.values() for name in one.query}
    | {
        "after", "before", "q", "show", "next", "text", "language", "name", "kind", "role", "member", "robot",
        "days", "right",
        "quota", "unit", "access", "description", "username", "password", "scope", "service", "account",
        "grant_type", "n",
        "last", "digest", "mount", "from", "tag", "ns", "artifactType", "_xsrf", "key", "label", "color", "id",
        "secret",
        "SAMLResponse", "old_password", "new_password", "disabled", "user", "action", "project", "upstream",
    }
)  # fmt: skip
_VALUES = (
    "", "1", "lab", "lab/app", "repository:lab/app:pull", DIGEST, "docker.io", "-1", "9" * 30, "//[", "0", "\0", "\xff",
    "\r\nX: y", "%", "'", "%(x)s", "{{x}}", "2026-99-99", "\x85", "~", "x" * 5000, "bytes=0-", "*", '"',
)  # fmt: skip
_JSON = {"project_name": "x", "metadata": {"public": "true"}, "name": "x", "permissions": []}


def _value(chance: Random) -> str:
    return chance.choice(_VALUES) if chance.random() < 0.7 else header(chance)


def _form(chance: Random) -> str:
    fields = [(chance.choice(_NAMES), _value(chance).encode("latin-1", "replace")) for _ in range(chance.randrange(4))]
    return urlencode(fields)


def _body(chance: Random) -> tuple[bytes, bytes]:
    """Return a type of content, and the content."""
    multipart = b"multipart/form-data; boundary=x", edit(chance, _PART.removeprefix(b"\r\n\r\n"), _PIECES)
    return chance.choice(
        [
            (b"", b""),
            (b"application/x-www-form-urlencoded", _form(chance).encode()),
            (b"application/json", odd_json(chance, _JSON)),
            multipart,
            (b"text/plain", b"x"),
        ]
    )


_HEADERS = ["Range", "If-None-Match", "If-Match", "If-Range", "Accept", "Accept-Language", "Content-Range", "Origin",
            "Cookie",
            "Sec-Fetch-Site", "X-Request-Id", "X-Forwarded-For", "Authorization", "X-Harbor-CSRF-Token",
            "X-Is-Resource-Name", "Content-Encoding", "Referer"]  # fmt: skip
_METHODS = ("GET", "GET", "POST", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")


def _request(chance: Random) -> tuple[str, bytes]:
    """Return who asks, and the request with %s in place of what says so."""
    headers = [(chance.choice(_HEADERS), _value(chance)) for _ in range(chance.randrange(3))]
    path = edit(chance, chance.choice(_PATHS), _IN_PATHS, 2)
    return chance.choice(["", "basic", "cookie"]), _written(
        chance.choice(_METHODS), path, _form(chance), headers, _body(chance)
    )


def _written(method: str, path: str, query: str, headers: list[tuple[str, str]], body: tuple[bytes, bytes]) -> bytes:
    kind, content = body
    target = quote(path, safe="/:@%?=&", errors="replace") + (f"?{query}" if query else "")
    lines = [f"{method} {target} HTTP/1.1", "Host: a", "Connection: close", _WHO]
    lines += [f"{name}: {re.sub(chr(92) + 's', ' ', value)[:4000]}" for name, value in headers]
    head = "\r\n".join(lines).encode("latin-1", "replace")
    if kind:
        head += b"\r\nContent-Type: %b\r\nContent-Length: %d" % (kind, len(content))
    return head + b"\r\n\r\n" + content


_FORM = b"application/x-www-form-urlencoded"


@fuzz(_request, costs=4)
@example(("", _written("POST", "/language", "", [], (_FORM, b"language=et&next=%2F%2F%5B"))))
@example(("", _written("GET", "/search", "q=%ff", [], (b"", b""))))
@example(("", _written("GET", "/v2/", "", [("Authorization", "Bearer " + "W1tb" * 3000 + ".e30.x")], (b"", b""))))
def test_requests(target: Target, asked: tuple[str, bytes]) -> None:
    login, request = asked
    known = {"basic": f"Authorization: {_BASIC}", "cookie": f"Cookie: session={target.cookie}", "": "X-Nobody: 1"}[
        login
    ]
    target.check(target.send(request.replace(_WHO.encode(), known.encode(), 1)))
