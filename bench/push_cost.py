"""What a push and a fill cost the workers, beside hashing and copying the same bytes in the same round.

New pages of the page cache cost three times as much as those that were used before if the host of a virtual machine has
to find memory for them. So the files of each round are removed, and both sides use the same pages again. A first round
of each case finds these pages and does not count. The object store keeps what it got, so its cases come last.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.deploy import webserver
from tests.deploy.authority import Authority
from tests.parts.process import wait_for
from tests.parts.weed import weed

from . import bulk
from .processes import cpu_seconds
from .servers import PROJECT, Server, behind, peer, production
from .table import Row, median_ratio

ROUNDS = 3
MIB = 512
MOST, MOST_S3 = 2.0, 3.0

_PUSHED, _MIRRORED = f"{PROJECT}/pushed", "library/pushed"
_GIBIBYTES = MIB / 1024


@dataclass
class Case:
    """A way that bytes come in: ``bring`` brings a layer; ``others`` are processes beside the workers, by name."""

    what: str
    server: Server
    bring: Callable[[bulk.Layer], None]
    others: dict[str, tuple[int, ...]]
    most: float | None
    costs: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    beside: dict[str, list[float]] = field(default_factory=dict)

    def forget(self) -> None:
        """Discard what was measured so far."""
        for found in (self.costs, self.plain, *self.beside.values()):
            found.clear()

    def row(self) -> Row:
        ratio = median_ratio(self.costs, self.plain)
        beside = "".join(f", {name}: {statistics.median(found):.2f}" for name, found in self.beside.items())
        return Row(
            f"{self.what}: the workers' CPU s/GiB (sha256 and cp: {statistics.median(self.plain):.2f}{beside})",
            f"{statistics.median(self.costs):.2f}",
            ratio=f"{ratio:.2f}×",
            bound=f"at most {self.most:g}×" if self.most else "",
            holds=ratio <= self.most if self.most else None,
        )


def push_cost(folder: Path) -> Iterator[Row]:
    """Measure pushes in chunks, as Docker sends them, and fills; to a folder and to S3."""
    folder.mkdir(parents=True)
    file = folder / "layer"
    with file.open("wb") as out:
        out.writelines(bulk.Layer(MIB, 0).blocks())
    with ExitStack() as stack:
        cases = stack.enter_context(_cases(folder))
        numbers = count(1)
        for case in cases:
            for turn in range(1 + ROUNDS):
                _measure(case, bulk.Layer(MIB, next(numbers)), file)
                _remove_copies(folder, file)
                if turn == 0:
                    case.forget()
            yield case.row()


def _measure(case: Case, layer: bulk.Layer, file: Path) -> None:
    _ = layer.digest
    os.sync()
    case.plain.append(_plain(file) / _GIBIBYTES)
    os.sync()
    beside = {name: cpu_seconds(*pids) for name, pids in case.others.items()}
    before = cpu_seconds(case.server.pid)
    case.bring(layer)
    case.costs.append((cpu_seconds(case.server.pid) - before) / _GIBIBYTES)
    for name, pids in case.others.items():
        case.beside.setdefault(name, []).append((cpu_seconds(*pids) - beside[name]) / _GIBIBYTES)


def _remove_copies(folder: Path, file: Path) -> None:
    for large in folder.rglob("*"):
        if large != file and large.is_file() and large.stat().st_size == file.stat().st_size:
            large.unlink()


def _plain(file: Path) -> float:
    """Hash and copy a file; give the CPU seconds. OpenSSL hashes as we do; sha256sum of Debian 12 takes four times."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    copy = file.with_name("copy")
    for command in (["openssl", "dgst", "-sha256", str(file)], ["cp", str(file), str(copy)]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    copy.unlink()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def _cases(folder: Path) -> Iterator[list[Case]]:
    with ExitStack() as stack:
        upstream = stack.enter_context(peer(folder / "upstream"))
        store = stack.enter_context(weed(folder / "weed"))
        url, s3, cases = f"http://{upstream.host}", store.bucket("blobs"), []
        for place, most, section in (("a folder", MOST, None), ("S3", MOST_S3, s3)):
            own = folder / place.replace(" ", "-")
            server = stack.enter_context(production(own, upstream=url, s3=section))
            others = {"PostgreSQL and Redis": server.others}
            if section is not None:
                others["object store"] = (store.process.pid,)
            cases += [
                Case(f"push to {place}", server, _Push(server), others, most),
                Case(f"fill to {place}", server, _Fill(server, upstream, own / "data/spool"), others, most),
            ]
            if section is None and webserver.missing() is None:
                front = stack.enter_context(behind(server, folder / "nginx", Authority(folder)))
                others = {**others, "nginx": front.others[-1:]}
                cases.append(Case("push to a folder through nginx, TLS", front, _Push(front), others, None))
        yield cases


@dataclass(frozen=True)
class _Push:
    server: Server

    def __call__(self, layer: bulk.Layer) -> None:
        token = self.server.registry.authorization(_PUSHED, "pull,push")
        bulk.push(self.server.registry, _PUSHED, layer, token, chunked=True, door=self.server.door)


@dataclass(frozen=True)
class _Fill:
    """Has the layer fetched, and asks only for its last byte: that comes when all are verified."""

    server: Server
    upstream: Server
    spool: Path

    def __call__(self, layer: bulk.Layer) -> None:
        name = f"mirror/{_MIRRORED}"
        bulk.push(self.upstream.registry, _MIRRORED, layer, {})
        last = {**self.server.registry.authorization(name), "Range": f"bytes={layer.size - 1}-"}
        self.server.registry.ask("GET", f"/v2/{name}/blobs/{layer.digest}", last, expected=206)
        wait_for(lambda: not any(self.spool.rglob("*.part")), what="the layer to be stored", timeout=120)
