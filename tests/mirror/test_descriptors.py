"""A worker that is out of file descriptors: it pauses, says so once, and refuses what it cannot do in good order."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.images import single
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client

WARM, COLD = single("descriptors"), single("descriptors, cold")
WAITING = 5
WATCHED_SECONDS = 2.0


@pytest.fixture
def alone(hub: Hub, tmp_path: Path) -> Iterator[Service]:
    """One worker; the others would answer in its place."""
    with Service(tmp_path, upstream=hub.url) as service:
        yield service


@contextmanager
def no_descriptors(pid: int) -> Iterator[None]:
    """Let a process open nothing more."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    free = next(number for number in range(len(opened) + 1) if number not in opened)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


async def test_out_of_descriptors(hub: Hub, alone: Service) -> None:
    hub.add(WARM, "library/app", "1")
    hub.add(COLD, "library/cold", "1")
    (pid,) = alone.pids()
    async with Client(alone.url) as client:
        await client.pull_manifest("mirror/library/app", "1", WARM.digest, WARM)
        # Its token is taken before, on the connection that it keeps.
        assert (await client.manifest("mirror/library/cold", "none")).status == 404
        logged = len(alone.log())
        with ExitStack() as stack, no_descriptors(pid):
            host, _, port = alone.host.partition(":")
            waiting = [stack.enter_context(socket.create_connection((host, int(port)), 30)) for _ in range(WAITING)]
            for connection in waiting:
                connection.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await client.pull_manifest("mirror/library/app", "1", WARM.digest, WARM)
            refused = await client.manifest("mirror/library/cold", "1")
            assert (refused.status, refused.code) == (503, "UNAVAILABLE")
            assert int(refused.headers["Retry-After"]) > 0
            await asyncio.sleep(WATCHED_SECONDS)
            said = [line for line in alone.log()[logged:].splitlines() if "new connections wait" in line]
            assert len(said) == 1
            assert len(alone.log()) - logged < 10_000
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (1024, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
            for connection in waiting:
                answer = await asyncio.to_thread(connection.recv, 100)
                assert answer.startswith(b"HTTP/1.1 200")
        await client.pull("mirror/library/cold", "1", COLD)
