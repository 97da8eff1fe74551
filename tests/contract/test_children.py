"""What an index names is not deleted beneath it, on both databases (goharbor/harbor's "referenced by others")."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.access.errors import PreconditionFailed
from app.database import Database
from app.oci.digest import Digest
from app.oci.errors import Denied, ManifestBlobUnknown
from app.oci.manifest import OCI_INDEX, OCI_MANIFEST
from app.oci.reference import Tag
from tests.api.documents import EMPTY, image

from .house import House
from .rows import rows


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    house = House(database, tmp_path / "blobs")
    await house.projects.create(await house.admin(), name="physics", public=True, quota_bytes=None)
    await house.push_blob(EMPTY)
    yield house
    await house.check_books()


def index_of(*children: tuple[Digest, int], media_type: str = OCI_MANIFEST) -> bytes:
    entries = [{"mediaType": media_type, "digest": digest, "size": size} for digest, size in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


async def child(house: House, seed: bytes, *tags: str) -> tuple[Digest, int]:
    await house.push_blob(seed)
    payload = image(seed)
    return await house.push(payload, *tags), len(payload)


async def refused(house: House, digest: Digest, index: str) -> None:
    """Expect that both ways say which index stands in the way, and leave everything as it is."""
    for way in (
        house.artifacts.remove(await house.id_of(), digest),
        house.manifests.delete(await house.open(), digest),
    ):
        with pytest.raises((Denied, PreconditionFailed)) as caught:
            await way
        assert f"index {index} names {digest}" in caught.value.message
        assert caught.value.answer_status == (405 if isinstance(caught.value, Denied) else 412)


async def test_a_child_goes_after_its_index(house: House) -> None:
    first, second = await child(house, b"one"), await child(house, b"two", "two")
    payload = index_of(first, second)
    index = await house.push(payload, media_type=OCI_INDEX)
    await refused(house, first[0], index)
    await house.push(payload, "multi", media_type=OCI_INDEX)
    await refused(house, first[0], "multi")
    # A tag of its own does not make it the child's to go: the index would break as well.
    await refused(house, second[0], "multi")
    await house.manifests.delete(await house.open(), Tag("two"))
    await refused(house, second[0], "multi")
    await house.manifests.delete(await house.open(), Tag("multi"))
    await refused(house, first[0], index)
    await house.artifacts.remove(await house.id_of(), index)
    await house.artifacts.remove(await house.id_of(), first[0])
    await house.manifests.delete(await house.open(), second[0])
    assert await rows(house.database, "SELECT digest FROM manifest") == []


async def test_an_index_within_an_index(house: House) -> None:
    leaf = await child(house, b"leaf")
    inner_payload = index_of(leaf)
    inner = await house.push(inner_payload, "inner", media_type=OCI_INDEX)
    await house.push(index_of((inner, len(inner_payload)), media_type=OCI_INDEX), "outer", media_type=OCI_INDEX)
    await refused(house, leaf[0], "inner")
    await refused(house, inner, "outer")


async def test_the_whole_repository_goes_with_its_indexes(house: House) -> None:
    await house.push(index_of(await child(house, b"one")), "multi", media_type=OCI_INDEX)
    await house.repositories.remove(await house.id_of())
    assert await rows(house.database, "SELECT digest FROM manifest") == []


async def test_a_child_of_another_repository_is_another(house: House) -> None:
    digest, size = await child(house, b"one")
    await house.push(index_of((digest, size)), "multi", media_type=OCI_INDEX)
    for blob in (EMPTY, b"one"):
        await house.push_blob(blob, "physics/other")
    await house.push(image(b"one"), to="physics/other")
    await house.manifests.delete(await house.open("physics/other"), digest)
    await refused(house, digest, "multi")


async def test_a_mirror_forgets_a_child_which_it_can_fetch_again(house: House, database: Database) -> None:
    digest, size = await child(house, b"one")
    await house.push(index_of((digest, size)), "multi", media_type=OCI_INDEX)
    async with database.transaction() as transaction:
        await transaction.exec_driver_sql("UPDATE project SET upstream = 'docker.io'")
    await house.artifacts.remove(await house.id_of(), digest)


async def test_an_index_that_comes_at_the_same_time(house: House) -> None:
    """Whoever is first wins: the index has all its children, or is refused."""
    for number in range(5):
        digest, size = await child(house, b"seed %d" % number)
        pushing = asyncio.create_task(house.push(index_of((digest, size)), f"v{number}", media_type=OCI_INDEX))
        deleting = asyncio.create_task(house.manifests.delete(await house.open(), digest))
        pushed, deleted = await asyncio.gather(pushing, deleting, return_exceptions=True)
        there = await rows(house.database, f"SELECT 1 FROM manifest WHERE digest = '{digest}'")
        assert bool(there) is isinstance(deleted, Denied), deleted
        assert isinstance(pushed, ManifestBlobUnknown) is not bool(there), pushed
