"""Nobody who was shut out with a success gets in afterwards, whenever Redis and PostgreSQL go away and come back.

One of two hosts shuts out many people and robot accounts at once, each in another way. After every step, each of them
tries every door at both hosts. While PostgreSQL is down, the service refuses to shut anybody out. The test asks again
when all is back. A token from before lives for five minutes, unless its project is gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path

import pytest

from tests.parts import postgres as postgres_part
from tests.parts import valkey as valkey_part
from tests.parts.postgres import Postgres
from tests.parts.valkey import Valkey

from .shutting_out import IN, OUT, Hosts, hosts, settled

# "R-" stops or freezes Redis, "R+" brings it back; "S-" and "S+" do that with SQL. `Course` explains the other words.
ORDERS: Mapping[str, str] = {
    "Redis away before": "R- act R+",
    "Redis away after": "act R- R+",
    "Redis away during": "begin R- end R+",
    "Redis emptied": "act flush",
    "Redis with older data": "save act restart",
    "SQL away before": "S- act S+",
    "SQL away after": "act S- S+",
    "SQL away during": "begin S- end S+",
    "both before, SQL first": "R- S- act S+ act R+",
    "both before, Redis first": "S- R- act R+ S+",
    "both after, SQL first": "act R- S- S+ R+",
    "both after, Redis first": "act S- R- R+ S+",
    "both during, SQL first": "begin R- S- end S+ R+",
    "both during, Redis first": "begin S- R- end R+ S+",
    "Redis before, SQL after, SQL first": "R- act S- S+ R+",
    "Redis before, SQL after, Redis first": "R- act S- R+ S+",
    "Redis with older data while SQL is away": "save act S- restart S+",
    "Redis emptied while SQL is away": "act S- flush S+",
}
# The kinds of away, of Redis and of SQL.
KINDS = tuple(product(("stopped", "frozen"), ("stopped", "frozen")))
# An act is under way for so long when its parts go.
_BEGUN_SECONDS = 0.05
_AGAIN_SECONDS = 60


class Course:
    """Goes through the steps of an order.

    - ``act``: shut out everybody who is still in, and wait for the answers. ``begin`` and ``end`` do the same, with the
      steps between them while it is under way.
    - ``save`` lets Redis write its data, ``restart`` lets it begin again with what it wrote, ``flush`` empties it.
    """

    def __init__(self, where: Hosts, postgres: Postgres, valkey: Valkey, redis: str, sql: str) -> None:
        self._where = where
        self._everybody = where.everybody()
        # Once more: what is asked again may be answered by copies.
        where.try_doors(self._everybody, expected=IN)
        self._valkey = valkey
        self._acting: threading.Thread | None = None
        self._failure: list[BaseException] = []
        self._steps: Mapping[str, Callable[[], object]] = {
            "R-": valkey.stop if redis == "stopped" else valkey.pause,
            "R+": valkey.start if redis == "stopped" else valkey.resume,
            "S-": postgres.stop if sql == "stopped" else postgres.pause,
            "S+": postgres.start if sql == "stopped" else postgres.resume,
            "act": lambda: where.act(self._everybody),
            "begin": self._begin,
            "end": self._end,
            "save": lambda: valkey.command("SAVE"),
            "restart": self._restart,
            "flush": valkey.flush,
        }

    def go(self, steps: str) -> int:
        """Go through the steps, and try the doors after each; return how many were tried."""
        tried = 0
        for step in steps.split():
            self._steps[step]()
            if self._acting is None:
                tried += self._try()
        settled(self._where)
        # What was refused is done now.
        end = time.monotonic() + _AGAIN_SECONDS
        while not all(one.ended for one in self._everybody):
            assert time.monotonic() < end, [one.name for one in self._everybody if not one.ended]
            self._where.act(self._everybody)
        return tried + self._try()

    def _try(self) -> int:
        return self._where.try_doors([one for one in self._everybody if one.ended], expected=OUT)

    def _restart(self) -> None:
        self._valkey.stop()
        self._valkey.start()

    def _begin(self) -> None:
        def act() -> None:
            try:
                self._where.act(self._everybody)
            except BaseException as failure:  # noqa: BLE001  # it is raised again in the test
                self._failure.append(failure)

        self._acting = threading.Thread(target=act)
        self._acting.start()
        time.sleep(_BEGUN_SECONDS)

    def _end(self) -> None:
        assert self._acting is not None
        self._acting.join()
        self._acting = None
        if self._failure:
            raise self._failure[0]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Redis of this file's own, because it may keep data for its next start."""
    with valkey_part.valkey(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def sql() -> Iterator[Postgres]:
    with postgres_part.postgres() as server:
        yield server


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory, sql: Postgres, redis: Valkey) -> Iterator[Hosts]:
    folder: Path = tmp_path_factory.mktemp("shut")
    with hosts(folder, sql.database(), redis.url, processes=1) as both:
        yield both


@pytest.mark.timeout(300)
def test_nobody_gets_in_again(where: Hosts, sql: Postgres, redis: Valkey) -> None:
    """One of the orders below, with Redis stopped and SQL frozen."""
    Course(where, sql, redis, *KINDS[1]).go(ORDERS["Redis with older data while SQL is away"])


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("order", ORDERS)
def test_nobody_gets_in_again_in_any_order(
    where: Hosts, sql: Postgres, redis: Valkey, order: str, kinds: tuple[str, str]
) -> None:
    print(Course(where, sql, redis, *kinds).go(ORDERS[order]), "doors")
    for service in where.services:
        assert not [line for line in service.log().splitlines() if "Traceback" in line]
