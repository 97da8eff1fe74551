"""Appending off the loop: order, short writes, errors that come late, locks."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.oci.errors import BlobUploadInvalid, Unavailable
from app.storage.disk import BATCH_BYTES, BATCH_PIECES, AppendFile, _without, in_pool, lock_key, new_pool
from app.storage.interface import new_key


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with new_pool() as pool:
        yield pool


@pytest.mark.parametrize(
    "size", [1, 1000, BATCH_BYTES // BATCH_PIECES, 70_001, BATCH_BYTES - 1, BATCH_BYTES, 3 * BATCH_BYTES]
)
async def test_pieces_of_any_size_arrive_in_order(pool: ThreadPoolExecutor, tmp_path: Path, size: int) -> None:
    data = os.urandom(5000 if size == 1 else 4 * BATCH_BYTES + 13)
    hashed = hashlib.sha256()
    file = AppendFile(pool, io.FileIO(tmp_path / "file", "w"), hashed=hashed)
    for at in range(0, len(data), size):
        await file.append(data[at : at + size])
        assert file.size == min(len(data), at + size)
    await file.append(b"")
    await file.flush()
    assert (tmp_path / "file").read_bytes() == data
    assert hashed.digest() == hashlib.sha256(data).digest()
    await file.close()


async def test_appends_where_the_file_ended(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    file = AppendFile(pool, io.FileIO(tmp_path / "file", "r+"), size=6)
    await file.append(memoryview(b"after"))
    await file.flush()
    assert (tmp_path / "file").read_bytes() == b"beforeafter"
    await file.close()


@pytest.mark.parametrize("count", range(8))
def test_the_rest_of_a_short_write(count: int) -> None:
    assert b"".join(_without([b"ab", b"", memoryview(b"cde"), b"fg"], count)) == b"abcdefg"[count:]


async def test_a_full_disk_shows_late_and_stays(pool: ThreadPoolExecutor) -> None:
    file = AppendFile(pool, io.FileIO("/dev/full", "w"))
    await file.append(bytes(BATCH_BYTES))
    for _ in range(2):
        with pytest.raises(Unavailable, match="disk is full") as told:
            await file.flush()
        assert told.value.answer_status == 507
    with pytest.raises(Unavailable, match="disk is full"):
        await file.append(bytes(BATCH_BYTES))
    await file.close()
    await file.close()
    assert file.closed


async def test_another_disk_error_is_told_apart(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = AppendFile(pool, io.FileIO(tmp_path / "file", "r"))
    await file.append(b"x")
    with pytest.raises(Unavailable, match="try again") as told:
        await file.flush()
    assert told.value.answer_status == 503
    assert told.value.headers["Retry-After"]
    await file.close()


async def test_nothing_is_appended_after_the_end(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    file = AppendFile(pool, io.FileIO(tmp_path / "file", "w"))
    await file.close()
    with pytest.raises(ValueError, match="closed"):
        await file.flush()
    with pytest.raises(ValueError, match="closed"):
        await file.append(bytes(BATCH_BYTES))


async def test_a_cancelled_request_waits_for_the_call_it_began(pool: ThreadPoolExecutor) -> None:
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        go.wait(10)
        done.set()

    task = asyncio.create_task(in_pool(pool, call))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


def test_a_key_is_locked_once_also_within_one_process(tmp_path: Path) -> None:
    one, other = new_key(), new_key()
    with lock_key(tmp_path / "locks", one), lock_key(tmp_path / "locks", other):
        for key in (one, other):
            with pytest.raises(BlobUploadInvalid):
                lock_key(tmp_path / "locks", key)
    with lock_key(tmp_path / "locks", one):
        pass
    assert (tmp_path / "locks").stat().st_size == 0
