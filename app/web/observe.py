"""Write the event of every request, count it, keep it if it went badly, and set up the logging of the process."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import select
import sys
import time
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Collection
from typing import TextIO

from prometheus_client import Counter, Histogram

from app.kit.facts import current
from app.kit.journal import PRIORITIES, priority

from . import events
from .events import Observed
from .running import Endable, Running

REQUESTS = Counter("registry_requests_total", "Requests answered.", ["route", "method", "status"])
SECONDS = Histogram(
    "registry_request_seconds",
    "Time from the head of a request to the end of its answer.",
    ["route"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300),
)
BYTES_OUT = Counter("registry_sent_bytes_total", "Bytes of bodies sent to clients.", ["route"])
BYTES_IN = Counter("registry_received_bytes_total", "Bytes of bodies received from clients.", ["route"])
ENDED = Counter(
    "registry_ended_clients_total", "Clients that were cut off or refused, for the sake of the others.", ["reason"]
)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")

METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"})
# The counters may lag behind by this much.
_FLUSH_SECONDS = 0.1


class Observer:
    """Writes the access log in each turn of the event loop, and the request metrics a little later.

    A write for each line costs a tenth of a pull. All workers share the counters through files, and an update per
    request would cost more than that.
    """

    def __init__(self, log: TextIO, keep: Callable[[Observed, float], None]) -> None:
        """``log`` gets a line per request without the logging library, which costs more than the rest of the line.

        ``keep`` gets the requests that were refused, failed, were slow or filled the cache, with their seconds.
        """
        self._log = log
        self._keep = keep
        self._prefix = priority(logging.INFO)
        self._lines: list[str] = []
        self._flushing = False
        self._series: dict[tuple[str, str, int], _Series] = {}
        self.running = Running()

    def began(self, call: Observed, endable: Endable | None = None) -> None:
        """Add a request whose head has arrived; see `Running.begin`."""
        self.running.begin(call, endable)

    def finished(self, call: Observed) -> None:
        """Log and count a request whose answer has ended."""
        self.running.finish(call)
        seconds, facts = time.perf_counter() - call.started, call.facts
        key = (call.route, call.method, call.status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(*key)
        series.add(seconds, call.bytes_out, call.bytes_in)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
        went_badly = call.status >= 400 or facts.error is not None or call.waited >= events.SLOW_SECONDS
        if went_badly or facts.outcome == "filled":
            self._keep(call, seconds)
        if call.tells or call.route in events.PROBES:
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        self._lines.append(self._prefix + events.line(call, seconds))

    def flush(self) -> None:
        """Write the waiting lines, and add the finished requests to the counters now."""
        self._write()
        self._flushing = False
        for series in self._series.values():
            series.flush()

    def _write(self) -> None:
        # Workers share their output. Pieces of this size do not mix with those of others (pipe(7)).
        lines, self._lines = self._lines, []
        start = size = 0
        for end, line in enumerate(lines):
            if size + len(line) > select.PIPE_BUF and end > start:
                self._log.write("".join(lines[start:end]))
                start, size = end, 0
            size += len(line)
        self._log.write("".join(lines[start:]))


class _Series:
    """The time series of one kind of request, and the values that they do not have yet."""

    def __init__(self, route: str, method: str, status: int) -> None:
        # An invented method must not make a new time series.
        method = method if method in METHODS else "other"
        self._requests = REQUESTS.labels(route, method, str(status))
        self._seconds = SECONDS.labels(route)
        self._bytes_out = BYTES_OUT.labels(route)
        self._bytes_in = BYTES_IN.labels(route)
        self._took: list[float] = []
        self._sent = self._received = 0

    def add(self, seconds: float, bytes_out: int, bytes_in: int) -> None:
        self._took.append(seconds)
        self._sent += bytes_out
        self._received += bytes_in

    def flush(self) -> None:
        if not self._took:
            return
        self._requests.inc(len(self._took))
        observe(self._seconds, self._took)
        self._bytes_out.inc(self._sent)
        self._bytes_in.inc(self._received)
        self._took.clear()
        self._sent = self._received = 0


def observe(histogram: Histogram, values: Collection[float]) -> None:
    """Add values to a histogram. Its own `observe` writes to the shared file twice for each of them."""
    histogram._sum.inc(sum(values))
    for bucket, count in Counts(bisect_left(histogram._upper_bounds, value) for value in values).items():
        histogram._buckets[bucket].inc(count)


# Characters that a terminal obeys, or that end a line for some programs, beside those that JSON itself escapes.
_NOT_SHOWN = re.compile("[\x7f-\x9f\u2028\u2029]")


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message and the call's ``extra={"fields": …}``.

    If the line comes from work for a request, it has the request's id. systemd's journal gets its priority first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._prefixes = {level: priority(level) for level in PRIORITIES}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := current().request_id:
            line["request_id"] = request
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, ensure_ascii=False)
        return self._prefixes.get(record.levelno, "") + _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def configure_logging() -> None:
    """Send every log line to standard error, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("aiobotocore", "aiosqlite", "alembic", "asyncio", "botocore", "tornado.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def request_id(given: str | None) -> str:
    """Return the id from the proxy in front if it has the form of one, else a new id."""
    if given is not None and _REQUEST_ID.match(given):
        return given
    # An id need only be unique: guessing one gains nothing.
    return f"{random.getrandbits(64):016x}"
