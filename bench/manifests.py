"""Manifests in requests per CPU second of everything that answers: as it ships, and as the roles install it.

Our tag is moved to and fro meanwhile. That of the peers stands still: docker-registry answers 500 to some of those who
ask for a tag in the moment in which it is moved.
"""

from __future__ import annotations

import statistics
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.deploy import webserver
from tests.deploy.authority import Authority
from tests.images import Image, single
from tests.upstream.client import Hub

from . import load, reference
from .servers import OURS, PEER, PROJECT, V3, Server, behind, ours, peers
from .servers import production as production_server
from .servers import reference as reference_server
from .table import Row, median_ratio, ratio_words
from .wire import head

ROUNDS = 5
SECONDS = 2.0
MOVE_EVERY = 0.25

_NAME, _MIRRORED, _TAG = f"{PROJECT}/app", "library/app", "moving"
_ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"}
_BY_TAG, _BY_DIGEST = "by tag", "by digest"
_MIRROR_TAG, _MIRROR_DIGEST = "of a mirror, by tag", "of a mirror, by digest"
_KINDS = (_BY_TAG, _BY_DIGEST, _MIRROR_TAG, _MIRROR_DIGEST)

Figures = dict[tuple[str, str], list[float]]


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


@dataclass(frozen=True)
class Bound:
    """At least so many times the figure of docker-registry, and that of distribution v3; None: no bound."""

    peer: float | None = None
    v3: float | None = None

    def __str__(self) -> str:
        words = [f"{least:g}× {name}" for least, name in ((self.peer, PEER), (self.v3, "v3")) if least]
        return f"at least {' and '.join(words)}" if words else ""

    def holds(self, to_peer: float, to_v3: float | None) -> bool | None:
        """Compare; None without a bound, and if v3 alone would decide and is not there."""
        known = [(ratio, least) for ratio, least in ((to_peer, self.peer), (to_v3, self.v3)) if least and ratio]
        return all(ratio >= least for ratio, least in known) if known else None


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


def production(folder: Path) -> Iterator[Row]:
    """Measure GET as the roles install the service, but without nginx."""
    bounds = dict.fromkeys(_KINDS, Bound(v3=1.5)) | {_BY_TAG: Bound(v3=1)}
    with ExitStack() as stack:
        hub = stack.enter_context(Hub(folder / "hub"))
        mine = stack.enter_context(production_server(folder / "ours", upstream=hub.url))
        targets = _targets([mine, *stack.enter_context(peers(folder))], hub)
        yield from _rows("GET of a manifest", _measured(targets, "GET"), bounds)


def production_nginx(folder: Path) -> Iterator[Row]:
    """Measure the same with the role's nginx before ours and before the peers."""
    if (reason := webserver.missing()) is not None:
        yield Row(f"manifests through nginx: not measured, {reason}", "")
        return
    with ExitStack() as stack:
        hub = stack.enter_context(Hub(folder / "hub"))
        mine = stack.enter_context(production_server(folder / "ours", upstream=hub.url))
        authority = Authority(folder)
        fronts = [
            stack.enter_context(behind(server, folder / f"nginx-{number}", authority))
            for number, server in enumerate([mine, *stack.enter_context(peers(folder))])
        ]
        targets = _targets(fronts, hub)
        yield from _rows(
            "GET of a manifest through nginx, TLS", _measured(targets, "GET"), dict.fromkeys(_KINDS, Bound())
        )


def manifests(folder: Path) -> Iterator[Row]:
    """Measure GET as the service ships, beside two bare Tornado servers."""
    with ExitStack() as stack:
        targets = _shipped(stack, folder)
        for kind in ("handler", "delegate"):
            bare = stack.enter_context(reference_server(folder, kind))
            targets.append(Target(bare.label, bare, "", "", frozenset({reference.BODY})))
        figures = _measured(targets, "GET")
        yield from _rows("GET of a manifest", figures, dict.fromkeys(_KINDS, Bound(peer=5, v3=2)))
        for target in targets:
            if not target.name:
                found = figures[target.kind, target.server.label]
                yield Row(
                    f"for comparison: {target.server.label}, one process", f"{statistics.median(found):,.0f}",
                    ratio=ratio_words(median_ratio(found, figures[_BY_DIGEST, PEER])),
                )  # fmt: skip


def heads(folder: Path) -> Iterator[Row]:
    """Measure HEAD as the service ships."""
    with ExitStack() as stack:
        figures = _measured(_shipped(stack, folder), "HEAD")
        yield from _rows("HEAD of a manifest", figures, dict.fromkeys(_KINDS, Bound(peer=5, v3=1)))


def _shipped(stack: ExitStack, folder: Path) -> list[Target]:
    hub = stack.enter_context(Hub(folder / "hub"))
    mine = stack.enter_context(ours(folder / "ours", upstream=hub.url))
    return _targets([mine, *stack.enter_context(peers(folder))], hub)


def _images() -> tuple[Image, Image]:
    return single("bench a", sizes=(2_000,) * 6), single("bench b", sizes=(2_000,) * 6)


def _targets(servers: Sequence[Server], hub: Hub) -> list[Target]:
    """Put the images there, and list what is asked for; only the first server, ours, has a mirror beside projects."""
    images, mine = _images(), servers[0]
    both, one = frozenset(image.payload for image in images), frozenset({images[0].payload})
    targets = []
    for server in servers:
        for image in images:
            server.registry.push(image, _NAME, _TAG)
        targets += [
            Target(_BY_TAG, server, _NAME, _TAG, both),
            Target(_BY_DIGEST, server, _NAME, images[0].digest, one),
        ]
    hub.add(images[0], _MIRRORED, _TAG)
    mirrored = Target(_MIRROR_TAG, mine, f"mirror/{_MIRRORED}", _TAG, one)
    # Cached first: a HEAD alone fetches nothing.
    headers = {**_ACCEPT, **mine.registry.authorization(mirrored.name)}
    mine.registry.ask("GET", mirrored.path, headers, expected=200)
    targets[2:2] = [mirrored, replace(mirrored, kind=_MIRROR_DIGEST, reference=images[0].digest)]
    return targets


def _measured(targets: Sequence[Target], method: str) -> Figures:
    figures: Figures = defaultdict(list)
    for _ in range(ROUNDS):
        for target in targets:
            figures[target.kind, target.server.label].append(_per_cpu_second(target, method))
    return figures


def _per_cpu_second(target: Target, method: str) -> float:
    server = target.server
    host, trusts = server.door
    headers = {**_ACCEPT, **(server.registry.authorization(target.name) if target.name else {})}
    bodies = target.bodies if method == "GET" else frozenset({b""})
    request = head(method, target.path, host, headers)
    with ExitStack() as stack:
        if server.label == OURS:
            stack.enter_context(Mover(server, _images()))
        before = server.cpu_seconds()
        answered = load.requests_answered(host, request, bodies, SECONDS, trusts)
        return answered / (server.cpu_seconds() - before)


def _rows(what: str, figures: Figures, bounds: Mapping[str, Bound]) -> Iterator[Row]:
    for kind, bound in bounds.items():
        theirs_kind = _BY_TAG if kind in (_BY_TAG, _MIRROR_TAG) else _BY_DIGEST
        mine, theirs, newer = figures[kind, OURS], figures[theirs_kind, PEER], figures.get((theirs_kind, V3))
        ratio, to_v3 = median_ratio(mine, theirs), median_ratio(mine, newer) if newer else None
        yield Row(
            f"{what}, {kind}: requests per CPU second",
            f"{statistics.median(mine):,.0f}",
            f"{statistics.median(theirs):,.0f}",
            f"{statistics.median(newer):,.0f}" if newer else "",
            ratio_words(ratio, to_v3),
            str(bound),
            bound.holds(ratio, to_v3),
        )
