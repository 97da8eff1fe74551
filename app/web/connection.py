"""HTTP/1.1 on a connection, where Tornado's reading of it is too narrow, too wide or too dear.

Tornado refuses the extensions of chunks and the trailers after them, which every recipient must be able to ignore. It
accepts lines that end in a bare line feed; a proxy in front may read such a head as another request.

Source: RFC 9112, 2.2, 7.1.1 and 7.1.2. The bounds are those of Go's ``net/http`` (CVE-2023-39326).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http.client import responses
from typing import Any, Protocol, cast

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    _normalize_header,
)
from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError

from app.oci.errors import OCIError, SizeInvalid

from .crowds import Crowd, Place
from .stream import Stream, TooSlow

_LINE_END = re.compile(rb"\n")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,32})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\Z")
log = logging.getLogger(__name__)

# A chunk's size with its extensions, or a trailer.
_MOST_LINE = 4096
# A line may have this length and twice that of its chunk. Beyond that, the lines of a body share so many bytes.
_FREE_LINE = 16
_MOST_EXCESS = 16 * 1024
# Small chunks that have arrived together are read without a pause, but not more lines of them than this.
_LINES_AT_ONCE = 512
# The same of requests that a client sent without waiting for the answers.
_REQUESTS_AT_ONCE = 16
# Clients repeat most lines of their heads. Checking a line costs ten times what finding it again does.
_LINES_KEPT = 4096
_LONGEST_KEPT = 1024
# Tornado's handlers get their bodies in pieces of this size.
_PIECE_BYTES = 16 * 1024
# Larger than any body, because Tornado needs a limit.
NO_BODY_LIMIT = 1 << 60
# After an early answer, the rest of the request's body is read and dropped for this long.
DRAIN_SECONDS = 2.0


class Body(Protocol):
    """The body of a request, for one reader."""

    async def fill(self, room: memoryview) -> int:
        """Fill ``room`` with the next bytes and return their number: less than it holds only at the end, 0 after it.

        If the connection closes or the client is too slow, returns the bytes that arrived; the next call raises
        StreamClosedError or TooSlow. Raises HTTPInputError if the body is malformed or too large.
        """


class Delegate(HTTPMessageDelegate):
    """A delegate of requests on a `Connection`."""

    def take(self, body: Body) -> Awaitable[None] | None:
        """Take over the reading of a body until the awaitable is done, or return None to get its bytes delivered."""
        return None


class Connection(HTTP1ServerConnection):
    """A connection of a client; its delegate's `start_request` returns a `Delegate`.

    ``peer`` is the address at its other end. ``through_proxy``: the peer is a trusted proxy. ``place`` counts for the
    client; it is missing while a proxy's connection has no request.
    """

    def __init__(self, stream: Stream, params: HTTP1ConnectionParameters, context: Any, *, through_proxy: bool) -> None:
        super().__init__(stream, params, context)
        # Handlers of Tornado find their client's address in the context, which all requests of a connection share.
        self.peer: str = context.remote_ip
        self.through_proxy = through_proxy
        self.place: Place | None = None

    async def _server_request_loop(self, delegate: HTTPServerConnectionDelegate) -> None:
        answered = 0
        try:
            while True:
                exchange = Exchange(self)
                cast("Stream", self.stream).be_patient()
                try:
                    if not await exchange.read_response(delegate.start_request(self, exchange)):
                        return
                except (StreamClosedError, UnsatisfiableReadError, asyncio.CancelledError):
                    return
                except Crowd as crowd:
                    refuse(self.stream, crowd)
                    return
                except TooSlow:
                    refuse(self.stream, SizeInvalid("the body did not arrive in time; send it again", status=408))
                    return
                except Exception:
                    log.exception("a connection failed")
                    exchange.close()
                    return
                if self.place is not None:
                    self.place.release()
                answered += 1
                if answered % _REQUESTS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        finally:
            delegate.on_close(self)


class Exchange(HTTP1Connection):
    """A request and its answer."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.stream, False, connection.params, connection.context)
        self._owner = connection
        self._draining = False
        # Whether the answer hands its part of the event to a proxy (`events`).
        self.tells = False

    def expect(self, *, body: bool) -> None:
        """Say whether a request of Tornado's handlers has a body; the handler that takes it sets its bound."""
        self._read_finished = not body
        self.set_max_body_size(NO_BODY_LIMIT)

    def write_headers(self, *arguments: Any, **named: Any) -> asyncio.Future[None]:
        if not self._read_finished:
            # The client learns that it must send its next request elsewhere.
            self._disconnect_on_finish = True
        return super().write_headers(*arguments, **named)

    def _finish_request(self, future: asyncio.Future[None] | None) -> None:
        """Keep the connection while it still brings a body that nobody wants, but not for long.

        A connection closed on unread bytes is reset, and the answer is lost. Source: RFC 9112, 9.6.
        """
        if self._read_finished or self.stream.closed():
            super()._finish_request(future)
        else:
            self._draining = True
            asyncio.get_running_loop().call_later(DRAIN_SECONDS, self.close)

    def hold(self, count: int) -> None:
        """Count bytes of the body that stay in memory until the answer has ended; raises Crowd."""
        if self._owner.place is not None:
            self._owner.place.hold(count)

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

    async def _read_fixed_body(self, content_length: int, delegate: HTTPMessageDelegate) -> None:
        await self._read(_FixedBody(cast("Stream", self.stream), content_length), delegate)

    async def _read_chunked_body(self, delegate: HTTPMessageDelegate) -> None:
        await self._read(_ChunkedBody(cast("Stream", self.stream), self._max_body_size), delegate)

    def _read_body(self, code: int, headers: HTTPHeaders, delegate: HTTPMessageDelegate) -> Awaitable[None] | None:
        if self._write_finished:
            # A body that is dropped may have any size.
            self.set_max_body_size(NO_BODY_LIMIT)
        return super()._read_body(code, headers, delegate)

    async def _read(self, body: Body, delegate: HTTPMessageDelegate) -> None:
        await self._read_all(body, delegate)
        if self._draining:
            self.close()

    async def _read_all(self, body: Body, delegate: HTTPMessageDelegate) -> None:
        stream = self.stream
        reading = None if stream.closed() else cast("Delegate", delegate).take(body)
        if reading is not None:
            await reading
            if stream.closed():
                raise StreamClosedError
            return
        room = memoryview(bytearray(_PIECE_BYTES))
        while count := await body.fill(room):
            if not self._write_finished:
                self.hold(count)
            await self._deliver_body(delegate, bytes(room[:count]))


def refuse(stream: IOStream, error: OCIError) -> None:
    """Send an error that belongs to no handler's request, and close the connection after it."""
    body = error.body()
    head = [
        f"HTTP/1.1 {error.answer_status} {responses[error.answer_status]}",
        "Connection: close",
        "Content-Type: application/json",
        "X-Content-Type-Options: nosniff",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in error.headers.items()),
    ]
    stream.write("\r\n".join([*head, "", ""]).encode() + body).add_done_callback(lambda _: stream.close())


class _FixedBody:
    """A body whose length the head says."""

    def __init__(self, stream: Stream, length: int) -> None:
        self._stream = stream
        self._left = length

    async def fill(self, room: memoryview) -> int:
        """See `Body.fill`."""
        room, filled = room[: self._left], 0
        while filled < len(room):
            try:
                filled += await self._stream.read_some(room[filled:])
            except (StreamClosedError, TooSlow):
                if filled == 0:
                    raise
                break
        self._left -= filled
        return filled


class Headers(HTTPHeaders):
    """The headers of a request, empty at first.

    Tornado's own begin by an update with nothing, and raise an exception within for a header that is not there. That is
    a twentieth of a pull.
    """

    def __init__(self) -> None:
        self._as_list: dict[str, list[str]] = {}
        self._combined_cache: dict[str, str] = {}

    def get(self, name: str, default: Any = None) -> Any:
        values = self._as_list.get(_normalize_header(name))
        if values is None:
            return default
        return values[0] if len(values) == 1 else ",".join(values)


def parse_head(data: bytes) -> tuple[str, HTTPHeaders]:
    """Return a request's start line and headers, of a head that ends with an empty line; raises HTTPInputError."""
    if data.count(b"\n") != data.count(b"\r\n"):
        raise HTTPInputError("a bare line feed in the head")
    start, *lines = data.decode("latin-1").lstrip("\r\n").removesuffix("\r\n\r\n").split("\r\n")
    headers = Headers()
    for line in lines:
        name, value = _kept_field(line) if len(line) <= _LONGEST_KEPT else _field(line)
        headers._as_list.setdefault(name, []).append(value)
    return start, headers


def _field(line: str) -> tuple[str, str]:
    """Return the name and the value of a header's line; raises HTTPInputError."""
    field = HTTPHeaders()
    field.parse_line(line)
    ((name, value),) = field.get_all()
    return name, value


_kept_field = lru_cache(_LINES_KEPT)(_field)


class _ChunkedBody:
    """A body that comes in chunks.

    Content and framing are read into the room that is for the content; then the content moves down over the framing.
    Three kinds of lines are between the content: the size of a chunk, the empty line after it, and trailers.
    """

    def __init__(self, stream: Stream, most_bytes: int) -> None:
        self._stream = stream
        self._most_bytes = most_bytes
        self._total = self._excess = 0
        # How much of a chunk's content is still to come, and what reads the line after that; None at the end.
        self._left = 0
        self._next_line: Callable[[bytes], None] | None = self._size
        # The beginning of a line whose end has not arrived.
        self._line = b""

    async def fill(self, room: memoryview) -> int:
        """See `Body.fill`."""
        filled = 0
        while filled < len(room) and self._next_line is not None:
            try:
                end = filled + await self._stream.read_some(room[filled:])
            except (StreamClosedError, TooSlow):
                if filled == 0:
                    raise
                break
            at = filled
            while at < end and self._next_line is not None:
                filled, at = self._strip(room, filled, at, end)
                if at < end:
                    await asyncio.sleep(0)
            self._stream.unread(room[at:end])
        return filled

    def _strip(self, room: memoryview, filled: int, at: int, end: int) -> tuple[int, int]:
        """Move the content that begins at ``at`` down to ``filled``; return where both stand after some lines."""
        lines = 0
        while at < end and lines < _LINES_AT_ONCE and self._next_line is not None:
            if count := min(self._left, end - at):
                room[filled : filled + count] = room[at : at + count]
                self._left -= count
                filled, at = filled + count, at + count
                continue
            found = _LINE_END.search(room, at, min(end, at + _MOST_LINE))
            stop = end if found is None else found.end()
            self._line += room[at:stop]
            at, lines = stop, lines + 1
            if len(self._line) > _MOST_LINE:
                raise HTTPInputError("a line between chunks is too long")
            if found is not None:
                line, self._line = self._line, b""
                self._next_line(line)
        return filled, at

    def _size(self, line: bytes) -> None:
        """Read the size of a chunk; its extensions are dropped."""
        match = _CHUNK_SIZE.match(line[:-2]) if line.endswith(b"\r\n") else None
        if match is None:
            raise HTTPInputError("a chunk has no size")
        size = int(match[1], 16)
        self._total += size
        self._excess = max(0, self._excess + len(line) - _FREE_LINE - 2 * size)
        if self._total > self._most_bytes or self._excess > _MOST_EXCESS:
            raise HTTPInputError("the body or the extensions of its chunks are too large")
        self._left = size
        self._next_line = self._end_of_chunk if size else self._trailer

    def _end_of_chunk(self, line: bytes) -> None:
        if line != b"\r\n":
            raise HTTPInputError("a chunk is longer than its size")
        self._next_line = self._size

    def _trailer(self, line: bytes) -> None:
        # Trailers are dropped: merged into the head they could say something else than the head that was admitted.
        if line == b"\r\n":
            self._next_line = None
            return
        self._excess += len(line)
        if self._excess > _MOST_EXCESS:
            raise HTTPInputError("the trailers are too large")
        if not line.endswith(b"\r\n"):
            raise HTTPInputError("a bare line feed in a trailer")
        HTTPHeaders().parse_line(line[:-2].decode("latin-1"))
