"""The CDN's listener: the bytes of blobs, at signed addresses of another host.

As an object store does, it refuses a signed request that carries an Authorization header too.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time

from aiohttp import web

from . import wire
from .faults import Fault
from .state import State

_KEY = secrets.token_bytes(32)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


def sign(method: str, digest: str, lifetime: int) -> str:
    """Spell the path and query where a blob can be had for ``lifetime`` seconds, by this method only."""
    expires = str(int(time.time()) + lifetime)
    return f"/data/{digest}?expires={expires}&signature={_signature(method, digest, expires)}"


def _signature(method: str, digest: str, expires: str) -> str:
    return hmac.new(_KEY, f"{method} {digest} {expires}".encode(), hashlib.sha256).hexdigest()


class Cdn:
    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self, *, own_host: bool = True) -> list[web.RouteDef]:
        """Give the routes; on the registry's own host (a relative Location) clients rightly send their token."""
        handler = self.blob if own_host else self.blob_beside_registry
        return [web.get("/data/{digest}", self._state.gate("cdn", handler))]

    async def blob(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            return wire.storage_error(400, "InvalidArgument", "Only one auth mechanism allowed")
        return await self.blob_beside_registry(request)

    async def blob_beside_registry(self, request: web.Request) -> web.StreamResponse:
        state, digest = self._state, request.match_info["digest"]
        expires = request.query.get("expires", "")
        if request.query.get("signature") != _signature(request.method, digest, expires):
            return wire.storage_error(403, "SignatureDoesNotMatch", "The signature is wrong")
        if int(expires) < time.time():
            return wire.storage_error(403, "AccessDenied", "Request has expired")
        if request.method == "GET":
            state.counters.blob_gets[digest] += 1
        fault = state.fault("cdn", request)
        await state.hold(fault, request)
        if answer := wire.instead(fault):
            return answer
        body = state.content.blobs.get(digest)
        if body is None:
            return wire.storage_error(404, "NoSuchKey", "The specified key does not exist")
        return await self._send(request, digest, body, fault)

    async def _send(self, request: web.Request, digest: str, body: bytes, fault: Fault | None) -> web.StreamResponse:
        headers = {"Content-Type": "application/octet-stream", "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        status, size = 200, len(body)
        match = _RANGE.match(request.headers.get("Range", ""))
        if match is not None and match.group() != "bytes=-" and not (fault and fault.action == "no_range"):
            start, stop = _span(match[1], match[2], size)
            if start >= stop:
                return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            status, body = 206, body[start:stop]
        counters = self._state.counters

        def sent(count: int) -> None:
            counters.blob_bytes[digest] += count

        return await wire.send(request, self._state, body, headers, status=status, fault=fault, sent=sent)


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
