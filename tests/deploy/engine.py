"""A Docker engine that trusts the tests' authority and finds the registry by name, without a trace in /etc."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.parts.dockerd import Docker
from tests.parts.process import CommandFailed, Process


@contextmanager
def engine(folder: Path, *, hosts: Mapping[str, str], authority: Path) -> Iterator[Docker]:
    """Start dockerd with names of its own in /etc/hosts (addresses by name), over HTTPS only."""
    folder.mkdir(parents=True)
    names = folder / "hosts"
    names.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in hosts.items()))
    command = [
        "unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(names),
        "dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid",
        f"--host=unix://{folder}/docker.sock", "--iptables=false", "--ip6tables=false", "--bridge=none",
    ]  # fmt: skip
    process = Process("dockerd", command, folder, environment={"SSL_CERT_FILE": str(authority)})
    docker = Docker(folder)
    try:
        process.until(lambda: _answers(docker), timeout=120, interval=0.1)
        yield docker
    finally:
        process.stop(timeout=20)


def _answers(docker: Docker) -> bool:
    try:
        docker.run("version", timeout=10)
    except (CommandFailed, subprocess.TimeoutExpired):
        return False
    return True
