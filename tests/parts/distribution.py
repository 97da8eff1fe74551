"""Debian's docker-registry: the reference registry, as a peer or as somebody else's pull-through cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from .process import Process, answers, free_port


def missing() -> str | None:
    return None if shutil.which("docker-registry") else "no docker-registry on the PATH (apt: docker-registry)"


@dataclass(frozen=True)
class Distribution:
    """A running registry at ``host`` (HOST:PORT), without any access control."""

    host: str
    process: Process

    @property
    def url(self) -> str:
        return f"http://{self.host}"


def configure(folder: Path, upstream: str | None) -> str:
    """Write ``registry.yml`` for a folder of data and a free port, and answer the address it names."""
    host = f"127.0.0.1:{free_port()}"
    config = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": f"{folder}/data"},
            "cache": {"blobdescriptor": "inmemory"},
            "delete": {"enabled": True},
        },
        "http": {"addr": host},
        **({"proxy": {"remoteurl": upstream}} if upstream else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registry.yml").write_text(yaml.safe_dump(config))
    return host


@contextmanager
def distribution(folder: Path, *, upstream: str | None = None) -> Iterator[Distribution]:
    """Start it on a folder; with ``upstream``, a base URL, as a pull-through cache of that."""
    host = configure(folder, upstream)
    process = Process("docker-registry", ["docker-registry", "serve", f"{folder}/registry.yml"], folder)
    try:
        process.until(lambda: answers(f"http://{host}/v2/"))
        yield Distribution(host, process)
    finally:
        process.stop()
