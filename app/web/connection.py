"""HTTP/1.1 on a connection, where Tornado's reading of it is too narrow, too wide or too dear.

Tornado refuses the extensions of chunks and the trailers after them, which every recipient must be able to ignore. It
accepts lines that end in a bare line feed; a proxy in front may read such a head as another request.

Source: RFC 9112, 2.2, 7.1.1 and 7.1.2. The bounds are those of Go's ``net/http`` (CVE-2023-39326).
"""

from __future__ import annotations

import asyncio
import logging
import re
from asyncio import Future
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import cast

from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
)
from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError

_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,32})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\Z")
log = logging.getLogger(__name__)

# A chunk's size with its extensions, or a trailer.
_MOST_LINE = 4096
# A line may have this length and twice that of its chunk. Beyond that, the lines of a body share so many bytes.
_FREE_LINE = 16
_MOST_EXCESS = 16 * 1024
# Small chunks that have arrived together are read without a pause, but not more than this many.
_CHUNKS_AT_ONCE = 256
# The same of requests that a client sent without waiting for the answers.
_REQUESTS_AT_ONCE = 16
# Clients repeat most lines of their heads. Checking a line costs ten times what finding it again does.
_LINES_KEPT = 4096
_LONGEST_KEPT = 1024


class Delegate(HTTPMessageDelegate):
    """A delegate of requests on a `Connection`."""

    def spoil(self) -> bool:
        """Note that the rest of the body cannot be read, and return whether the delegate answers that itself."""
        return False


class Connection(HTTP1ServerConnection):
    """A connection of a client; its delegate's `start_request` returns a `Delegate`."""

    async def _server_request_loop(self, delegate: HTTPServerConnectionDelegate) -> None:
        answered = 0
        try:
            while True:
                exchange = Exchange(self.stream, False, self.params, self.context)
                try:
                    if not await exchange.read_response(delegate.start_request(self, exchange)):
                        return
                except (StreamClosedError, UnsatisfiableReadError, asyncio.CancelledError):
                    return
                except Exception:
                    log.exception("a connection failed")
                    exchange.close()
                    return
                answered += 1
                if answered % _REQUESTS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        finally:
            delegate.on_close(self)


class Exchange(HTTP1Connection):
    """A request and its answer."""

    def send(self, data: bytes) -> Awaitable[None] | None:
        """Send bytes of an answer; return an awaitable if the socket does not take all of them at once.

        Tornado's `write` makes two futures and a buffer for each answer, which few answers need.
        """
        if not self.stream.writing() and not self.stream.closed():
            try:
                sent = self.stream.socket.send(data)
            except OSError:
                sent = 0  # `write` meets the error again, and handles it
            if sent == len(data):
                return None
            data = data[sent:]
        return self.write(data)

    def _parse_headers(self, data: bytes) -> tuple[str, HTTPHeaders]:
        return parse_head(data)

    async def _read_chunked_body(self, delegate: HTTPMessageDelegate) -> None:
        body = _ChunkedBody(
            self.stream, partial(self._deliver_body, delegate), self.params.chunk_size, self._max_body_size
        )
        try:
            await body.read()
        except HTTPInputError:
            if not cast("Delegate", delegate).spoil():
                raise


def parse_head(data: bytes) -> tuple[str, HTTPHeaders]:
    """Return a request's start line and headers, of a head that ends with an empty line; raises HTTPInputError."""
    if data.count(b"\n") != data.count(b"\r\n"):
        raise HTTPInputError("a bare line feed in the head")
    start, *lines = data.decode("latin-1").lstrip("\r\n").removesuffix("\r\n\r\n").split("\r\n")
    headers = HTTPHeaders()
    seen = set()
    for line in lines:
        name, value = _kept_field(line) if len(line) <= _LONGEST_KEPT else _field(line)
        if name in seen:
            headers.add(name, value)
        else:
            seen.add(name)
            headers[name] = value
    return start, headers


def _field(line: str) -> tuple[str, str]:
    """Return the name and the value of a header's line; raises HTTPInputError."""
    field = HTTPHeaders()
    field.parse_line(line)
    ((name, value),) = field.get_all()
    return name, value


_kept_field = lru_cache(_LINES_KEPT)(_field)


class _ChunkedBody:
    """A body that comes in chunks; ``deliver`` gets it in pieces of at most ``piece_bytes``.

    Small chunks are delivered together, but are not held back while the client is waited for.
    """

    def __init__(
        self, stream: IOStream, deliver: Callable[[bytes], Awaitable[None]], piece_bytes: int, most_bytes: int
    ) -> None:
        self._stream = stream
        self._deliver = deliver
        self._piece_bytes = piece_bytes
        self._most_bytes = most_bytes
        self._gathered = bytearray()
        self._total = self._excess = 0

    async def read(self) -> None:
        """Read the body to its end; raises HTTPInputError if it is malformed or too large."""
        chunks = 0
        while left := await self._next_size():
            while left:
                piece = await self._take(self._stream.read_bytes(min(left, self._piece_bytes), partial=True))
                left -= len(piece)
                self._gathered += piece
                if len(self._gathered) >= self._piece_bytes:
                    await self._pass_on()
            if await self._take(self._stream.read_bytes(2)) != b"\r\n":
                raise HTTPInputError("a chunk is longer than its size")
            chunks += 1
            if chunks % _CHUNKS_AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._skip_trailers()
        await self._pass_on()

    async def _next_size(self) -> int:
        """Return the size of the next chunk, 0 at the end; its extensions are dropped."""
        line = await self._take(self._stream.read_until(b"\r\n", max_bytes=_MOST_LINE))
        match = _CHUNK_SIZE.match(line[:-2])
        if match is None:
            raise HTTPInputError("a chunk has no size")
        size = int(match[1], 16)
        self._total += size
        self._excess = max(0, self._excess + len(line) - _FREE_LINE - 2 * size)
        if self._total > self._most_bytes or self._excess > _MOST_EXCESS:
            raise HTTPInputError("the body or the extensions of its chunks are too large")
        return size

    async def _skip_trailers(self) -> None:
        # They are dropped: merged into the head they could say something else than the head that was admitted.
        while (line := await self._take(self._stream.read_until(b"\r\n", max_bytes=_MOST_LINE))) != b"\r\n":
            self._excess += len(line)
            if self._excess > _MOST_EXCESS:
                raise HTTPInputError("the trailers are too large")
            HTTPHeaders().parse_line(line[:-2].decode("latin-1"))

    async def _take(self, reading: Awaitable[bytes]) -> bytes:
        if self._gathered and not cast("Future[bytes]", reading).done():
            await self._pass_on()
        return await reading

    async def _pass_on(self) -> None:
        if self._gathered:
            data = bytes(self._gathered)
            self._gathered.clear()
            await self._deliver(data)
