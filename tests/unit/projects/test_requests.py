"""Requests that are kept: repeats by one client are folded, and everybody else's are not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.database import Database
from app.database.requests import KeptRequest
from app.projects.explanations import _BY_CAUSE, explain
from app.projects.requests import Requests
from tests.kept import made
from tests.parts.process import ROOT


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Written(Requests):
    """Writes into a list."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(Database("sqlite:///nowhere"), clock)
        self.rows: list[KeptRequest] = []

    async def write(self, notes: Mapping[int, KeptRequest]) -> None:
        self.rows += notes.values()


async def test_one_client_that_repeats_itself_takes_few_rows() -> None:
    clock = Clock()
    kept = Written(clock)
    for number in range(1000):
        kept.keep(made(number))
    kept.keep(made(1000, client="192.0.2.2"))
    kept.keep(made(1001, who="robot:ci"))
    await kept.flush()
    assert [row.request_id for row in kept.rows] == [*(f"id-{number}" for number in range(20)), "id-1000", "id-1001"]
    clock.now += 60
    await kept.flush()
    assert (kept.rows[-1].request_id, kept.rows[-1].times) == ("id-999", 980)
    clock.now += 60
    await kept.flush()
    assert len(kept.rows) == 23
    clock.now += 3600
    kept.keep(made(1002))
    await kept.flush()
    assert (kept.rows[-1].request_id, kept.rows[-1].times) == ("id-1002", 1)


async def test_the_rest_is_written_at_the_end() -> None:
    kept = Written(Clock())
    for number in range(30):
        kept.keep(made(number))
    await kept.close()
    assert sum(row.times for row in kept.rows) == 30


async def test_fills_are_kept_one_by_one() -> None:
    kept = Written(Clock())
    for number in range(50):
        kept.keep(made(number, outcome="filled", status=200, code=""))
    await kept.flush()
    assert len(kept.rows) == 50


async def test_texts_that_no_database_can_store_are_kept() -> None:
    kept = Written(Clock())
    kept.keep(made(why="a\0b\udc80", path="x" * 10_000))
    await kept.flush()
    assert (kept.rows[0].why, len(kept.rows[0].path)) == ("a\N{REPLACEMENT CHARACTER}b?", 500)


def test_slow_requests_are_explained_by_where_their_time_went() -> None:
    for phases, words in (
        ({"upstream": 8.0}, "upstream"),
        ({"db": 7.0, "upstream": 1.0}, "database was slow"),
        ({"answer": 9.0}, "worker was busy"),
        ({"answer": 0.1}, "client took the bytes slowly"),
    ):
        slow = made(status=200, outcome="hit", code="", seconds=10.0, phases=phases)
        assert words in explain(slow).cause


def test_every_cause_of_an_error_is_explained() -> None:
    """A word that no room uses any more is no cause."""
    used = set()
    for name in ("mirror", "access", "database", "storage", "web", "kit", "oci"):
        for file in (ROOT / "app" / name).rglob("*.py"):
            used |= set(re.findall(r'\bcause = "([^"]+)"', file.read_text()))
    budget = {f"budget {reason}" for reason in ("spent", "share", "busy", "blocked")}
    assert set(_BY_CAUSE) == used | budget | {"fault", "no worker"}
