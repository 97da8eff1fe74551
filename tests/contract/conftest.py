"""A database of each kind: SQLite in a file, and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.database import Database
from app.database.migrate import migrate


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, as an operator would write it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/registry.sqlite"
    return str(request.getfixturevalue("postgres").database())


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with the newest schema and nothing in it."""
    await migrate(database_url)
    database = Database(database_url)
    yield database
    await database.close()
