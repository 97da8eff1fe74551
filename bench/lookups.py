"""What one answer about a name costs, by each way of asking: CPU time of ours, and of the server that is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.cache import Cache, Versions
from app.database import Database, projects
from app.database.migrate import migrate
from app.database.shared_copies import SharedCopies
from tests.parts.postgres import Postgres, postgres
from tests.parts.valkey import Valkey, valkey

from .processes import cpu_seconds
from .table import Row

_TIMES = 4000
# Questions that are asked at once, as the requests of one turn of the event loop do.
_TOGETHER = (1, 4, 16)

Work = Callable[[], Awaitable[object]]


def lookups(folder: Path) -> Iterator[Row]:
    """Measure every way, the nearest last."""
    folder.mkdir(parents=True)
    with postgres() as sql, valkey(folder) as redis:
        yield from asyncio.run(_measure(folder, sql, redis))


async def _measure(folder: Path, sql: Postgres, redis: Valkey) -> list[Row]:
    url, rows = sql.database(), []
    await migrate(url)
    async with _repository(url, None) as database:
        ask = lambda: projects.resolve(database, "physics", "app")  # noqa: E731
        rows.append(await _row("a prepared statement of PostgreSQL", ask, sql.pid))
    for kind, place in (("TCP", redis.url), ("a Unix socket", redis.socket_url)):
        cache = Cache(place)
        await cache.set("known", b"1", 600)
        rows.append(await _row(f"GET of redis-py by {kind}", lambda cache=cache: cache.get("known"), redis.pid))
        await cache.close()
        for together in _TOGETHER:
            versions = Versions(place)
            ask = _at_once(versions, together)
            rows.append(await _row(f"a version by {kind}, {together} at once", ask, redis.pid, together))
            await versions.close()
    versions = Versions(redis.url)
    copies = SharedCopies(versions)
    async with _repository(url, copies) as database:
        copies.attach(database)
        await copies.look()
        ask = lambda: projects.resolve(database, "physics", "app")  # noqa: E731
        rows.append(await _row("a leased copy in memory", ask, redis.pid))
    await versions.close()
    file = f"sqlite:///{folder}/registry.sqlite"
    await migrate(file)
    async with _repository(file, None) as database:
        ask = lambda: projects.resolve(database, "physics", "app")  # noqa: E731
        rows.append(await _row("a copy of SQLite's row", ask, None))
        rows.append(await _row("SELECT of SQLite", lambda: database._ask(projects._resolve, "app", "physics"), None))
    return rows


@asynccontextmanager
async def _repository(url: str, copies: SharedCopies | None) -> AsyncIterator[Database]:
    """Open a database that has physics/app."""
    database = Database(url, copies)
    async with database.transaction() as transaction:
        await projects.create(transaction, "physics", public=True, upstream=None, settings={})
        found = await projects.find(transaction, "physics")
        await projects.ensure_repository(transaction, found.id if found else 0, "app")
    yield database
    await database.close()


def _at_once(versions: Versions, together: int) -> Work:
    async def ask() -> None:
        await asyncio.gather(*(versions.present(f"r{number}") for number in range(together)))

    return ask


async def _row(what: str, ask: Work, server: int | None, answers: int = 1) -> Row:
    """Measure ``ask``, which brings so many ``answers`` at once."""
    times = _TIMES // answers
    for _ in range(20):
        await ask()
    began, theirs = time.process_time(), cpu_seconds(server) if server else 0.0
    for _ in range(times):
        await ask()
    ours = (time.process_time() - began) / times / answers * 1e6
    asked = (cpu_seconds(server) - theirs) / times / answers * 1e6 if server else 0.0
    return Row(f"{what}: µs of CPU", f"{ours:.1f}" + (f", and {asked:.0f} of the server" if server else ""))
