"""SIGTERM: no new connections, what runs is finished, what does not end is ended."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.client import Registry, basic, closing, digest_of, expect
from tests.api.conftest import PROJECTS
from tests.api.documents import fresh
from tests.api.wire import Connection
from tests.api.workers import objects
from tests.parts.postgres import Postgres
from tests.parts.process import wait_for
from tests.parts.service import Service

# More than the sockets of both ends hold: the download cannot be over before it is read.
LARGE = 40_000_000
# More time than these tests take.
DRAIN_SECONDS = 60


def started(folder: Path, drain_seconds: int, *, processes: int = 2, database: str | None = None) -> Service:
    overrides = {"projects": PROJECTS, "server": {"drain_seconds": drain_seconds}}
    return Service(folder, processes=processes, database=database, overrides=overrides)


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Service]:
    """A service that gives transfers more time than this test takes."""
    with started(tmp_path / "patient", DRAIN_SECONDS) as service:
        yield service


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Service]:
    """A service that gives transfers a second."""
    with started(tmp_path / "hasty", 1) as service:
        yield service


def refuses(service: Service) -> bool:
    host, _, port = service.host.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_running_transfers_are_finished(patient: Service) -> None:
    service = patient
    admin = Registry(service.host, service.username, service.password)
    large, data, name = fresh(LARGE), fresh(2_000_000), "lab/drained"
    digest = admin.push_blob(name, large)
    path = closing(admin.begin(name), digest_of(data))
    bearer = {"Authorization": f"Bearer {admin.token(f'repository:{name}:pull,push,delete')}"}
    going, more = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield data[:1_000_000]
        going.set()
        more.wait(60)
        yield data[1_000_000:]

    with Connection(service.host) as download, ThreadPoolExecutor(2) as pool:
        download.request("GET", f"/v2/{name}/blobs/{digest}", bearer)
        download.socket.recv(1, socket.MSG_PEEK)
        upload = pool.submit(admin.call, "PUT", path, body())
        assert going.wait(30)
        stop = pool.submit(service.stop)
        wait_for(lambda: refuses(service), what="new connections to be refused")
        assert not stop.done()
        more.set()
        expect(upload.result(60), 201)
        assert not stop.done()
        assert digest_of(download.answer().body) == digest
        assert stop.result(60) == 0
    service.start()
    assert admin.blob(name, digest_of(data)).body == data
    assert service.faults() == []


def test_clients_that_keep_their_connections_busy_hold_up_no_stop(tmp_path: Path, postgres: Postgres) -> None:
    """Ten of them, so that some request is always waiting for PostgreSQL; and four that are silent."""
    service = started(tmp_path, DRAIN_SECONDS, processes=1, database=postgres.database())
    until = threading.Event()
    login = {"Authorization": basic(service.username, service.password)}
    cut: list[Exception] = []

    def ask_on() -> int:
        asked = 0
        connection = http.client.HTTPConnection(service.host, timeout=60)
        while not until.is_set():
            try:
                connection.request("GET", "/api/v2.0/projects", headers=login)
                with connection.getresponse() as answer:
                    assert answer.status == 200
                    answer.read()
            except ConnectionRefusedError:
                break
            except (ConnectionError, http.client.RemoteDisconnected):
                connection.close()
            except http.client.HTTPException as error:
                cut.append(error)
            asked += 1
        connection.close()
        return asked

    with ExitStack() as stack, ThreadPoolExecutor(10) as pool:
        silent = [stack.enter_context(Connection(service.host)) for _ in range(4)]
        for connection in silent:
            connection.request("GET", "/v2/")
            assert connection.answer().status == 401
        clients = [pool.submit(ask_on) for _ in range(10)]
        time.sleep(1)
        began = time.monotonic()
        assert service.stop(timeout=60) == 0
        took = time.monotonic() - began
        until.set()
        assert all(client.result(60) for client in clients)
        assert all(connection.ended() for connection in silent)
    assert cut == []
    assert took < DRAIN_SECONDS / 6


def test_what_does_not_end_is_ended(hasty: Service) -> None:
    """And what an upload had sent by then is kept."""
    service = hasty
    admin = Registry(service.host, service.username, service.password)
    name = "lab/cut"
    digest = admin.push_blob(name, fresh(LARGE))
    session = admin.begin(name)
    bearer = {"Authorization": f"Bearer {admin.token(f'repository:{name}:pull,push,delete')}"}
    with Connection(service.host) as download, Connection(service.host) as upload, Connection(service.host) as idle:
        download.request("GET", f"/v2/{name}/blobs/{digest}", bearer)
        download.socket.recv(1, socket.MSG_PEEK)
        before = objects(service)
        upload.request("PATCH", session, {**bearer, "Content-Length": "500000"}, b"x" * 300_000)
        idle.request("GET", "/v2/")
        assert idle.answer().status == 401
        wait_for(lambda: objects(service) - before, what="the PATCH to have the upload")
        assert service.stop() == 0
        with pytest.raises(ConnectionError):
            download.answer()
        assert upload.ended()
        assert idle.ended()
    service.start()
    status = expect(admin.call("GET", session), 204)
    assert status["Range"] in ("0-0", "0-299999")
    assert service.faults() == []
