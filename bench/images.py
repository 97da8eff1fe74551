"""What Docker asks for around the bytes: tokens, a whole warm image, and pushes of small images, per CPU second."""

from __future__ import annotations

import asyncio
import json
import statistics
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

from tests.images import PLATFORMS, index, single
from tests.parts.weed import weed
from tests.upstream.client import Hub

from . import load
from .puller import crowd
from .servers import OURS, PROJECT, V3, Server, peers, production
from .table import Row, median_ratio, ratio_words
from .wire import Registry, head

ROUNDS = 3
SECONDS = 2.0
PULLS, PUSHES = 100, 12

_NAME, _MIRRORED, _TAG = f"{PROJECT}/small", "library/small", "1"
_SIZES = (2_000,) * 6

Figures = dict[str, list[float]]


def tokens(folder: Path) -> Iterator[Row]:
    """Measure requests for a token to pull: of nobody, who get the same for ten seconds, and of a robot account."""
    with production(folder) as server:
        robot = _robot(server.registry)
        figures: Figures = defaultdict(list)
        scope = urlencode({"service": server.host, "scope": f"repository:{_NAME}:pull"})
        for _ in range(ROUNDS):
            for who, headers in (("nobody", {}), ("a robot account", {"Authorization": robot})):
                request = head("GET", f"/service/token?{scope}", server.host, headers)
                before = server.cpu_seconds()
                answered = load.requests_answered(server.host, request, None, SECONDS)
                figures[who].append(answered / (server.cpu_seconds() - before))
        for who, found in figures.items():
            yield Row(f"token for {who}: requests per CPU second", f"{statistics.median(found):,.0f}")


def images(folder: Path) -> Iterator[Row]:
    """Measure pulls of a warm image of six small layers, and pushes of new images with as many.

    A pull is the ping, 401, a token, the tag, the manifest, the configuration and the layers.
    """
    numbers = count()
    with ExitStack() as stack:
        hub = stack.enter_context(Hub(folder / "hub"))
        s3 = stack.enter_context(weed(folder / "weed")).bucket("blobs")
        kept = stack.enter_context(production(folder / "folder", upstream=hub.url))
        far = stack.enter_context(production(folder / "s3", upstream=hub.url, s3=s3))
        theirs = stack.enter_context(peers(folder))
        image = index({name: single("small", sizes=_SIZES, platform=name) for name in PLATFORMS[:1]})
        hub.add(image, _MIRRORED, _TAG)
        servers = [kept, replace(far, label="ours, S3"), *theirs]
        for server in servers:
            server.registry.push(image, _NAME, _TAG)
        places = [(server.label, server, _NAME) for server in servers]
        places += [(f"{server.label}, mirror", server, f"mirror/{_MIRRORED}") for server in servers[:2]]
        pulls: Figures = defaultdict(list)
        pushes: Figures = defaultdict(list)
        for _ in range(ROUNDS):
            for label, server, name in places:
                asyncio.run(crowd(server.host, name, _TAG, 1))
                pulls[label].append(_pulled(server, name))
            for server in servers:
                pushes[server.label].append(_pushed(server, numbers))
    yield from _rows("pull of a warm image", pulls)
    yield from _rows("push of a small image", pushes)


def _pulled(server: Server, name: str) -> float:
    before = server.cpu_seconds()
    for _ in range(PULLS // 4):
        asyncio.run(crowd(server.host, name, _TAG, 4))
    return PULLS / (server.cpu_seconds() - before)


def _pushed(server: Server, numbers: Iterator[int]) -> float:
    new = [single(f"small {next(numbers)}", sizes=_SIZES) for _ in range(PUSHES)]
    before = server.cpu_seconds()
    for image in new:
        server.registry.push(image, _NAME, "pushed")
    return PUSHES / (server.cpu_seconds() - before)


def _rows(what: str, figures: Figures) -> Iterator[Row]:
    peer, newer = (figures.get(label) for label in ("docker-registry", V3))
    for label, found in figures.items():
        if not label.startswith(OURS):
            continue
        yield Row(
            f"{what}{label.removeprefix(OURS)}: images per CPU second",
            f"{statistics.median(found):,.0f}",
            f"{statistics.median(peer):,.0f}" if peer else "",
            f"{statistics.median(newer):,.0f}" if newer else "",
            ratio_words(median_ratio(found, peer), median_ratio(found, newer) if newer else None) if peer else "",
        )


def _robot(registry: Registry) -> str:
    """Make a robot account that may pull; give its Authorization header."""
    access = [{"resource": "repository", "action": "pull"}]
    scope = [{"kind": "project", "namespace": PROJECT, "access": access}]
    body = {"name": "ci", "level": "project", "duration": 30, "permissions": scope}
    headers = {"Authorization": _basic(*(registry.login or ("", ""))), "Content-Type": "application/json"}
    made = registry.ask("POST", "/api/v2.0/robots", headers, json.dumps(body).encode(), expected=201)
    robot = json.loads(made.body)
    return _basic(robot["name"], robot["secret"])


def _basic(name: str, secret: str) -> str:
    return f"Basic {b64encode(f'{name}:{secret}'.encode()).decode()}"
