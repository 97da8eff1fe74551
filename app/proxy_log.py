"""Follow the events that the web server in front writes: count what it sends, and keep the failures only it knows.

    nginx ── a line for each request ──► its log ── once a second ──► counters ──► /metrics, for Prometheus
                                                              └─ no worker's part, and a 5xx ──► the table of requests

Workers count what they answer. They know nothing of answers that the web server repeats, of the bytes of a blob that
it sends by itself, or of a request that reached no worker. One process for each host reads the log in pieces, because
a line costs least in a batch, and because workers must not share their time with it.

It begins at the end of the log. So it counts no line twice. It never counts the lines that came while it did not run.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
import socket
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from app.config import Config
from app.database import Database
from app.database.requests import KeptRequest
from app.kit.jobs import repeat
from app.projects.requests import Requests
from app.web.observe import METHODS, observe

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_READ_BYTES = 1 << 20
_LINES_AT_ONCE = 10_000
# A line is as long as its longest values, which are all bounded.
_LONGEST_LINE = 64 * 1024
_NOT_FOUND = 404
# Cause, code and reason, as the web server tells them to clients (ansible/roles/nginx).
_NO_WORKER = "no worker", "UNAVAILABLE", "the registry or its object store does not answer; try again in a few seconds"
_NO_STORE = "store", "UNAVAILABLE", "the registry or its object store does not answer; try again in a few seconds"
_NO_BYTES = "", "BLOB_UNKNOWN", "the bytes of this blob are missing from the store; tell the operators"


class Counters:
    """The metrics of what the web server sent (docs/metrics.md)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "registry_proxy_requests_total",
            "Requests answered by the web server in front.",
            ["route", "method", "status", "outcome", "by"],
            registry=self.registry,
        )
        self._bytes = Counter(
            "registry_proxy_sent_bytes_total",
            "Bytes of bodies that the web server in front sent.",
            ["route", "by"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "registry_proxy_request_seconds",
            "Time from the first byte of a request to the last byte of its answer.",
            ["route"],
            buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300),
            registry=self.registry,
        )
        self._unread = Counter(
            "registry_proxy_unread_lines_total", "Lines of the log that are no event.", registry=self.registry
        )

    def count(self, events: Iterable[Mapping[str, Any]], unread: int) -> None:
        """Add events, and a number of lines that could not be read."""
        requests: Counts[tuple[str, ...]] = Counts()
        sent: Counts[tuple[str, str]] = Counts()
        took: defaultdict[str, list[float]] = defaultdict(list)
        for event in events:
            route, by, method = event.get("route", "none"), event["by"], event["method"]
            method = method if method in METHODS else "other"
            requests[route, method, str(event["status"]), event["outcome"], by] += 1
            sent[route, by] += event["bytes"]
            took[route].append(event["seconds"])
        for labels, number in requests.items():
            self._requests.labels(*labels).inc(number)
        for where, number in sent.items():
            self._bytes.labels(*where).inc(number)
        for route, values in took.items():
            observe(self._seconds.labels(route), values)
        self._unread.inc(unread)


class Tail:
    """The lines that are added to a file, which may be replaced by a new one (logrotate) or not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.FileIO | None = None
        self._begun = b""
        with suppress(FileNotFoundError):
            self._open().seek(0, os.SEEK_END)

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines that are new; the rest of a file that was replaced comes first."""
        if self._file is not None:
            if os.fstat(self._file.fileno()).st_size < self._file.tell():  # It was emptied instead of replaced.
                self._file.seek(0)
                self._begun = b""
            yield from self._rest(self._file)
        if self._is_replaced():
            with suppress(FileNotFoundError):
                yield from self._rest(self._open())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> io.FileIO:
        opened = io.FileIO(self._path)
        self.close()
        self._file, self._begun = opened, b""
        return opened

    def _is_replaced(self) -> bool:
        if self._file is None:
            return True
        mine = os.fstat(self._file.fileno())
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def _rest(self, file: io.FileIO) -> Iterator[bytes]:
        while piece := file.read(_READ_BYTES):
            *whole, self._begun = (self._begun + piece).split(b"\n")
            yield from whole
            self._begun = self._begun[:_LONGEST_LINE]


class ProxyLog:
    """Counts and keeps the events of one log."""

    def __init__(self, path: Path, counters: Counters, requests: Requests) -> None:
        self._tail = Tail(path)
        self._counters = counters
        self._requests = requests
        self._host = socket.gethostname()
        self._failing = False

    async def look(self) -> None:
        """Count and keep what is new."""
        lines = self._tail.lines()
        try:
            while some := list(islice(lines, _LINES_AT_ONCE)):
                self._take(some)
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("the web server's log cannot be read: %s", error)
            self._failing = True

    def _take(self, lines: Sequence[bytes]) -> None:
        read = [_read(line) for line in lines]
        events = [event for event in read if event is not None and event.get("logger") == "access"]
        self._counters.count(events, read.count(None))
        for event in events:
            # The web server's own 4xx of a request that no worker saw are those of malformed requests.
            if event["by"] == "nginx" and (event["status"] >= 500 or (event["status"] >= 400 and "route" in event)):
                self._requests.keep(self._kept(event))

    def close(self) -> None:
        """Close the log."""
        self._tail.close()

    def _kept(self, event: Mapping[str, Any]) -> KeptRequest:
        # Without a worker's part, no worker answered. With it, the content that a worker had sent could not be sent.
        cause, code, why = _NO_WORKER
        if "route" in event:
            cause, code, why = _NO_BYTES if event["status"] == _NOT_FOUND else _NO_STORE
        return KeptRequest(
            at=event["time"],
            request_id=event["request_id"],
            host=self._host,
            method=event["method"],
            path=event["path"],
            route=event.get("route", "none"),
            status=event["status"],
            outcome=event["outcome"],
            code=code,
            cause=cause,
            why=why,
            who=event.get("who", ""),
            client=event["client"],
            repository=event.get("repository") or _repository(event["path"]),
            reference=event.get("reference", ""),
            digest=event.get("digest", ""),
            pulls=0,
            bytes=event["bytes"],
            seconds=event["seconds"],
        )


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _repository(path: str) -> str:
    """Return the repository in a path of the distribution API, "" if there is none."""
    for noun in ("/manifests/", "/blobs/", "/tags/", "/referrers/"):
        name, found, _ = path.removeprefix("/v2/").rpartition(noun)
        if found:
            return name
    return ""


async def follow(config: Config, path: Path, port: int) -> None:
    """Follow the log at ``path`` until SIGTERM, and answer Prometheus at ``port``; raises OSError if that is in use."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    counters = Counters()
    server, _ = start_http_server(port, "127.0.0.1", registry=counters.registry)
    database = Database(config.database_url)
    requests = Requests(database)
    followed = ProxyLog(path, counters, requests)
    jobs = [
        asyncio.create_task(repeat("reading the web server's log", followed.look, _LOOK_SECONDS)),
        asyncio.create_task(requests.run()),
    ]
    try:
        await stopping.wait()
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await followed.look()
        await requests.close()
        await database.close()
        followed.close()
        server.shutdown()
