"""What every request costs in a registry of some size, on one of the databases."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path

import psycopg

from app.database.migrate import migrate
from tests.parts.postgres import Postgres, postgres
from tests.parts.process import ROOT, python

from .asked import COMMANDS, asked
from .building import build
from .house import House

_SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": "10000",
    "shared_buffers": "512MB",
}


@contextmanager
def server() -> Iterator[Postgres]:
    """Start a PostgreSQL that counts the buffers of each statement."""
    with postgres(_SETTINGS) as found:
        yield found


def measure(folder: Path, size: int, database: Postgres | None, enough: Sequence[int] = ()) -> dict[str, int]:
    """Build a registry in ``folder``, or in a database of the server, and give what each request and command costs.

    ``enough`` has for each request, in their order, a cost that need not be looked at again. Without it, the registry
    is the small one that others are compared with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{folder}/registry.sqlite" if database is None else database.database()
    asyncio.run(migrate(url))
    built = build(url, size)
    if database is not None and not enough:
        # A thousand rows are a few buffers, which the planner would rather read whole. It shall ask as it asks many.
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET enable_seqscan = off".encode())
    house = House(folder, url, built)
    try:
        try:
            asks = asked(built)
            rated = zip(asks.items(), enough or repeat(0), strict=False)
            costs = {name: house.cost(ask, least) for (name, ask), least in rated}
            assert costs["/projects"] > 0, "the counter counts"
        finally:
            house.stop()
        return costs | _commands(house)
    finally:
        house.close()


def _commands(house: House) -> dict[str, int]:
    """Run every command of an operator once."""
    costs = {}
    for name, arguments in COMMANDS.items():
        command = python("-m", "tests.growth.counted", "admin", name, *arguments, "--config", str(house.config))
        before = house.count()
        subprocess.run(command, cwd=ROOT, input=b"a-new-password\n", capture_output=True, check=True, timeout=60)
        costs[name] = house.count() - before
    return costs
