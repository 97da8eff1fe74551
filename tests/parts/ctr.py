"""ctr, containerd's own client, against the containerd beneath a test's Docker engine."""

from __future__ import annotations

import shutil
from pathlib import Path

from .process import run


def missing() -> str | None:
    return None if shutil.which("ctr") else "no ctr on the PATH (apt: containerd)"


class Ctr:
    def __init__(self, socket: Path) -> None:
        """Take containerd's socket, such as `Docker.containerd`."""
        self._socket = socket

    def run(self, *arguments: str, timeout: float = 120.0) -> str:
        """Run ``ctr ARGUMENTS`` in a namespace of its own and give its output; raises CommandFailed."""
        return run(["ctr", f"--address={self._socket}", "--namespace=tests", *arguments], timeout=timeout)

    def pull(self, image: str, *options: str) -> str:
        return self.run("images", "pull", "--plain-http", *options, image)

    def push(self, image: str, *options: str) -> str:
        return self.run("images", "push", "--plain-http", *options, image)
