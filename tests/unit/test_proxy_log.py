"""The log of the web server in front: whole lines, each once, through rotations; and what is counted of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.database import Database
from app.database.requests import KeptRequest
from app.projects.requests import Requests
from app.proxy_log import Counters, ProxyLog, Tail


class Written(Requests):
    """Writes into a list."""

    def __init__(self) -> None:
        super().__init__(Database("sqlite:///nowhere"))
        self.rows: list[KeptRequest] = []

    async def write(self, notes: Mapping[int, KeptRequest]) -> None:
        self.rows += notes.values()


def event(**changed: Any) -> bytes:
    known = {
        "time": 1.5, "level": "info", "logger": "access", "request_id": "id-00001", "method": "GET",
        "path": "/v2/lab/app/manifests/1", "status": 200, "bytes": 100, "seconds": 0.2, "client": "192.0.2.1",
        "outcome": "hit", "by": "worker", "route": "manifests",
    }  # fmt: skip
    return (
        json.dumps({name: value for name, value in {**known, **changed}.items() if value is not None}).encode() + b"\n"
    )


def value(counters: Counters, name: str, **labels: str) -> float:
    return counters.registry.get_sample_value(name, labels) or 0.0


def test_a_tail_gives_each_whole_line_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    tail = Tail(path)
    with path.open("ab") as file:
        file.write(b"one\ntw")
        file.flush()
        assert list(tail.lines()) == [b"one"]
        file.write(b"o\n")
        file.flush()
        assert list(tail.lines()) == [b"two"]
        path.rename(tmp_path / "log.1")
        file.write(b"three\n")
        file.flush()
    assert list(tail.lines()) == [b"three"]
    path.write_bytes(b"four\nfive\n")
    assert list(tail.lines()) == [b"four", b"five"]
    path.write_bytes(b"six\n")  # emptied in its place
    assert list(tail.lines()) == [b"six"]
    tail.close()


def test_a_log_that_comes_later_is_read_from_its_beginning(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "log")
    assert list(tail.lines()) == []
    (tmp_path / "log").write_bytes(b"one\n")
    assert list(tail.lines()) == [b"one"]
    tail.close()


async def test_what_is_counted_and_what_is_kept(tmp_path: Path) -> None:
    path, counters, requests = tmp_path / "log", Counters(), Written()
    path.touch()
    read = ProxyLog(path, counters, requests)
    path.write_bytes(
        event() + event(by="cache") + event(status=503, outcome="failed", by="worker", code="UNAVAILABLE")
        + event(request_id="gone-0001", status=503, outcome="failed", by="nginx", route=None)
        + event(request_id="lost-0001", status=404, outcome="refused", by="nginx", repository="lab/app")
        + event(status=400, outcome="refused", by="nginx", route=None, method="BREW") + b"no event\n"
        + b'{"slice": "/x", "status": 503}\n'
    )  # fmt: skip
    await read.look()
    await requests.flush()
    labels = {"route": "manifests", "method": "GET", "status": "200", "outcome": "hit"}
    assert value(counters, "registry_proxy_requests_total", **labels, by="cache") == 1
    assert value(counters, "registry_proxy_sent_bytes_total", route="manifests", by="worker") == 200
    assert value(counters, "registry_proxy_request_seconds_count", route="none") == 2
    assert value(counters, "registry_proxy_unread_lines_total") == 1
    other = {"route": "none", "method": "other", "status": "400", "outcome": "refused", "by": "nginx"}
    assert value(counters, "registry_proxy_requests_total", **other) == 1
    # A worker keeps its own.
    assert [(row.request_id, row.cause, row.code, row.repository) for row in requests.rows] == [
        ("gone-0001", "no worker", "UNAVAILABLE", "lab/app"),
        ("lost-0001", "", "BLOB_UNKNOWN", "lab/app"),
    ]
    read.close()
