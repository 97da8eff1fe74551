"""Open uploads are bounded, for one person in a project and for all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app.database import Database
from app.oci.errors import TooManyRequests

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
    async with house.database.transaction() as transaction:
        await transaction.execute(text("UPDATE upload SET updated_at = 1"))
    await house.collection.collect()
    assert await rows(house.database, "SELECT id FROM upload") == []
    await house.uploads.begin(await house.open("physics/app"), opened_by="person:mari")
