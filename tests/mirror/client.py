"""A client that pulls: many at once, each from an address of its own if it likes, and as particular as a real one.

It asks without a token first, and then for one where the challenge tells it to; it keeps its connections.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from tests.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Image, digest_of

ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_SILENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def code(self) -> str:
        """Give the code of the one error in the body."""
        return str(self._error["code"])

    @property
    def words(self) -> str:
        """Give the words of the one error in the body."""
        return str(self._error["message"])

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def _error(self) -> Mapping[str, Any]:
        (error,) = self.document["errors"]
        return dict(error)


class Client:
    """One client of the service at ``url``; a context manager.

    ``source`` is the address it comes from, ``host`` the Host header it sends, ``asks_for`` the scope it asks a token
    for whatever the challenge says, as Docker does.
    """

    def __init__(
        self,
        url: str,
        *,
        login: tuple[str, str] | None = None,
        source: str | None = None,
        host: str | None = None,
        asks_for: str | None = None,
    ) -> None:
        self.url = url
        self.challenges: list[str] = []
        self._login = None if login is None else {"Authorization": aiohttp.encode_basic_auth(*login)}
        self._source = source
        self._host = {"Host": host} if host else {}
        self._asks_for = asks_for
        self._tokens: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        local = (self._source, 0) if self._source else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, local_addr=local),
            timeout=aiohttp.ClientTimeout(sock_read=_SILENCE_SECONDS),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request, a second time with a token where one is wanted; give the answer, whatever its status."""
        async with self.open(method, path, headers) as response:
            return Answer(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def open(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Do as `ask` does, and leave the body to be read."""
        scope = _scope_of(path)
        token = self._tokens.get(scope)
        response = await self._send(method, path, headers, token)
        if response.status == 401 and "WWW-Authenticate" in response.headers and token is None:
            challenge = response.headers["WWW-Authenticate"]
            await response.read()
            self.challenges.append(challenge)
            self._tokens[scope] = await self._token(challenge)
            response = await self._send(method, path, headers, self._tokens[scope])
        async with response:
            yield response

    async def manifest(self, name: str, reference: str, *, method: str = "GET", query: str = "") -> Answer:
        """Ask for a manifest; a body that comes with 200 must have the digest that the answer states."""
        answer = await self.ask(method, f"/v2/{name}/manifests/{reference}{query}", {"Accept": ACCEPT})
        if answer.status == 200 and method == "GET":
            assert answer.headers["Docker-Content-Digest"] == digest_of(answer.body), answer.headers
        return answer

    async def blob(self, name: str, digest: str, *, method: str = "GET", span: str | None = None) -> Answer:
        """Ask for a blob, or with ``span`` for such a range of its bytes."""
        headers = {"Range": f"bytes={span}"} if span else None
        return await self.ask(method, f"/v2/{name}/blobs/{digest}", headers)

    async def pull(self, name: str, reference: str, image: Image, *, platform: str = "linux/amd64") -> None:
        """Pull an image, of an index the child for ``platform``, and compare every byte with ``image``."""
        await self.pull_manifest(name, reference, image.digest, image)
        if "manifests" in image.document:
            image = image.platform(platform)
            await self.pull_manifest(name, image.digest, image.digest, image)
        for digest in image.blobs:
            await self.pull_blob(name, digest, image)

    async def pull_manifest(self, name: str, reference: str, digest: str, image: Image) -> None:
        """Pull one manifest of ``image``."""
        media_type, payload = image.manifests[digest]
        answer = await self.manifest(name, reference)
        assert answer.status == 200, (name, reference, answer.status, answer.body)
        assert answer.body == payload
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["Docker-Content-Digest"] == digest

    async def pull_blob(self, name: str, digest: str, image: Image) -> None:
        """Pull one blob of ``image``, comparing it piece by piece."""
        async with self.open("GET", f"/v2/{name}/blobs/{digest}") as response:
            assert response.status == 200, (response.status, await response.read())
            assert response.content_length == len(image.blobs[digest])
            assert await matching(response, image.blobs[digest]) == len(image.blobs[digest])

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str] | None, token: str | None
    ) -> aiohttp.ClientResponse:
        login = {"Authorization": f"Bearer {token}"} if token else {}
        url = URL(self.url + path, encoded=True)
        return await self._session.request(
            method, url, headers={**self._host, **login, **(headers or {})}, allow_redirects=False
        )

    async def _token(self, challenge: str) -> str:
        told = dict(_PARAMETER.findall(challenge))
        realm = URL(told["realm"])
        # The realm is spelled with the name this client sent; that name leads nowhere but to the service.
        url = URL(self.url).with_path(realm.path).with_query(service=told["service"])
        scopes = [scope for scope in (self._asks_for, told.get("scope")) if scope]
        if scopes:
            url = url.extend_query(scope=scopes[0])
        async with self._session.get(url, headers={**self._host, **(self._login or {})}) as response:
            assert response.status == 200, (response.status, await response.read())
            return str((await response.json())["token"])


async def matching(response: aiohttp.ClientResponse, expected: bytes) -> int:
    """Read a body to its end and compare it as it comes; give how many bytes came, all of them right.

    Raises aiohttp.ClientPayloadError where the body is cut; what came before was compared.
    """
    position = 0
    async for piece in response.content.iter_any():
        assert piece == expected[position : position + len(piece)], f"wrong bytes after {position}"
        position += len(piece)
    return position


def _scope_of(path: str) -> str:
    return re.split("/(?:manifests|blobs|tags|referrers)/", path)[0]
