"""A process that hangs is killed and replaced within seconds; a disk that hangs is no reason to kill anybody."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from app.kit.watchdog import BEAT_SECONDS, SILENT_SECONDS
from tests.api import small_disk as disk_part
from tests.api.client import Answer, Registry, exchange, expect
from tests.api.conftest import PROJECTS
from tests.api.documents import fresh
from tests.api.small_disk import frozen_disk
from tests.conftest import require
from tests.parts.process import wait_for
from tests.parts.service import Service

CLIENTS = 16
# A busy machine may take longer.
MARGIN = 3


def ask(service: Service, path: str = "/healthz") -> Answer:
    return exchange(service.host, "GET", path, None, {})


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path, processes=2, overrides={"projects": PROJECTS}) as service:
        yield service


def test_a_worker_that_hangs_is_replaced(service: Service) -> None:
    """Clients that it has not answered are answered by the next one, if it had not accepted them yet."""
    hung, other = service.pids()
    os.kill(hung, signal.SIGSTOP)
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        assert {answer.status for answer in pool.map(lambda _: ask(service), range(CLIENTS))} == {200}
    wait_for(lambda: hung not in service.pids() and len(service.pids()) == 2, what="another worker")
    assert SILENT_SECONDS - 2 * BEAT_SECONDS < time.monotonic() - began < SILENT_SECONDS * MARGIN
    assert other in service.pids()
    assert f"worker {hung} has done nothing for {SILENT_SECONDS} s, killing it" in service.log()
    # Nobody takes a worker that was frozen for less for a dead one.
    workers = service.pids()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2 * BEAT_SECONDS)
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    time.sleep(2 * BEAT_SECONDS)
    assert service.pids() == workers


def test_a_machine_that_stood_still_kills_nobody(service: Service) -> None:
    """Supervisor and workers miss the same seconds."""
    everybody = [service.pid, *service.pids()]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(SILENT_SECONDS + 2 * BEAT_SECONDS)
    for pid in reversed(everybody):
        os.kill(pid, signal.SIGCONT)
    time.sleep(3 * BEAT_SECONDS)
    assert [service.pid, *service.pids()] == everybody


def test_systemd_hears_of_a_supervisor_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0registry-{tmp_path.name}-{os.getpid()}")
        systemd.settimeout(MARGIN * SILENT_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", systemd.getsockname().decode().replace("\0", "@"))
        with Service(tmp_path) as service:
            assert systemd.recv(100) == f"WATCHDOG_USEC={SILENT_SECONDS}000000\nWATCHDOG=1".encode()
            assert [systemd.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
            os.kill(service.pid, signal.SIGSTOP)
            time.sleep(2 * BEAT_SECONDS)
            systemd.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    systemd.recv(100)
            time.sleep(2 * BEAT_SECONDS)
            with pytest.raises(BlockingIOError):
                systemd.recv(100)
            os.kill(service.pid, signal.SIGCONT)


def test_a_disk_that_hangs(tmp_path: Path) -> None:
    """Whoever writes waits for it; what is there is served, and no worker is killed."""
    require(disk_part)
    database = {"url": f"sqlite:///{tmp_path}/registry.sqlite"}
    with frozen_disk(tmp_path / "disk", 64) as disk:
        overrides = {"projects": PROJECTS, "data_dir": str(disk.folder / "data"), "database": database}
        with Service(tmp_path / "service", processes=2, overrides=overrides) as service, ThreadPoolExecutor(1) as pool:
            admin, data, later = Registry(service.host, service.username, service.password), fresh(), fresh()
            digest, workers = admin.push_blob("lab/disk", data), service.pids()
            with disk.frozen():
                waiting = pool.submit(admin.push_blob, "lab/disk", later)
                ready = ask(service, "/readyz")
                assert (ready.status, ready.json()["parts"]["storage"]) == (503, "no answer in 4 s")
                time.sleep(SILENT_SECONDS)
                assert expect(admin.blob("lab/disk", digest), 200).body == data
                assert not waiting.done()
            assert expect(admin.blob("lab/disk", waiting.result(30)), 200).body == later
            assert service.pids() == workers
            assert service.faults(foreseen={503}) == []
