"""Open uploads are bounded, for one person in a project and for all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import text

from app.database import Database, DatabaseUnavailable
from app.database.uploads import UploadSession
from app.oci.errors import TooManyRequests, Unavailable

from .house import House
from .rows import rows


@pytest.fixture
async def house(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr("app.registry.upload_sessions._MOST_OF_ONE", 5)
    monkeypatch.setattr("app.registry.upload_sessions._MOST_IN_PROJECT", 8)
    house = House(database, tmp_path / "blobs")
    await house.store.start()
    yield house
    await house.store.close()


async def test_of_one_person_and_of_a_project(house: House) -> None:
    await house.project("physics")
    await house.project("biology")
    repository = await house.open("physics/app")
    begun = [await house.uploads.begin(repository, opened_by="person:mari") for _ in range(5)]
    for name in ("physics/app", "physics/tool"):
        with pytest.raises(TooManyRequests, match="too many uploads are open in physics"):
            await house.uploads.begin(await house.open(name), opened_by="person:mari")
    await house.uploads.begin(await house.open("biology/app"), opened_by="person:mari")
    for _ in range(3):
        await house.uploads.begin(await house.open("physics/app"), opened_by="robot:ci")
    with pytest.raises(TooManyRequests):
        await house.uploads.begin(await house.open("physics/app"), opened_by="robot:ci")
    await house.uploads.cancel(await house.open("physics/app"), begun[0].id)
    await house.uploads.begin(await house.open("physics/app"), opened_by="person:mari")
    assert len(await left(house)) == 9, "8 and the one in biology"
    async with house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE upload SET updated_at = 1"))
    await house.collection.collect()
    assert await rows(house.database, "SELECT id FROM upload") == []
    await house.uploads.begin(await house.open("physics/app"), opened_by="person:mari")


async def test_those_that_are_left_for_an_hour_give_way(house: House) -> None:
    """A robot account whose pushes were cut off goes on pushing. Nobody loses an upload for another person's."""
    await house.project("physics")
    repository = await house.open("physics/app")
    mine = [await house.uploads.begin(repository, opened_by="robot:ci") for _ in range(5)]
    others = [await house.uploads.begin(repository, opened_by="person:mari") for _ in range(2)]
    await idle(house, 3500, *mine, *others)
    with pytest.raises(TooManyRequests, match="try again in an hour"):
        await house.uploads.begin(repository, opened_by="robot:ci")
    await idle(house, 3700, *mine[:2], *others)
    new = await house.uploads.begin(repository, opened_by="robot:ci")
    assert await left(house) == {one.id for one in (*mine[2:], *others, new)}
    # There is room again for one, and the project may have two more.
    for name in ("a", "b"):
        await house.uploads.begin(repository, opened_by=f"robot:{name}")
    last = await house.uploads.begin(repository, opened_by="robot:c")
    assert await left(house) > {last.id, new.id, *(one.id for one in mine[2:])}
    assert await left(house) & {one.id for one in others} == set()


async def test_who_comes_at_the_same_moment_finds_a_place_too(house: House) -> None:
    """Both choose the same sessions to end. One ends them; the other one has to wait, and then finds none."""
    await house.project("physics")
    repository = await house.open("physics/app")
    for _ in range(10):
        await house.database.transact(lambda transaction: transaction.execute(text("DELETE FROM upload")))
        await idle(house, 3700, *[await house.uploads.begin(repository, opened_by="robot:ci") for _ in range(5)])
        await asyncio.gather(*(house.uploads.begin(repository, opened_by="robot:ci") for _ in range(4)))


async def test_those_that_a_full_disk_left_empty_give_way_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients begin a new upload for each try. When there is room again, they are let in."""
    await house.project("physics")
    repository = await house.open("physics/app")
    begun = [await house.uploads.begin(repository, opened_by="robot:ci") for _ in range(5)]
    await take(house, begun[0])

    async def writer(key: str, state: object = None) -> NoReturn:
        raise Unavailable("the registry's disk is full", status=507)

    with monkeypatch.context() as full:
        full.setattr(house.store, "writer", writer)
        for session in (await house.uploads.find(await house.open("physics/app"), begun[0].id), *begun[1:4]):
            with pytest.raises(Unavailable):
                await take(house, session)

        async def without_database(key: str, state: object = None) -> NoReturn:
            raise DatabaseUnavailable("the registry's database is down")

        # A database that is down is not asked a second time.
        full.setattr(house.store, "writer", without_database)
        with pytest.raises(Unavailable):
            await take(house, begun[4])
    # Its client may still go on with it.
    await take(house, begun[1])
    new = await house.uploads.begin(repository, opened_by="robot:ci")
    assert await left(house) == {begun[0].id, begun[1].id, begun[4].id, new.id}


async def take(house: House, session: UploadSession) -> None:
    """Send a byte to a session."""
    async with house.uploads.receive(await house.open("physics/app"), session) as receiving:
        sent = iter([1, 0])

        async def read(room: memoryview) -> int:
            return next(sent)

        await receiving.take(read)


async def idle(house: House, seconds: float, *sessions: UploadSession) -> None:
    """Set the sessions' last request to so long ago."""
    ids = ", ".join(f"'{session.id}'" for session in sessions)
    async with house.database.transaction() as transaction:
        statement = f"UPDATE upload SET updated_at = {time.time() - seconds} WHERE id IN ({ids})"
        await transaction.execute(text(statement))


async def left(house: House) -> set[str]:
    return {row[0] for row in await rows(house.database, "SELECT id FROM upload")}
