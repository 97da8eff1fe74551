"""A database with its tables, and a cache with and without its server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.access.secrets import Secrets
from app.cache.client import Cache
from app.database import Database, projects
from app.database.tables import metadata
from tests.parts.postgres import Postgres
from tests.parts.valkey import Valkey

SECRETS = Secrets("k" * 32)


def no_redis() -> Cache:
    """A cache whose Redis is away, and stays away."""
    return Cache("unix:///nowhere/redis.sock")


@pytest.fixture
async def cache(valkey: Valkey) -> AsyncIterator[Cache]:
    """A cache with a real server, empty."""
    cache = Cache(valkey.url)
    yield cache
    await cache.close()


on_both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: SQLite, but for tests that are `on_both_databases`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path}/registry.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with two projects, one public and one private."""
    database = Database(database_url)
    async with database.transaction() as transaction:
        await transaction.run_sync(metadata.create_all)
        await projects.create(transaction, "open", public=True, upstream=None, settings={})
        await projects.create(transaction, "secret", public=False, upstream=None, settings={})
    yield database
    await database.close()


@pytest.fixture
async def other_database(database: Database, database_url: str) -> AsyncIterator[Database]:
    """The same database as another worker has it open."""
    other = Database(database_url)
    yield other
    await other.close()
