"""A database with its tables, and what the throttle counts with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.database import Database, projects
from app.database.tables import metadata
from tests.parts.valkey import Valkey


class RedisCounter:
    """Counts in Redis, None where it is away; what `app.access.throttle.Counter` asks for."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)

    async def count(self, key: str) -> int | None:
        try:
            return int(await self._redis.get(key) or 0)
        except (RedisError, OSError):
            return None

    async def increment(self, key: str, ttl: int) -> int | None:
        try:
            total = int(await self._redis.incr(key))
            await self._redis.expire(key, ttl, nx=True)
        except (RedisError, OSError):
            return None
        return total

    async def close(self) -> None:
        await self._redis.aclose()


class NoCounter:
    """What the throttle sees for as long as Redis is away."""

    async def count(self, key: str) -> int | None:
        return None

    async def increment(self, key: str, ttl: int) -> int | None:
        return None


@pytest.fixture
async def counter(valkey: Valkey) -> AsyncIterator[RedisCounter]:
    """Counts of a real server."""
    counter = RedisCounter(valkey.url)
    yield counter
    await counter.close()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/registry.db"


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
