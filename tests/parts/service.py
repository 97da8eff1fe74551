"""The service under test, as real processes with a configuration file of their own."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Container, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from .process import Process, answers, free_port, python, run, wait_for

ADMIN, PASSWORD = "admin", "tests-admin-password"
# Nothing listens there: a test that forgot its upstream never reaches the internet.
_NOWHERE = "http://127.0.0.1:9"


class Service:
    """A running service; ``url`` is its external address, ``host`` the HOST:PORT that clients put before a name."""

    username, password = ADMIN, PASSWORD

    def __init__(
        self,
        folder: Path,
        *,
        upstream: str = _NOWHERE,
        processes: int = 1,
        database: str | None = None,
        redis: str = "embedded:",
        s3: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        hurried: bool = False,
        impatient: bool = False,
        preload: bool = True,
        until: str = "/readyz",
        address: str = "127.0.0.1",
    ) -> None:
        """Write ``folder/config.yaml``, start the service and wait until the path ``until`` answers 200.

        ``upstream`` is the base URL of docker.io, ``s3`` the section that `weed.ObjectStore.bucket` gives (None:
        blobs in a folder); ``overrides`` are merged into the file key by key, and win. ``hurried`` and ``impatient``:
        with shorter time-outs (`tests.parts.hurried`). ``preload``: passwords cost little (`tests.parts.preloaded`).
        ``address``: one of this machine's, at which it listens.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._command = ["tests.parts.hurried" if hurried or impatient else "app", *["impatient"] * impatient]
        self.folder, self.config = folder, folder / "config.yaml"
        self.host = f"{address}:{free_port()}"
        self.url = f"http://{self.host}"
        content: dict[str, Any] = {
            "server": {"external_url": self.url, "listen": self.host, "processes": processes},
            "data_dir": str(folder / "data"),
            "database": {"url": database},
            "redis": {"url": redis},
            "storage": {"driver": "s3", "s3": dict(s3)} if s3 else {"driver": "filesystem"},
            "upstreams": {"docker.io": {"url": upstream}},
            "admin": {"username": ADMIN, "password": PASSWORD},
        }
        self.config.write_text(yaml.safe_dump(merged(content, overrides or {})))
        if database is None and not (folder / "data").exists():
            (folder / "data").mkdir(mode=0o700)
            shutil.copy(migrated(), folder / "data" / "registry.sqlite")
        self.until = until
        self._preload = preload
        self.start()

    def start(self) -> None:
        """Start it and wait until the path ``until`` answers 200; raises RuntimeError with its log if it ends first."""
        self._process = Process(
            "service",
            python("-m", *self._command, "serve", "--config", str(self.config)),
            self.folder,
            preload=self._preload,
        )
        # On a busy machine, SeaweedFS has answered no write for half a minute.
        self._process.until(lambda: answers(f"{self.url}{self.until}"), timeout=60)

    @property
    def pid(self) -> int:
        """The process that was started; it answers requests itself where there are no others."""
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    def pids(self) -> list[int]:
        """List the processes that answer requests: the workers beneath the first one, or that one."""
        program = _program(self.pid)
        workers = [pid for pid in children(self.pid) if _program(pid) == program and "tracker" not in _command(pid)]
        return workers or [self.pid]

    def kill_worker(self, pid: int) -> None:
        """Kill one of `pids` the hard way."""
        os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the service and everything it started the hard way, as a power cut would."""
        below = descendants(self.pid)
        for pid in [self.pid, *below]:  # the first one before it can start a new worker
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)
        wait_for(lambda: not any(map(_has_files, below)), what="the service's processes to be gone")

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout: float = 60.0) -> int:
        """Ask it to end and give the exit code; running transfers may take up to ``timeout`` seconds."""
        return self._process.stop(number, timeout=timeout)

    def restart(self) -> None:
        """End it in order and start it anew, at the same address and with the same data."""
        self.stop()
        self.start()

    def log(self) -> str:
        """Read the lines that it has printed so far, over all its starts, without one that it is just writing."""
        printed = self._process.output()
        return printed[: printed.rfind("\n") + 1]

    def faults(self, since: int = 0, *, foreseen: Container[int] = ()) -> list[str]:
        """List what it has logged, past ``since`` characters, that must not happen whatever anybody sends.

        That is an error, a traceback outside the entries, and an answer of 500 or more that is not ``foreseen``.
        """
        return [line for line in self.log()[since:].splitlines() if _is_fault(line, foreseen)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.stop(timeout=10)


@cache
def migrated() -> Path:
    """Return an SQLite file with the tables and nothing in them, to be copied. It is made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="registry-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(folder), "database": {"url": None}}))
    run(python("-m", "app", "migrate", "--config", str(config)))
    return folder / "registry.sqlite"


def _is_fault(line: str, foreseen: Container[int]) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return "Traceback" in line or "Error" in line
    status = entry.get("status", 0)
    failed = status >= 500 and status not in foreseen
    return entry["level"] in ("error", "critical") or "exception" in entry or failed


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``over`` over ``base``: mappings are merged key by key, anything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def children(pid: int) -> list[int]:
    """List the processes that ``pid`` started and that still are."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.extend(map(int, task.read_text().split()))
        except OSError:  # the thread has ended meanwhile
            continue
    return found


def descendants(pid: int) -> list[int]:
    """List the processes beneath ``pid``, the nearest first."""
    found = children(pid)
    for child in tuple(found):
        found.extend(descendants(child))
    return found


def _has_files(pid: int) -> bool:
    """Say whether a process may have files open, such as a socket that listens: it loses its program before them.

    So may its other threads, after its first one has ended.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in ("Z", "X") or len([*Path(f"/proc/{pid}/task").iterdir()]) > 1
    except OSError:
        return False


def _program(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return ""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
