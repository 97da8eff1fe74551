"""Find a process that hangs: beats of the workers for their supervisor, and beats of the supervisor for systemd.

    a worker's event loop ── once a second, shared memory ──► supervisor ── once a second, sd_notify(3) ──► systemd

A process that sends no beat for `SILENT_SECONDS` is killed, because one that is stopped heeds no other signal.
Its connections end with it, so a proxy in front stops waiting.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from contextlib import suppress

BEAT_SECONDS = 1
SILENT_SECONDS = 10
_COUNT = struct.Struct("Q")


class Beats:
    """A counter for each of ``slots`` workers, in memory that the supervisor shares with its forks."""

    def __init__(self, slots: int) -> None:
        self._memory = mmap.mmap(-1, slots * _COUNT.size)

    def count(self, slot: int) -> int:
        """Return how often the workers in this slot have beaten."""
        return int(_COUNT.unpack_from(self._memory, slot * _COUNT.size)[0])

    def beat(self, slot: int) -> None:
        """Count one more; only the worker in this slot may call it."""
        _COUNT.pack_into(self._memory, slot * _COUNT.size, self.count(slot) + 1)


class SystemdWatchdog:
    """Tells systemd that this process works, if systemd started it and listens to it (``NotifyAccess=``).

    The first beat also turns the watchdog of the unit on. So systemd never waits for the beats of a release without
    them, after a rollback.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of an abstract address (unix(7)).
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._state = f"WATCHDOG_USEC={SILENT_SECONDS * 1_000_000}\nWATCHDOG=1"

    def beat(self) -> None:
        """Send one beat, without waiting. A lost one does no harm, because there are ten in the time allowed."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(self._state.encode(), socket.MSG_DONTWAIT, self._address)
            self._state = "WATCHDOG=1"
