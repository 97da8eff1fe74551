"""Who calls is known before a body is read: by the head alone, every method of every route answers a stranger.

The routes are read from the tables. A body is announced and never sent, so an answer is one that did not need it. Some
routes learn from the body itself who calls, or serve everybody. These are listed here, each with its bound.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.web.api.document import BASE, document
from app.web.api.handler import ApiHandler
from app.web.base import Handler
from app.web.pages import routes as table
from tests.parts.service import PASSWORD, Service
from tests.sso.forge import Forger, idp_metadata
from tests.unit.web.test_routes import implements, rules
from tests.unit.web.test_routes import table as v2_table
from tests.web.http import Person

KIB = 1024
# Path, the most bytes of its body, and why nobody need be known before it.
OF_ANYBODY = {
    "/login": (32 * KIB, "the body says who calls"),
    "/logout": (32 * KIB, "it only ends the session of its cookie, and its form has the token that proves the page"),
    "/service/token": (64 * KIB, "the body says who calls"),
    "/": (512 * KIB, "the address helper is for everybody"),
    "/addresses": (512 * KIB, "the address helper is for everybody"),
    "/language": (32 * KIB, "everybody chooses a language"),
}
# Much longer than any test waits for an answer on a busy machine; a body that is waited for takes 120 s to be given up.
_SECONDS = 60
_WITH_A_BODY = ("POST", "PUT", "PATCH", "DELETE")
DIGEST = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Way:
    """A method of a path; ``handler`` is missing in the distribution API."""

    method: str
    path: str
    handler: type[Handler] | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _spelled(pattern: str) -> str:
    """Turn a pattern of the application into a path that it matches."""
    path = pattern.removesuffix("$").replace(table._PROJECT, "/projects/lab").replace(table._REPOSITORY, "app")
    path = path.replace(table._DIGEST, f"@{DIGEST}").replace(table._TAG, ":v1").replace(table._ROBOT, "1")
    path = path.replace(table._PLAN, "1").replace(table._RUN, "1").replace(table._WEBHOOK, "1")
    path = path.replace("(?:/[a-z0-9._-]+)?", "").replace("(?:/.*)?", "/nowhere").replace("(.*)", "x")
    return re.sub(r"\(\?P<\w+>\[\^/\]\+\)", "1", path).replace("\\", "")


def _ways() -> Iterator[Way]:
    for pattern, handler in rules():
        path = _spelled(pattern)
        assert re.fullmatch(pattern, path), f"teach this test to spell {pattern}"
        yield from (Way(method, path, handler) for method in _WITH_A_BODY)
    for route in v2_table():
        path = route.pattern.pattern.removesuffix(r"\Z").replace("(.+)", "lab/app").replace("([^/]+)", DIGEST)
        yield from (Way(method, path.removesuffix("?")) for method in _WITH_A_BODY if method in route.methods)


WAYS = list(_ways())
# What a stranger may send along. All three are turned away as strangers are.
STRANGERS = {
    "nobody": "",
    "a forged cookie and token": "Cookie: session=forged\r\nAuthorization: Bearer e30.e30.AA\r\n",
    "a session that has ended": "Cookie: session={ended}\r\n",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with every route, those of the university too."""
    folder = tmp_path_factory.mktemp("bodies")
    metadata: Path = folder / "idp.xml"
    metadata.write_text(idp_metadata([Forger(folder).pair]))
    saml = {"enabled": True, "idp_metadata_url": metadata.as_uri()}
    with Service(folder, overrides={"saml": saml, "projects": {"lab": {"public": True}}}) as service:
        yield service


@pytest.fixture(scope="module")
def ended(service: Service) -> str:
    person = Person(service.host).log_in(service.username, PASSWORD)
    secret = person.cookies["session"]
    assert person.post("/logout").status == 303
    return secret


def _ask(service: Service, way: Way, more: str, size: int, content: bytes = b"") -> tuple[int, bytes]:
    """Send a head that announces so many bytes, and some of them; return the status and the head of the answer."""
    host, _, port = service.host.partition(":")
    head = (
        f"{way.method} {way.path} HTTP/1.1\r\nHost: {service.host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {size}\r\nExpect: 100-continue\r\n{more}\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=_SECONDS) as connection:
        connection.sendall(head.encode() + content)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_is_answered_before_the_body(service: Service, ended: str, stranger: str) -> None:
    host, _, port = service.host.partition(":")
    ways = [
        way
        for way in WAYS
        if way.path not in OF_ANYBODY or way.handler is None or not implements(way.handler, way.method)
    ]
    assert len(ways) > 200
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection((host, int(port)), timeout=_SECONDS)) for _ in ways]
        for way, connection in zip(ways, connections, strict=True):
            head = (
                f"{way.method} {way.path} HTTP/1.1\r\nHost: {service.host}\r\nContent-Length: 900000\r\n"
                f"Content-Type: application/json\r\nExpect: 100-continue\r\n"
                f"{STRANGERS[stranger].format(ended=ended)}\r\n"
            )
            connection.sendall(head.encode())
        answers = [connection.recv(65536) for connection in connections]
    for way, answer in zip(ways, answers, strict=True):
        assert answer.startswith(b"HTTP/1.1 "), f"{way} waits for the body"
        status = int(answer.split(b" ", 2)[1])
        # 400 is for what the path or the query says.
        refusals = (303, 400, 401, 403, 404, 405) if way.handler is not None else (401,)
        assert status in refusals, f"{way}: {status}"
    assert service.faults() == []


@pytest.mark.parametrize("path", OF_ANYBODY)
def test_what_anybody_may_send_is_short(service: Service, path: str) -> None:
    most, _ = OF_ANYBODY[path]
    (way,) = [way for way in WAYS if (way.method, way.path) == ("POST", path)]
    assert way.handler is not None
    assert way.handler.most_body == most
    status, answer = _ask(service, way, "", most + 1)
    assert status == 413
    assert b"100" not in answer.partition(b"\r\n")[0]
    status, answer = _ask(service, way, "Connection: close\r\n", most, b" " * most)
    assert answer.startswith(b"HTTP/1.1 100")


def test_the_list_names_what_takes_a_strangers_body() -> None:
    """A handler that needs nothing and takes a body has its place in the list, and nothing else has."""
    free = {
        way.path
        for way in WAYS
        if way.handler is not None and way.handler.needs == "nothing" and implements(way.handler, way.method)
    }
    assert free - {"/saml/acs"} == OF_ANYBODY.keys()
    # The university's answer is taken from a browser that has a log-in open.
    assert {way.handler.most_body for way in WAYS if way.handler and way.path == "/saml/acs"} == {512 * KIB}
    for path, item in document().paths.items():
        for method, operation in item.items():
            assert operation.needs != "nothing" or operation.body is None, (BASE, path, method)
    assert ApiHandler.most_body == 128 * KIB


def test_a_late_body_is_dropped_and_the_answer_arrives(service: Service) -> None:
    """The client sends all of a large body before it reads; the answer is not lost in a reset."""
    for way in (Way("POST", f"{BASE}/projects"), Way("POST", "/new-project"), Way("PUT", "/v2/lab/app/manifests/x")):
        size = 3_000_000
        status, answer = _ask(service, way, "", size, b" " * size)
        assert status in (303, 401), answer[:200]
        assert b"Connection: close" in answer
    assert service.faults() == []


def test_the_next_request_of_a_connection_is_answered(service: Service) -> None:
    """A refusal without a body keeps the connection."""
    host, _, port = service.host.partition(":")
    with socket.create_connection((host, int(port)), timeout=_SECONDS) as connection:
        for length in ("", "Content-Length: 0\r\n"):
            head = f"POST {BASE}/projects HTTP/1.1\r\nHost: {service.host}\r\n{length}\r\n"
            connection.sendall(head.encode())
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 401 ")
            while b"\r\n\r\n" not in answer or not answer.endswith(b"\n"):
                answer += connection.recv(65536)
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["errors"]
