"""Locks between processes and tasks of one host."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.mirror.locks import LockFile, host_lock, try_host_lock


async def test_one_holder_at_a_time_among_tasks(tmp_path: Path) -> None:
    inside = most = 0

    async def work() -> None:
        nonlocal inside, most
        async with host_lock(tmp_path / "new" / "folder" / "lock"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(10)))
    assert (inside, most) == (0, 1)


async def test_shared_holders_go_together_and_shut_others_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    async with host_lock(path, shared=True), host_lock(path, shared=True):
        assert try_host_lock(path) is None
    with pytest.raises(TimeoutError):
        async with host_lock(path), host_lock(path, shared=True, timeout=0.02):
            pytest.fail("a shared lock beside an exclusive one")


async def _take(path: Path) -> str:
    async with host_lock(path):
        return "taken"


async def test_waiting_blocks_nobody_and_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = try_host_lock(path)
    assert held is not None
    with held:
        waiter = asyncio.create_task(_take(path))
        await asyncio.sleep(0.02)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert await _take(path) == "taken"


async def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError):
        async with host_lock(path):
            raise ZeroDivisionError
    assert await _take(path) == "taken"


def test_a_lock_on_a_removed_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with LockFile(path) as late:
        first = try_host_lock(path)
        assert first is not None
        with first:
            path.unlink()
        assert late.try_lock()
        assert not late.linked()
        second = try_host_lock(path)
        assert second is not None
        with second:
            assert second.linked()
            assert try_host_lock(path) is None
