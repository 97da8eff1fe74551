"""Start Python programs as forks of a process that has imported the service, which is most of what a start costs.

The process is one for each worker of a run, and ends with it. A program begins in a fork as with ``python -m``. The
metrics' library has a folder of the process's own at its import, and in a fork the one that the program names, if any.

Services hash a password at each start and log-in, in 40 ms of a processor. In a fork, a hash takes a fortieth of that.
Whoever measures beside log-ins starts a program of its own.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NoReturn

# The service, and what it imports when it needs it.
_MODULES = ("app.main", "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.sqlite.aiosqlite")
# It prepares what workers share.
_APPLICATION = "app.web.application"
_ACCOUNTS = "app.access.accounts"
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_LONGEST_REQUEST = 1 << 18


class Fork:
    """A running program, as `subprocess.Popen` shows one: a process of another parent, which tells how it ended."""

    def __init__(self, pid: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Return the exit code, -N after signal N; None while it runs."""
        return self._read(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; does nothing if the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(os.read(self._ended, 16)))
            os.close(self._ended)
        return self.returncode


def start(
    module: str, arguments: Sequence[str], streams: tuple[int, int, int], cwd: str, environment: Mapping[str, str]
) -> Fork:
    """Start ``python -m module`` as the leader of a session; ``streams`` are its standard input, output and error."""
    request = {"module": module, "arguments": arguments, "cwd": cwd, "environment": dict(environment)}
    told, ended = os.pipe()
    parent = _parent()
    socket.send_fds(parent, [json.dumps(request).encode()], [*streams, ended])
    os.close(ended)
    return Fork(int(parent.recv(16)), told)


@cache
def _parent() -> socket.socket:
    """Start the process with the libraries; it ends when our end of the socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", __spec__.name, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def end() -> None:
        ours.close()
        process.wait(10)

    atexit.register(end)
    return ours


def _serve(connection: socket.socket) -> None:
    os.environ[_METRICS] = metrics = tempfile.mkdtemp()
    for module in _MODULES:
        importlib.import_module(module)
    importlib.import_module(_APPLICATION).prepare_application()
    vars(importlib.import_module(_ACCOUNTS)).update(_PASSES=1, _MEMORY_KIB=1024)
    gc.freeze()
    running: dict[int, tuple[int, int]] = {}  # by a descriptor that is readable when the program has ended
    while True:
        readable = select.select([connection.fileno(), *running], [], [])[0]
        for ready in running.keys() & readable:
            pid, ended = running.pop(ready)
            os.write(ended, b"%d" % os.waitpid(pid, 0)[1])
            os.close(ready)
            os.close(ended)
        if connection.fileno() in readable:
            message, descriptors, *_ = socket.recv_fds(connection, _LONGEST_REQUEST, 4)
            if not message:
                shutil.rmtree(metrics)
                return
            *streams, ended = descriptors
            pid = os.fork()
            if pid == 0:
                connection.close()
                for descriptor in [ended, *running, *(own for _, own in running.values())]:
                    os.close(descriptor)
                _become(json.loads(message), streams, metrics)
            for descriptor in streams:
                os.close(descriptor)
            running[os.pidfd_open(pid)] = pid, ended
            connection.send(b"%d" % pid)


def _become(request: dict[str, Any], streams: Sequence[int], metrics: str) -> NoReturn:
    """Be the program until it ends, by an exception that ends this process as it would end the program."""
    os.setsid()
    for place, descriptor in enumerate(streams):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update({_METRICS: metrics, **request["environment"]})
    sys.argv = [request["module"], *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    raise SystemExit


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
