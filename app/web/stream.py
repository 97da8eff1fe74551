"""The stream of a client's connection, and the patience with a client that is slow to send or to read.

While the registry waits for the client, its patience falls by a second for each second. Every byte that the client
sends or takes gives some of it back. Only a client that could move bytes and does not is at fault. While the registry
itself is slow, nobody reads the body and nothing is left to send, so that time does not count.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Awaitable
from typing import BinaryIO, cast

from tornado.iostream import IOStream

# A client may be silent for so many seconds, and be slower than this rate, in bytes a second, for somewhat longer.
PATIENCE_SECONDS = 120
LEAST_RATE = 1024
# Tornado's pattern for the end of a head, and the one that takes its place.
_END_OF_HEAD = {b"\r?\n\r?\n": b"\n\r?\n"}
# Close at once: the kernel drops what the client has not taken.
_NO_LINGER = struct.pack("ii", 1, 0)


class TooSlow(Exception):
    """The client sent so little of a body that nobody waits for the rest; an answer can still be sent."""


class Stream(IOStream):
    """It sends each write at once; Tornado would switch TCP_NODELAY on and off with every answer."""

    def __init__(self, connection: socket.socket, max_buffer_size: int, read_chunk_size: int) -> None:
        super().__init__(connection, max_buffer_size, read_chunk_size)
        super().set_nodelay(True)
        self._patience = float(PATIENCE_SECONDS)
        # The bytes of bodies that arrived, those that the kernel took from files, and `_moved` at the last `tick`.
        self._received = self._sent = self._seen = 0
        self._reading: asyncio.Future[int] | None = None
        self._sending = self._gave_up = False

    def set_nodelay(self, value: bool) -> None:
        pass

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Read as Tornado does, and find the end of a head without trying each of its bytes.

        Tornado's pattern begins with a byte that may be missing. This one ends at the same place.
        """
        return super().read_until_regex(_END_OF_HEAD.get(regex, regex), max_bytes)

    async def read_some(self, room: memoryview) -> int:
        """Put what has arrived into ``room`` and return its size; waits for one byte.

        Raises StreamClosedError, and TooSlow after `give_up`. The kernel writes into ``room`` itself; Tornado's other
        reads copy every byte three times.
        """
        if self._gave_up:
            raise TooSlow
        self._reading = cast("asyncio.Future[int]", self.read_into(cast("bytearray", room), partial=True))
        try:
            count = await self._reading
        except asyncio.CancelledError:
            if self._gave_up:
                raise TooSlow from None
            raise
        finally:
            self._reading = None
        self._received += count
        return count

    def unread(self, data: memoryview) -> None:
        """Put bytes back, so that the next read begins with them."""
        if data:
            self._read_buffer[:0] = data
            self._read_buffer_size += len(data)

    async def send_file(self, file: BinaryIO, start: int, stop: int) -> None:
        """Send the bytes from ``start`` to before ``stop`` of a local file; the kernel copies them.

        The caller has awaited every earlier write. Raises ConnectionError if the client leaves or the file is shorter.
        """
        # A second descriptor of the same socket, because Tornado still watches its own for the client's leaving.
        with socket.socket(fileno=os.dup(self.socket.fileno())) as out:
            out.setblocking(False)
            self._sending = True
            try:
                while (start := start + self._send_part(out, file, start, stop - start)) < stop:
                    await _writable(out)
            finally:
                self._sending = False

    def _send_part(self, out: socket.socket, file: BinaryIO, start: int, count: int) -> int:
        """Send as much of a file as the socket takes now, and return how much that is."""
        try:
            sent = os.sendfile(out.fileno(), file.fileno(), start, count)
        except BlockingIOError:
            return 0
        if sent == 0:
            raise ConnectionAbortedError("the file is shorter than the answer")
        self._sent += sent
        return sent

    # patience

    def be_patient(self) -> None:
        """Begin a request: what the one before has used up of the patience is forgotten."""
        self._patience = float(PATIENCE_SECONDS)

    def tick(self, seconds: float) -> bool:
        """Count ``seconds`` against a client that is waited for now; return whether the patience is at its end."""
        if not (self._awaits_body or self._sending or self.writing()) or self.closed():
            return False
        moved = self._moved()
        self._patience = min(PATIENCE_SECONDS, self._patience + max(0, moved - self._seen) / LEAST_RATE) - seconds
        self._seen = moved
        return self._patience <= 0

    def give_up(self) -> None:
        """Let the read of a body fail with TooSlow. If an answer is not read instead, close the connection."""
        if self._awaits_body and self._reading is not None and not self._gave_up:
            self._gave_up = True
            # Tornado leaves a read that was cancelled alone when bytes arrive.
            self._reading.cancel()
        else:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            # `send_file` has another descriptor of the socket, which closing this one would not wake.
            self.socket.shutdown(socket.SHUT_RDWR)
            self.close()

    @property
    def _awaits_body(self) -> bool:
        return self._reading is not None and not self._reading.done()

    def _moved(self) -> int:
        """Return how many bytes the client has sent in bodies and taken of answers.

        The kernel's buffer empties in leaps of a megabyte, so its unread part is no progress yet.
        """
        unread = array.array("i", [0])
        fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, unread)
        return self._received + self._sent + self._total_write_done_index - unread[0]


async def _writable(out: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(out, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(out)


def _wake(ready: asyncio.Future[None]) -> None:
    # The loop may find the socket writable once more before the waiting task runs.
    if not ready.done():
        ready.set_result(None)
