"""A listener that can go away and come back on the same port."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web


class Listener:
    def __init__(self, routes: list[web.RouteDef], host: str, port: int) -> None:
        """Take the port; connections are refused until `up`."""
        self._app = web.Application(client_max_size=2**30)
        self._app.add_routes(routes)
        self._socket = _bind(host, port)
        # A handler ends with its client, so that a stalled one is gone when nobody waits for it any more.
        self._runner = web.AppRunner(self._app, access_log=None, handler_cancellation=True)
        self._server: asyncio.Server | None = None
        self.host, self.port = self._socket.getsockname()[:2]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def up(self) -> None:
        """Begin to listen; nothing happens where it does already."""
        if self._server is not None:
            return
        if self._runner.server is None:
            await self._runner.setup()
        assert self._runner.server is not None
        self._server = await asyncio.get_running_loop().create_server(
            self._runner.server, sock=self._socket, backlog=1024
        )

    async def down(self) -> None:
        """Cut every connection and refuse new ones; the port stays taken."""
        if self._server is None or self._runner.server is None:
            return
        self._server.close()
        await self._runner.server.shutdown(0.1)
        self._server = None
        self._socket = _bind(self.host, self.port)


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    return bound
