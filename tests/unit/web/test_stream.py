"""The patience with a client that is slow to send or to read. A test counts the seconds; none of them passes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
from tornado.iostream import StreamClosedError

from app.web.connection import _FixedBody
from app.web.stream import LEAST_RATE, PATIENCE_SECONDS, Stream, TooSlow

# More than the buffers of both sockets.
LARGE = 8 * 1024 * 1024


class Line:
    """A stream, and the client's end of it."""

    def __init__(self) -> None:
        here, self.client = socket.socketpair()
        here.setblocking(False)
        self.client.setblocking(False)
        self.stream = Stream(here, 1024 * 1024, 8192)

    async def seconds(self, count: int, each: Callable[[], object] = lambda: None) -> int:
        """Let ``count`` seconds pass, with ``each`` in every one; return after how many the patience ended."""
        for second in range(1, count + 1):
            each()
            for _ in range(5):
                await asyncio.sleep(0)
            if self.stream.tick(1):
                self.stream.give_up()
                return second
        return 0

    def take(self, size: int) -> int:
        try:
            return len(self.client.recv(size))
        except BlockingIOError:
            return 0


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    yield line
    line.stream.close()
    line.client.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(LARGE))
    return path


async def written(stream: Stream, file: Path) -> None:
    await stream.write(bytes(LARGE))


async def sent(stream: Stream, file: Path) -> None:
    with file.open("rb") as opened:
        await stream.send_file(opened, 0, LARGE)


Answer = Callable[[Stream, Path], Coroutine[None, None, None]]
answers = pytest.mark.parametrize("answer", [written, sent])


async def body_of(line: Line, length: int) -> bytes:
    body, data = _FixedBody(line.stream, length), b""
    room = memoryview(bytearray(LARGE))
    while count := await body.fill(room):
        data += room[:count]
    return data


async def test_a_silent_body_is_given_up_and_an_answer_can_be_sent(line: Line) -> None:
    reading = asyncio.create_task(body_of(line, 100))
    assert await line.seconds(1000) == PATIENCE_SECONDS
    with pytest.raises(TooSlow):
        await reading
    await line.stream.write(b"words")
    assert line.client.recv(100) == b"words"


async def test_what_arrived_before_is_kept(line: Line) -> None:
    body, room = _FixedBody(line.stream, 100), memoryview(bytearray(100))
    line.client.send(b"x" * 60)
    reading = asyncio.create_task(body.fill(room))
    assert await line.seconds(1000)
    assert await reading == 60
    line.client.send(b"y" * 40)
    for _ in range(2):
        with pytest.raises(TooSlow):
            await body.fill(room)
    assert bytes(room[:60]) == b"x" * 60


@pytest.mark.parametrize(("rate", "ends"), [(LEAST_RATE, False), (LEAST_RATE // 2, True), (1, True)])
async def test_a_body_needs_the_least_rate(line: Line, rate: int, ends: bool) -> None:
    reading = asyncio.create_task(body_of(line, LARGE))
    after = await line.seconds(10 * PATIENCE_SECONDS, lambda: line.client.send(bytes(rate)))
    assert bool(after) == ends
    assert after <= 2 * PATIENCE_SECONDS + 1
    reading.cancel()


async def test_a_pause_is_forgotten_with_the_bytes_after_it(line: Line) -> None:
    reading = asyncio.create_task(body_of(line, LARGE))
    for _ in range(10):
        assert await line.seconds(PATIENCE_SECONDS - 10) == 0
        for _ in range(4):
            line.client.send(bytes(LEAST_RATE * PATIENCE_SECONDS // 4))
            await line.seconds(1)
    reading.cancel()


async def test_time_counts_only_while_the_client_is_waited_for(line: Line) -> None:
    """Not while nobody reads the body, because the store or an upstream is slow; and not between two requests."""
    reading = asyncio.create_task(body_of(line, 10))
    assert await line.seconds(PATIENCE_SECONDS - 1) == 0
    line.client.send(bytes(10))
    assert len(await reading) == 10
    assert await line.seconds(10 * PATIENCE_SECONDS) == 0
    line.stream.be_patient()
    reading = asyncio.create_task(body_of(line, 10))
    assert await line.seconds(PATIENCE_SECONDS - 1) == 0
    reading.cancel()


@answers
async def test_an_answer_that_nobody_reads_is_cut(line: Line, file: Path, answer: Answer) -> None:
    sending = asyncio.create_task(answer(line.stream, file))
    after = await line.seconds(1000)
    # The buffers took some of it at first, which was progress.
    assert PATIENCE_SECONDS <= after <= PATIENCE_SECONDS + 1
    with pytest.raises((StreamClosedError, ConnectionError)):
        await sending


@answers
async def test_an_answer_may_be_read_at_the_least_rate(line: Line, file: Path, answer: Answer) -> None:
    sending = asyncio.create_task(answer(line.stream, file))
    # The kernel counts a little more for a byte than the byte.
    assert await line.seconds(1000, lambda: line.take(2 * LEAST_RATE)) == 0
    assert not sending.done()
    sending.cancel()


@answers
async def test_an_answer_arrives_whole(line: Line, file: Path, answer: Answer) -> None:
    sending, taken = asyncio.create_task(answer(line.stream, file)), 0
    while taken < LARGE:
        taken += line.take(LARGE)
        await asyncio.sleep(0)
    await sending
    assert (taken, line.take(1)) == (LARGE, 0)


async def test_a_file_that_is_too_short_cuts_the_answer(line: Line, file: Path) -> None:
    file.write_bytes(b"short")
    with file.open("rb") as opened, pytest.raises(ConnectionError):
        await line.stream.send_file(opened, 0, 100)


async def test_a_client_that_leaves_ends_a_file(line: Line, file: Path) -> None:
    sending = asyncio.create_task(sent(line.stream, file))
    await line.seconds(1)
    line.client.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sending, 10)
