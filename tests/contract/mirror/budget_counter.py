"""A strict upstream for the budget alone: it counts GETs, never HEADs, and remembers whoever went past its limit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

LIMIT, WINDOW = 100, 21600


class Counter:
    """``left`` of LIMIT; ``past`` counts the GETs that came when nothing was left.

    GETs wait at the ``gate`` before they are counted. ``refusal`` is sent to GETs instead of an answer.
    """

    def __init__(self, left: int) -> None:
        self.url = ""
        self.left = left
        self.past = self.gets = self.heads = self.arrived = 0
        self.source: str | None = "192.0.2.1"
        self.refusal: Callable[[], web.Response] | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        # Called with the number of GETs so far, right after one was counted and before it is answered.
        self.on_get: Callable[[int], None] = lambda gets: None
        self._moved = asyncio.Condition()
        self._random = random.Random(7)

    def take(self, number: int) -> None:
        """Spend as somebody else behind the same address, who leaves us the last one."""
        self.left -= max(0, min(number, self.left - 1))

    async def get(self, request: web.Request) -> web.Response:
        self.arrived += 1
        await self._tell()
        await asyncio.sleep(self._random.uniform(0.0, 0.02))
        await self.gate.wait()
        if self.refusal is not None:
            return self.refusal()
        if self.left <= 0:
            self.past += 1
            return web.Response(status=429, headers=self._headers())
        self.left -= 1
        self.gets += 1
        self.on_get(self.gets)
        headers = self._headers()
        await self._tell()
        await asyncio.sleep(self._random.uniform(0.0, 0.03))
        return web.Response(headers=headers)

    async def head(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self._random.uniform(0.0, 0.01))
        self.heads += 1
        headers = self._headers()
        await asyncio.sleep(self._random.uniform(0.0, 0.01))
        return web.Response(headers=headers)

    async def until(self, moved: Callable[[], bool]) -> None:
        """Wait until ``moved`` says so; asked when a GET arrives and when one is counted."""
        async with self._moved:
            await self._moved.wait_for(moved)

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _headers(self) -> dict[str, str]:
        if self.source is None:
            return {}
        return {
            "ratelimit-limit": f"{LIMIT};w={WINDOW}",
            "ratelimit-remaining": f"{self.left};w={WINDOW}",
            "docker-ratelimit-source": self.source,
        }


@asynccontextmanager
async def counter(left: int) -> AsyncIterator[Counter]:
    """Serve one on loopback."""
    upstream = Counter(left)
    application = web.Application()
    application.router.add_route("HEAD", "/manifest", upstream.head)
    application.router.add_route("GET", "/manifest", upstream.get)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        upstream.url = f"http://{host}:{port}/manifest"
        yield upstream
    finally:
        await runner.cleanup()
