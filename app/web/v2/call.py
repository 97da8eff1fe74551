"""One request of the distribution API and its answer, straight on Tornado's connection.

Tornado's `RequestHandler` costs as much as everything else on the way of a manifest together (measured in
bench/README.md), and buffers where blobs must stream; pulls and pushes share this instead. The body flows only as
fast as the handler reads it, and an answer given before the body was read closes the connection after it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from http.client import responses
from pathlib import Path
from urllib.parse import parse_qs

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine

from app.access.tokens import Grant
from app.oci.errors import OCIError, SizeInvalid, Unsupported
from app.registry.content import Client, ClientGone
from app.web.address import Address

_COMMON = (
    "Docker-Distribution-Api-Version: registry/2.0",
    "X-Content-Type-Options: nosniff",
    "Content-Security-Policy: sandbox",
)
_REASONS = {int(status): phrase for status, phrase in responses.items()}
# RFC 9110, 8.6: these have no Content-Length, or one that would be taken for a promise.
_BODILESS = frozenset({204, 304})
# A body is never as large as this; Tornado insists on a number.
_NO_BODY_LIMIT = 1 << 60
_MOST_PARAMETERS = 200
# What is read at once of a body; heads are read in smaller pieces (`app.web.server`).
_BODY_CHUNK = 256 * 1024
# For how long what a client still sends is taken and dropped after it was told that it sends it for nothing.
_HEAR_OUT_SECONDS = 2.0


def _framing(headers: HTTPHeaders) -> tuple[bool, SizeInvalid | None]:
    """Return whether a request announces a body, and what is wrong with how it does, None for nothing."""
    if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
        return False, None
    length, encoding = headers.get("Content-Length"), headers.get("Transfer-Encoding")
    if encoding is not None and (length is not None or encoding.lower() != "chunked"):
        return True, SizeInvalid(
            "a body comes with a Content-Length or with Transfer-Encoding: chunked, and with one of them only"
        )
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 19):
        return True, SizeInvalid("Content-Length must be a number of bytes, not %(length)r", length=length[:40])
    return length != "0", None


class Call(HTTPMessageDelegate):
    """What a handler reads from and writes to; one answer is begun exactly once, by `reply` or `begin`."""

    def __init__(
        self,
        connection: HTTP1Connection,
        start: RequestStartLine,
        headers: HTTPHeaders,
        address: Address,
        client_address: str,
        request_id: str,
    ) -> None:
        self.method = start.method
        self.headers = headers
        self.address = address
        self.client_address = client_address
        self.request_id = request_id
        # Whether Tornado has a body to read beside the answering of this call, and why it had better not.
        self.has_body, self.malformed = _framing(headers)
        # What the task of the handler is cancelled by.
        self.task: asyncio.Task[None] | None = None
        # Both are missing until the gate has let the call in.
        self._grant: Grant | None = None
        self.client: Client
        # For the audit log: operation, kind of resource, resource, project's id and name (`app.projects.audit`).
        self.changes: list[tuple[str, str, str, tuple[int, str]]] = []
        self.status = 0
        self.bytes_out = 0
        self.bytes_in = 0
        self.route = "unknown"
        self.started = time.perf_counter()
        self._connection = connection
        self._chunk: bytes | None = None
        self._taken: asyncio.Future[None] | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._complete = False
        self._gone = False
        self._chunked = False
        self._ended = False
        if self.has_body:
            connection.set_max_body_size(_NO_BODY_LIMIT)
            connection.stream.read_chunk_size = _BODY_CHUNK

    # what Tornado calls

    def data_received(self, chunk: bytes) -> asyncio.Future[None]:
        self._chunk = chunk
        self._taken = asyncio.get_running_loop().create_future()
        self._wake()
        return self._taken

    def finish(self) -> None:
        self._complete = True
        if self._ended:
            self._connection.finish()
        else:
            self._wake()

    def on_connection_close(self) -> None:
        self._gone = True
        self._wake()
        self._release()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _release(self) -> None:
        """Let Tornado go on: it waits for each piece of the body to be taken."""
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)

    # the request

    @property
    def path(self) -> str:
        return self.address.path

    @property
    def grant(self) -> Grant:
        """What the client may do; only a handler may ask, because the gate has let its call in."""
        assert self._grant is not None  # noqa: S101  # see `admit`
        return self._grant

    @property
    def subject(self) -> str:
        """Who the client is, "" if the gate did not let it in."""
        return "" if self._grant is None else self._grant.subject

    def admit(self, grant: Grant, client: Client) -> None:
        """Say what the client may do, and how it counts where clients share."""
        self._grant, self.client = grant, client

    @property
    def query(self) -> Mapping[str, list[str]]:
        """The query's parameters, each with all its values, in order; raises Unsupported (400) for too many."""
        try:
            return parse_qs(self.address.query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            raise Unsupported("at most %(most)s parameters in one request", most=_MOST_PARAMETERS, status=400) from None

    async def read(self) -> bytes | None:
        """Give the next piece of the body (at most 256 KiB), None at its end; raises ClientGone."""
        while self._chunk is None:
            if self._complete or not self.has_body:
                return None
            if self._gone:
                raise ClientGone
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        chunk, self._chunk = self._chunk, None
        self._release()
        self.bytes_in += len(chunk)
        return chunk

    # the answer

    async def reply(
        self, status: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", *, length: int | None = None
    ) -> None:
        """Send a whole answer. ``length``: the Content-Length of what a HEAD would be a GET of."""
        sent = self._head(status, headers, len(body) if length is None else length, body)
        if self._complete or not self.has_body:
            self.end()
            await sent
        else:
            await sent
            if self.malformed is None:
                await self._hear_out()
            self.cut()

    async def begin(self, status: int, headers: Iterable[tuple[str, str]], length: int | None) -> None:
        """Send the head of an answer whose body follows by `write` or `send_file`; without a length, chunked."""
        await self._head(status, headers, length, b"")

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; returns when the connection has taken it. Raises ClientGone."""
        if self._gone:
            raise ClientGone
        await self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self.bytes_out += len(data)

    async def send_file(self, path: Path, start: int, stop: int) -> None:
        """Send bytes of a local file as the whole body, by the kernel, without copying them through Python."""
        if start == stop:
            return
        if self._connection.stream.closed():
            raise ClientGone
        loop = asyncio.get_running_loop()
        # A descriptor of our own for the same socket: Tornado goes on watching its own, for the client's leaving.
        with socket.socket(fileno=os.dup(self._connection.stream.socket.fileno())) as out, path.open("rb") as file:
            out.setblocking(False)
            # With the fallback, because sendfile's own error for a client that has left already is "not available".
            await loop.sock_sendfile(out, file, start, stop - start, fallback=True)
        self.bytes_out += stop - start

    def end(self) -> None:
        """Finish an answer that was begun; what is left of the request's body is not read any more."""
        if self._chunked:
            _ = self._connection.write(b"0\r\n\r\n")
        if self._complete or self.has_body:
            self._connection.finish()
            self._release()
        else:
            # Told now, Tornado would take the body that is not there for unread, and close the connection.
            self._ended = True

    def cut(self) -> None:
        """Close the connection: the only honest end of a body that cannot be completed."""
        self._connection.close()
        self._release()

    def cancel(self) -> None:
        """Cancel the handler."""
        if self.task is not None:
            self.task.cancel()

    async def _hear_out(self) -> None:
        """Take what the client still sends: a connection closed on unread bytes is reset, and the answer is lost.

        Source: RFC 9112 section 9.6.
        """
        with suppress(ClientGone, TimeoutError):
            async with asyncio.timeout(_HEAR_OUT_SECONDS):
                while await self.read() is not None:
                    pass

    def _head(
        self, status: int, headers: Iterable[tuple[str, str]], length: int | None, body: bytes
    ) -> asyncio.Future[None]:
        """Send the head in one piece with ``body``.

        Spelled here because Tornado's own way checks and copies every header several times over, which is a fifth of
        a manifest's cost; `HTTPConnection.write` takes a head that is ready.
        """
        self.status = status
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}", *_COMMON, f"X-Request-Id: {self.request_id}"]
        if self.address.namespace is not None:
            lines.append(f"OCI-Namespace: {self.address.namespace}")
        lines += [f"{name}: {value}" for name, value in headers]
        if length is not None:
            if status not in _BODILESS:
                lines.append(f"Content-Length: {length}")
        elif self.method != "HEAD":
            self._chunked = True
            lines.append("Transfer-Encoding: chunked")
        if self.has_body and not self._complete:
            lines.append("Connection: close")
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
            raise ValueError("a header holds a line break")
        self.bytes_out += len(body)
        return self._connection.write(f"{head}\r\nDate: {_now()}\r\n\r\n".encode("latin-1", "replace") + body)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _now() -> str:
    return _date(int(time.time()))


async def reply_error(call: Call, error: OCIError) -> None:
    """Send an error in the specification's JSON; a HEAD gets its headers alone."""
    body = error.body()
    headers = [("Content-Type", "application/json"), *error.headers.items()]
    await call.reply(error.answer_status, headers, b"" if call.method == "HEAD" else body, length=len(body))
