"""Clients that pull a whole image, as cheap as can be: they share two cores with what they measure.

Each asks as the Docker engine does: what kind of token is wanted, for one, for the index, for the manifest, for three
blobs at a time. The first of a crowd verifies every digest; the others have the kernel drop the bodies of blobs
uncopied, and count their bytes.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, digest_of

from .load import connect
from .wire import head

_AT_ONCE = 3
_ACCEPT = {"Accept": ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))}
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_BUFFER = memoryview(bytearray(256 * 1024))
_LONGEST_SECONDS = 300.0


async def crowd(host: str, name: str, tag: str, count: int) -> float:
    """Have ``count`` clients pull an image at once; give the seconds until the last one has all of it."""
    began = time.monotonic()
    async with asyncio.timeout(_LONGEST_SECONDS):
        await asyncio.gather(*(_Client(host, name, verify=number == 0).pull(tag) for number in range(count)))
    return time.monotonic() - began


class _Client:
    def __init__(self, host: str, name: str, *, verify: bool) -> None:
        self._host, self._name, self._verify = host, name, verify
        self._token: dict[str, str] = {}
        self._idle: dict[str, list[_Connection]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def pull(self, tag: str) -> None:
        try:
            await self._image(tag)
        finally:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()

    async def _image(self, tag: str) -> None:
        await self._ping()
        manifest = await self._manifest(tag)
        for child in manifest.get("manifests", ()):
            if child["platform"]["architecture"] == "amd64":
                manifest = await self._manifest(child["digest"])
        await asyncio.gather(*(self._blob(part) for part in (manifest["config"], *manifest["layers"])))

    async def _manifest(self, reference: str) -> Any:
        answer = await self._get(f"/v2/{self._name}/manifests/{reference}", _ACCEPT)
        return json.loads(answer.body)

    async def _ping(self) -> None:
        """Ask which kind of token is wanted, and get one for the repository."""
        answer = await self._ask(self._host, "/v2/", {}, keep=True)
        if answer.status == 401:
            challenge = dict(_PARAMETER.findall(answer.header("www-authenticate")))
            self._token = await self._authorization({**challenge, "scope": f"repository:{self._name}:pull"})

    async def _blob(self, descriptor: Mapping[str, Any]) -> None:
        async with self._turn:
            answer = await self._get(f"/v2/{self._name}/blobs/{descriptor['digest']}", {}, keep=self._verify)
        if answer.length != descriptor["size"] or (self._verify and digest_of(answer.body) != descriptor["digest"]):
            raise RuntimeError(f"{descriptor['digest']} came with other bytes")

    async def _get(self, target: str, headers: Mapping[str, str], *, keep: bool = True) -> _Answer:
        answer = await self._ask(self._host, target, {**headers, **self._token}, keep=keep)
        if answer.status == 307:
            place = urlsplit(answer.header("location"))
            answer = await self._ask(place.netloc, f"{place.path}?{place.query}", headers, keep=keep)
        if answer.status != 200:
            raise RuntimeError(f"{self._host} answered {target} with {answer.head!r}")
        return answer

    async def _authorization(self, challenge: Mapping[str, str]) -> dict[str, str]:
        realm = urlsplit(challenge["realm"])
        query = urlencode({"service": challenge["service"], "scope": challenge["scope"]})
        answer = await self._ask(realm.netloc, f"{realm.path}?{query}", {}, keep=True)
        return {"Authorization": f"Bearer {json.loads(answer.body)['token']}"}

    async def _ask(self, host: str, target: str, headers: Mapping[str, str], *, keep: bool) -> _Answer:
        idle = self._idle.setdefault(host, [])
        connection = idle.pop() if idle else _Connection(host)
        answer = await connection.ask(head("GET", target, host, headers), keep=keep)
        idle.append(connection)
        return answer


class _Answer:
    """An answer while it comes; ``rest`` of its ``length`` bytes are still to come."""

    def __init__(self, head: bytes) -> None:
        self.head = head.decode("latin-1")
        self.status = int(self.head[9:12])
        self.length = self.rest = int(self.header("content-length"))
        self.body = b""

    def header(self, name: str) -> str:
        found = re.search(rf"\r\n{name}: *([^\r]*)", self.head, re.IGNORECASE)
        if found is None:
            raise RuntimeError(f"there is no {name} in {self.head!r}")
        return found[1]


class _Connection:
    def __init__(self, host: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = connect(host)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._readable)
        self._whole: asyncio.Future[_Answer] = self._loop.create_future()
        self._answer: _Answer | None = None
        self._received = b""
        self._keep = False

    def ask(self, request: bytes, *, keep: bool) -> asyncio.Future[_Answer]:
        """Send a request; the answer comes with its body where that is to be kept, or is an error."""
        self._whole, self._answer, self._received, self._keep = self._loop.create_future(), None, b"", keep
        self._socket.send(request)
        return self._whole

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        try:
            self._receive()
        except (OSError, RuntimeError, ValueError) as error:
            self.close()
            if not self._whole.done():
                self._whole.set_exception(error)

    def _receive(self) -> None:
        if self._answer is None:
            self._received += self._socket.recv(len(_BUFFER)) or _closed()
            beginning, end, body = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            answer = self._answer = _Answer(beginning)
            received = len(body)
        else:
            answer, flags = self._answer, 0 if self._keep else socket.MSG_TRUNC
            received = self._socket.recv_into(_BUFFER, min(answer.rest, len(_BUFFER)), flags)
            if not received:
                _closed()
            body = bytes(_BUFFER[:received]) if self._keep else b""
        if self._keep:
            answer.body += body
        answer.rest -= received
        if answer.rest == 0:
            self._whole.set_result(answer)


def _closed() -> bytes:
    raise ConnectionError("the connection was closed")
