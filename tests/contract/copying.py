"""Hosts that keep copies of one PostgreSQL's rows, each with connections of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from app.cache import Versions
from app.database import Database
from app.database.engine import PointQuery
from app.database.shared_copies import SharedCopies


class Host(Database):
    """A worker's database, which counts what it asks SQL; ``asked`` has the tables' names."""

    def __init__(self, url: str, redis: str) -> None:
        self.versions = Versions(redis)
        self.copies = SharedCopies(self.versions)
        super().__init__(url, self.copies)
        self.copies.attach(self)
        self.asked: Counter[str] = Counter()

    async def _ask(self, query: PointQuery, *parameters: object) -> Sequence[Any] | None:
        if query.scope is not None:
            self.asked[query.standard_text.partition("FROM ")[2].split()[0]] += 1
        return await super()._ask(query, *parameters)

    async def close(self) -> None:
        await super().close()
        await self.versions.close()


@asynccontextmanager
async def hosts(url: str, *redis: str) -> AsyncIterator[list[Host]]:
    """Open a host for each Redis' URL; each has read the epoch once."""
    opened = [Host(url, one) for one in redis]
    try:
        for host in opened:
            await host.copies.look()
        yield opened
    finally:
        for host in opened:
            await host.close()
