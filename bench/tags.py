"""A page of tags: what it costs where there are a thousand times as many."""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.images import single

from . import load
from .servers import PROJECT, ours
from .table import Row, median_ratio, ratio_words
from .wire import head

ROUNDS = 45
SECONDS = 0.25
PAGE = 100
LEAST = 0.9

# One more than a page holds: both pages then say where the next one begins.
_SIZES = {f"{PROJECT}/few": PAGE + 1, f"{PROJECT}/many": 100_000}


def tags(folder: Path) -> Iterator[Row]:
    """Measure the first page of a hundred and one tags, and two of a hundred thousand."""
    figures: dict[str, list[float]] = defaultdict(list)
    few, many = _SIZES
    with ours(folder / "ours") as server:
        for name, count in _SIZES.items():
            server.registry.push(single("tagged"), name, _tag(0))
            _add_tags(folder / "ours/data/registry.sqlite", name, count)
        asked = {
            "of 101": (few, ""),
            "the first of 100,000": (many, ""),
            "in the middle of 100,000": (many, f"&last={_tag(50_000)}"),
        }
        for number in range(ROUNDS):
            # Whoever comes first in a round is not always the same.
            for what, (name, last) in list(asked.items())[:: 1 if number % 2 else -1]:
                token = server.registry.authorization(name)
                target = f"/v2/{name}/tags/list?n={PAGE}{last}"
                page = server.registry.ask("GET", target, token, expected=200).body
                if len(json.loads(page)["tags"]) != PAGE:
                    raise RuntimeError(f"{target} has not {PAGE} tags: {page[:200]!r}")
                before = server.cpu_seconds()
                answered = load.requests_answered(server.host, head("GET", target, server.host, token), {page}, SECONDS)
                figures[what].append(answered / (server.cpu_seconds() - before))
    for what in asked:
        found = figures[what]
        ratio = median_ratio(found, figures["of 101"])
        compared = what != "of 101"
        yield Row(
            f"page of 100 tags, {what}: requests per CPU second",
            f"{statistics.median(found):,.0f}",
            ratio=f"{ratio_words(ratio)} of that of 101" if compared else "",
            bound=f"no slower, within noise: {LEAST:g}×" if compared else "",
            holds=ratio >= LEAST if compared else None,
        )


def _tag(number: int) -> str:
    return f"v{number:06}"


def _add_tags(file: Path, name: str, count: int) -> None:
    """Write tags of the one manifest that is there straight into the database: a push of each would take an hour."""
    now = time.time()
    with closing(sqlite3.connect(file, timeout=30)) as connection, connection:
        repository, digest = connection.execute(
            "SELECT repository_id, digest FROM tag JOIN repository ON repository.id = repository_id"
            " WHERE repository.name = ?",
            (name.partition("/")[2],),
        ).fetchone()
        connection.executemany(
            "INSERT INTO tag (repository_id, name, digest, updated_at, checked_at) VALUES (?, ?, ?, ?, ?)",
            ((repository, _tag(number), digest, now, now) for number in range(1, count)),
        )
