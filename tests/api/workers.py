"""Looking behind the service's back: which worker has a connection, and which objects there are."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable
from pathlib import Path

from tests.api.client import TIMEOUT
from tests.parts.service import Service


def landing_on(host: str, pid: int) -> Callable[[], http.client.HTTPConnection]:
    """Give what opens connections that the worker ``pid`` has accepted; they stay with it."""

    def connect() -> http.client.HTTPConnection:
        for _ in range(200):
            connection = http.client.HTTPConnection(host, timeout=TIMEOUT)
            connection.request("GET", "/healthz")
            with connection.getresponse() as response:
                response.read()
            if f"socket:[{_inode(connection)}]" in _open_sockets(pid):
                return connection
            connection.close()
        raise RuntimeError(f"of 200 connections none came out at process {pid}")

    return connect


def _inode(connection: http.client.HTTPConnection) -> str:
    """Find the server's end of a connection, by its inode."""
    _, ours = connection.sock.getsockname()
    _, theirs = connection.sock.getpeername()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (_port(fields[1]), _port(fields[2])) == (theirs, ours):
            return fields[9]
    return ""


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)


def _open_sockets(pid: int) -> set[str]:
    folder, found = Path(f"/proc/{pid}/fd"), set()
    for entry in folder.iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:  # closed meanwhile
            continue
    return found


def objects(service: Service) -> set[str]:
    """Name the files in the blob folder: one appears as soon as a request has opened its upload."""
    return {name for _, _, names in os.walk(service.folder / "data" / "blobs") for name in names}
