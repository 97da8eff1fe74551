"""A database of each kind: SQLite in a file, and PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.database import Database
from app.database.migrate import migrate
from tests.parts.postgres import Postgres

from .house import House


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, as an operator would write it."""
    if kind == "sqlite":
        return _sqlite(tmp_path)
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


@pytest.fixture(scope="session")
def templates() -> dict[str, str]:
    """What is migrated once of each kind: hundreds of tests take copies, which come many times sooner."""
    return {}


@pytest.fixture
async def migrated_url(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    templates: dict[str, str],
) -> str:
    """The URL of a database with the newest schema and nothing in it."""
    if kind == "sqlite":
        if kind not in templates:
            templates[kind] = _sqlite(tmp_path_factory.mktemp("template"))
            await migrate(templates[kind])
        shutil.copy(templates[kind].removeprefix("sqlite:///"), tmp_path)
        return _sqlite(tmp_path)
    postgres: Postgres = request.getfixturevalue("postgres")
    if kind not in templates:
        templates[kind] = postgres.database()
        await migrate(templates[kind])
    return postgres.database(template=templates[kind])


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """A database with the newest schema and nothing in it."""
    database = Database(migrated_url)
    yield database
    await database.close()


def _sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/registry.sqlite"


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    """The services of the registry on a database of each kind; each project is charged for what it has in the end."""
    house = House(database, tmp_path / "blobs")
    await house.store.start()
    yield house
    await house.check_books()
    await house.store.close()
