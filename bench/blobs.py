"""A blob of 20 MiB, to 16 clients at once."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.images import digest_of

from . import bulk
from .servers import OURS, PEER, PROJECT, V3, ours, peers
from .table import Row, median_ratio, medians, ratio_words
from .wire import head

ROUNDS = 5
COUNT = 96
SIZE = 20 * bulk.MIB
LEAST = 0.9

_NAME = f"{PROJECT}/large"


def blobs(folder: Path) -> Iterator[Row]:
    """Measure how fast it goes, and what it costs."""
    data = random.Random("blob").randbytes(SIZE)
    digest = digest_of(data)
    path = f"/v2/{_NAME}/blobs/{digest}"
    speeds: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        servers = [stack.enter_context(ours(folder / "ours")), *stack.enter_context(peers(folder))]
        for server in servers:
            server.registry.push_blob(_NAME, digest, data, server.registry.authorization(_NAME, "pull,push"))
        for _ in range(ROUNDS):
            for server in servers:
                token = server.registry.authorization(_NAME)
                server.registry.check(path, token, digest)
                before = server.cpu_seconds()
                seconds = bulk.download(server.host, head("GET", path, server.host, token), SIZE, COUNT)
                gibibytes = COUNT * SIZE / (1024 * bulk.MIB)
                costs[server.label].append((server.cpu_seconds() - before) / gibibytes)
                speeds[server.label].append(gibibytes / seconds)
    yield from speed_and_cost("GET of a blob of 20 MiB", speeds, costs, LEAST)


def speed_and_cost(
    what: str, speeds: Mapping[str, list[float]], costs: Mapping[str, list[float]], least: float
) -> Iterator[Row]:
    """Say what rounds of something found: GiB/s with a bound to the ratio, and CPU seconds per GiB without."""
    speed, cost = medians(speeds), medians(costs)
    ratio = median_ratio(speeds[OURS], speeds[PEER])
    yield Row(
        f"{what}: GiB/s", speed[OURS], speed[PEER], speed.get(V3, ""), _ratios(speeds), f"at least {least:g}×",
        ratio >= least,
    )  # fmt: skip
    yield Row(f"{what}: CPU seconds per GiB", cost[OURS], cost[PEER], cost.get(V3, ""), _ratios(costs))


def _ratios(figures: Mapping[str, list[float]]) -> str:
    newer = median_ratio(figures[OURS], figures[V3]) if V3 in figures else None
    return ratio_words(median_ratio(figures[OURS], figures[PEER]), newer)
