"""A bare HTTP client: one call is one request, and every answer is given as it came."""

from __future__ import annotations

import json
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDictProxy

from tests import images
from tests.upstream.client import Hub

ACCEPT = ", ".join((images.OCI_INDEX, images.OCI_MANIFEST, images.DOCKER_LIST, images.DOCKER_MANIFEST))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Raw:
    def __init__(self, hub: Hub, session: aiohttp.ClientSession) -> None:
        self._hub, self._session = hub, session

    async def request(self, method: str, url: str, headers: dict[str, str] | None = None) -> Answer:
        """Send one request; a path goes to the registry. Redirects are not followed."""
        target = url if url.startswith("http") else self._hub.url + url
        async with self._session.request(method, target, headers=headers, allow_redirects=False) as response:
            return Answer(response.status, response.headers, await response.read())

    async def bearer(self, repository: str, user: str | None = None, password: str = "") -> dict[str, str]:
        """Ask the realm for a token and spell its header."""
        basic = {"Authorization": aiohttp.encode_basic_auth(user, password)} if user else {}
        query = f"?service=registry.docker.io&scope=repository:{repository}:pull,push"
        answer = await self.request("GET", self._hub.realm + query, basic)
        assert answer.status == 200, answer
        return {"Authorization": f"Bearer {json.loads(answer.body)['token']}"}

    async def manifest(
        self,
        repository: str,
        reference: str,
        bearer: dict[str, str],
        *,
        method: str = "GET",
        accept: str = ACCEPT,
    ) -> Answer:
        return await self.request(method, f"/v2/{repository}/manifests/{reference}", bearer | {"Accept": accept})

    async def link(self, repository: str, digest: str, bearer: dict[str, str], *, method: str = "GET") -> str:
        """Ask the registry for a blob and give the address it redirects to."""
        answer = await self.request(method, f"/v2/{repository}/blobs/{digest}", bearer)
        assert answer.status == 307, answer
        return answer.headers["Location"]
