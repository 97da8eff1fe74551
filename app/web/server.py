"""The HTTP server of one worker: the distribution API on its own edge, everything else as a Tornado application."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import cast

from tornado.httpserver import HTTPServer, _HTTPRequestContext
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
from app.kit.networks import in_networks
from app.oci.errors import OCIError, Unsupported

from .address import Addresses
from .connection import Body, Connection, Delegate, Exchange, refuse
from .crowds import Crowd, Crowds
from .listening import Listening
from .observe import ENDED, Observer, request_id
from .stream import Stream
from .v2.call import Call
from .v2.edge import V2

# A connection is closed after this time without a request; clients that are still there poll more often.
_IDLE_SECONDS = 120
# So often, silent and slow clients are looked for.
_SWEEP_SECONDS = 1
_MAX_BUFFER = 1024 * 1024
# Almost every head is smaller. Tornado fills a buffer of this size with zeros before each read.
_HEAD_CHUNK = 8 * 1024
# An upload has this time to store the received bytes after a stop closed its connection.
_END_SECONDS = 3
# The content type of a record that opens a TLS connection (RFC 8446, 5.1).
_TLS_HANDSHAKE = b"\x16"
# RFC 9112, 3.2.2: what a client sends that takes us for a proxy.
_ABSOLUTE_FORM = re.compile(r"https?://([^/?#]*)([/?].*)?\Z", re.IGNORECASE)
# A name has at most 253 characters (RFC 1035, 2.3.4), and a port adds six.
_LONGEST_HOST = 259
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]*)(:[0-9]*)?\Z")
_NOT_TLS = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nthis port speaks plain HTTP, not TLS; use http://\n"


class Edge(HTTPServerConnectionDelegate):
    """Passes each request to the distribution API or to the Tornado application, by its address."""

    def __init__(
        self,
        v2: V2,
        application: Application,
        addresses: Addresses,
        trusted_proxies: Sequence[Network],
        *,
        tells_proxy: bool,
    ) -> None:
        """``tells_proxy``: a trusted proxy writes the events of its requests (`events`)."""
        self._tells_proxy = tells_proxy
        self._v2 = v2
        self._application = application
        self._addresses = addresses
        self._trusted = tuple(trusted_proxies)
        self._crowds = Crowds()
        # The connections without the whole head of a request, with the start of their wait; the longest wait first.
        self.waiting: dict[Connection, float] = {}
        self._stopping = False

    def stop(self) -> None:
        """Close each connection that has no request, now or when its answer is sent.

        Clients that kept theirs busy would otherwise hold up a stop.
        """
        self._stopping = True
        for connection in list(self.waiting):
            _close_if_silent(connection)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        waiting = cast("Connection", server_conn)
        self.waiting[waiting] = time.monotonic()
        if waiting.through_proxy:
            _leave(waiting)
        if self._stopping:
            _close_if_silent(waiting)
        return _Request(self, waiting, cast("Exchange", request_conn))

    def dispatch(
        self, server_conn: Connection, connection: Exchange, start: RequestStartLine, headers: HTTPHeaders
    ) -> tuple[HTTPMessageDelegate, Awaitable[None] | None]:
        """Return the delegate that answers this request, and an awaitable to wait for before its body is read.

        It is called once the head has arrived.
        """
        self.waiting.pop(server_conn, None)
        if self._stopping:
            connection._disconnect_on_finish = True
        start, fault = read_target(start, headers)
        client = client_address(server_conn.peer, headers.get_list("X-Forwarded-For"), self._trusted)
        if server_conn.through_proxy:
            fault = self._enter(server_conn, client) or fault
        connection.tells = self._tells_proxy and server_conn.through_proxy
        address = self._addresses.read(start.path, headers.get("Host", ""))
        if fault is not None or address.path.startswith("/v2/") or address.path == "/v2":
            given = headers.get_list("X-Request-Id")
            known_as = request_id(given[0] if given else None)
            call = Call(connection, start, headers, address, client, known_as, fault, tells=connection.tells)
            return call, self._v2.answer(call)
        cast("_HTTPRequestContext", connection.context).remote_ip = client
        connection.expect(body="Content-Length" in headers or "Transfer-Encoding" in headers)
        delegate = self._application.start_request(server_conn, connection)
        return delegate, delegate.headers_received(start, headers)

    def admit(self, connection: Connection) -> Crowd | None:
        """Count a new connection for its client, if that is known; return the error if it has too many."""
        return None if connection.through_proxy else self._enter(connection, connection.peer)

    def comes_through_proxy(self, peer: str) -> bool:
        """Return whether a peer is a trusted proxy; the one of a Unix socket always is."""
        return is_proxy(peer, self._trusted)

    def forget(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        self.waiting.pop(connection, None)
        _leave(connection)

    def _enter(self, connection: Connection, address: str) -> Crowd | None:
        try:
            connection.place = self._crowds.enter(address)
        except Crowd as crowd:
            return crowd
        return None


class _Request(Delegate):
    """A request that waits for its head; the delegate that `Edge.dispatch` returns gets everything after it."""

    def __init__(self, edge: Edge, server_conn: Connection, connection: Exchange) -> None:
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

    def take(self, body: Body) -> Awaitable[None] | None:
        return self._delegate.take(body) if isinstance(self._delegate, Delegate) else None


def read_target(start: RequestStartLine, headers: HTTPHeaders) -> tuple[RequestStartLine, OCIError | None]:
    """Return the start line with a path as its target, and the error if the request does not say its host once.

    A target that is a whole URL replaces the Host header.
    """
    hosts = headers.get_list("Host")
    named_once = len(hosts) == 1 or (not hosts and start.version == "HTTP/1.0")
    host = hosts[0] if hosts else ""
    match = None if start.path.startswith("/") else _ABSOLUTE_FORM.match(start.path)
    if match is not None:
        host, path = match[1], match[2] or "/"
        named_once = named_once and host != ""
        start = start._replace(path=path if path.startswith("/") else f"/{path}")
        headers["Host"] = host
    if named_once and len(host) <= _LONGEST_HOST and _is_host(host):
        return start, None
    return start, Unsupported("the request must name its host once, in a Host header such as HOST:PORT", status=400)


@lru_cache(maxsize=1024)
def _is_host(text: str) -> bool:
    return _HOST.match(text) is not None


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the client's address: the peer's, or if the peer is a trusted proxy, the one that the proxy names.

    Proxies append to X-Forwarded-For, so the list is read from the right. The first address that is no trusted proxy
    is the client. A text that the client itself put there stands further left and is never trusted.
    """
    hops = [hop.strip() for header in forwarded for hop in header.split(",")]
    address = peer
    while hops and is_proxy(address, tuple(trusted)):
        address = hops.pop().strip("[]")
    return address


def is_proxy(address: str, trusted: tuple[Network, ...]) -> bool:
    """Return whether an address is that of a trusted proxy; the peer of a Unix socket always is one."""
    return address in ("", "0.0.0.0") or in_networks(address, trusted)  # noqa: S104  # compared


class PlainServer(HTTPServer):
    """A server that refuses TLS at once, instead of waiting for the rest of the client's hello.

    A client that allows an insecure registry tries TLS first, and some try for ten seconds. The listening socket has
    TCP_DEFER_ACCEPT (`app.processes.bind`), so the first bytes are here when the connection is accepted.
    """

    edge: Edge

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        super().add_sockets([cast("socket.socket", Listening(each)) for each in sockets])

    def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:
        if _begins_with_tls(stream.socket):
            stream.write(_NOT_TLS).add_done_callback(lambda _: stream.close())
        else:
            stream = Stream(stream.socket, _MAX_BUFFER, _HEAD_CHUNK)
            context = _HTTPRequestContext(stream, address, self.protocol, self.trusted_downstream)
            through_proxy = self.edge.comes_through_proxy(context.remote_ip)
            connection = Connection(stream, self.conn_params, context, through_proxy=through_proxy)
            crowd = self.edge.admit(connection)
            if crowd is not None:
                refuse(stream, crowd)
                return
            self._connections.add(connection)
            connection.start_serving(self)

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        self.edge.forget(cast("Connection", server_conn))

    def sweep(self) -> None:
        """Close the connections that have waited too long, and end the requests of clients that are too slow.

        A timer for each request would cost more. A second counts as one, however late this runs, because a worker that
        was busy cannot know what its clients did.
        """
        self._close_idle()
        for connection in list(self._connections):
            stream = cast("Stream", connection.stream)
            if stream.tick(_SWEEP_SECONDS):
                ENDED.labels("slow").inc()
                stream.give_up()

    def _close_idle(self) -> None:
        before = time.monotonic() - _IDLE_SECONDS
        for connection, since in list(self.edge.waiting.items()):
            if since > before:
                break
            connection.stream.close()


def _leave(connection: Connection) -> None:
    place, connection.place = connection.place, None
    if place is not None:
        place.leave()


def _begins_with_tls(connection: socket.socket) -> bool:
    return _first_byte(connection) == _TLS_HANDSHAKE


def _close_if_silent(connection: Connection) -> None:
    # A request that has arrived is answered.
    if not connection.stream.closed() and not _first_byte(connection.stream.socket):
        connection.stream.close()


def _first_byte(connection: socket.socket) -> bytes:
    """Return the first byte that has arrived and was not read; empty if there is none."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""


def make_server(edge: Edge) -> HTTPServer:
    """Return the server; the caller adds its sockets and stops it."""
    server = PlainServer(
        cast("Application", edge), chunk_size=256 * 1024, max_buffer_size=_MAX_BUFFER, max_header_size=64 * 1024
    )
    server.edge = edge
    # Tornado would set a timer and remove it with every request; a periodic check costs less.
    server.conn_params.header_timeout = None
    PeriodicCallback(server.sweep, _SWEEP_SECONDS * 1000).start()
    return server


async def stop_server(server: HTTPServer, observer: Observer, seconds: float) -> None:
    """Stop accepting, let requests finish for at most ``seconds``, then close every connection."""
    server.stop()
    cast("PlainServer", server).edge.stop()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await observer.running.drain()
    await observer.running.end(_END_SECONDS)
    await server.close_all_connections()
    # Handlers of Tornado may still run without their connection; wait, so that their requests are logged.
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await observer.running.drain()
    observer.flush()
