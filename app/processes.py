"""Run worker processes: fork them from one supervisor, replace dead and silent ones and end them in order.

The supervisor holds the listening sockets, so that no connection is refused while a worker is replaced.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from prometheus_client import multiprocess
from tornado.netutil import bind_sockets, bind_unix_socket

from app.config import listen_address
from app.kit.watchdog import BEAT_SECONDS, SILENT_SECONDS, Beats, SystemdWatchdog

log = logging.getLogger(__name__)

# The pause after a worker that died at once. Without it, such a worker would be forked as fast as the machine can.
_QUICK_DEATH_SECONDS = 1.0
# The time a worker has to close its connections after its transfers have ended or run out of time.
_EXIT_SECONDS = 10
# The kernel hands over a connection with its first bytes, and a silent one after this time.
_DEFER_SECONDS = 5
_KEEPALIVE_SECONDS = 60
_PR_SET_PDEATHSIG = 1
# As many as the roles allow. One client address may have 1024 connections in a worker, which is all that a shell
# allows a program by default.
_DESCRIPTORS = 16384


def allow_descriptors() -> None:
    """Let this process and its children have many connections, as far as the host allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bind(listen: str, count: int) -> list[list[socket.socket]]:
    """Return listening sockets, a set for each of ``count`` workers; raises OSError with the address in its text.

    The kernel spreads connections over the sets. There can be only one Unix socket, which all workers share. The
    supervisor closes the sockets.
    """
    where = listen_address(listen)
    try:
        if isinstance(where, Path):
            where.parent.mkdir(parents=True, exist_ok=True)
            return [[bind_unix_socket(str(where), mode=0o660)]] * count
        # Sockets with SO_REUSEPORT would share the port even with another registry. So the port is first bound without
        # it, which fails if the port is in use.
        for alone in bind_sockets(where[1], where[0]):
            alone.close()
        return [_listen(*where) for _ in range(count)]
    except OSError as error:
        raise OSError(f"cannot listen on {listen}: {error.strerror}") from error


def _listen(host: str, port: int) -> list[socket.socket]:
    sockets = bind_sockets(port, host, reuse_port=True)
    for listening in sockets:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
        # Connections inherit these options. So a client whose machine is gone is noticed, and its upload is released.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_SECONDS)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_SECONDS // 3)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return sockets


@dataclass
class _Worker:
    """``started`` in monotonic seconds. ``silent``: for how many looks its count of beats has stayed at ``beats``."""

    slot: int
    started: float
    beats: int
    silent: int = 0


class Supervisor:
    """Keeps a worker running for each set of sockets until SIGTERM or SIGINT, then lets the workers drain.

    A worker calls ``work`` with its sockets and with a function that its event loop must call once a second. It is
    killed if it does not. ``other_ended`` is called with the id of every other child that ends.
    """

    def __init__(
        self,
        sockets: Sequence[Sequence[socket.socket]],
        work: Callable[[Sequence[socket.socket], Callable[[], None]], None],
        drain_seconds: int,
        other_ended: Callable[[int], None],
    ) -> None:
        self._sockets = sockets
        self._work = work
        self._drain_seconds = drain_seconds
        self._other_ended = other_ended
        self._workers: dict[int, _Worker] = {}
        self._beats = Beats(len(sockets))
        self._watchdog = SystemdWatchdog()
        self._looked_at = 0.0
        self._stopping = False

    def run(self) -> None:
        """Run the workers; return when all have ended after a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        # `_ended` waits for this signal itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        for slot in range(len(self._sockets)):
            self._fork(slot)
        while self._workers:
            for pid, status in _ended(BEAT_SECONDS):
                self._replace(pid, status)
            if time.monotonic() - self._looked_at >= BEAT_SECONDS:
                self._looked_at = time.monotonic()
                self._watchdog.beat()
                self._look()

    def _replace(self, pid: int, status: int) -> None:
        worker = self._workers.pop(pid, None)
        if worker is None:
            if not self._stopping:
                self._other_ended(pid)
            return
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library's signature
        if not self._stopping:
            log.error("worker %d ended with status %d, starting another", pid, status)
            if time.monotonic() - worker.started < _QUICK_DEATH_SECONDS:
                time.sleep(_QUICK_DEATH_SECONDS)
            self._fork(worker.slot)

    def _look(self) -> None:
        """Kill the workers that have been silent for too long. When all of them stop, the alarm does that.

        Looks are counted instead of seconds. If the whole machine stood still, the workers could not beat either.
        """
        if self._stopping:
            return
        for pid, worker in self._workers.items():
            beats = self._beats.count(worker.slot)
            worker.silent = worker.silent + 1 if beats == worker.beats else 0
            worker.beats = beats
            if worker.silent == SILENT_SECONDS // BEAT_SECONDS:
                log.error("worker %d has done nothing for %d s, killing it", pid, SILENT_SECONDS)
                os.kill(pid, signal.SIGKILL)

    def _fork(self, slot: int) -> None:
        if self._stopping:
            return
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._workers[pid] = _Worker(slot, time.monotonic(), self._beats.count(slot))
            return
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            end_with_parent(parent)
            self._close(keep=self._sockets[slot])
            self._work(self._sockets[slot], lambda: self._beats.beat(slot))
            code = 0
        except BaseException:
            log.exception("worker failed")
        finally:
            sys.stderr.flush()
            # The frames above have the supervisor's finally clauses, which this process must not run.
            os._exit(code)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        if not self._stopping:
            self._stopping = True
            signal.alarm(self._drain_seconds + _EXIT_SECONDS)
            # A socket accepts connections for as long as any process has it open.
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


def _ended(seconds: float) -> Iterator[tuple[int, int]]:
    """Wait until a child ends, at most ``seconds``; yield the id and the status of each that has ended."""
    signal.sigtimedwait({signal.SIGCHLD}, seconds)
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent dies in any way (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
