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
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from http.client import responses
from pathlib import Path
from urllib.parse import parse_qs

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

from app.oci.errors import OCIError
from app.registry.content import Client
from app.web.address import Address

_COMMON = (
    ("Docker-Distribution-Api-Version", "registry/2.0"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "sandbox"),
)
# A body is never as large as this; Tornado insists on a number.
_NO_BODY_LIMIT = 1 << 60


def _nothing(name: str, action: str) -> bool:
    return False


class ClientGone(Exception):
    """The client closed its connection before it had sent, or been sent, everything."""


class Call(HTTPMessageDelegate):
    """What a handler reads from and writes to; one answer is begun exactly once, by `reply` or `begin`."""

    def __init__(
        self,
        connection: HTTP1Connection,
        start: RequestStartLine,
        headers: HTTPHeaders,
        address: Address,
        request_id: str,
    ) -> None:
        self.method = start.method
        self.headers = headers
        self.address = address
        self.path = address.path
        self.request_id = request_id
        self.client = Client("", may_fill=False)
        self.allows: Callable[[str, str], bool] = _nothing
        self.may_push = False
        self.may_list_everything = False
        self.status = 0
        self.bytes_out = 0
        self.bytes_in = 0
        self.route = "unknown"
        self.subject = ""
        self.started = time.perf_counter()
        self._connection = connection
        self._chunk: bytes | None = None
        self._taken: asyncio.Future[None] | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._complete = False
        self._gone = False
        connection.set_max_body_size(_NO_BODY_LIMIT)

    # what Tornado calls

    def data_received(self, chunk: bytes) -> asyncio.Future[None]:
        self._chunk = chunk
        self._taken = asyncio.get_running_loop().create_future()
        self._wake()
        return self._taken

    def finish(self) -> None:
        self._complete = True
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
    def query(self) -> Mapping[str, list[str]]:
        """The query's parameters, each with all its values, in order."""
        return parse_qs(self.address.query, keep_blank_values=True, max_num_fields=200)

    @property
    def client_gone(self) -> bool:
        return self._gone

    async def read(self) -> bytes | None:
        """Give the next piece of the body (at most 64 KiB), None at its end; raises ClientGone."""
        while self._chunk is None:
            if self._complete:
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
        self.end()
        await sent

    async def begin(self, status: int, headers: Iterable[tuple[str, str]], length: int | None) -> None:
        """Send the head of an answer whose body follows by `write` or `send_file`; without a length, chunked."""
        await self._head(status, headers, length, None)

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; returns when the connection has taken it. Raises ClientGone."""
        if self._gone:
            raise ClientGone
        await self._connection.write(data)
        self.bytes_out += len(data)

    async def send_file(self, path: Path, start: int, stop: int) -> None:
        """Send bytes of a local file as the whole body, by the kernel, without copying them through Python."""
        if start == stop:
            return
        loop = asyncio.get_running_loop()
        # A descriptor of our own for the same socket: Tornado goes on watching its own, for the client's leaving.
        with socket.socket(fileno=os.dup(self._connection.stream.socket.fileno())) as out, path.open("rb") as file:
            out.setblocking(False)
            await loop.sock_sendfile(out, file, start, stop - start, fallback=False)
        self.bytes_out += stop - start
        # Tornado counts what goes through its own write(); these bytes did not.
        self._connection._expected_content_remaining = 0

    def end(self) -> None:
        """Finish an answer that was begun; what is left of the request's body is not read any more."""
        self._connection.finish()
        self._release()

    def cut(self) -> None:
        """Close the connection: the only honest end of a body that cannot be completed."""
        self._connection.close()
        self._release()

    def _head(
        self, status: int, headers: Iterable[tuple[str, str]], length: int | None, body: bytes | None
    ) -> asyncio.Future[None]:
        self.status = status
        out = HTTPHeaders()
        for name, value in _COMMON:
            out.add(name, value)
        out.add("Date", formatdate(usegmt=True))
        out.add("X-Request-Id", self.request_id)
        if self.address.namespace is not None:
            out.add("OCI-Namespace", self.address.namespace)
        for name, value in headers:
            out.add(name, value)
        if length is not None and status != 204:
            out.add("Content-Length", str(length))
        self.bytes_out += len(body or b"")
        return self._connection.write_headers(ResponseStartLine("", status, responses.get(status, "")), out, body)


async def reply_error(call: Call, error: OCIError) -> None:
    """Send an error in the specification's JSON; a HEAD gets its headers alone."""
    body = error.body()
    headers = [("Content-Type", "application/json"), *error.headers.items()]
    await call.reply(error.answer_status, headers, b"" if call.method == "HEAD" else body, length=len(body))
