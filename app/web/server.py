"""The HTTP server of one worker: the distribution API on its own edge, everything else as a Tornado application."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, cast

from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.ioloop import PeriodicCallback
from tornado.iostream import IOStream
from tornado.web import Application

from app.config import Network

from .address import Addresses
from .observe import Observer, in_networks, request_id
from .v2.call import Call
from .v2.edge import V2

# Nothing but the distribution API takes a body worth mentioning.
_MAX_FORM_BYTES = 1024 * 1024
# A kept-alive connection of a client that has gone without a word; clients poll more often than that.
_IDLE_SECONDS = 120
_MAX_BUFFER = 1024 * 1024
# A head is smaller than this but for a few; each reading begins with so many zeros.
_HEAD_CHUNK = 8 * 1024
# What an upload may take to make safe what it has got when its connection was closed at a stop.
_END_SECONDS = 3
# The content type of a record that opens a TLS connection (RFC 8446, 5.1).
_TLS_HANDSHAKE = b"\x16"
_NOT_TLS = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nthis port speaks plain HTTP, not TLS\n"


class Edge(HTTPServerConnectionDelegate):
    """Sends each request where it belongs, by its address."""

    def __init__(
        self, v2: V2, application: Application, addresses: Addresses, trusted_proxies: Sequence[Network]
    ) -> None:
        self._v2 = v2
        self._application = application
        self._addresses = addresses
        self._trusted = tuple(trusted_proxies)
        # Connections that have not sent the whole head of a request, and since when; the longest waiting first.
        self.waiting: dict[HTTP1ServerConnection, float] = {}

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        self.waiting[cast("HTTP1ServerConnection", server_conn)] = time.monotonic()
        return _Request(self, server_conn, cast("HTTP1Connection", request_conn))

    def dispatch(
        self, server_conn: object, connection: HTTP1Connection, start: RequestStartLine, headers: HTTPHeaders
    ) -> tuple[HTTPMessageDelegate, Awaitable[None] | None]:
        """Choose who answers a request whose head has arrived, and what to wait for before its body is read."""
        self.waiting.pop(cast("HTTP1ServerConnection", server_conn), None)
        context: Any = connection.context
        peer = client_address(context.remote_ip, headers.get_list("X-Forwarded-For"), self._trusted)
        address = self._addresses.read(start.path, headers.get("Host", ""))
        if address.path.startswith("/v2/") or address.path == "/v2":
            given = headers.get_list("X-Request-Id")
            call = Call(connection, start, headers, address, peer, request_id(given[0] if given else None))
            return call, self._v2.answer(call)
        context.remote_ip = peer
        connection.set_max_body_size(_MAX_FORM_BYTES)
        delegate = self._application.start_request(server_conn, connection)
        return delegate, delegate.headers_received(start, headers)


class _Request(HTTPMessageDelegate):
    """A request until its head is there; after that everything goes to whoever answers it."""

    def __init__(self, edge: Edge, server_conn: object, connection: HTTP1Connection) -> None:
        self._edge = edge
        self._server_conn = server_conn
        self._connection = connection
        self._delegate: HTTPMessageDelegate | None = None

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        start = cast("RequestStartLine", start_line)
        self._delegate, wait = self._edge.dispatch(self._server_conn, self._connection, start, headers)
        return wait

    def data_received(self, chunk: bytes) -> asyncio.Future[None] | None:
        return cast("asyncio.Future[None] | None", self._delegate.data_received(chunk)) if self._delegate else None

    def finish(self) -> None:
        if self._delegate is not None:
            self._delegate.finish()

    def on_connection_close(self) -> None:
        if self._delegate is not None:
            self._delegate.on_connection_close()


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Say who a request comes from: the peer, or where that is a proxy of ours, whom it names.

    Proxies append: read from the right, the first address that is not one of ours is the client. What a client
    wrote there itself stands further left and is never believed. A unix socket's peer is always ours.
    """
    hops = [hop.strip() for header in forwarded for hop in header.split(",")]
    address = peer
    while hops and (address in ("", "0.0.0.0") or in_networks(address, tuple(trusted))):  # noqa: S104  # compared
        address = hops.pop().strip("[]")
    return address


class PlainServer(HTTPServer):
    """A server that tells a client at once that this is not TLS, instead of waiting for the rest of its hello.

    Clients that were told a registry may be insecure try TLS first, and some try for ten seconds. It is the listening
    socket's TCP_DEFER_ACCEPT (`app.processes.bind`) that has the first bytes here with the connection.
    """

    edge: Edge

    def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:
        if _greets_in_tls(stream.socket):
            stream.write(_NOT_TLS).add_done_callback(lambda _: stream.close())
        else:
            super().handle_stream(_Stream(stream.socket, _MAX_BUFFER, _HEAD_CHUNK), address)

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        self.edge.waiting.pop(cast("HTTP1ServerConnection", server_conn), None)

    def close_idle(self) -> None:
        """Close connections that have waited too long, be it between two requests or in the middle of a head."""
        before = time.monotonic() - _IDLE_SECONDS
        for connection, since in list(self.edge.waiting.items()):
            if since > before:
                break
            connection.stream.close()


class _Stream(IOStream):
    """A connection that sends what it is given at once; Tornado would switch that on and off with every answer."""

    def __init__(self, connection: socket.socket, max_buffer_size: int, read_chunk_size: int) -> None:
        super().__init__(connection, max_buffer_size, read_chunk_size)
        super().set_nodelay(True)

    def set_nodelay(self, value: bool) -> None:
        pass


def _greets_in_tls(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == _TLS_HANDSHAKE
    except OSError:
        return False


def make_server(edge: Edge) -> HTTPServer:
    """Make the server; sockets are added by the caller, who also stops it."""
    server = PlainServer(
        cast("Application", edge), chunk_size=256 * 1024, max_buffer_size=_MAX_BUFFER, max_header_size=64 * 1024
    )
    server.edge = edge
    # Tornado's own timeout is set and taken back with every request; a look now and then does as well.
    server.conn_params.header_timeout = None
    PeriodicCallback(server.close_idle, _IDLE_SECONDS / 4 * 1000).start()
    return server


async def stop_server(server: HTTPServer, observer: Observer, seconds: float) -> None:
    """Take no new connections, let requests finish for at most ``seconds``, then close every connection."""
    server.stop()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await observer.running.drain()
    await observer.running.end(_END_SECONDS)
    await server.close_all_connections()
    # Handlers of Tornado may still run without their connection: what they did is to be logged.
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await observer.running.drain()
    observer.flush()
