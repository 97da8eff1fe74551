"""Worker processes: forked from one supervisor, replaced when they die, ended in order.

The supervisor holds the listening sockets, so that no connection is refused while a worker is replaced.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from prometheus_client import multiprocess
from tornado.netutil import bind_sockets, bind_unix_socket

from app.config import listen_address

log = logging.getLogger(__name__)

# A worker that dies at once would otherwise be forked again as fast as the machine can.
_QUICK_DEATH_SECONDS = 1.0
# What a worker may take to close its connections once its transfers are through or their time is up.
_EXIT_SECONDS = 10
# A connection is handed over with its first bytes; one that says nothing is handed over after this time.
_DEFER_SECONDS = 5
_KEEPALIVE_SECONDS = 60
_PR_SET_PDEATHSIG = 1


def bind(listen: str, count: int) -> list[list[socket.socket]]:
    """Open the listening sockets, a set for each of ``count`` workers; raises OSError with the address in words.

    The kernel spreads connections over the sets. A Unix socket there can be only one of, which all workers share.
    """
    where = listen_address(listen)
    try:
        if isinstance(where, Path):
            where.parent.mkdir(parents=True, exist_ok=True)
            return [[bind_unix_socket(str(where), mode=0o660)]] * count
        # Sockets that may share a port would share it with another registry too: one that may not finds that out.
        for alone in bind_sockets(where[1], where[0]):
            alone.close()
        return [_listen(*where) for _ in range(count)]
    except OSError as error:
        raise OSError(f"cannot listen on {listen}: {error.strerror}") from error


def _listen(host: str, port: int) -> list[socket.socket]:
    sockets = bind_sockets(port, host, reuse_port=True)
    for listening in sockets:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
        # Connections inherit these: a client whose machine is gone is noticed, and lets go of its upload.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_SECONDS // 3)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return sockets


class Supervisor:
    """Keeps a worker running for each set of sockets until SIGTERM or SIGINT, then lets them drain.

    ``work`` is what a worker does with its sockets; ``other_ended`` is told of every child that ended and is no worker.
    """

    def __init__(
        self,
        sockets: Sequence[Sequence[socket.socket]],
        work: Callable[[Sequence[socket.socket]], None],
        drain_seconds: int,
        other_ended: Callable[[int], None],
    ) -> None:
        self._sockets = sockets
        self._work = work
        self._drain_seconds = drain_seconds
        self._other_ended = other_ended
        self._workers: dict[int, tuple[int, float]] = {}
        self._stopping = False

    def run(self) -> None:
        """Return when every worker has ended after a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        for slot in range(len(self._sockets)):
            self._fork(slot)
        while self._workers:
            pid, status = os.wait()
            worker = self._workers.pop(pid, None)
            if worker is None:
                if not self._stopping:
                    self._other_ended(pid)
                continue
            slot, started = worker
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library's signature
            if not self._stopping:
                log.error("worker %d ended with status %d, starting another", pid, status)
                if time.monotonic() - started < _QUICK_DEATH_SECONDS:
                    time.sleep(_QUICK_DEATH_SECONDS)
                self._fork(slot)

    def _fork(self, slot: int) -> None:
        if self._stopping:
            return
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._workers[pid] = slot, time.monotonic()
            return
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            end_with_parent(parent)
            self._close(keep=self._sockets[slot])
            self._work(self._sockets[slot])
            code = 0
        except BaseException:
            log.exception("worker failed")
        finally:
            sys.stderr.flush()
            # Past this frame stand the supervisor's own finally clauses; they are not this process's to run.
            os._exit(code)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if not self._stopping:
            self._stopping = True
            signal.alarm(self._drain_seconds + _EXIT_SECONDS)
            # A socket takes connections for as long as anybody has it open.
            self._close(keep=())
        self._signal(signal.SIGTERM)

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        self._signal(signal.SIGKILL)

    def _close(self, keep: Sequence[socket.socket]) -> None:
        for sockets in self._sockets:
            for listening in sockets:
                if listening not in keep:
                    listening.close()

    def _signal(self, number: signal.Signals) -> None:
        for pid in list(self._workers):
            os.kill(pid, number)


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent dies, however that dies (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
