"""What the web server before the workers costs and saves: the role's own configuration, over TLS."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.deploy import webserver as web
from tests.deploy.authority import Authority
from tests.deploy.webserver import NAME, WebServer, webserver
from tests.images import single
from tests.parts.process import Process, free_port
from tests.upstream.client import Hub

from . import bulk, load
from .processes import cpu_seconds
from .servers import PROJECT, Server, ours
from .table import Row, median_ratio, medians, ratio_words
from .wire import head

ROUNDS = 5
SECONDS = 2.0
MIB = 1024
LEAST = 0.9

_REPOSITORY, _MIRRORED = f"{PROJECT}/large", "library/app"
_ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"}
_THROUGH, _FILE, _BARE = "through nginx", "nginx, the file", "bare workers"


def nginx(folder: Path) -> Iterator[Row]:
    """Measure a large blob beside nginx that has the same file, and manifests for the anonymous beside the workers."""
    if (reason := web.missing()) is not None:
        yield Row(f"nginx: not measured, {reason}", "")
        return
    folder.mkdir(parents=True)
    authority = Authority(folder)
    with ExitStack() as stack:
        hub = stack.enter_context(Hub(folder / "hub"))
        server = stack.enter_context(ours(folder / "ours", upstream=hub.url, delivery="accel"))
        settings = {"nginx_data_dir": str(folder / "ours/data")}
        front = stack.enter_context(webserver(folder / "nginx", authority, server.host, **settings))
        yield from _blobs(folder, server, front, authority)
        yield from _manifests(server, front, hub)


def _blobs(folder: Path, server: Server, front: WebServer, authority: Authority) -> Iterator[Row]:
    layer = bulk.Layer(MIB, 1)
    bulk.push(server.registry, _REPOSITORY, layer, server.registry.authorization(_REPOSITORY, "pull,push"))
    file = max((folder / "ours/data/blobs/objects").rglob("*"), key=lambda path: path.stat().st_size)
    speeds: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    with _file_server(folder / "file", file, front) as (port, plain):
        places = {
            _THROUGH: (front.port, f"/v2/{_REPOSITORY}/blobs/{layer.digest}", front.process),
            _FILE: (port, f"/{file.name}", plain),
        }
        for _ in range(ROUNDS):
            headers = server.registry.authorization(_REPOSITORY)
            for kind, (at, path, process) in places.items():
                workers, before = cpu_seconds(server.pid), cpu_seconds(process.pid)
                seconds = _download(f"https://{NAME}:{at}{path}", authority, headers, layer.size)
                gibibytes = layer.size / (1024 * bulk.MIB)
                speeds[kind].append(gibibytes / seconds)
                costs[kind].append((cpu_seconds(process.pid) - before) / gibibytes)
                costs[f"{kind}, workers"].append((cpu_seconds(server.pid) - workers) / gibibytes)
    ratio = median_ratio(speeds[_THROUGH], speeds[_FILE])
    speed, cost = medians(speeds), medians(costs)
    yield Row(
        f"blob of 1 GiB through nginx, TLS: GiB/s (nginx with the file: {speed[_FILE]})", speed[_THROUGH],
        ratio=ratio_words(ratio), bound=f"at least {LEAST:g}×", holds=ratio >= LEAST,
    )  # fmt: skip
    yield Row("blob of 1 GiB through nginx, TLS: the workers' CPU seconds per GiB", cost[f"{_THROUGH}, workers"])
    yield Row(
        f"blob of 1 GiB through nginx, TLS: nginx' CPU seconds per GiB (with the file: {cost[_FILE]})", cost[_THROUGH]
    )


def _manifests(server: Server, front: WebServer, hub: Hub) -> Iterator[Row]:
    image = single("bench nginx", sizes=(2_000,) * 6)
    hub.add(image, _MIRRORED, "latest")
    name = f"mirror/{_MIRRORED}"
    path = f"/v2/{name}/manifests/latest"
    nobody = {**_ACCEPT, **server.registry.anonymous().authorization(name)}
    server.registry.ask("GET", path, nobody, expected=200)
    rates: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    places = {
        _THROUGH: (f"{NAME}:{front.port}", front.trusts, (front.process.pid, server.pid)),
        _BARE: (server.host, None, (server.pid,)),
    }
    for _ in range(ROUNDS):
        nobody = {**_ACCEPT, **server.registry.anonymous().authorization(name)}
        for kind, (host, trusts, pids) in places.items():
            request = head("GET", path, host, nobody)
            before = cpu_seconds(*pids)
            answered = load.requests_answered(host, request, {image.payload}, SECONDS, trusts)
            rates[kind].append(answered / SECONDS)
            costs[kind].append(answered / (cpu_seconds(*pids) - before))
    for what, figures in (("requests a second", rates), ("requests per CPU second", costs)):
        yield _beside(f"anonymous GET of a mirror's manifest through nginx, TLS: {what}", figures)


def _beside(what: str, figures: Mapping[str, list[float]]) -> Row:
    found = medians(figures, ",.0f")
    ratio = median_ratio(figures[_THROUGH], figures[_BARE])
    return Row(f"{what} (bare workers: {found[_BARE]})", found[_THROUGH], ratio=ratio_words(ratio))


def _download(url: str, authority: Authority, headers: Mapping[str, str], size: int) -> float:
    """Get a URL with curl, which does less for it than Python would; give the seconds it took."""
    command = ["curl", "--silent", "--show-error", "--fail", "--cacert", str(authority.file), "--http1.1"]
    command += [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "--output", "/dev/null", "--write-out", "%{size_download}", url],
        check=True, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    seconds = time.monotonic() - began
    if int(done.stdout) != size:
        raise RuntimeError(f"{url} gave {done.stdout} bytes, not {size}")
    return seconds


def _answers(port: int, front: WebServer) -> bool:
    with load.connect(f"{NAME}:{port}", front.trusts):
        return True


@contextmanager
def _file_server(folder: Path, file: Path, front: WebServer) -> Iterator[tuple[int, Process]]:
    """Start an nginx that has the file and nothing else to do; with the certificate of the other one."""
    folder.mkdir()
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"user root; worker_processes auto; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; server {{ listen 127.0.0.1:{port} ssl http2;\n"
        f"ssl_certificate {front.folder}/tls/registry.pem; ssl_certificate_key {front.folder}/tls/registry.key;\n"
        f"root {file.parent}; }} }}\n"
    )
    process = Process("file", ["nginx", "-c", f"{folder}/nginx.conf", "-g", "daemon off;"], folder)
    try:
        process.until(lambda: _answers(port, front))
        yield port, process
    finally:
        process.stop()
