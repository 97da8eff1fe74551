"""What is measured: the service as it ships, Debian's docker-registry, and where Go is there distribution v3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.parts import distribution as debian
from tests.parts.process import CommandFailed, Process, answers, free_port, python, run
from tests.parts.service import Service

from .wire import Registry

OURS, PEER, V3 = "ours", "docker-registry", "distribution v3"
# A public project to push to, beside the mirror that ships.
PROJECT = "bench"

_V3_VERSION = "v3.1.2"
_V3_MODULE = f"github.com/distribution/distribution/v3/cmd/registry@{_V3_VERSION}"
_BUILD_SECONDS = 540


@dataclass(frozen=True)
class Server:
    """A running server: what it is called in the table, the tree of processes that answers, and how to speak to it."""

    label: str
    pid: int
    registry: Registry

    @property
    def host(self) -> str:
        return self.registry.host


@contextmanager
def ours(
    folder: Path, *, processes: int = 2, upstream: str | None = None, delivery: str = "stream"
) -> Iterator[Server]:
    """Start the service as config.yaml has it, but for addresses, folders, workers and who sends blobs."""
    projects = {"mirror": {"public": True, "upstream": "docker.io"}, PROJECT: {"public": True}}
    storage = {"storage": {"delivery": delivery}}
    overrides = {
        "projects": projects,
        **storage,
        **({"upstreams": {"docker.io": {"url": upstream}}} if upstream else {}),
    }
    with Service(folder, processes=processes, overrides=overrides) as service:
        login = (service.username, service.password)
        yield Server(OURS, service.pid, Registry(service.host, login))


@contextmanager
def peer(folder: Path, *, upstream: str | None = None) -> Iterator[Server]:
    """Start docker-registry, without access control and without an access log."""
    with debian.distribution(folder, upstream=upstream) as registry:
        yield Server(PEER, registry.process.pid, Registry(registry.host, tokens=False))


@contextmanager
def peers(folder: Path, *, upstream: str | None = None) -> Iterator[list[Server]]:
    """Start docker-registry, and distribution v3 where it can be had."""
    with ExitStack() as stack:
        servers = [stack.enter_context(peer(folder / "peer", upstream=upstream))]
        if v3_binary() is not None:
            servers.append(stack.enter_context(v3(folder / "v3", upstream=upstream)))
        yield servers


@contextmanager
def v3(folder: Path, *, upstream: str | None = None) -> Iterator[Server]:
    """Start distribution v3, configured as `peer` is."""
    host = debian.configure(folder, upstream)
    command = [str(v3_binary()), "serve", f"{folder}/registry.yml"]
    process = Process("registry", command, folder, environment={"OTEL_TRACES_EXPORTER": "none"})
    try:
        process.until(lambda: answers(f"http://{host}/v2/"))
        yield Server(V3, process.pid, Registry(host, tokens=False))
    finally:
        process.stop()


@contextmanager
def reference(folder: Path, kind: str) -> Iterator[Server]:
    """Start a bare Tornado server; see `bench.reference`."""
    host = f"127.0.0.1:{free_port()}"
    process = Process(kind, python("-m", "bench.reference", kind, host), folder)
    try:
        process.until(lambda: answers(f"http://{host}/"))
        yield Server(f"bare {kind}", process.pid, Registry(host, tokens=False))
    finally:
        process.stop()


@cache
def v3_binary() -> Path | None:
    """Find distribution v3, built by Go at the first call and kept in the user's cache; None where it cannot be had."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "registry-tests" / f"v3@{_V3_VERSION}"
    binary = folder / "registry"
    if not binary.exists() and shutil.which("go") is not None:
        try:
            run(["go", "install", _V3_MODULE], environment={"GOBIN": str(folder)}, timeout=_BUILD_SECONDS)
        except CommandFailed as error:
            print(f"distribution v3 cannot be built here: {str(error)[-500:]}", flush=True)
    return binary if binary.exists() else None


def versions() -> dict[str, str]:
    """Say which versions were measured."""
    found = {PEER: run(["docker-registry", "--version"]).split()[-1].strip()}
    return found | ({V3: _V3_VERSION} if v3_binary() else {})
