"""What a step cost: read from the upstream's own counters and the registry's metrics, and laid out in a table."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.images import Image
from tests.parts.service import Service
from tests.upstream.client import Hub

_LEFT = re.compile(r"^registry_budget_remaining\{[^}]*\} (\S+)$", re.MULTILINE)
_HEADS = (("", ""), ("", "seconds"), ("requests", "to it"), ("pulls", "counted"), ("MB", "sent"), ("pulls", "left"))


@dataclass(frozen=True)
class Cost:
    """``requests`` of all kinds that reached the upstream, ``counted`` those its limit counts, ``size`` in bytes."""

    requests: int = 0
    counted: int = 0
    size: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.requests + other.requests, self.counted + other.counted, self.size + other.size)

    def __sub__(self, other: Cost) -> Cost:
        return self + Cost(-other.requests, -other.counted, -other.size)


@dataclass(frozen=True)
class Line:
    """One step, or a sum: how long it took in seconds, what it cost, and the pulls that were left after it."""

    text: str
    seconds: float = 0.0
    cost: Cost | None = None
    left: int | None = None


class Figures:
    def __init__(self, hub: Hub, service: Service, limit: int) -> None:
        """Begin with ``limit`` pulls left: nothing has been asked for, so the registry has not been told yet."""
        self._hub, self._service = hub, service
        self.lines = [Line("before", left=limit)]

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Measure what happens in the block."""
        before, begun = self.total(), time.monotonic()
        yield
        seconds = time.monotonic() - begun
        self.lines.append(Line(text, seconds, self.total() - before, self.remaining()))

    def total(self) -> Cost:
        """Read what the upstream has seen so far."""
        counters = self._hub.counters()
        return Cost(counters.requests.total(), counters.get_manifest, counters.bytes)

    def remaining(self) -> int | None:
        """Read the budget as the registry's metrics have it; None while it has not asked."""
        with urllib.request.urlopen(f"{self._service.url}/metrics", timeout=10) as response:
            found = _LEFT.findall(response.read().decode())
        return int(min(map(float, found))) if found else None


def direct(image: Image) -> Cost:
    """Say what one pull costs a client that asks the upstream itself.

    A challenge and a token, the index and a manifest, and for each blob the registry and the host it redirects to.
    """
    amd64 = image.platform("linux/amd64")
    return Cost(2 + 2 + 2 * len(amd64.blobs), 2, amd64.size)


def table(lines: Sequence[Line], sums: Mapping[str, Cost]) -> str:
    """Lay steps out, and sums beneath a rule; numbers stand to the right."""
    steps = [_cells(line) for line in lines]
    below = [_cells(Line(text, cost=cost)) for text, cost in sums.items()]
    heads = [[head[part] for head in _HEADS] for part in (0, 1)]
    widths = [max(map(len, column)) for column in zip(*heads, *steps, *below, strict=True)]
    spelled = [_row(cells, widths) for cells in (*heads, *steps)]
    rule = "  " + "-" * (sum(widths) + 3 * (len(widths) - 1))
    return "\n".join([*spelled, rule, *(_row(cells, widths) for cells in below)])


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return ("  " + "   ".join([cells[0].ljust(widths[0]), *numbers])).rstrip()


def _cells(line: Line) -> list[str]:
    cost = line.cost
    return [
        line.text,
        f"{line.seconds:.1f}" if line.seconds else "",
        *(["", "", ""] if cost is None else [str(cost.requests), str(cost.counted), f"{cost.size / 1e6:.1f}"]),
        "" if line.left is None else str(line.left),
    ]
