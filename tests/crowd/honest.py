"""Clients that do their work beside a crowd: they log in, get tokens, pull, push now and then, and time each answer."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from tests.api.client import basic, digest_of
from tests.api.client import closing as closed
from tests.api.documents import OCI_MANIFEST, fresh, image

# Three times the deadline of a transaction, which is the longest that the service has. Later is a failure.
_TIMEOUT = 60
# The seconds between the first log-ins of two clients, and how many rounds have one push.
_APART = 0.1
_ROUNDS_TO_A_PUSH = 5
_ACCEPT = {"Accept": OCI_MANIFEST}


@dataclass(frozen=True)
class Door:
    """Where the registry is entered; ``authority`` is the file of the certificates to trust, None for plain HTTP."""

    port: int
    authority: Path | None = None

    def connect(self, address: str) -> http.client.HTTPConnection:
        """Connect from an address of loopback."""
        source = (address, 0)
        if self.authority is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT, source_address=source)
        trusts = ssl.create_default_context(cafile=str(self.authority))
        return http.client.HTTPSConnection(
            "localhost", self.port, timeout=_TIMEOUT, source_address=source, context=trusts
        )


@dataclass(frozen=True)
class Timed:
    """An answer to an honest client, or what came in its place."""

    what: str
    seconds: float
    status: int
    expected: int
    said: str


class Honest(threading.Thread):
    """A person with a browser and an engine, at one address."""

    def __init__(
        self, number: int, door: Door, address: str, username: str, password: str, repository: str, pause: float
    ) -> None:
        """``repository`` has the tag ``warm``; the person may push there. ``pause``: seconds between two rounds.

        Clients of other numbers come and push at other times.
        """
        super().__init__(daemon=True)
        self.answers: list[Timed] = []
        self._number, self._door, self._address = number, door, address
        self._username, self._login = username, {"Authorization": basic(username, password)}
        self._password = password
        self._repository, self._pause = repository, pause
        self.stop = threading.Event()

    def run(self) -> None:
        """Work until `stop` is set."""
        try:
            self._run()
        except (AssertionError, LookupError, ValueError) as error:
            self.answers.append(Timed("its own work", 0.0, 0, 200, repr(error)))

    def _run(self) -> None:
        self.stop.wait(self._number * _APART)
        rounds = self._number
        while not self.stop.is_set():
            self.work(push=rounds % _ROUNDS_TO_A_PUSH == 0)
            rounds += 1
            self.stop.wait(self._pause)

    def work(self, *, push: bool) -> None:
        """Do one round; it ends at the first answer that is not the expected one."""
        with suppress(_NotExpected):
            self._browse()
            token = self._token("pull,push" if push else "pull")
            self._pull(token)
            if push:
                self._push(token)

    def _browse(self) -> None:
        headers, page = self._ask("the log-in page", "GET", "/login", expected=200)
        found = re.search(rb'name="_xsrf" value="([^"]+)"', page)
        assert found is not None
        form = {"username": self._username, "password": self._password, "next": "/", "_xsrf": found[1].decode()}
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": _cookies(headers)}
        headers, _ = self._ask("a log-in", "POST", "/login", sent, urlencode(form).encode(), expected=303)
        self._ask("a page", "GET", "/projects", {"Cookie": _cookies(headers)}, expected=200)

    def _token(self, actions: str) -> dict[str, str]:
        query = urlencode({"service": "x", "scope": f"repository:{self._repository}:{actions}"})
        _, body = self._ask("a token", "GET", f"/service/token?{query}", self._login, expected=200)
        return {"Authorization": f"Bearer {json.loads(body)['token']}"}

    def _pull(self, token: Mapping[str, str]) -> None:
        place = f"/v2/{self._repository}"
        _, payload = self._ask("a manifest", "GET", f"{place}/manifests/warm", {**token, **_ACCEPT}, expected=200)
        for layer in json.loads(payload)["layers"]:
            _, data = self._ask("a blob", "GET", f"{place}/blobs/{layer['digest']}", token, expected=200)
            assert digest_of(data) == layer["digest"]

    def _push(self, token: Mapping[str, str]) -> None:
        place = f"/v2/{self._repository}"
        config, layer = fresh(2_000), fresh(50_000)
        for data in (config, layer):
            headers, _ = self._ask("a push", "POST", f"{place}/blobs/uploads/", token, b"", expected=202)
            session = re.sub(r"\Ahttps?://[^/]*", "", headers["Location"])
            self._ask("a push", "PUT", closed(session, digest_of(data)), token, data, expected=201)
        payload = image(layer, config=config)
        sent = {**token, "Content-Type": OCI_MANIFEST}
        self._ask("a push", "PUT", f"{place}/manifests/{self._address}", sent, payload, expected=201)

    def _ask(
        self,
        what: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        expected: int,
    ) -> tuple[http.client.HTTPMessage, bytes]:
        """Send a request on a connection of its own, note its answer and return it."""
        began, status, answered, data = time.monotonic(), 0, http.client.HTTPMessage(), b""
        try:
            with closing(self._door.connect(self._address)) as connection:
                connection.request(method, path, body, {"Accept": "text/html", **(headers or {})})
                answer = connection.getresponse()
                status, answered, data = answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            status, data = 0, repr(error).encode()
        said = "" if status == expected else data[:300].decode("utf-8", "replace")
        self.answers.append(Timed(what, time.monotonic() - began, status, expected, said))
        if status != expected:
            raise _NotExpected
        return answered, data


class _NotExpected(Exception):
    """An answer was not the expected one; it was noted."""


class Company:
    """Honest clients that work from entering to leaving."""

    def __init__(self, clients: Sequence[Honest]) -> None:
        self._clients = clients

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.stop.set()
        for client in self._clients:
            client.join()

    def answers(self) -> list[Timed]:
        """List all answers so far."""
        return [answer for client in self._clients for answer in client.answers]


def _cookies(headers: http.client.HTTPMessage) -> str:
    """Spell the cookies that an answer sets."""
    morsels = [morsel for line in headers.get_all("Set-Cookie") or [] for morsel in SimpleCookie(line).values()]
    return "; ".join(f"{morsel.key}={morsel.value}" for morsel in morsels)
