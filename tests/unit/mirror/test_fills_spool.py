"""The files of a fill: what a part shows when, and what a leader's notes say to other processes."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.kit.disk import DiskFailed
from app.mirror.locks import LockFile
from app.mirror.spool import Appending, Notes, Spool, SpoolFile, describe, revive
from app.oci.digest import Digest
from app.oci.errors import TooManyRequests, Unavailable, UpstreamInvalid

BLOB = bytes(range(256)) * 40


class _Away(Unavailable):
    """An error that another module derived."""


def test_a_part_never_shows_the_last_byte_before_it_is_released(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "part", Digest.of(BLOB))
    assert not spool.verified()
    for start in range(0, len(BLOB), 1000):
        spool.append([BLOB[start : start + 1000]])
        received = min(start + 1000, len(BLOB))
        assert (tmp_path / "part").read_bytes() == BLOB[: received - 1]
        assert (spool.received, spool.written) == (received, received - 1)
    assert spool.verified()
    spool.release_last_byte()
    assert (tmp_path / "part").read_bytes() == BLOB


def test_a_part_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BLOB[:100])
    spool = Spool(tmp_path / "part", Digest.of(BLOB))
    while spool.rehash():
        pass
    assert spool.received == 100
    spool.append([BLOB[100:]])
    assert spool.verified()
    spool.release_last_byte()
    assert (tmp_path / "part").read_bytes() == BLOB


def test_what_is_removed_gives_its_space_back_to_the_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "part", Digest.of(BLOB))
    spool.append([BLOB])
    elsewhere = SpoolFile(tmp_path / "part", os.O_RDONLY)
    spool.remove()
    assert elsewhere.size() == 0
    assert not (tmp_path / "part").exists()
    spool.restart()
    spool.append([BLOB])
    assert spool.verified()


async def test_chunks_can_be_read_although_no_other_follows(tmp_path: Path) -> None:
    spool, grown = Spool(tmp_path / "part", Digest.of(BLOB)), asyncio.Queue[int]()
    async with Appending(spool, grown.put_nowait) as appending:
        for start in range(0, len(BLOB), 1000):
            await appending.add(BLOB[start : start + 1000])
        assert appending.received == len(BLOB)
        while await grown.get() < len(BLOB) - 1:
            pass
    assert spool.verified()


@pytest.mark.parametrize("most", [1, 700, 1 << 20])
def test_a_disk_may_take_fewer_bytes_than_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    def some(fd: int, views: Sequence[memoryview], offset: int) -> int:
        return os.pwrite(fd, b"".join(views)[:most], offset)

    spool = Spool(tmp_path / "part", Digest.of(BLOB))
    # More pieces than the kernel takes at once.
    pieces = [BLOB[start : start + 5] for start in range(0, len(BLOB), 5)]
    assert len(pieces) > os.sysconf("SC_IOV_MAX")
    spool.append(pieces[:-1])
    assert spool.written == len(BLOB) - 6
    monkeypatch.setattr(os, "pwritev", some)
    spool.append(pieces[-1:])
    spool.release_last_byte()
    assert spool.verified()
    spool.restart()
    spool.append(pieces)
    spool.release_last_byte()
    assert (tmp_path / "part").read_bytes() == BLOB


async def test_an_error_of_the_disk_reaches_the_fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    spool = Spool(tmp_path / "part", Digest.of(BLOB))
    monkeypatch.setattr(os, "pwritev", refuse)
    with pytest.raises(DiskFailed):
        async with Appending(spool, lambda _: None) as appending:
            await appending.add(BLOB)


async def test_bytes_that_left_memory_are_read_from_the_disk(tmp_path: Path) -> None:
    data = os.urandom(3 * 1024 * 1024)
    (tmp_path / "part").write_bytes(data)
    file = SpoolFile(tmp_path / "part", os.O_RDONLY)
    os.fsync(file.fd)
    os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    got = b"".join([await file.read(start, start + 65536) for start in range(0, len(data), 65536)])
    assert got == data
    assert await file.read(len(data), len(data) + 5) == b""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TooManyRequests("slowly", headers={"Retry-After": "3"}, detail={"left": 0}), TooManyRequests),
        (Unavailable("full", status=507), Unavailable),
        (UpstreamInvalid(), UpstreamInvalid),
        (_Away("away"), Unavailable),
    ],
)
def test_a_failure_is_the_same_in_every_process(
    tmp_path: Path, error: TooManyRequests | Unavailable, kind: type[Exception]
) -> None:
    with LockFile(tmp_path / "lock") as leader, LockFile(tmp_path / "lock") as follower:
        Notes(leader).add(ended=describe(error))
        again = revive(Notes(follower).read()["ended"])
    assert type(again) is kind
    assert (again.message, again.headers, again.detail) == (error.message, error.headers, error.detail)
    assert (again.code, again.answer_status) == (error.code, error.answer_status)


def test_notes_add_up_and_a_half_written_one_waits(tmp_path: Path) -> None:
    with LockFile(tmp_path / "lock") as leader, LockFile(tmp_path / "lock") as follower:
        notes, seen = Notes(leader), Notes(follower)
        assert seen.read() == {}
        notes.add(spool=1)
        notes.add(ready=True, size=None)
        notes.add(ready=True, size=None)
        assert seen.read() == {"spool": 1, "ready": True, "size": None}
        os.pwrite(leader.fd, b'{"spool": 2, "re', os.fstat(leader.fd).st_size)
        assert seen.read() == {"spool": 1, "ready": True, "size": None}
        Notes(follower).clear()
        assert seen.read() == {}
