"""A database with its tables, and a cache with and without its server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from app.access.secrets import Secrets
from app.cache.client import Cache
from app.database import Database, projects
from tests.contract.conftest import KINDS
from tests.parts.valkey import Valkey

SECRETS = Secrets("k" * 32)


class Clock:
    """The time of day, moved by hand."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return time.time() + self.passed


@pytest.fixture
def clock() -> Clock:
    return Clock()


def no_redis() -> Cache:
    """A cache whose Redis is away, and stays away."""
    return Cache("unix:///nowhere/redis.sock")


@pytest.fixture
async def cache(valkey: Valkey) -> AsyncIterator[Cache]:
    """A cache with a real server, empty."""
    cache = Cache(valkey.url)
    yield cache
    await cache.close()


on_both_databases = pytest.mark.parametrize("kind", KINDS, indirect=True)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """SQLite, but for tests that are `on_both_databases`."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def database_url(migrated_url: str) -> str:
    """A database with its tables."""
    return migrated_url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with two projects, one public and one private."""
    database = Database(database_url)
    async with database.transaction() as transaction:
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
