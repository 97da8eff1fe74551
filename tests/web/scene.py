"""What the pages are looked at with: people, projects, images that were pushed and pulled, a mirror with a past."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from argon2 import PasswordHasher

from app.database import Database, Transaction, accounts, budget_samples, projects, traffic
from app.database.traffic import Counts

PEOPLE = {"mari.tamm": "Mari Tamm", "jaan.saar": "Jaan Saar", "liis.kask": "Liis Kask"}
PASSWORD = "tests-persons-password"
_DAY, _HOUR = 86400, 3600


def within(folder: Path, work: Callable[[Transaction], Awaitable[object]]) -> None:
    """Do something to the database of the service that runs in this folder."""

    async def run() -> None:
        database = Database(f"sqlite:///{folder / 'data' / 'registry.sqlite'}")
        try:
            async with database.transaction() as transaction:
                await work(transaction)
        finally:
            await database.close()

    # In a thread of its own: the one that steers a browser has a loop already.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(run())).result()


def add_people(folder: Path) -> None:
    """Make people with passwords kept here, so that they can log in without an identity provider."""
    _add(folder, PEOPLE)


def add_person(folder: Path, *usernames: str) -> None:
    """Make people without a full name."""
    _add(folder, dict.fromkeys(usernames, ""))


def _add(folder: Path, people: Mapping[str, str]) -> None:
    password_hash = PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)

    async def add(transaction: Transaction) -> None:
        for username, full_name in people.items():
            await accounts.create(transaction, username, password_hash, is_admin=False)
            found = await accounts.find(transaction, username)
            assert found is not None
            await accounts.change(transaction, found.id, full_name=full_name, email=f"{username}@example.org")

    within(folder, add)


def add_past(folder: Path, now: float | None = None) -> None:
    """Give the mirror a month of traffic and a day of what its upstream allowed."""
    at = time.time() if now is None else now

    async def add(transaction: Transaction) -> None:
        mirror = await projects.find(transaction, "mirror")
        assert mirror is not None
        hour = int(at // _HOUR)
        counted = {
            (mirror.id, hour - back): Counts(
                hits=int(900 + 700 * math.sin(back / 3.8)),
                misses=12 + back % 7,
                served_bytes=int((40 + 30 * math.sin(back / 3.8)) * 1024**3),
                fetched_bytes=(1 + back % 3) * 1024**3,
            )
            for back in range(30 * 24)
        }
        await traffic.add(transaction, counted)
        limit = 200
        for minute in range(0, 24 * 60, 5):
            within_window = minute % 360
            remaining = max(4, limit - int(within_window * 0.5 + 12 * math.sin(within_window / 25)))
            when = at - _DAY + minute * 60
            await budget_samples.add(transaction, "docker.io", "", when, limit=limit, remaining=min(limit, remaining))

    within(folder, add)
