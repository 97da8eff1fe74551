"""Looks into a running service: which worker does what, and what its database says."""

from __future__ import annotations

import re
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp

from tests.parts.process import eventually
from tests.parts.service import Service


def database(service: Service) -> str:
    """Give the URL of the service's database."""
    return f"sqlite:///{service.folder / 'data' / 'registry.sqlite'}"


def sql(service: Service, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement in the service's database and give its rows."""
    path = database(service).removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def let_time_pass(service: Service, name: str) -> None:
    """Make every tag of a repository (its full name) look as if the upstream was asked very long ago."""
    project, _, repository = name.partition("/")
    sql(
        service,
        "UPDATE tag SET checked_at = 0 WHERE repository_id = (SELECT repository.id FROM repository JOIN project"
        " ON project.id = project_id WHERE project.name = ? AND repository.name = ?)",
        project,
        repository,
    )


async def committed(service: Service) -> None:
    """Wait until every fill has ended: clients have the last byte a moment before the store has the blob."""
    spool = service.folder / "data" / "spool"

    async def over() -> bool:
        return not [path for path in spool.glob("*/*") if path.suffix in (".lock", ".part")]

    await eventually(over, what="the fills to be committed")


def filler(service: Service, digest: str, upstream: str = "docker.io") -> int | None:
    """Give the process that fetches a blob, None where none does."""
    return _holder(service.folder / "data" / "spool" / upstream / f"{digest.replace(':', '-')}.lock")


def manifest_leader(service: Service) -> int | None:
    """Give the process that gets a manifest, whichever it is, None where none does."""
    locks = (service.folder / "data" / "spool" / "locks").glob("manifest-*")
    return next(filter(None, map(_holder, locks)), None)


def _holder(lock: Path) -> int | None:
    try:
        inode = lock.stat().st_ino
    except FileNotFoundError:
        return None
    match = re.search(rf"FLOCK +ADVISORY +WRITE +(\d+) \S+:{inode} ", Path("/proc/locks").read_text())
    return int(match[1]) if match else None


def worker_of(service: Service, response: aiohttp.ClientResponse) -> int:
    """Give the worker at the other end of an answer that is still coming."""
    assert response.connection is not None
    assert response.connection.transport is not None
    client = _spelled(*response.connection.transport.get_extra_info("sockname"))
    server = _spelled(*response.connection.transport.get_extra_info("peername"))
    connections = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    # Without those that are only remembered; and the table may be read twice where it changes meanwhile.
    (inode,) = {line[9] for line in connections if line[1:3] == [server, client]} - {"0"}
    for pid in service.pids():
        if f"socket:[{inode}]" in _descriptors(pid):
            return pid
    raise LookupError(f"no worker has the connection from {client}")


def _spelled(address: str, port: int) -> str:
    """Spell an address as /proc/net/tcp does."""
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}:{port:04X}"


def _descriptors(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(str(descriptor.readlink()))
        except OSError:  # closed meanwhile
            continue
    return found
