"""Bodies read from a stream that gives its bytes in pieces of any size, into rooms of any size."""

from __future__ import annotations

import random
from typing import cast

import pytest
from tornado.httputil import HTTPInputError
from tornado.iostream import StreamClosedError

from app.web.connection import Body, _ChunkedBody, _FixedBody
from app.web.stream import Stream

NEXT = b"GET /v2/ HTTP/1.1\r\n"


class Pieces:
    """A stream that has ``data`` and is then closed; each read gives a piece of random size."""

    def __init__(self, data: bytes, chance: random.Random) -> None:
        self.left = bytearray(data)
        self._chance = chance

    async def read_some(self, room: memoryview) -> int:
        if not self.left:
            raise StreamClosedError
        count = self._chance.choice((1, 2, 3, 10, 1000, 100_000))
        piece = self.left[: min(count, len(room))]
        del self.left[: len(piece)]
        room[: len(piece)] = piece
        return len(piece)

    def unread(self, data: memoryview) -> None:
        self.left[:0] = data


def chunked(data: bytes, chance: random.Random, trailers: bytes = b"") -> bytes:
    framed, at = bytearray(), 0
    while at < len(data):
        size = chance.choice((1, 2, 7, 500, 32_768))
        piece = data[at : at + size]
        extension = chance.choice((b"", b"", b" ;a=b", b';quoted="x y"'))
        framed += b"%x%b\r\n%b\r\n" % (len(piece), extension if len(piece) > 10 else b"", piece)
        at += len(piece)
    return bytes(framed) + b"0\r\n" + trailers + b"\r\n"


async def read(body: Body, chance: random.Random) -> bytes:
    """Read a body to its end; all rooms are full but the last one."""
    data = bytearray()
    while True:
        room = memoryview(bytearray(chance.choice((1, 5, 4096, 70_000))))
        count = await body.fill(room)
        data += room[:count]
        if count < len(room):
            assert await body.fill(room) == 0
            return bytes(data)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 1\r\nX-More: 2\r\n"])
async def test_a_chunked_body_is_read_to_its_end_and_no_further(seed: int, trailers: bytes) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(chance.choice((0, 1, 100, 3_000, 200_000)))
    stream = Pieces(chunked(data, chance, trailers) + NEXT, chance)
    assert await read(_ChunkedBody(cast("Stream", stream), 1 << 40), chance) == data
    assert bytes(stream.left) == NEXT


@pytest.mark.parametrize("seed", range(5))
async def test_a_body_of_known_length_is_read_to_its_end_and_no_further(seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(100_000)
    stream = Pieces(data + NEXT, chance)
    assert await read(_FixedBody(cast("Stream", stream), len(data)), chance) == data
    assert bytes(stream.left) == NEXT


@pytest.mark.parametrize("framed", [b"a\r\n0123456789\r\n6\r\n678", b"8\r\n01234567\r\n5\r\n8"])
async def test_what_arrived_before_a_cut_is_kept(framed: bytes) -> None:
    chance = random.Random(1)
    room = memoryview(bytearray(100))
    body = _ChunkedBody(cast("Stream", Pieces(framed, chance)), 1 << 40)
    count = await body.fill(room)
    assert bytes(room[:count]) in (b"0123456789678", b"012345678")
    with pytest.raises(StreamClosedError):
        await body.fill(room)


@pytest.mark.parametrize(
    "framed",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"\r\n",
        b"-5\r\n",
        b"0\r\nX: 1\n\r\n",
        b"0\r\nno trailer\r\n\r\n",
        b"5;" + b"x" * 10_000,
        b"2;" + b"x" * 100 + b"\r\nab\r\n",
    ],
)
async def test_a_malformed_body(framed: bytes) -> None:
    chance = random.Random(2)
    # The extensions of the last one are too long for its content only if there are many such chunks.
    stream = Pieces(framed * (1000 if framed.endswith(b"ab\r\n") else 1), chance)
    with pytest.raises(HTTPInputError):
        await read(_ChunkedBody(cast("Stream", stream), 1 << 40), chance)
