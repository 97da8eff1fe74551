"""The base of all handlers outside the distribution API: request id, security headers, log line, errors as JSON."""

from __future__ import annotations

import time
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from app.oci.errors import OCIError

from .observe import Observer, request_id


class Handler(RequestHandler):
    """A handler declares with ``needs`` who may call it; a test checks every route for it."""

    needs: str

    def initialize(self, *, observer: Observer) -> None:
        self.observer = observer
        self.started = time.perf_counter()
        self.request_id = request_id(self.request.headers.get("X-Request-Id"))
        self.route = type(self).__name__
        self.subject = ""
        self.bytes_in = len(self.request.body or b"")
        self.set_header("X-Request-Id", self.request_id)
        observer.began(self)

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
            _ = self.finish()
            return
        super().send_error(error.answer_status if isinstance(error, OCIError) else status_code, **kwargs)

    def on_finish(self) -> None:
        self.observer.finished(self)


class Readable(Handler):
    """A handler that answers HEAD like GET; Tornado sends only the head (RFC 9110, 9.3.2)."""

    async def head(self, *path: str, **named: str) -> None:
        answer = self.get(*path, **named)
        if answer is not None:
            await answer
