"""Bytes on a socket, for what no client library would send."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Mapping
from typing import Self

from tests.api.client import TIMEOUT, Answer


class Connection:
    """One connection, kept open until `close`; a context manager."""

    def __init__(self, host: str, *, receive_buffer: int | None = None) -> None:
        name, _, port = host.partition(":")
        self.host = host
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect((name, int(port)))
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes; silent where the server has stopped reading, for what it said can still be read."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def request(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Send a request's head exactly as given (but for Host), and ``body`` after it."""
        self.send(head(method, target, {"Host": self.host, **(headers or {})}) + body)

    def answer(self, method: str = "GET") -> Answer:
        """Read one answer to a ``method``; raises ConnectionError where the connection ends before it does.

        An answer without a Content-Length is read to the end of the connection.
        """
        while True:
            line = self._file.readline()
            if not line.startswith(b"HTTP/1.1 "):
                raise ConnectionError(f"no answer but {line!r}")
            status = int(line.split()[1])
            headers = http.client.parse_headers(self._file)
            if status != 100:
                break
        if method == "HEAD" or status in (204, 304):
            return Answer(status, headers, b"")
        length = int(headers["Content-Length"]) if "Content-Length" in headers else None
        body = self._file.read(length)
        if length is not None and len(body) < length:
            raise ConnectionError(f"the body ends after {len(body)} of {length} bytes")
        return Answer(status, headers, body)

    def ended(self) -> bool:
        """Say whether the server closes the connection without another byte."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Spell a request's head."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
