"""Faults of the service's own: an id to quote, and nothing of what is inside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[House]:
    """A service of its own whose database has lost a table."""
    house = House(tmp_path)
    database = sqlite3.connect(tmp_path / "data" / "registry.sqlite")
    database.execute("ALTER TABLE label RENAME TO lost")
    database.close()
    yield house
    house.close()


def test_what_nobody_foresaw(broken: House) -> None:
    before = len(broken.service.log())
    answer = Api(broken.host, ADMIN, PASSWORD).call("GET", "/labels")
    assert answer.status == 500
    (error,) = answer.json()["errors"]
    assert answer.headers["X-Request-Id"] in error["message"]
    for inside in (b"label", b"SELECT", b"sqlite", b"Traceback", b".py"):
        assert inside not in answer.body
    assert any("exception" in line for line in broken.service.faults(before))
