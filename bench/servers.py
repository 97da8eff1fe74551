"""What is measured: the service as it ships and as the roles install it, docker-registry, and distribution v3."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.deploy.authority import Authority
from tests.deploy.webserver import NAME, webserver
from tests.parts import distribution as debian
from tests.parts.postgres import postgres
from tests.parts.process import CommandFailed, Process, answers, free_port, python, run
from tests.parts.service import Service
from tests.parts.valkey import valkey

from .processes import cpu_seconds
from .wire import Registry

OURS, PEER, V3 = "ours", "docker-registry", "distribution v3"
# A public project to push to, beside the mirror that ships.
PROJECT = "bench"

_V3_VERSION = "v3.1.2"
_V3_MODULE = f"github.com/distribution/distribution/v3/cmd/registry@{_V3_VERSION}"
_BUILD_SECONDS = 540
# What matters of the roles' own settings.
_POSTGRESQL = {"fsync": "on", "shared_buffers": "256MB", "wal_compression": "on", "max_wal_size": "2GB"}
_REDIS = ("--maxmemory", "256mb", "--maxmemory-policy", "volatile-lfu")


@dataclass(frozen=True)
class Server:
    """A running server: what it is called in the table, its processes, and how to speak to it.

    ``pid`` is above the registry's own processes, ``others`` are what answers with it: database, Redis, web server.
    ``front`` is the address of the web server, and whom its clients trust.
    """

    label: str
    pid: int
    registry: Registry
    others: tuple[int, ...] = ()
    front: tuple[str, ssl.SSLContext] | None = None

    @property
    def host(self) -> str:
        return self.registry.host

    @property
    def door(self) -> tuple[str, ssl.SSLContext | None]:
        """Where requests are measured: HOST:PORT, and whom to trust if that speaks TLS."""
        return self.front or (self.host, None)

    def cpu_seconds(self) -> float:
        """Add up the CPU time of everything that answers."""
        return cpu_seconds(self.pid, *self.others)


@contextmanager
def ours(
    folder: Path,
    *,
    processes: int = 2,
    upstream: str | None = None,
    delivery: str = "stream",
    database: str | None = None,
    redis: str = "embedded:",
    s3: Mapping[str, Any] | None = None,
) -> Iterator[Server]:
    """Start the service as config.yaml has it, but for addresses, folders, workers and who sends blobs."""
    overrides: dict[str, Any] = {
        "projects": {"mirror": {"public": True, "upstream": "docker.io"}, PROJECT: {"public": True}},
        "storage": {"delivery": delivery},
    }
    if upstream:
        overrides["upstreams"] = {"docker.io": {"url": upstream}}
    with Service(folder, processes=processes, database=database, redis=redis, s3=s3, overrides=overrides) as service:
        login = (service.username, service.password)
        yield Server(OURS, service.pid, Registry(service.host, login))


@contextmanager
def production(
    folder: Path, *, upstream: str | None = None, delivery: str = "stream", s3: Mapping[str, Any] | None = None
) -> Iterator[Server]:
    """Start the service as the roles install it, without nginx: PostgreSQL and Redis by Unix sockets.

    Blobs are in a folder, or in S3 as the section ``s3`` of `weed.ObjectStore.bucket` says.
    """
    folder.mkdir(parents=True)
    with postgres(_POSTGRESQL) as database, valkey(folder, _REDIS) as redis:
        url = database.through_socket(database.database())
        with ours(folder, upstream=upstream, delivery=delivery, database=url, redis=redis.socket_url, s3=s3) as it:
            yield replace(it, others=(database.pid, redis.pid))


@contextmanager
def behind(server: Server, folder: Path, authority: Authority, **variables: Any) -> Iterator[Server]:
    """Put an nginx with the role's configuration before a server; ``variables`` are the role's."""
    with webserver(folder, authority, server.host, **variables) as front:
        address = (f"{NAME}:{front.port}", front.trusts)
        yield replace(server, others=(*server.others, front.process.pid), front=address)


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
