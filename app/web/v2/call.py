"""Read one request of the distribution API and write its answer, directly on Tornado's connection.

Pulls and pushes use this instead of Tornado's `RequestHandler`, which costs as much again as everything else about a
manifest (docs/decisions/0003). It also buffers, but blobs must stream. The body arrives only as fast as the handler
reads it. If the answer is sent before the body was read, the connection is closed after the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from http.client import responses
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs

from tornado.httputil import HTTPHeaders, HTTPInputError, RequestStartLine
from tornado.iostream import StreamClosedError

from app.access.tokens import Grant
from app.kit import facts
from app.oci.conditions import Conditions
from app.oci.errors import OCIError, SizeInvalid, Unsupported
from app.registry.content import Client, ClientGone
from app.web.address import Address
from app.web.connection import DRAIN_SECONDS, NO_BODY_LIMIT, Body, Delegate, Exchange
from app.web.events import HEADER, part
from app.web.stream import Stream, TooSlow

_COMMON = (
    "Docker-Distribution-Api-Version: registry/2.0",
    "X-Content-Type-Options: nosniff",
    "Content-Security-Policy: sandbox",
)
_REASONS = {int(status): phrase for status, phrase in responses.items()}
# RFC 9110, 8.6: a 204 has no Content-Length, and clients would take one in a 304 for a promise.
_BODILESS = frozenset({204, 304})
_MOST_PARAMETERS = 200
# After an early answer, the rest of the request's body is read in pieces of this size, and dropped.
_DRAIN_BYTES = 64 * 1024


def _framing(version: str, headers: HTTPHeaders) -> tuple[bool, SizeInvalid | None]:
    """Return whether a request announces a body, and the error if it does so in a wrong way."""
    if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
        return False, None
    length, encoding = headers.get("Content-Length"), headers.get("Transfer-Encoding")
    # RFC 9112, 6.1: a proxy that speaks HTTP/1.0 does not know the coding, and may have taken the body for a request.
    if encoding is not None and (length is not None or encoding.lower() != "chunked" or version == "HTTP/1.0"):
        return True, SizeInvalid(
            "send a body with either a Content-Length or Transfer-Encoding: chunked, not with both or another encoding"
        )
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 19):
        return True, SizeInvalid("Content-Length must be a number of bytes, not %(length)r", length=length[:40])
    return length != "0", None


class Call(Delegate):
    """A request that a handler reads, and its answer. The handler begins the answer once, by `reply` or `begin`.

    While a request has a body, two tasks work on it: Tornado's connection waits, and the handler reads.

    - The connection hands the body over by `take`, and waits on ``_reading`` until `read` has met its end.
    - `read` then waits on ``_arrived`` for `finish` (``_complete``) or the client's leaving (``_gone``).
    - Without a body, the connection's own task runs the handler. Then `end` comes before Tornado's `finish`, and sets
      ``_ended``, so that `finish` ends the answer.
    """

    def __init__(
        self,
        connection: Exchange,
        start: RequestStartLine,
        headers: HTTPHeaders,
        address: Address,
        client_address: str,
        request_id: str,
        fault: OCIError | None = None,
        *,
        tells: bool = False,
    ) -> None:
        """``fault``: the error for a head that is already known to be wrong. ``tells``: see `events.Observed`."""
        self.method = start.method
        self.headers = headers
        self.address = address
        self.client_address = client_address
        self.request_id = request_id
        self.facts = facts.begin(request_id)
        self.tells = tells
        # Whether Tornado reads a body while the handler runs, and the error if it must not.
        self.has_body, malformed = _framing(start.version, headers)
        self.malformed: OCIError | None = fault or malformed
        # Removed from the headers, because Tornado would say "continue" before the client is admitted.
        expects = self.has_body and headers.pop("Expect", "").lower() == "100-continue"
        self._must_continue = expects and start.version == "HTTP/1.1"
        # The handler's task; `cancel` cancels it.
        self.task: asyncio.Task[None] | None = None
        # Both are missing until `admit`.
        self._grant: Grant | None = None
        self.client: Client
        # For the audit log: operation, kind of resource, resource, and the project's id and name.
        self.changes: list[tuple[str, str, str, tuple[int, str]]] = []
        self.status = 0
        self.bytes_out = 0
        self.bytes_in = 0
        self.route = "unknown"
        self.started = time.perf_counter()
        self.waited = 0.0
        self._connection = connection
        self._body: Body | None = None
        self._reading: asyncio.Future[None] | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._complete = False
        self._gone = False
        self._chunked = False
        self._ended = False
        if self.has_body:
            connection.set_max_body_size(NO_BODY_LIMIT)

    # what Tornado calls

    def take(self, body: Body) -> asyncio.Future[None] | None:
        if not self.has_body:
            return None
        self._body = body
        self._reading = asyncio.get_running_loop().create_future()
        return self._reading

    def finish(self) -> None:
        self._complete = self.malformed is None or not self.has_body
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
        """Let Tornado continue; it waits until the body is read."""
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(None)

    # the request

    @property
    def path(self) -> str:
        return self.address.path

    @property
    def grant(self) -> Grant:
        """Return the client's rights. Only handlers may read it, because they run after `admit`."""
        assert self._grant is not None  # noqa: S101  # see `admit`
        return self._grant

    @property
    def subject(self) -> str:
        """Return the client's name for the log, "" if it was not admitted."""
        return "" if self._grant is None else self._grant.subject

    @property
    def challenged(self) -> bool:
        """Return whether a 401 only asks for a token: the client showed none, or one that has expired."""
        error = self.facts.error
        challenge = error.headers.get("WWW-Authenticate", "") if isinstance(error, OCIError) else ""
        return "Authorization" not in self.headers or "invalid_token" in challenge

    def admit(self, grant: Grant, client: Client) -> None:
        """Set the client's rights, and the client that a share of the upstream's limit is counted for."""
        self._grant, self.client = grant, client

    @property
    def conditions(self) -> Conditions:
        """Return the request's preconditions."""
        return Conditions(self.headers.get("If-Match"), self.headers.get("If-None-Match"))

    @property
    def query(self) -> Mapping[str, list[str]]:
        """Return the query's parameters, each with all its values in order; raises Unsupported (400) for too many."""
        try:
            return parse_qs(self.address.query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            raise Unsupported(
                "too many query parameters: at most %(most)s in one request", most=_MOST_PARAMETERS, status=400
            ) from None

    async def read(self, room: memoryview) -> int:
        """Fill ``room`` with the next bytes of the body and return their number; it is 0 only after the last of them.

        If the client leaves or is too slow, returns what has arrived, and raises ClientGone at the next call. Raises
        SizeInvalid.
        """
        if self._complete or not self.has_body:
            return 0
        if self._gone or self._body is None:
            raise ClientGone
        if self._must_continue:
            self._must_continue = False
            _ = self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            count = await self._body.fill(room)
        except (StreamClosedError, TooSlow):
            raise ClientGone from None
        except HTTPInputError:
            self.malformed = SizeInvalid("the body is not in proper chunks; send it again")
            raise self.malformed from None
        if count == 0:
            self._release()
            await self._end_of_body()
        self.bytes_in += count
        return count

    def hold(self, count: int) -> None:
        """Count bytes of the body that stay in memory until the answer has ended; raises TooManyRequests."""
        self._connection.hold(count)

    async def _end_of_body(self) -> None:
        """Wait until Tornado has noted the end, because only then it can keep the connection after the answer."""
        while not self._complete:
            if self._gone:
                raise ClientGone
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived

    # the answer

    async def reply(
        self, status: int, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", *, length: int | None = None
    ) -> None:
        """Send a whole answer. ``length``: the Content-Length, in bytes, if it is not that of ``body`` (HEAD, 304)."""
        sent = self._head(status, headers, len(body) if length is None else length, body)
        if self._complete or not self.has_body:
            self.end()
            if sent is not None:
                await sent
        else:
            if sent is not None:
                await sent
            if self.malformed is None:
                await self._drain()
            self.cut()

    async def begin(self, status: int, headers: Iterable[tuple[str, str]], length: int | None) -> None:
        """Send the head of an answer; its body follows by `write` or `send_file`, then `end`.

        ``length`` is in bytes. Without one, the body is chunked, which `send_file` can't do.
        """
        sent = self._head(status, headers, length, b"")
        if sent is not None:
            await sent

    async def write(self, data: bytes) -> None:
        """Send a piece of the body, and return when the connection has taken it. Raises ClientGone."""
        if self._gone:
            raise ClientGone
        await self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        self.bytes_out += len(data)

    async def send_file(self, path: Path, start: int, stop: int) -> None:
        """Send the bytes from ``start`` to before ``stop`` of a local file as the whole body.

        Raises ClientGone or ConnectionError.
        """
        if start == stop:
            return
        if self._connection.stream.closed():
            raise ClientGone
        with path.open("rb") as file:
            await cast("Stream", self._connection.stream).send_file(file, start, stop)
        self.bytes_out += stop - start

    def end(self) -> None:
        """End an answer that was begun; the rest of the request's body is not read any more."""
        if self._chunked:
            _ = self._connection.write(b"0\r\n\r\n")
        if self._complete or self.has_body:
            self._connection.finish()
            self._release()
        else:
            # Tornado has not called `finish` yet. Told now, it would take the missing body for an unread one, and
            # close the connection.
            self._ended = True

    def cut(self) -> None:
        """Close the connection; only that tells a client that a body is incomplete."""
        self._connection.close()
        self._release()

    def cancel(self) -> None:
        """Cancel the handler."""
        if self.task is not None:
            self.task.cancel()

    async def _drain(self) -> None:
        """Read and drop the rest of the body: a connection closed on unread bytes is reset, and the answer is lost.

        Source: RFC 9112 section 9.6.
        """
        with suppress(ClientGone, SizeInvalid, TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                room = memoryview(bytearray(_DRAIN_BYTES))
                count = len(room)
                while count:
                    count = await self.read(room)
                    # The client may send faster than this reads.
                    await asyncio.sleep(0)

    def _head(
        self, status: int, headers: Iterable[tuple[str, str]], length: int | None, body: bytes
    ) -> Awaitable[None] | None:
        """Send the head in one piece with ``body``; return an awaitable if not all could be sent at once.

        The head is written here because Tornado would check and copy every header several times, which is a fifth of
        a manifest's cost.
        """
        self.status = status
        if not self.has_body:
            # The time until the end of a body is the client's.
            self.waited = time.perf_counter() - self.started
        self._must_continue = False
        lines = [f"\r\n{name}: {value}" for name, value in headers]
        if self.address.namespace is not None:
            lines.append(f"\r\nOCI-Namespace: {self.address.namespace}")
        if length is not None:
            if status not in _BODILESS:
                lines.append(f"\r\nContent-Length: {length}")
        elif self.method != "HEAD":
            self._chunked = True
            lines.append("\r\nTransfer-Encoding: chunked")
        if (self.has_body and not self._complete) or self._connection._disconnect_on_finish:
            lines.append("\r\nConnection: close")
        if self.tells:
            lines.append(f"\r\n{HEADER}: {part(self)}")
        own = "".join(lines)
        if own.count("\n") != len(lines) or own.count("\r") != len(lines):
            raise ValueError("a header holds a line break")
        self.bytes_out += len(body)
        head = f"{_start(status)}{self.request_id}{own}\r\nDate: {_now()}\r\n\r\n"
        return self._connection.send(head.encode("latin-1", "replace") + body)


@lru_cache(maxsize=64)
def _start(status: int) -> str:
    """Return the beginning of an answer's head, up to the request's id."""
    return "\r\n".join([f"HTTP/1.1 {status} {_REASONS.get(status, '')}", *_COMMON, "X-Request-Id: "])


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
