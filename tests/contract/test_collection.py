"""Garbage collection: what nothing needs any more goes after a day, and nothing else does.

Times are moved in the rows, a day or more into the past: nobody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.access.computations import Computations
from app.config import Policy
from app.database import Database
from app.oci.digest import Digest
from app.oci.errors import BlobUnknown, BlobUploadUnknown, ManifestBlobUnknown
from app.oci.manifest import OCI_INDEX, OCI_MANIFEST
from app.oci.reference import Name, Tag
from app.projects.service import Projects, Repository
from app.registry.blobs import Blobs
from app.registry.garbage_collection import GRACE_SECONDS, GarbageCollection
from app.registry.manifests import Manifests
from app.registry.payloads import Payloads
from app.registry.uploads import Uploads
from app.storage.filesystem import FilesystemStore
from tests.api.documents import EMPTY, buildkit_cache, descriptor, image, index
from tests.grants import everything

from .house import body
from .rows import make_project, rows, used_bytes

DAY = GRACE_SECONDS + 1
LAYERS = [f"layer {number} ".encode() * 1000 for number in range(4)]


class House:
    """A registry's services on one database and one folder."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.store = FilesystemStore(folder)
        self.uploads = Uploads(database, self.store)
        self.blobs = Blobs(database)
        self.manifests = Manifests(database, Payloads(None), Computations())
        self.collection = GarbageCollection(database, self.store)
        self.projects = Projects(database, Policy(), [], str)

    async def open(self, name: str = "physics/app") -> Repository:
        return await self.projects.open(Name(name), await everything(self.database, Name(name)))

    async def push_blobs(self, *contents: bytes, to: str = "physics/app") -> None:
        for data in contents:
            repository = await self.open(to)
            session = await self.uploads.begin(repository)
            async with self.uploads.receive(repository, session) as receiving:
                await receiving.take(body(data))
                await receiving.commit(Digest.of(data))

    async def push(
        self, reference: str, payload: bytes, media_type: str = OCI_MANIFEST, to: str = "physics/app"
    ) -> Digest:
        parsed = Digest(reference) if ":" in reference else Tag(reference)
        digest, _ = await self.manifests.put(await self.open(to), parsed, [], media_type, payload)
        return digest

    async def push_image(self, reference: str | None, *layers: bytes, to: str = "physics/app", **more: Any) -> Digest:
        """Push an image with its parts, by a tag or with None by its digest only."""
        await self.push_blobs(EMPTY, *layers, to=to)
        payload = image(*layers, **more)
        return await self.push(reference or Digest.of(payload), payload, to=to)

    async def later(self, seconds: float = DAY) -> None:
        """Let time pass: everything that is written down was written so much earlier."""
        async with self.database.transaction() as transaction:
            for table, column in (("review", "review_at"), ("garbage", "remove_at"), ("upload", "updated_at")):
                await transaction.execute(text(f"UPDATE {table} SET {column} = {column} - {seconds}"))

    async def days_later(self, days: int = 6) -> None:
        """Let days pass, with a collection on each: a chain of references goes link by link."""
        for _ in range(days):
            await self.later()
            await self.collection.collect()

    async def has(self, digest: Digest, name: str = "physics/app") -> bool:
        repository = await self.open(name)
        return repository.id is not None and await self.manifests.read(repository.id, digest) is not None

    async def serves(self, *contents: bytes, name: str = "physics/app") -> list[bool]:
        """Say of each content whether a client can still pull it, whole."""
        repository = await self.open(name)
        assert repository.id is not None
        served = []
        for data in contents:
            found = await self.blobs.find(repository.id, Digest.of(data))
            if found is None:
                served.append(False)
                continue
            async with aclosing(self.store.read(found.object_key, 0, found.size)) as pieces:
                served.append(b"".join([piece async for piece in pieces]) == data)
        return served

    def objects(self) -> int:
        """Count the files that hold anybody's bytes."""
        return sum(len(path.name) == 32 for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[House]:
    await make_project(database)
    house = House(database, tmp_path / "blobs")
    await house.store.start()
    yield house
    await house.store.close()


async def count(house: House, *tables: str) -> list[int]:
    return [(await rows(house.database, f"SELECT count(*) FROM {table}"))[0][0] for table in tables]


class TestManifests:
    async def test_a_moved_tags_image_goes_with_its_blobs(self, house: House) -> None:
        old = await house.push_image("latest", LAYERS[0], LAYERS[1])
        new = await house.push_image("latest", LAYERS[1], LAYERS[2])
        await house.collection.collect()
        assert await house.has(old), "not before a day is over"
        await house.days_later()
        assert not await house.has(old)
        assert await house.has(new)
        assert await house.serves(*LAYERS[:3], EMPTY) == [False, True, True, True]
        assert house.objects() == 3
        assert await count(house, "blob", "link", "manifest", "review", "garbage", "upload") == [3, 3, 1, 0, 0, 0]
        assert await used_bytes(house.database) == len(EMPTY) + len(LAYERS[1]) + len(LAYERS[2])

    async def test_not_before_its_time(self, house: House) -> None:
        old = await house.push_image("latest", LAYERS[0])
        await house.push_image("latest", LAYERS[1])
        for _ in range(3):
            await house.later(GRACE_SECONDS / 4)
            await house.collection.collect()
        assert await house.has(old)
        assert await house.serves(LAYERS[0]) == [True]

    async def test_a_deleted_tags_image_goes(self, house: House) -> None:
        digest = await house.push_image("once", LAYERS[0])
        await house.manifests.delete(await house.open(), Tag("once"))
        await house.days_later()
        assert not await house.has(digest)
        assert house.objects() == 0

    async def test_a_deleted_manifests_parts_go(self, house: House) -> None:
        digest = await house.push_image("once", LAYERS[0])
        await house.manifests.delete(await house.open(), digest)
        assert await house.serves(LAYERS[0]) == [True]
        await house.days_later()
        assert await count(house, "blob", "link", "manifest", "part", "tag", "review", "garbage") == [0] * 7
        assert house.objects() == 0
        assert await used_bytes(house.database) == 0

    async def test_what_has_another_tag_stays(self, house: House) -> None:
        digest = await house.push_image("one", LAYERS[0])
        await house.push("two", image(LAYERS[0]))
        await house.push_image("one", LAYERS[1])
        await house.days_later()
        assert await house.has(digest)
        assert await house.serves(*LAYERS[:2]) == [True, True]

    async def test_what_got_its_tag_back_stays(self, house: House) -> None:
        digest = await house.push_image("latest", LAYERS[0])
        await house.push_image("latest", LAYERS[1])
        await house.later(GRACE_SECONDS - 60)
        await house.push("latest", image(LAYERS[0]))
        await house.days_later()
        assert await house.has(digest)
        assert await house.serves(*LAYERS[:2]) == [True, False]

    async def test_what_was_pushed_by_digest_only_stays(self, house: House) -> None:
        digest = await house.push_image(None, LAYERS[0])
        await house.days_later()
        assert await house.has(digest)
        assert await house.serves(LAYERS[0], EMPTY) == [True, True]

    async def test_an_index_keeps_its_children(self, house: House) -> None:
        child = image(LAYERS[0])
        digest = await house.push_image(None, LAYERS[0])
        top = await house.push("list", index(child), OCI_INDEX)
        await house.days_later()
        assert await house.has(digest)
        await house.push_image("list", LAYERS[1])
        await house.days_later()
        assert not await house.has(top)
        assert not await house.has(digest)
        assert await house.serves(*LAYERS[:2]) == [False, True]

    async def test_an_index_keeps_its_blobs(self, house: House) -> None:
        """A cache of BuildKit: its layers are there for as long as the index is."""
        await house.push_blobs(EMPTY, *LAYERS[:3])
        await house.push("cache", buildkit_cache(*LAYERS[:2]), OCI_INDEX)
        await house.days_later()
        assert await house.serves(EMPTY, *LAYERS[:3]) == [True, True, True, False]
        await house.push("cache", buildkit_cache(LAYERS[1]), OCI_INDEX)
        await house.days_later()
        assert await house.serves(EMPTY, *LAYERS[:2]) == [True, False, True]
        await house.manifests.delete(await house.open(), Tag("cache"))
        await house.days_later()
        assert await house.serves(EMPTY, LAYERS[1]) == [False, False]
        assert await used_bytes(house.database) == 0

    async def test_an_entry_without_a_type_may_be_a_blob_or_a_manifest(self, house: House) -> None:
        digest = await house.push_image(None, LAYERS[0])
        await house.push_blobs(LAYERS[1])
        entries = [{"digest": digest}, {"digest": Digest.of(LAYERS[1])}]
        await house.push("mixed", index(manifests=entries), OCI_INDEX)
        await house.days_later()
        assert await house.has(digest)
        assert await house.serves(*LAYERS[:2]) == [True, True]

    async def test_a_child_with_a_tag_of_its_own_stays(self, house: House) -> None:
        digest = await house.push_image("child", LAYERS[0])
        await house.push("list", index(image(LAYERS[0])), OCI_INDEX)
        await house.manifests.delete(await house.open(), Tag("list"))
        await house.days_later()
        assert await house.has(digest)
        assert await house.serves(LAYERS[0]) == [True]

    async def test_a_child_of_another_index_stays(self, house: House) -> None:
        digest = await house.push_image(None, LAYERS[0])
        child = image(LAYERS[0])
        await house.push("one", index(child), OCI_INDEX)
        await house.push("two", index(child, annotations={"is": "another"}), OCI_INDEX)
        await house.manifests.delete(await house.open(), Tag("one"))
        await house.days_later()
        assert await house.has(digest)

    async def test_a_chain_of_three(self, house: House) -> None:
        leaf, middle = image(LAYERS[0]), index(image(LAYERS[0]))
        top = index(middle, child_type=OCI_INDEX)
        await house.push_image(None, LAYERS[0])
        await house.push(Digest.of(middle), middle, OCI_INDEX)
        await house.push("top", top, OCI_INDEX)
        await house.days_later()
        assert [await house.has(Digest.of(payload)) for payload in (leaf, middle, top)] == [True] * 3
        await house.manifests.delete(await house.open(), Tag("top"))
        await house.days_later()
        assert [await house.has(Digest.of(payload)) for payload in (leaf, middle, top)] == [False] * 3
        assert house.objects() == 0

    async def test_a_referrer_lives_as_long_as_its_subject(self, house: House) -> None:
        subject = await house.push_image("app", LAYERS[0])
        named = descriptor(image(LAYERS[0]), OCI_MANIFEST)
        signature = await house.push_image(None, LAYERS[1], subject=named)
        await house.days_later()
        assert await house.has(signature)
        await house.push_image("app", LAYERS[2])
        await house.days_later()
        assert not await house.has(subject)
        assert not await house.has(signature)
        assert await house.serves(*LAYERS[:3]) == [False, False, True]

    async def test_a_referrer_with_a_tag_stays(self, house: House) -> None:
        await house.push_image("app", LAYERS[0])
        named = descriptor(image(LAYERS[0]), OCI_MANIFEST)
        signature = await house.push_image("sha256-abc.sig", LAYERS[1], subject=named)
        await house.push_image("app", LAYERS[2])
        await house.days_later()
        assert await house.has(signature)
        assert await house.serves(*LAYERS[:3]) == [False, True, True]

    async def test_a_referrer_whose_subject_never_came_stays(self, house: House) -> None:
        named = descriptor(b"never pushed", OCI_MANIFEST)
        signature = await house.push_image(None, LAYERS[0], subject=named)
        await house.days_later()
        assert await house.has(signature)


class TestBlobs:
    async def test_what_no_manifest_came_for_goes(self, house: House) -> None:
        await house.push_blobs(LAYERS[0])
        await house.collection.collect()
        assert await house.serves(LAYERS[0]) == [True]
        await house.days_later(2)
        assert await house.serves(LAYERS[0]) == [False]
        assert house.objects() == 0

    async def test_what_another_image_needs_stays(self, house: House) -> None:
        gone = await house.push_image("gone", LAYERS[0], LAYERS[1])
        await house.push_image("stays", LAYERS[1])
        await house.manifests.delete(await house.open(), gone)
        await house.days_later()
        assert await house.serves(*LAYERS[:2]) == [False, True]

    async def test_what_another_repository_has_stays_there(self, house: House) -> None:
        await house.push_image("app", LAYERS[0])
        await house.push_image("app", LAYERS[0], to="physics/other")
        assert house.objects() == 4, "before the doubles are collected"
        await house.manifests.delete(await house.open(), Tag("app"))
        await house.days_later()
        assert await house.serves(LAYERS[0]) == [False]
        assert await house.serves(LAYERS[0], EMPTY, name="physics/other") == [True, True]
        assert house.objects() == 2

    async def test_the_double_of_an_upload_goes(self, house: House) -> None:
        for _ in range(3):
            await house.push_blobs(LAYERS[0])
        await house.push_image("app", LAYERS[0])
        assert house.objects() == 5
        await house.days_later()
        assert house.objects() == 2
        assert await house.serves(LAYERS[0], EMPTY) == [True, True]

    async def test_a_deleted_blobs_object_stays_for_those_who_are_reading(self, house: House) -> None:
        await house.push_blobs(LAYERS[0])
        await house.blobs.delete(await house.open(), Digest.of(LAYERS[0]))
        await house.collection.collect()
        assert house.objects() == 1
        await house.later(16 * 60)
        await house.collection.collect()
        assert house.objects() == 0

    async def test_a_mount_that_came_to_nothing_goes(self, house: House) -> None:
        await house.push_image("app", LAYERS[0])
        target = await house.open("physics/other")
        assert await house.blobs.mount(target, Digest.of(LAYERS[0]), await house.open())
        await house.days_later(2)
        assert await house.serves(LAYERS[0], name="physics/other") == [False]
        assert await house.serves(LAYERS[0]) == [True]

    async def test_a_client_that_was_told_it_need_not_send(self, house: House) -> None:
        """A HEAD of somebody who pushes puts the collection off for another day."""
        await house.push_blobs(EMPTY, LAYERS[0])
        repository = await house.open()
        assert repository.id is not None
        await house.later(GRACE_SECONDS - 60)
        await house.blobs.keep(repository.id, Digest.of(LAYERS[0]))
        await house.later(3600)
        await house.collection.collect()
        assert await house.serves(EMPTY, LAYERS[0]) == [False, True]

    async def test_pushed_again_in_the_last_minute(self, house: House) -> None:
        await house.push_blobs(LAYERS[0])
        await house.later()
        await house.push_blobs(LAYERS[0])
        await house.collection.collect()
        assert await house.serves(LAYERS[0]) == [True]


class TestUploads:
    async def test_what_was_left_for_a_day_goes_with_its_object(self, house: House) -> None:
        left = await self.begun(house)
        await house.later(DAY)
        await house.collection.collect()
        with pytest.raises(BlobUploadUnknown):
            await house.uploads.find(await house.open(), left)
        assert house.objects() == 0
        assert await count(house, "upload", "garbage") == [0, 0]

    async def begun(self, house: House) -> str:
        repository = await house.open()
        session = await house.uploads.begin(repository)
        async with house.uploads.receive(repository, session) as receiving:
            await receiving.take(body(LAYERS[0]))
        return session.id

    async def test_what_goes_on_stays(self, house: House) -> None:
        upload = await self.begun(house)
        for _ in range(3):
            await house.later(GRACE_SECONDS - 60)
            await house.collection.collect()
            repository = await house.open()
            session = await house.uploads.find(repository, upload)
            async with house.uploads.receive(repository, session) as receiving:
                await receiving.take(body(LAYERS[1]))
        whole = LAYERS[0] + LAYERS[1] * 3
        repository = await house.open()
        async with house.uploads.receive(repository, await house.uploads.find(repository, upload)) as receiving:
            await receiving.commit(Digest.of(whole))
        await house.later(GRACE_SECONDS - 60)
        await house.collection.collect()
        assert await house.serves(whole) == [True]

    async def test_cancelled(self, house: House) -> None:
        upload = await self.begun(house)
        await house.uploads.cancel(await house.open(), upload)
        await house.later(1)
        await house.collection.collect()
        assert house.objects() == 0
        assert await count(house, "upload", "garbage") == [0, 0]

    async def test_a_worker_that_died_while_writing(self, house: House) -> None:
        """What it had in hand is known by its row, and nobody has to look for it."""
        repository = await house.open()
        session = await house.uploads.begin(repository)
        writer = await house.store.writer(session.object_key, None)
        await writer.write(LAYERS[0])
        await writer.suspend()
        await writer.close()
        assert house.objects() == 1
        await house.days_later(2)
        assert house.objects() == 0


async def test_two_collectors_at_once(house: House, tmp_path: Path) -> None:
    """Each row is one's; both together do what one would have done, once."""
    for number in range(12):
        await house.push_image("latest", LAYERS[number % 3], str(number).encode() * 100)
    others = [GarbageCollection(house.database, FilesystemStore(tmp_path / "blobs")) for _ in range(3)]
    for _ in range(4):
        await house.later()
        await asyncio.gather(house.collection.collect(), *(other.collect() for other in others))
    kept = [LAYERS[11 % 3], b"11" * 100, EMPTY]
    assert await house.serves(*kept) == [True] * 3
    assert house.objects() == 3
    assert await count(house, "blob", "link", "manifest", "review", "garbage") == [3, 3, 1, 0, 0]
    assert await used_bytes(house.database) == sum(map(len, kept))


async def test_pushes_while_it_collects(house: House) -> None:
    """An image that was taken is whole, whatever was being collected at that moment."""

    async def push(number: int) -> tuple[str, list[bytes]]:
        own = f"own {number}".encode()
        await house.push_image(f"t{number}", LAYERS[0], own)
        return f"t{number}", [LAYERS[0], own, EMPTY]

    for turn in range(3):
        await house.push_blobs(LAYERS[0])
        await house.later()
        pushed = await asyncio.gather(*(retried(push, turn * 10 + number) for number in range(4)), collecting(house))
        for _, contents in pushed[:-1]:
            assert await house.serves(*contents) == [True] * 3
    await house.days_later()
    for number in (0, 1, 2, 3, 20, 23):
        assert await house.serves(LAYERS[0], f"own {number}".encode()) == [True, True]


async def retried(push: Any, number: int) -> tuple[str, list[bytes]]:
    """Push as a client does, which sends again what it is told is missing."""
    for _ in range(5):
        try:
            pushed: tuple[str, list[bytes]] = await push(number)
        except ManifestBlobUnknown:
            continue
        return pushed
    raise AssertionError("told five times that a part is missing")


async def collecting(house: House) -> tuple[str, list[bytes]]:
    for _ in range(5):
        await house.collection.collect()
        await asyncio.sleep(0.01)
    return "", []


async def test_an_object_that_is_gone_already(house: House) -> None:
    await house.push_blobs(*LAYERS)
    for path in list(house.folder.rglob("*")):
        if path.is_file():
            path.unlink()
    await house.days_later(2)
    assert await count(house, "blob", "garbage") == [0, 0]
    with pytest.raises(BlobUnknown):
        await read(house, LAYERS)


async def read(house: House, contents: Iterable[bytes]) -> None:
    async for _ in house.store.read(Digest.of(next(iter(contents))).hex[:32], 0, 1):
        pass


async def test_many_at_once(house: House) -> None:
    """More than one batch of each kind."""
    repository = await house.open()
    for number in range(110):
        await house.uploads.begin(repository)
        repository = await house.open()
        await house.push_blobs(str(number).encode())
    await house.days_later(2)
    assert await count(house, "upload", "blob", "link", "review", "garbage") == [0] * 5
    assert house.objects() == 0
