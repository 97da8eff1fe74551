"""A load generator: one request after the other on each of some connections, in one thread, every answer looked at."""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Collection

CONNECTIONS = 16

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_RECEIVE = 64 * 1024
_SILENCE_SECONDS = 30.0


def requests_answered(
    host: str, request: bytes, bodies: Collection[bytes] | None, seconds: float, trusts: ssl.SSLContext | None = None
) -> int:
    """Send ``request`` again and again for some seconds; give the number of answers. With ``trusts``, over TLS.

    Raises RuntimeError for an answer that is not a 200 with one of ``bodies``; None stands for any. To a HEAD the body
    is the empty one.
    """
    with select.epoll() as poll:
        connections = {one.fileno(): one for one in (connect(host, trusts) for _ in range(CONNECTIONS))}
        try:
            return _run(poll, connections, request, bodies, seconds)
        finally:
            for connection in connections.values():
                connection.close()


def connect(host: str, trusts: ssl.SSLContext | None = None) -> socket.socket:
    """Connect to HOST:PORT; over TLS where it is said whom to trust."""
    address, _, port = host.partition(":")
    connection = socket.create_connection((address, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection if trusts is None else trusts.wrap_socket(connection, server_hostname=address)


def _run(
    poll: select.epoll,
    connections: dict[int, socket.socket],
    request: bytes,
    bodies: Collection[bytes] | None,
    seconds: float,
) -> int:
    for number, connection in connections.items():
        poll.register(number, select.EPOLLIN)
        connection.sendall(request)
    half: dict[int, bytes] = {}
    answered, headless = 0, request.startswith(b"HEAD ")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ready = poll.poll(_SILENCE_SECONDS)
        if not ready:
            raise RuntimeError(f"no answer in {_SILENCE_SECONDS:.0f} s")
        for number, _ in ready:
            connection = connections[number]
            arrived = connection.recv(_RECEIVE)
            while isinstance(connection, ssl.SSLSocket) and connection.pending():
                arrived += connection.recv(_RECEIVE)
            if not arrived:
                raise RuntimeError(f"a connection was closed after {answered} answers")
            data = half.pop(number, b"") + arrived
            body = _body(data, headless=headless)
            if body is None:
                half[number] = data
                continue
            if (bodies is not None and body not in bodies) or not data.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"not the answer that was expected: {data[:600]!r}")
            answered += 1
            connection.sendall(request)
    return answered


def _body(data: bytes, *, headless: bool) -> bytes | None:
    """Give the body of an answer, None while it is not all there."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = _LENGTH.search(data, 0, end + 2)
    if headless or length is None:
        return data[end + 4 :]
    body = data[end + 4 :]
    return body if len(body) >= int(length[1]) else None
