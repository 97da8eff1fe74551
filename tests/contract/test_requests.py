"""The requests that are kept for operators, on both databases."""

from __future__ import annotations

import time

from app.database import Database, requests
from app.projects.requests import Requests
from tests.kept import made


async def test_requests_are_found_by_id_client_and_repository_the_newest_first(database: Database) -> None:
    kept = Requests(database)
    for number in range(6):
        repository = "lab/app" if number % 2 else "mirror/x"
        kept.keep(made(number, client=f"192.0.2.{number}", repository=repository, phases={"db": 0.5}))
    assert list(await kept.find("id-3")) == []
    await kept.flush()
    (found,) = await kept.find("id-3")
    assert (found.request_id, found.phases, found.times) == ("id-3", {"db": 0.5}, 1)
    assert [each.request_id for each in await kept.find("192.0.2.4")] == ["id-4"]
    assert [each.request_id for each in await kept.find("lab/app")] == ["id-5", "id-3", "id-1"]
    assert list(await kept.find("a\0b")) == []


async def test_pages_and_outcomes(database: Database) -> None:
    kept = Requests(database)
    for number in range(6):
        kept.keep(made(number, outcome="failed" if number % 2 else "filled"))
    await kept.flush()
    first = await kept.recent(limit=2)
    assert [each.request_id for each in first] == ["id-5", "id-4"]
    assert [each.request_id for each in await kept.recent(after=first[-1].id, limit=2)] == ["id-3", "id-2"]
    assert [each.request_id for each in await kept.recent(outcomes=["failed"])] == ["id-5", "id-3", "id-1"]


async def test_old_ones_and_those_beyond_the_number_of_rows_are_removed(database: Database) -> None:
    async with database.transaction() as transaction:
        await requests.add(transaction, [made(number) for number in range(10)])
        await requests.add(transaction, [made(20 + number, at=time.time()) for number in range(10)])
        assert await requests.remove_older(transaction, 100.0, 1000, 4) == 4
        while await requests.remove_older(transaction, 100.0, 7, 4):
            pass
        left = await requests.newest(transaction, limit=100)
    assert [each.request_id for each in left] == [f"id-{number}" for number in range(29, 22, -1)]
