"""A listening socket whose connections wait while this process can hold no more of them."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any

from tornado.ioloop import IOLoop

log = logging.getLogger(__name__)

# The pause after a connection could not be accepted, because no file descriptor or memory was left.
_PAUSE_SECONDS = 0.5
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Listening:
    """A listening socket as Tornado uses it, which pauses while this process has no file descriptor left.

    Tornado would try to accept in each turn of the loop, and log each failure. The connections wait in the kernel.
    """

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self._pausing = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            accepted = self._socket.accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._pause(error)
            raise BlockingIOError from error
        self._pausing = False
        return accepted

    def _pause(self, error: OSError) -> None:
        if not self._pausing:
            log.error("new connections wait, because none can be accepted: %s", error.strerror)
        self._pausing = True
        IOLoop.current().update_handler(self.fileno(), 0)
        asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self.fileno() >= 0:
            IOLoop.current().update_handler(self.fileno(), IOLoop.READ)
