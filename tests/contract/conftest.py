"""A database of each kind: SQLite in a file, and PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import LRUCache

from app.database import Database
from app.database.migrate import migrate
from tests.parts.postgres import Postgres
from tests.parts.service import migrated

from .house import House


@pytest.fixture(scope="session", autouse=True)
def _shared_statements() -> Iterator[None]:
    """Let SQLAlchemy compile a statement once for all tests, of which each has an engine and a dialect of its own."""
    compiled: LRUCache[Any, Any] = LRUCache(4096)
    made = AsyncEngine.__init__

    def make(engine: AsyncEngine, sync_engine: Engine) -> None:
        made(engine, sync_engine)
        sync_engine._compiled_cache = compiled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncEngine, "__init__", make)
        # The key of a compiled statement begins with the dialect. All of one class have the same options here.
        for dialect in (PGDialect_asyncpg, SQLiteDialect_aiosqlite):
            patch.setattr(dialect, "__eq__", lambda one, other: type(one) is type(other))
            patch.setattr(dialect, "__hash__", lambda one: hash(type(one)))
        yield


# The services of the other suites have SQLite. So `make test` proves the same on PostgreSQL, which production has.
KINDS = [pytest.param("sqlite", marks=pytest.mark.sqlite), "postgresql"]


@pytest.fixture(params=KINDS)
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
def postgres_template(postgres: Postgres) -> str:
    """The URL of a PostgreSQL database with the newest schema that nobody writes to."""
    url = postgres.database()
    asyncio.run(migrate(url))
    return url


@pytest.fixture
def postgres_url(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """The URL of a PostgreSQL database with the newest schema and nothing in it."""
    with postgres.lent(postgres_template) as url:
        yield url


@pytest.fixture
def migrated_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the newest schema and nothing in it. Whoever changes that takes `database_url`."""
    if kind == "sqlite":
        shutil.copy(migrated(), tmp_path)
        return _sqlite(tmp_path)
    return str(request.getfixturevalue("postgres_url"))


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
