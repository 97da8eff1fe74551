"""Copies have a bound of their own in Redis: a flood of them removes nothing else, whatever the server evicts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
from redis import Redis
from sqlalchemy import bindparam, select

from app.cache import Cache
from app.database import shared_copies
from app.database.changes import repository
from app.database.engine import PointQuery
from app.database.tables import manifest
from app.oci.digest import Digest
from app.registry import payloads
from app.registry.payloads import Payloads
from tests.parts.valkey import Valkey

from .copying import Host, hosts

MIB = 1024 * 1024
# As docs/decisions/0030 says: the values, and the overhead of the server's allocator and of keys.
BOUND = 80 * MIB
OTHERS, OTHER_FAMILIES = 2000, ("budget", "session", "login", "lease")
QUESTION = PointQuery(
    select(manifest.c.media_type).where(manifest.c.repository_id == bindparam("repository")), scope=repository
)


@pytest.fixture
async def host(postgres_url: str, valkey: Valkey) -> AsyncIterator[Host]:
    async with hosts(postgres_url, valkey.url) as (host,):
        yield host


@pytest.fixture
async def cache(valkey: Valkey) -> AsyncIterator[Cache]:
    cache = Cache(valkey.url)
    yield cache
    await cache.close()


@pytest.fixture(params=[pytest.param("allkeys-lru", marks=pytest.mark.long), "volatile-lfu"])
def full(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Valkey]:
    """A server with memory for the copies and for little else, which evicts in each of the ways that we configure."""
    used = memory(valkey)
    valkey.command(f"CONFIG SET maxmemory-policy {request.param}")
    valkey.command(f"CONFIG SET maxmemory {used + BOUND + 10 * MIB}")
    yield valkey
    valkey.command("CONFIG SET maxmemory 0")
    valkey.command("CONFIG SET maxmemory-policy noeviction")


def memory(valkey: Valkey) -> int:
    with Redis.from_url(valkey.url) as redis:
        return int(redis.info("memory")["used_memory"])


async def flood(host: Host, cache: Cache, numbers: Iterator[int], questions: int, manifests: int) -> None:
    """Ask so many questions that are answered with the largest rows, and keep so many of the largest manifests."""
    row = ("x" * (shared_copies._SLOT_BYTES - 200),)

    async def ask(_: PointQuery, *parameters: object) -> tuple[str, ...]:
        return row

    for _ in range(questions // 500):
        await asyncio.gather(*(host.copies.point(QUESTION, (next(numbers),), ask) for _ in range(500)))
    kept = Payloads(cache)
    for _ in range(manifests // 100):
        many = [next(numbers).to_bytes(8, "big") * (payloads._SLOT_BYTES // 8) for _ in range(100)]
        await asyncio.gather(*(kept.keep(Digest.of(payload), payload) for payload in many))


async def test_a_flood_of_copies_removes_nothing_else(host: Host, cache: Cache, full: Valkey) -> None:
    for number in range(OTHERS):
        for family in OTHER_FAMILIES:
            assert await cache.set(f"{family}:{number}", "x" * 200, 3600)
    before = memory(full)
    # Enough to take most slots, some of them several times.
    await flood(host, cache, count(1), 32_000, 4_000)
    assert 40 * MIB < memory(full) - before < BOUND, f"{(memory(full) - before) / MIB:.0f} MiB"
    for number in range(OTHERS):
        assert None not in await cache.mget([f"{family}:{number}" for family in OTHER_FAMILIES])
