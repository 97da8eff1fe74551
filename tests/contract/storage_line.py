"""A line to S3 that can be cut: bytes pass both ways until a test says how an answer ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Line:
    """Forwards connections to one server, from ``url``."""

    def __init__(self, server_url: str) -> None:
        self._server = urlsplit(server_url)
        self.url = ""
        self.away = False
        """Whether connections are closed as soon as they are made."""
        self.cut_after = 0
        """How many bytes of answers a connection lives for; 0: as long as it likes."""
        self.swallow: bytes | None = None
        """How a request starts whose answer gets lost, once."""
        self.passed = 0
        """How many bytes of answers came over it."""
        self.lost = 0
        """How many answers got lost."""
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side ends, or it is cut."""
        if self.away:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(self._server.hostname, self._server.port)
        self._open |= {writer, far_writer}
        lost = asyncio.Event()
        up = asyncio.create_task(self._up(reader, far_writer, lost))
        with suppress(ConnectionError):
            await self._down(far_reader, writer, lost)
        up.cancel()
        for end in (writer, far_writer):
            end.transport.abort()
        self._open -= {writer, far_writer}

    async def _up(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await reader.read(65_536):
            if self.swallow is not None and data.startswith(self.swallow):
                self.swallow = None
                lost.set()
            far.write(data)
            await far.drain()
        far.write_eof()

    async def _down(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        sent = 0
        while data := await far.read(65_536):
            if lost.is_set() and not data.startswith(b"HTTP/1.1 100"):
                self.lost += 1
                return
            sent += len(data)
            self.passed += len(data)
            writer.write(data)
            await writer.drain()
            if 0 < self.cut_after <= sent:
                return

    def close(self) -> None:
        """Cut what is open."""
        for end in self._open:
            end.transport.abort()


@asynccontextmanager
async def line_to(server_url: str) -> AsyncIterator[Line]:
    """Lay a line to a server for one test."""
    line = Line(server_url)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        line.close()
        await server.wait_closed()
