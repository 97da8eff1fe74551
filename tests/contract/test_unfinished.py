"""What unfinished pushes hold of a quota is seen and freed; nobody sees a repository before its first manifest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.database import Database, Transaction, quotas, removals, repositories
from app.database.keyset import Page
from app.database.projects import Project
from app.database.quotas import QuotaExceeded
from app.oci.digest import Digest
from app.oci.errors import BlobUploadUnknown
from app.projects import unfinished
from tests.api.documents import EMPTY, image

from .house import House, body
from .rows import rows

QUOTA = 300_000
LARGE = 150_000
ANN, BEN = "person:ann", "robot:ben"


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    house = House(database, tmp_path / "blobs")
    yield house
    await house.check_books()


@pytest.fixture
async def project(house: House) -> Project:
    return await house.projects.create(await house.admin(), name="physics", public=True, quota_bytes=QUOTA)


async def send(house: House, data: bytes, by: str = ANN, to: str = "physics/app") -> Digest:
    """Push a blob in one request, as one principal."""
    repository = await house.open(to)
    session = await house.uploads.begin(repository, opened_by=by)
    async with house.uploads.receive(repository, session, announced=len(data), resumable=False) as receiving:
        await receiving.take(body(data))
        await receiving.commit(Digest.of(data))
    return Digest.of(data)


async def begin(house: House, data: bytes, by: str = ANN, to: str = "physics/app") -> str:
    """Send the first part of a blob, and leave; give the session's id."""
    repository = await house.open(to)
    session = await house.uploads.begin(repository, opened_by=by)
    async with house.uploads.receive(repository, session, announced=len(data)) as receiving:
        await receiving.take(body(data))
    return session.id


async def finish(house: House, layer: bytes, *tags: str, by: str = ANN, to: str = "physics/app") -> None:
    repository = await house.open(to)
    payload = image(layer)
    await house.manifests.put(repository, Digest.of(payload), [], None, payload, by)


async def push(house: House, layer: bytes, by: str = ANN, to: str = "physics/app") -> None:
    for data in (EMPTY, layer):
        await send(house, data, by, to)
    await finish(house, layer, by=by, to=to)


async def age(house: House, hours: float) -> None:
    """Let everything that is under way be older."""
    async with house.database.transaction() as transaction:
        await transaction.exec_driver_sql(f"UPDATE upload SET updated_at = updated_at - {hours * 3600}")
        await transaction.exec_driver_sql(f"UPDATE review SET review_at = review_at - {hours * 3600}")
        await transaction.exec_driver_sql(f"UPDATE repository SET created_at = created_at - {hours * 3600}")


async def test_what_a_refused_push_sent_is_free_again(house: House, project: Project) -> None:
    await send(house, EMPTY)
    await send(house, b"a" * LARGE)
    with pytest.raises(QuotaExceeded):
        await send(house, b"b" * (QUOTA - LARGE + 1))
    assert await house.used(project.id) == 0
    await push(house, b"c" * (LARGE + 10_000))


@pytest.mark.parametrize("by", [BEN, ANN])
async def test_what_others_send_meanwhile_stays(house: House, project: Project, by: str) -> None:
    """Another one's push to the same repository, and one's own to another."""
    there = "physics/app" if by == BEN else "physics/tool"
    await send(house, EMPTY, by, there)
    await send(house, b"x" * 1000, by, there)
    await send(house, b"a" * LARGE)
    with pytest.raises(QuotaExceeded):
        await send(house, b"b" * LARGE)
    assert await house.used(project.id) == 1000 + len(EMPTY)
    await finish(house, b"x" * 1000, by=by, to=there)


async def test_what_a_manifest_names_stays(house: House, project: Project) -> None:
    await push(house, b"a" * LARGE)
    held = await house.used(project.id)
    await send(house, b"more")
    with pytest.raises(QuotaExceeded):
        await send(house, b"b" * LARGE)
    assert await house.used(project.id) == held
    repository = await house.id_of()
    assert await house.blobs.find(repository, Digest.of(b"a" * LARGE)) is not None


async def test_a_manifest_that_does_not_fit_frees_its_blobs(house: House, project: Project) -> None:
    for data in (EMPTY, b"a" * (QUOTA - 600)):
        await send(house, data)
    with pytest.raises(QuotaExceeded):
        await finish(house, b"a" * (QUOTA - 600))
    assert await house.used(project.id) == 0


async def test_what_was_left_is_freed_when_it_is_needed(house: House, project: Project) -> None:
    """A client that vanished: a blob without a manifest, and a session with some bytes."""
    await send(house, b"a" * LARGE, BEN)
    upload = await begin(house, b"b" * LARGE, BEN, "physics/tool")
    with pytest.raises(QuotaExceeded):
        await push(house, b"c" * LARGE, to="physics/other")
    await age(house, 1.1)
    await push(house, b"c" * LARGE, to="physics/other")
    with pytest.raises(BlobUploadUnknown):
        await house.uploads.find(await house.open("physics/tool"), upload)


async def test_blobs_of_a_long_push_stay_while_it_goes_on(house: House, project: Project) -> None:
    await send(house, b"a" * LARGE, BEN)
    await age(house, 5)
    # A layer of the same push is under way.
    await begin(house, b"b" * 1000, BEN)
    with pytest.raises(QuotaExceeded):
        await send(house, b"c" * LARGE, to="physics/other")
    assert await house.blobs.find(await house.id_of(), Digest.of(b"a" * LARGE)) is not None


async def test_all_of_it_is_seen_and_freed_by_hand(house: House, project: Project) -> None:
    await push(house, b"kept")
    kept = await house.used(project.id)
    assert await house.quotas.unfinished(project.id) == 0
    await send(house, b"a" * 1000, BEN)
    # A blob that the project has in another repository costs nothing, and frees nothing.
    await send(house, b"kept", BEN, "physics/tool")
    await begin(house, b"b" * LARGE, BEN)
    seen = await house.quotas.unfinished(project.id)
    assert seen == await house.used(project.id) - kept == LARGE + 1000
    assert await house.quotas.free_unfinished(project.id) == seen
    assert (await house.quotas.unfinished(project.id), await house.used(project.id)) == (0, kept)
    other = await house.project("chemistry")
    await send(house, b"of another project", to="chemistry/app")
    await house.quotas.free_unfinished(project.id)
    assert await house.quotas.unfinished(other.id) > 0


async def test_many_are_freed_in_batches(house: House, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.projects.unfinished._BATCH", 10)
    for number in range(23):
        await send(house, b"%d" % number)
    await house.quotas.free_unfinished(project.id)
    assert await house.used(project.id) == 0


async def test_a_push_that_names_a_blob_while_it_is_freed(house: House, project: Project) -> None:
    """The manifest is refused, or it keeps its blobs."""
    for number in range(5):
        layer = b"layer %d" % number
        for data in (EMPTY, layer):
            await send(house, data)
        await asyncio.gather(finish(house, layer), house.quotas.free_unfinished(project.id), return_exceptions=True)
        named = await rows(house.database, "SELECT digest FROM part WHERE NOT is_manifest")
        linked = await rows(house.database, "SELECT digest FROM link")
        assert {row[0] for row in named} <= {row[0] for row in linked}


async def listed(house: House, project: Project) -> list[str]:
    found = await house.database.read(repositories.page, project.id, Page(10))
    assert (await house.database.read(repositories.total, project.id)).number == len(found)
    assert (await house.projects.summary(project.id)).repositories == len(found)
    everywhere = await house.repositories.search(await house.admin(), Page(10))
    assert [one.name for one in everywhere if one.project_id == project.id] == [one.name for one in found]
    return [one.name for one in found]


async def test_a_repository_is_seen_from_its_first_manifest_on(house: House, project: Project) -> None:
    await begin(house, b"some")
    for data in (EMPTY, b"layer"):
        await send(house, data)
    assert await listed(house, project) == []
    assert await house.blobs.find(await house.id_of(), Digest.of(b"layer")) is not None
    await finish(house, b"layer")
    assert await listed(house, project) == ["app"]
    # It stays when its last manifest goes, as in Harbor.
    await house.artifacts.remove(await house.id_of(), Digest.of(image(b"layer")))
    assert await listed(house, project) == ["app"]


async def test_a_project_with_unfinished_pushes_only_can_go(house: House, project: Project) -> None:
    await begin(house, b"some")
    await send(house, b"layer", to="physics/tool")
    await house.projects.remove(project.id)
    assert await rows(house.database, "SELECT id FROM repository") == []


async def test_a_repository_that_never_got_a_manifest_goes_with_its_blobs(house: House, project: Project) -> None:
    await send(house, b"layer")
    await begin(house, b"some", to="physics/tool")
    await push(house, b"kept", to="physics/kept")
    await house.collection.collect()
    assert len(await rows(house.database, "SELECT id FROM repository")) == 3
    await age(house, 49)
    await house.collection.collect()
    await house.collection.collect()
    assert await rows(house.database, "SELECT name FROM repository") == [("kept",)]


async def test_a_manifest_that_an_older_release_put_there_is_shown(house: House, project: Project) -> None:
    await push(house, b"layer")
    async with house.database.transaction() as transaction:
        await transaction.exec_driver_sql("UPDATE repository SET pending = true")
    assert await listed(house, project) == []
    async with house.database.transaction() as transaction:
        await removals.show_filled(transaction)
    assert await listed(house, project) == ["app"]


async def test_a_charge_is_tried_again_only_if_there_is_more_room(house: House, project: Project) -> None:
    tried = 0

    async def work(transaction: Transaction) -> None:
        nonlocal tried
        tried += 1
        await quotas.charge(transaction, project.id, QUOTA)

    await push(house, b"a" * LARGE)
    with pytest.raises(QuotaExceeded):
        await unfinished.transact(house.database, work)
    assert tried == 1
    # Of somebody's push that had no progress for an hour, but it is not enough.
    await send(house, b"b" * 1000, BEN)
    await age(house, 2)
    with pytest.raises(QuotaExceeded):
        await unfinished.transact(house.database, work)
    assert tried == 3
