"""Large bodies: downloads into one fixed buffer, and pushes of what is made up as it is sent."""

from __future__ import annotations

import hashlib
import random
import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache

from .load import CONNECTIONS, connect
from .wire import Registry, head, upload_target

MIB = 1024 * 1024

_BUFFER = 256 * 1024
_HEAD = 64 * 1024
_SILENCE_SECONDS = 60.0


def download(host: str, request: bytes, size: int, count: int) -> float:
    """Get a blob of ``size`` bytes ``count`` times over some connections; give the seconds it took.

    Raises RuntimeError for an answer that is not a 200 of that size.
    """
    connections = [connect(host) for _ in range(CONNECTIONS)]
    began = time.monotonic()
    try:
        with select.epoll() as poll:
            _download(poll, {one.fileno(): one for one in connections}, request, size, count)
    finally:
        for connection in connections:
            connection.close()
    return time.monotonic() - began


def _download(
    poll: select.epoll, connections: Mapping[int, socket.socket], request: bytes, size: int, count: int
) -> None:
    buffer = memoryview(bytearray(_BUFFER))
    rest = dict.fromkeys(connections, 0)
    waiting: set[int] = set()
    begun = done = 0
    for number, connection in connections.items():
        poll.register(number, select.EPOLLIN)
        connection.sendall(request)
        waiting.add(number)
        begun += 1
    while done < count:
        ready = poll.poll(_SILENCE_SECONDS)
        if not ready:
            raise RuntimeError(f"nothing came for {_SILENCE_SECONDS:.0f} s")
        for number, _ in ready:
            connection = connections[number]
            if number in waiting:
                waiting.discard(number)
                rest[number] = _body_left(connection, buffer, size)
            else:
                received = connection.recv_into(buffer, min(_BUFFER, rest[number]))
                if not received:
                    raise RuntimeError("a connection was closed in the middle of a blob")
                rest[number] -= received
            if rest[number] == 0:
                done += 1
                if begun < count:
                    begun += 1
                    connection.sendall(request)
                    waiting.add(number)


def _body_left(connection: socket.socket, buffer: memoryview, size: int) -> int:
    """Read the head of an answer; give how many bytes of its body are still to come."""
    received = 0
    while (end := bytes(buffer[:received]).find(b"\r\n\r\n")) < 0:
        count = connection.recv_into(buffer[received:_HEAD])
        if not count:
            raise RuntimeError("a connection was closed")
        received += count
    answer = bytes(buffer[:end]).lower()
    if not answer.startswith(b"http/1.1 200 ") or b"content-length: %d" % size not in answer:
        raise RuntimeError(f"not the answer that was expected: {answer[:600]!r}")
    return size - (received - end - 4)


@dataclass(frozen=True)
class Layer:
    """A layer of ``mib`` MiB, another one for each ``number``; its bytes are never all in memory."""

    mib: int
    number: int

    @property
    def size(self) -> int:
        return self.mib * MIB

    @property
    def digest(self) -> str:
        # All layers of a size are the same but for their last block, so their hashes have only that to add.
        hashed = _beginning(self.mib - 1).copy()
        hashed.update(self._last)
        return f"sha256:{hashed.hexdigest()}"

    def blocks(self) -> Iterator[bytes]:
        """Give its bytes, a MiB at once."""
        for _ in range(self.mib - 1):
            yield _block()
        yield self._last

    @property
    def _last(self) -> bytes:
        return self.number.to_bytes(8) + _block()[8:]


def push(
    registry: Registry,
    name: str,
    layer: Layer,
    token: Mapping[str, str],
    *,
    chunked: bool = False,
    door: tuple[str, ssl.SSLContext | None] | None = None,
) -> None:
    """Push a layer by POST, PATCH and PUT; ``chunked``: its length is not told before, as with the Docker engine.

    ``door`` is the address for the bytes, if it is not the registry's, and whom to trust if it speaks TLS.
    """
    host, trusts = door or (registry.host, None)
    begun = registry.ask("POST", f"/v2/{name}/blobs/uploads/", token, expected=202)
    target = upload_target(begun.headers["Location"])
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(layer.size)}
    with closing(connect(host, trusts)) as connection:
        kind = {"Content-Type": "application/octet-stream"}
        connection.sendall(head("PATCH", target, host, {**token, **kind, **framing}))
        for block in layer.blocks():
            if chunked:
                _send_chunks(connection, block)
            else:
                connection.sendall(block)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        answer = connection.makefile("rb")
        status = answer.readline()
        if not status.startswith(b"HTTP/1.1 202 "):
            raise RuntimeError(f"PATCH of {registry.host} answered {status!r}")
        location = next(line for line in answer if line.lower().startswith(b"location:")).decode()
    end = upload_target(location.partition(":")[2].strip(), layer.digest)
    registry.ask("PUT", end, {**token, "Content-Length": "0"}, expected=201)


def _send_chunks(connection: socket.socket, block: bytes, size: int = 32 * 1024) -> None:
    """Send a block in chunks as small as those of the Docker engine, several of them in one call."""
    pieces: list[bytes | memoryview] = []
    view = memoryview(block)
    for start in range(0, len(block), size):
        pieces += [b"%x\r\n" % size, view[start : start + size], b"\r\n"]
    connection.sendall(b"".join(pieces))


@cache
def _block() -> bytes:
    return random.Random("bench").randbytes(MIB)


@cache
def _beginning(blocks: int) -> hashlib._Hash:
    hashed = hashlib.sha256()
    for _ in range(blocks):
        hashed.update(_block())
    return hashed
