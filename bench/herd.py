"""A class of clients that pull an image nobody has pulled before, all in the same moment.

The upstream gives 50 MB/s and takes 30 ms for each request; the image has 24 MB in six layers. What is compared is the
time of one client that pulls from the upstream itself.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.images import lab_image
from tests.upstream.client import Hub

from .puller import crowd
from .servers import Server, ours, peer
from .table import Row

ROUNDS = 3
MOST = 5.0
CLIENTS = 64

_NAME, _TAG = "library/lab", "1"
_BANDWIDTH, _LATENCY = 50e6, 0.03
# More than docker-registry takes with 64 clients; ours lives within what Docker Hub gives.
_PEERS_LIMIT = 10_000
# What the image costs an upstream that is asked for each part of it once.
_MEGABYTES, _COUNTED = 24.1, 2


@dataclass(frozen=True)
class Pull:
    """What a crowd's pull took: seconds, bytes of blobs and counted GETs of the upstream."""

    seconds: float
    megabytes: float
    counted: int

    def words(self, direct: float) -> str:
        return f"{self.seconds / direct:.1f}× ({self.megabytes:.0f} MB, {self.counted} counted GETs)"


def herd(folder: Path) -> Iterator[Row]:
    """Measure 16 and 64 clients on two workers, 64 on one, and what docker-registry makes of as many."""
    cases = ((CLIENTS, 1), (CLIENTS, 2), (16, 2))
    direct: list[float] = []
    mine: dict[tuple[int, int], list[Pull]] = {case: [] for case in cases}
    with Hub(folder / "hub") as hub:
        for number in range(ROUNDS):
            _renew(hub)
            direct.append(asyncio.run(crowd(hub.host, _NAME, _TAG, 1)))
            for clients, workers in cases:
                _renew(hub)
                with ours(folder / f"{clients}-{workers}-{number}", processes=workers, upstream=hub.url) as server:
                    mine[clients, workers].append(_pull(hub, server, f"mirror/{_NAME}", clients))
        one = statistics.median(direct)
        theirs = {clients: _peers_pull(folder, hub, clients).words(one) for clients in (16, CLIENTS)}
    for (clients, workers), pulls in mine.items():
        yield _row(clients, workers, pulls, one, theirs[clients])


def _peers_pull(folder: Path, hub: Hub, clients: int) -> Pull:
    _renew(hub)
    hub.limit(_PEERS_LIMIT)
    with peer(folder / f"peer-{clients}", upstream=hub.url) as server:
        return _pull(hub, server, _NAME, clients)


def _row(clients: int, workers: int, pulls: list[Pull], one: float, theirs: str) -> Row:
    middle = sorted(pulls, key=lambda pull: pull.seconds)[len(pulls) // 2]
    once = all(pull.counted == _COUNTED and pull.megabytes < _MEGABYTES for pull in pulls)
    return Row(
        f"{clients} cold clients, {workers} worker{'s' * (workers > 1)}: times one direct client ({one:.2f} s)",
        middle.words(one),
        theirs,
        bound=f"at most {MOST:g}×, one image, {_COUNTED} counted",
        holds=once and middle.seconds <= MOST * one,
    )


def _renew(hub: Hub) -> None:
    """Make the upstream forget what it has given, and whom."""
    hub.reset()
    hub.add(lab_image(), _NAME, _TAG)
    hub.pace(bandwidth=_BANDWIDTH, latency=_LATENCY)


def _pull(hub: Hub, server: Server, name: str, count: int) -> Pull:
    hub.reset_counters()
    seconds = asyncio.run(crowd(server.host, name, _TAG, count))
    counters = hub.counters()
    return Pull(seconds, counters.bytes / 1e6, counters.get_manifest)
