"""The base of all handlers outside the distribution API: request id, security headers, log line, errors as JSON.

A request is answered in this order. Only the last two steps see its body:

    admit       who calls, and whether they may, by the head alone
    (the body is read)
    examine     whether the body is one that this handler takes
    get, post … the answer
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from tornado.httputil import HTTPInputError
from tornado.iostream import StreamClosedError
from tornado.web import GZipContentEncoding, HTTPError, RequestHandler, stream_request_body

from app.kit import facts
from app.oci.errors import OCIError

from . import events
from .observe import Observer, request_id

# In bytes. People who are logged in may send longer forms than anybody.
_MOST_FORM = 1024 * 1024
MOST_OF_ANYBODY = 32 * 1024


class BodyTooLarge(OCIError):
    code, status, text = "TOO_LARGE", 413, "the body may have %(most)s bytes at most"


@stream_request_body
class Handler(RequestHandler):
    """A handler declares with ``needs`` who may call it; a test checks every route for it.

    ``most_body``: the most bytes of a body that it takes. ``compressed``: its answers to GET may be compressed. Then
    none of them may hold a secret, because the size would tell of it (the BREACH attack).
    """

    needs: str
    most_body = _MOST_FORM
    compressed = False

    def initialize(self, *, observer: Observer) -> None:
        self.observer = observer
        self.started = time.perf_counter()
        self.request_id = request_id(self.request.headers.get("X-Request-Id"))
        self.facts = facts.begin(self.request_id)
        self.tells = bool(getattr(self.request.connection, "tells", False))
        self.route = type(self).__name__
        self.subject = ""
        self.bytes_in = 0
        self._body = bytearray()
        # The handler waits for this until the body has arrived. It is None as long as the handler wants no body.
        self._arrival: asyncio.Future[None] | None = None
        self.set_header("X-Request-Id", self.request_id)
        observer.began(self)

    async def prepare(self) -> None:
        if self.compressed and self.method in ("GET", "HEAD"):
            self._transforms.append(GZipContentEncoding(self.request))
        await self.admit()
        if self.takes_body() and not self._finished:
            await self._receive()
        if not self._finished:
            await self.examine()

    async def admit(self) -> None:
        """Find out who calls and whether they may. The body has not been read."""

    async def examine(self) -> None:
        """Check the body, in ``self.request.body``."""

    def takes_body(self) -> bool:
        """Return whether a body is read for this request. Any other body is dropped."""
        named = self.method.lower()
        return named in ("post", "put", "patch", "delete") and getattr(type(self), named) is not getattr(
            RequestHandler, named
        )

    async def _receive(self) -> None:
        """Let the connection read the body, and wait for it; raises BodyTooLarge, HTTPError and StreamClosedError."""
        length = self.request.headers.get("Content-Length", "")
        # The connection refuses a header that is no number.
        if length.isdecimal() and int(length[:19]) > self.most_body:
            raise BodyTooLarge(most=self.most_body)
        connection = cast("Any", self.request.connection)
        connection.set_max_body_size(self.most_body)
        self._arrival = asyncio.get_running_loop().create_future()
        # Tornado sets it after `prepare`, but the connection waits for it before it reads.
        proceed: asyncio.Future[None] = cast("Any", self)._prepared_future
        self._prepared_future = None
        proceed.set_result(None)
        await self._arrival
        self.request.body = bytes(self._body)
        self.bytes_in = len(self._body)
        try:
            self.request._parse_body()
        except HTTPInputError as error:
            raise HTTPError(400, "Invalid body: %s" % error) from error  # noqa: UP031  # Tornado fills its log message

    def data_received(self, chunk: bytes) -> None:
        if self._arrival is not None:
            self._body += chunk

    def arrived(self) -> None:
        """Note that the whole body has been read, or that the request has none."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def on_connection_close(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_exception(StreamClosedError())

    @property
    def method(self) -> str:
        return self.request.method or ""

    @property
    def path(self) -> str:
        return self.request.path[:500]

    @property
    def status(self) -> int:
        return self.get_status()

    @property
    def waited(self) -> float:
        return 0.0 if self.bytes_in else time.perf_counter() - self.started

    @property
    def challenged(self) -> bool:
        return "Authorization" not in self.request.headers

    def flush(self, include_footers: bool = False) -> asyncio.Future[None]:
        if self.tells and not self._headers_written:
            self.set_header(events.HEADER, events.part(self))
        return super().flush(include_footers)

    @property
    def bytes_out(self) -> int:
        return int(self._headers.get("Content-Length", 0))

    @property
    def client_address(self) -> str:
        return self.request.remote_ip or ""

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.set_header("Referrer-Policy", "same-origin")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if not isinstance(error, OCIError):
            failed = f"the registry failed; tell its operators the id of this request: {self.request_id}"
            error = OCIError(self._reason if status_code < 500 else failed, status=status_code)
        self.set_header("X-Request-Id", self.request_id)
        self.set_header("Content-Type", "application/json")
        for name, value in error.headers.items():
            self.set_header(name, value)
        _ = self.finish(error.body())

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        # A closed stream is no fault: the client may leave before the answer is sent.
        if not isinstance(value, OCIError | HTTPError | StreamClosedError):
            super().log_exception(typ, value, tb)

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, StreamClosedError):
            # The connection may still send its own refusal of the body. Nothing may follow that.
            self.set_status(499, "Client Closed Request")
            self._finished = True
            self.on_finish()
            return
        if isinstance(error, OCIError) or status_code >= 500:
            self.facts.error = error
        super().send_error(error.answer_status if isinstance(error, OCIError) else status_code, **kwargs)

    def on_finish(self) -> None:
        self.observer.finished(self)


class Readable(Handler):
    """A handler that answers HEAD like GET; Tornado sends only the head (RFC 9110, 9.3.2)."""

    async def head(self, *path: str, **named: str) -> None:
        answer = self.get(*path, **named)
        if answer is not None:
            await answer
