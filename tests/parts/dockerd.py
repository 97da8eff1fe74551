"""A Docker engine of its own, with the docker client that goes with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from .process import CommandFailed, Process, run


def missing() -> str | None:
    for name in ("dockerd", "docker"):
        if shutil.which(name) is None:
            return f"no {name} on the PATH (apt: docker.io)"
    return None if os.geteuid() == 0 else "dockerd runs as root only"


class Docker:
    """A running engine; ``socket`` is its own, ``containerd`` the one of the containerd beneath it.

    ``logins`` is the file with the client's logins (`tests.parts.logins`).
    """

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.socket = sockets / "docker.sock"
        self.containerd = sockets / "containerd/containerd.sock"
        self.logins = folder / "client/config.json"
        self._environment = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.logins.parent)}

    def run(self, *arguments: str, timeout: float = 120.0) -> str:
        """Run ``docker ARGUMENTS`` and give its output; raises CommandFailed."""
        return run(["docker", *arguments], environment=self._environment, timeout=timeout)

    def forget(self, *images: str) -> None:
        """Remove images, so that the next pull fetches them anew; silent where they are not there."""
        try:
            self.run("image", "rm", "--force", *images)
        except CommandFailed as error:
            if "No such image" not in str(error):
                raise


@contextmanager
def engine(
    folder: Path, *options: str, inside: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Docker]:
    """Start an engine with ``options``, by the command ``inside`` where it shall see another world."""
    # The path of a socket may have a hundred characters, and a folder of a test has most of them already.
    with TemporaryDirectory(prefix="docker-", ignore_cleanup_errors=True) as sockets:
        docker = Docker(folder, Path(sockets))
        command = [
            *inside, "dockerd", f"--data-root={folder}/data", f"--exec-root={sockets}", f"--pidfile={folder}/pid",
            f"--host=unix://{docker.socket}", "--iptables=false", "--ip6tables=false", "--bridge=none", *options,
        ]  # fmt: skip
        process = Process("dockerd", command, folder, environment=environment)
        try:
            process.until(lambda: _answers(docker), timeout=120, interval=0.1)
            yield docker
        finally:
            process.stop(timeout=20)


@contextmanager
def dockerd(folder: Path, *, mirrors: Sequence[str] = ()) -> Iterator[Docker]:
    """Start an engine that takes plain HTTP from loopback; ``mirrors`` are its registry-mirrors for Docker Hub."""
    options = ["--insecure-registry=127.0.0.0/8", *(f"--registry-mirror={mirror}" for mirror in mirrors)]
    with engine(folder, *options) as docker:
        yield docker


def _answers(docker: Docker) -> bool:
    try:
        docker.run("version", timeout=10)
    except (CommandFailed, subprocess.TimeoutExpired):
        return False
    return True
