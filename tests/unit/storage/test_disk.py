"""Appending off the loop: order, short writes, errors, locks."""

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
from app.storage.disk import WRITE_BYTES, AppendFile, in_pool, lock_key, new_pool
from app.storage.interface import new_key


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with new_pool() as pool:
        yield pool


@pytest.mark.parametrize("size", [1, 70_001, WRITE_BYTES - 1, WRITE_BYTES, 3 * WRITE_BYTES + 5])
async def test_pieces_of_any_size_arrive_in_order(pool: ThreadPoolExecutor, tmp_path: Path, size: int) -> None:
    data = os.urandom(500 if size == 1 else 8 * WRITE_BYTES + 13)
    one, other = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    file = AppendFile(pool, io.FileIO(tmp_path / "file", "w"))
    buffer = bytearray(size)
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        buffer[: len(piece)] = piece
        # The buffer is used again at once.
        await file.append(memoryview(buffer)[: len(piece)], (one, other))
        assert file.size == at + len(piece)
    await file.append(b"")
    assert (tmp_path / "file").read_bytes() == data
    assert one.digest() == hashlib.sha256(data).digest()
    assert other.digest() == hashlib.md5(data, usedforsecurity=False).digest()
    file.close()


async def test_appends_where_the_file_ended(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    file = AppendFile(pool, io.FileIO(tmp_path / "file", "r+"), size=6)
    await file.append(memoryview(b"after"))
    assert (tmp_path / "file").read_bytes() == b"beforeafter"
    file.close()


async def test_a_short_write_is_continued(
    pool: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, piece, at: whole(descriptor, piece[:1000], at))
    data = os.urandom(12_345)
    file = AppendFile(pool, io.FileIO(tmp_path / "file", "w"))
    await file.append(data)
    assert (tmp_path / "file").read_bytes() == data
    file.close()


async def test_a_full_disk_stays_full(pool: ThreadPoolExecutor) -> None:
    file = AppendFile(pool, io.FileIO("/dev/full", "w"))
    for _ in range(2):
        with pytest.raises(Unavailable, match="disk is full") as told:
            await file.append(b"x")
        assert told.value.answer_status == 507
    with pytest.raises(Unavailable, match="disk is full"):
        _ = file.descriptor
    file.close()
    file.close()
    assert file.closed


async def test_another_disk_error_is_told_apart(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = AppendFile(pool, io.FileIO(tmp_path / "file", "r"))
    with pytest.raises(Unavailable, match="try again") as told:
        await file.append(b"x")
    assert told.value.answer_status == 503
    assert told.value.headers["Retry-After"]
    file.close()


async def test_nothing_is_appended_after_the_end(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    file = AppendFile(pool, io.FileIO(tmp_path / "file", "w"))
    file.close()
    with pytest.raises(ValueError, match="closed"):
        _ = file.descriptor
    with pytest.raises(ValueError, match="closed"):
        await file.append(b"x")


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
