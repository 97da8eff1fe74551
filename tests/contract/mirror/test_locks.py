"""Locks between processes of one host; tests/unit has those between tasks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from app.mirror.locks import host_lock, try_host_lock

_HOLDER = """
import sys, pathlib
from app.mirror.locks import try_host_lock
lock = try_host_lock(pathlib.Path(sys.argv[1]))
print("held" if lock else "busy", flush=True)
sys.stdin.read()
"""


def _holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock, and has said so."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


async def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = _holder(path)
    try:
        assert try_host_lock(path) is None
        with pytest.raises(TimeoutError):
            async with host_lock(path, timeout=0):
                pytest.fail("held twice")
        waiter = asyncio.create_task(_take(path))
        await asyncio.sleep(0.05)
        assert not waiter.done()
    finally:
        _end(process)
    assert await waiter == "taken"


async def _take(path: Path) -> str:
    async with host_lock(path):
        return "taken"
