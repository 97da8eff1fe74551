"""Upstreams that answer whatever a test writes down, for what no registry would do on purpose."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDictProxy

from app.config import Credential
from app.mirror.address_guard import AddressGuard
from app.mirror.proxy import SiteProxy
from app.mirror.transport import REQUESTS, Timeouts
from app.mirror.upstream import Upstream
from app.oci.digest import Digest
from tests.images import single

IMAGE = single("odd")
MANIFEST, MANIFEST_TYPE, MANIFEST_DIGEST = IMAGE.payload, IMAGE.media_type, Digest(IMAGE.digest)
BLOB = bytes(range(256)) * 4000
BLOB_DIGEST = Digest.of(BLOB)
REPOSITORY = "library/redis"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """A request as it came: ``path`` undecoded and with its query."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]

    @property
    def authorization(self) -> str | None:
        return self.headers.get("Authorization")


@dataclass
class Server:
    """A server on loopback; ``url`` has no slash at its end."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.seen]


@asynccontextmanager
async def serving(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    """Answer every request by ``handler``."""
    server = Server()

    async def answer(request: web.Request) -> web.StreamResponse:
        server.seen.append(Seen(request.method, request.raw_path, request.headers))
        return await handler(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    server.url = f"http://{host}:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


class Cache:
    """A cache of tokens that several upstreams of a test share; ``kept`` has value and seconds by key."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, int]] = {}

    async def get(self, key: str) -> str | None:
        return self.kept[key][0] if key in self.kept else None

    async def set(self, key: str, value: str, ttl: int) -> None:
        self.kept[key] = (value, ttl)


class Names(AbstractResolver):
    """A name service whose answers a test writes down, and which counts who asked."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        address = self.names[host]
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class Sent:
    """Requests sent since this was made, by kind and status, as the metric counts them."""

    def __init__(self) -> None:
        self._before = _counted()

    @property
    def kinds(self) -> Counter[tuple[str, str]]:
        return _counted() - self._before


def _counted() -> Counter[tuple[str, str]]:
    counted: Counter[tuple[str, str]] = Counter()
    for metric in REQUESTS.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                counted[sample.labels["kind"], sample.labels["status"]] += int(sample.value)
    return counted


@asynccontextmanager
async def client(
    url: str,
    *,
    credential: Credential | None = None,
    cache: Cache | None = None,
    timeouts: Timeouts | None = None,
    guard: AddressGuard | None = None,
    proxy: SiteProxy | None = None,
) -> AsyncIterator[Upstream]:
    """Start the client of an upstream, and close it."""
    upstream = Upstream(
        "hub.test",
        url,
        credential,
        cache or Cache(),
        timeouts=timeouts,
        guard=guard,
        proxy=proxy,
    )
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.close()


def always(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Handler:
    """Answer the same to everything."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return handler


def manifest(**changes: Any) -> Handler:
    """Answer with the image's manifest; ``changes`` are headers with ``_`` for ``-`` (None: without), or ``body``."""
    body = changes.pop("body", MANIFEST)
    headers = {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": MANIFEST_DIGEST}
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return always(200, body, {name: value for name, value in headers.items() if value is not None})


async def raw(request: web.Request, head: str, body: bytes = b"") -> web.StreamResponse:
    """Write an answer byte for byte and close the connection."""
    assert request.transport is not None
    request.transport.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body if head else body)
    request.transport.close()
    return web.Response()
