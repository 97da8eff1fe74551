"""How objects are cut into parts, and what is sent of a file."""

from __future__ import annotations

import base64
import hashlib
import os
from functools import partial
from itertools import accumulate
from pathlib import Path

import pytest

from app.storage.s3 import _cut
from app.storage.s3_body import FileBody
from app.storage.s3_wire import MIN_PART, _etag_of, part_size

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4


def test_ten_thousand_parts_hold_the_largest_object() -> None:
    sizes = [part_size(number) for number in range(1, 10_001)]
    assert sum(sizes) >= 5 * TIB
    assert min(sizes) >= MIN_PART == 5 * MIB
    assert max(sizes) <= 5 * GIB
    assert sizes == sorted(sizes)
    assert sizes[0] == 8 * MIB, "small, so that little is spooled"


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1, 9 * GIB + 5, 5 * TIB])
def test_a_file_is_cut_without_gaps(size: int) -> None:
    parts = list(_cut(size))
    assert [number for number, _, _ in parts] == list(range(1, len(parts) + 1))
    assert [start for _, start, _ in parts] == [0, *accumulate(length for _, _, length in parts)][: len(parts)]
    assert sum(length for _, _, length in parts) == size
    assert len(parts) <= 10_000


async def test_a_body_is_its_part_of_the_file(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        for start, size in [(0, len(data)), (5, 2 * MIB + 1), (100, 0)]:
            arguments = FileBody.of(file.fileno(), start, size).arguments()
            body, part = arguments["Body"], data[start : start + size]
            # As botocore reads it, and as aiohttp sends it, twice after a retry.
            assert body.read() == part
            for _ in range(2):
                assert body.seek(0) == 0
                assert b"".join([bytes(piece) async for piece in body]) == part
            assert body.seek(0) == 0
            assert b"".join(iter(partial(body.read, 100_000), b"")) == part
            assert (body.seek(0, os.SEEK_END), body.tell()) == (size, size)
            assert arguments["ContentLength"] == size
            assert arguments["ContentMD5"] == base64.b64encode(hashlib.md5(part).digest()).decode()


def test_the_etag_of_parts() -> None:
    parts = [hashlib.md5(part).hexdigest() for part in (b"one", b"two")]
    assert _etag_of(parts) == hashlib.md5(b"".join(map(bytes.fromhex, parts))).hexdigest() + "-2"
    assert _etag_of(["not an MD5"]) == ""
