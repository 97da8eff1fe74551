"""Processes that a test starts and ends, by their id; free ports; bounded waiting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from .preloaded import Fork
from .preloaded import start as fork

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")

# Into so many parts the ports are divided.
_SHARES = 8


def python(*arguments: str) -> list[str]:
    """Spell a command of the environment that runs the tests."""
    return [sys.executable, *arguments]


class Process:
    """One process; what it prints goes to ``folder/name.log``."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None,
        preload: bool = False,
    ) -> None:  # fmt: skip
        """Start it, in the project's root and as the leader of a process group.

        ``preload``: the command is ``python -m MODULE …``, and the libraries of the service are imported already.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{name}.log"
        own = {**os.environ, **(environment or {})}
        self._popen: subprocess.Popen[bytes] | Fork
        with self.log.open("ab") as log:
            if preload:
                with Path(os.devnull).open() as nothing:
                    streams = nothing.fileno(), log.fileno(), log.fileno()
                    self._popen = fork(command[2], command[3:], streams, str(ROOT), own)
            else:
                self._popen = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True, env=own
                )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def output(self) -> str:
        """Read what it has printed so far."""
        return self.log.read_text(errors="replace")

    def until(self, condition: Callable[[], T | None], *, timeout: float = 30.0, interval: float = 0.05) -> T:
        """Wait until ``condition`` says that the part is there, and give what it gave.

        Where the process ends first or ``timeout`` seconds pass, stops it and raises RuntimeError or TimeoutError.
        """

        def alive() -> T | None:
            if not self.running:
                raise RuntimeError(f"{self.log.stem} ended:\n{self.output()[-4000:]}")
            return condition()

        try:
            return wait_for(alive, what=f"{self.log.stem} (see {self.log})", timeout=timeout, interval=interval)
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone; silent where it has ended."""
        self._popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for its end, at most ``timeout`` seconds, and give the exit code; raises subprocess.TimeoutExpired."""
        return self._popen.wait(timeout)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout: float = 10.0) -> int:
        """Ask it to end, kill it after ``timeout`` seconds, and sweep what is left of its group; give the exit code."""
        self.send(number)
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
        code = self.wait(timeout)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return code


def free_port(*, also: int = 0) -> int:
    """Find a port nobody listens on, below the range of outgoing connections; port + ``also`` is free as well.

    Each worker of a run has ports of its own: two that look at the same moment must not find the same one.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    for _ in range(200):
        # weed takes port + 10,000 for itself
        port = random.randrange(11_000 + worker, 22_000, _SHARES)
        with contextlib.suppress(OSError):
            for number in {port, port + also}:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
            return port
    raise RuntimeError("no free port found in 200 attempts")


def wait_for(condition: Callable[[], T | None], *, what: str, timeout: float = 30.0, interval: float = 0.05) -> T:
    """Ask until ``condition`` gives something true; raises TimeoutError that names ``what`` and the last OSError."""
    end, last = time.monotonic() + timeout, None
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except OSError as error:
            last = error
        time.sleep(interval)
    raise TimeoutError(f"waited {timeout:g} s for {what}" + (f": {last!r}" if last else ""))


def answers(url: str) -> bool:
    """Say whether ``url`` answers 200; raises OSError where nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


async def eventually(
    condition: Callable[[], Awaitable[T | None]], *, what: str, timeout: float = 30.0, interval: float = 0.05
) -> T:
    """Do as `wait_for` does, without holding up the loop."""
    end, last = time.monotonic() + timeout, None
    while time.monotonic() < end:
        try:
            if found := await condition():
                return found
        except OSError as error:
            last = error
        await asyncio.sleep(interval)
    raise TimeoutError(f"waited {timeout:g} s for {what}" + (f": {last!r}" if last else ""))


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout: float = 120.0) -> str:
    """Run a command to its end and give its standard output; raises CommandFailed with what it printed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout,
        cwd=ROOT, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def command(*arguments: str, given: str = "", timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run a command of the service, ``python -m app ARGUMENTS``, to its end; ``given`` is its standard input."""
    with tempfile.TemporaryFile("w+") as into, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        into.write(given)
        into.seek(0)
        started = fork("app", arguments, (into.fileno(), out.fileno(), err.fileno()), str(ROOT), os.environ)
        try:
            code = started.wait(timeout)
        finally:
            started.send_signal(signal.SIGKILL)
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess(["app", *arguments], code, out.read(), err.read())


def memory(pid: int, field: str) -> int:
    """Read a size of a process, in KiB: ``VmRSS`` is what it has now, ``VmHWM`` its peak since `reset_peak`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def reset_peak(pid: int) -> None:
    """Have the kernel look for the peak of a process's memory from here on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class CommandFailed(AssertionError):
    """A client's command that should have worked; the message has all it printed."""
