"""Pushes of large layers: how fast, at what cost, and in how much memory."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from . import bulk
from .blobs import speed_and_cost
from .processes import cpu_seconds, peak_memory
from .servers import PROJECT, ours, peers
from .table import Row

ROUNDS = 3
LEAST = 0.9
MOST_BYTES = 200_000_000

_NAME = f"{PROJECT}/pushed"
_MEMORY_MIB = 256


def pushes(folder: Path) -> Iterator[Row]:
    """Measure a layer of 1 GiB with its length told before, and one of 256 MiB in chunks, as Docker pushes."""
    ways = {"push of a layer of 1 GiB": (1024, False), "push of 256 MiB in chunks, as Docker does": (256, True)}
    speeds: dict[str, dict[str, list[float]]] = {what: defaultdict(list) for what in ways}
    costs: dict[str, dict[str, list[float]]] = {what: defaultdict(list) for what in ways}
    with ExitStack() as stack:
        servers = [stack.enter_context(ours(folder / "ours")), *stack.enter_context(peers(folder))]
        for number in range(ROUNDS):
            for what, (mib, chunked) in ways.items():
                for server in servers:
                    layer, token = bulk.Layer(mib, number), server.registry.authorization(_NAME, "pull,push")
                    _ = layer.digest
                    # What others have left for the disk to do is not to be waited for in this one's time.
                    os.sync()
                    before, began = cpu_seconds(server.pid), time.monotonic()
                    bulk.push(server.registry, _NAME, layer, token, chunked=chunked)
                    seconds, gibibytes = time.monotonic() - began, mib / 1024
                    costs[what][server.label].append((cpu_seconds(server.pid) - before) / gibibytes)
                    speeds[what][server.label].append(gibibytes / seconds)
    for what in ways:
        yield from speed_and_cost(what, speeds[what], costs[what], LEAST)


def memory(folder: Path) -> Iterator[Row]:
    """Measure the peak memory of each process, at one push and at 32 at once."""
    with ours(folder / "ours") as server:
        for count in (1, 32):
            token = server.registry.authorization(_NAME, "pull,push")
            layers = [bulk.Layer(_MEMORY_MIB, 1000 * count + number) for number in range(count)]
            with ThreadPoolExecutor(count) as pool:
                for pushed in [pool.submit(bulk.push, server.registry, _NAME, layer, token) for layer in layers]:
                    pushed.result()
            most = max(peak_memory(server.pid).values())
            yield Row(
                f"largest process after {count} concurrent pushes of {_MEMORY_MIB} MiB", f"{most / 1e6:.0f} MB",
                bound=f"under {MOST_BYTES / 1e6:.0f} MB", holds=most < MOST_BYTES,
            )  # fmt: skip
