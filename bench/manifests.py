"""Manifests in requests per CPU second of everything that answers.

Our tag is moved to and fro meanwhile. That of the peers stands still: docker-registry answers 500 to some of those who
ask for a tag in the moment in which it is moved.
"""

from __future__ import annotations

import statistics
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.images import Image, single
from tests.upstream.client import Hub

from . import load, reference
from .processes import cpu_seconds
from .servers import OURS, PEER, PROJECT, V3, Server, ours, peers
from .servers import reference as reference_server
from .table import Row, median_ratio, ratio_words
from .wire import head

ROUNDS = 5
SECONDS = 2.0
MOVE_EVERY = 0.25
LEAST = 5.0

_NAME, _MIRRORED, _TAG = f"{PROJECT}/app", "library/app", "moving"
_ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"}


@dataclass(frozen=True)
class Target:
    """Something to ask for: of a server, by this name and reference, with these answers."""

    kind: str
    server: Server
    name: str
    reference: str
    bodies: frozenset[bytes]

    @property
    def path(self) -> str:
        return f"/v2/{self.name}/manifests/{self.reference}"


class Mover:
    """Moves a tag to and fro between two images that are there, until it is closed."""

    def __init__(self, server: Server, images: tuple[Image, Image]) -> None:
        self._server = server
        self._images = images
        self._token = server.registry.authorization(_NAME, "pull,push")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._trouble: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._trouble is not None and error is None:
            raise self._trouble

    def _run(self) -> None:
        moved = 0
        try:
            while not self._over.wait(MOVE_EVERY):
                moved += 1
                self._server.registry.put_manifest(self._images[moved % 2], _NAME, _TAG, self._token)
        except (OSError, RuntimeError) as error:
            self._trouble = error


def manifests(folder: Path) -> Iterator[Row]:
    """Measure GET, beside two bare Tornado servers."""
    return _measure(folder, "GET")


def heads(folder: Path) -> Iterator[Row]:
    """Measure HEAD."""
    return _measure(folder, "HEAD")


def _measure(folder: Path, method: str) -> Iterator[Row]:
    images = single("bench a", sizes=(2_000,) * 6), single("bench b", sizes=(2_000,) * 6)
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    with _targets(folder, images, with_references=method == "GET") as targets:
        for _ in range(ROUNDS):
            for target in targets:
                figures[target.kind, target.server.label].append(_per_cpu_second(target, method, images))
    for kind in dict.fromkeys(target.kind for target in targets if target.server.label == OURS):
        yield _row(f"{method} of a manifest, {kind}", figures, kind)
    for target in targets:
        if not target.name:
            found = figures[target.kind, target.server.label]
            ratio = median_ratio(found, figures["by digest", PEER])
            yield Row(
                f"for comparison: {target.server.label}, one process", f"{statistics.median(found):,.0f}",
                ratio=ratio_words(ratio),
            )  # fmt: skip


def _row(what: str, figures: Mapping[tuple[str, str], list[float]], kind: str) -> Row:
    # Peers have no mirror beside their projects; what they are asked for instead is a tag as well.
    peers_kind = kind if (kind, PEER) in figures else "by tag"
    mine, theirs, newer = figures[kind, OURS], figures[peers_kind, PEER], figures.get((peers_kind, V3))
    ratio = median_ratio(mine, theirs)
    return Row(
        f"{what}: requests per CPU second",
        f"{statistics.median(mine):,.0f}",
        f"{statistics.median(theirs):,.0f}",
        f"{statistics.median(newer):,.0f}" if newer else "",
        ratio_words(ratio, median_ratio(mine, newer) if newer else None),
        f"at least {LEAST:g}×, and ahead of v3",
        ratio >= LEAST and (newer is None or median_ratio(mine, newer) > 1),
    )


@contextmanager
def _targets(folder: Path, images: tuple[Image, Image], *, with_references: bool) -> Iterator[list[Target]]:
    """Start everything and put the images there."""
    with ExitStack() as stack:
        hub = stack.enter_context(Hub(folder / "hub"))
        hub.add(images[0], _MIRRORED, _TAG)
        mine = stack.enter_context(ours(folder / "ours", upstream=hub.url))
        targets = []
        for server in (mine, *stack.enter_context(peers(folder))):
            for image in images:
                server.registry.push(image, _NAME, _TAG)
            both = frozenset(image.payload for image in images)
            targets += [
                Target("by tag", server, _NAME, _TAG, both),
                Target("by digest", server, _NAME, images[0].digest, frozenset({images[0].payload})),
            ]
        mirrored = Target("by tag, of a mirror", mine, f"mirror/{_MIRRORED}", _TAG, frozenset({images[0].payload}))
        # Cached first: a HEAD alone fetches nothing.
        headers = {**_ACCEPT, **mine.registry.authorization(mirrored.name)}
        mine.registry.ask("GET", mirrored.path, headers, expected=200)
        targets.insert(2, mirrored)
        if with_references:
            for kind in ("handler", "delegate"):
                bare = stack.enter_context(reference_server(folder, kind))
                targets.append(Target(bare.label, bare, "", "", frozenset({reference.BODY})))
        yield targets


def _per_cpu_second(target: Target, method: str, images: tuple[Image, Image]) -> float:
    server, registry = target.server, target.server.registry
    headers = {**_ACCEPT, **(registry.authorization(target.name) if target.name else {})}
    bodies = target.bodies if method == "GET" else frozenset({b""})
    request = head(method, target.path, server.host, headers)
    with ExitStack() as stack:
        if server.label == OURS:
            stack.enter_context(Mover(server, images))
        before = cpu_seconds(server.pid)
        answered = load.requests_answered(server.host, request, bodies, SECONDS)
        return answered / (cpu_seconds(server.pid) - before)
