"""Blobs, links and garbage on both databases: what is charged, what is let go, and what happens at once."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from app.database import Database, Transaction, blobs
from app.database.blobs import StoredBlob
from app.oci.digest import Digest

from .rows import add_blob, is_waiting, make_project, make_repository, rows, unlink, used_bytes

DATA = b"a layer of twenty by"


async def garbage(database: Database) -> set[str]:
    return {row[0] for row in await rows(database, "SELECT object_key FROM garbage")}


async def take_due(database: Database, limit: int = 100) -> list[str]:
    async with database.transaction() as transaction:
        keys = await blobs.due_garbage(transaction, limit)
        await blobs.forget_garbage(transaction, keys)
    return keys


async def test_a_blob_is_there_only_where_it_is_linked(database: Database) -> None:
    project = await make_project(database)
    mine, other = await make_repository(database, project, "mine"), await make_repository(database, project, "other")
    digest = await add_blob(database, project, mine, DATA, "key1")
    assert await blobs.linked(database, mine, digest) == StoredBlob("key1", len(DATA))
    assert await blobs.linked(database, other, digest) is None
    async with database.reading() as transaction:
        assert await blobs.linked_in_project(transaction, project, digest)
        assert not await blobs.linked_in_project(transaction, project + 1, digest)


async def test_linking_what_is_not_there(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    async with database.transaction() as transaction:
        assert not await blobs.add_link(transaction, project, repository, Digest.of(b"never sent"))
    assert await used_bytes(database) == 0


async def test_a_project_is_charged_once_for_a_blob(database: Database) -> None:
    physics, biology = await make_project(database), await make_project(database, "biology")
    first, second = await make_repository(database, physics, "a"), await make_repository(database, physics, "b")
    elsewhere = await make_repository(database, biology)
    digest = await add_blob(database, physics, first, DATA, "key1")
    await add_blob(database, physics, first, DATA, "key2")
    await add_blob(database, physics, second, DATA, "key3")
    assert await used_bytes(database) == len(DATA)
    await add_blob(database, biology, elsewhere, DATA, "key4")
    assert await used_bytes(database, "biology") == len(DATA)

    assert await unlink(database, first, digest)
    assert await used_bytes(database) == len(DATA)
    assert await unlink(database, second, digest)
    assert (await used_bytes(database), await used_bytes(database, "biology")) == (0, len(DATA))
    assert await blobs.linked(database, elsewhere, digest) == StoredBlob("key1", len(DATA))
    assert not await unlink(database, second, digest), "it was unlinked before"


async def test_the_last_link_gives_the_object_up(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    digest = await add_blob(database, project, repository, DATA, "key1")
    assert await garbage(database) == set()
    assert await unlink(database, repository, digest)
    assert await rows(database, "SELECT digest FROM blob") == []
    assert await garbage(database) == {"key1"}
    assert await take_due(database) == [], "a reader may still hold a URL of it"


async def test_of_two_uploads_the_first_object_stays(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    digest = await add_blob(database, project, repository, DATA, "first")
    await add_blob(database, project, repository, DATA, "second")
    assert await blobs.linked(database, repository, digest) == StoredBlob("first", len(DATA))
    assert await take_due(database) == ["second"]


async def test_garbage_is_put_off_and_due_in_order(database: Database) -> None:
    async with database.transaction() as transaction:
        await blobs.discard(transaction, "moved", -5)
        await blobs.discard(transaction, "later", -10)
        await blobs.discard(transaction, "sooner", -20)
        await blobs.discard(transaction, "moved", 3600)
    async with database.transaction() as transaction:
        assert await blobs.due_garbage(transaction, 1) == ["sooner"]
    assert await take_due(database) == ["sooner", "later"]
    assert await garbage(database) == {"moved"}


async def test_two_workers_take_different_garbage(database: Database) -> None:
    async with database.transaction() as transaction:
        for number in range(20):
            await blobs.discard(transaction, f"key{number:02}", -number - 1)
    first, second = await asyncio.gather(take_due(database, 10), take_due(database, 10))
    assert sorted(first + second) == [f"key{number:02}" for number in range(20)]


async def test_two_repositories_of_a_project_link_a_blob_at_once(database: Database) -> None:
    physics, biology = await make_project(database), await make_project(database, "biology")
    repositories = [await make_repository(database, physics, name) for name in ("a", "b")]
    digest = await add_blob(database, biology, await make_repository(database, biology), DATA, "key1")

    async def link(repository: int) -> bool:
        async with database.transaction() as transaction:
            return await blobs.add_link(transaction, physics, repository, digest)

    async with database.transaction() as transaction:
        assert await blobs.add_link(transaction, physics, repositories[0], digest)
        other = asyncio.create_task(link(repositories[1]))
        assert await is_waiting(database, other)
    assert await other
    assert await used_bytes(database) == len(DATA)


async def test_a_blob_is_pushed_again_while_its_last_link_goes(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    digest = await add_blob(database, project, repository, DATA, "old")
    async with database.transaction() as transaction:
        assert await blobs.unlink(transaction, repository, digest)
        push = asyncio.create_task(add_blob(database, project, repository, DATA, "new"))
        assert await is_waiting(database, push)
    await push
    assert await blobs.linked(database, repository, digest) == StoredBlob("new", len(DATA))
    assert await garbage(database) == {"old"}
    assert await used_bytes(database) == len(DATA)


async def test_the_last_link_goes_while_a_blob_is_pushed_again(database: Database) -> None:
    project = await make_project(database)
    first, second = await make_repository(database, project, "a"), await make_repository(database, project, "b")
    digest = await add_blob(database, project, first, DATA, "old")
    async with database.transaction() as transaction:
        await blobs.discard(transaction, "new", 3600)
        await blobs.add(transaction, digest, "new", len(DATA))
        removal = asyncio.create_task(unlink(database, first, digest))
        assert await is_waiting(database, removal)
        assert await blobs.add_link(transaction, project, second, digest), "the row that was found must stay"
    assert await removal
    assert await blobs.linked(database, second, digest) == StoredBlob("old", len(DATA))
    assert await take_due(database) == ["new"]
    assert await used_bytes(database) == len(DATA)


async def test_links_that_were_counted_on_stay_until_the_end(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    digest = await add_blob(database, project, repository, DATA, "key1")
    async with database.transaction() as transaction:
        assert await blobs.linked_sizes(transaction, repository, [digest]) == {digest: len(DATA)}
        removal = asyncio.create_task(unlink(database, repository, digest))
        assert await is_waiting(database, removal)
    assert await removal


async def test_pushes_and_deletions_of_one_blob_all_at_once(database: Database) -> None:
    physics, biology = await make_project(database), await make_project(database, "biology")
    places = [(p, await make_repository(database, p, name)) for p in (physics, biology) for name in ("a", "b")]
    digest, chance = Digest.of(DATA), random.Random(2)

    async def push(key: str, project: int, repository: int) -> None:
        await add_blob(database, project, repository, DATA, key)

    async def delete(repository: int) -> None:
        async def work(transaction: Transaction) -> None:
            await blobs.unlink(transaction, repository, digest)

        await database.transact(work)

    work = [push(f"key{number}", *chance.choice(places)) for number in range(60)]
    work += [delete(chance.choice(places)[1]) for _ in range(60)]
    chance.shuffle(work)
    await asyncio.gather(*work)

    linked = {row[0] for row in await rows(database, "SELECT repository_id FROM link")}
    named = {row[0] for row in await rows(database, "SELECT object_key FROM blob")}
    assert bool(named) == bool(linked), "a blob has a link, and a link its blob"
    assert named | await garbage(database) == {f"key{number}" for number in range(60)}, "no object is lost sight of"
    assert not named & await garbage(database), "no object is removed that is still needed"
    for name, project in (("physics", physics), ("biology", biology)):
        expected = len(DATA) if any(p == project and r in linked for p, r in places) else 0
        assert await used_bytes(database, name) == expected


async def test_sizes_of_more_blobs_than_a_statement_takes(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    digests = []
    async with database.transaction() as transaction:
        for number in range(1203):
            digests.append(Digest.of(str(number).encode()))
            if number % 2:
                await blobs.add(transaction, digests[-1], f"key{number}", number)
                await blobs.add_link(transaction, project, repository, digests[-1])
        sizes = await blobs.linked_sizes(transaction, repository, digests)
    assert sizes == {digests[number]: number for number in range(1, 1203, 2)}


async def test_the_coldest_come_first(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    digests = [await add_blob(database, project, repository, bytes([n]) * (n + 1), f"key{n}") for n in range(4)]
    now = time.time()
    async with database.transaction() as transaction:
        await blobs.touch(transaction, {(repository, digests[n]): now - age for n, age in enumerate((10, 40, 30, 20))})
        await blobs.touch(transaction, {})
        coldest = await blobs.coldest(transaction, project, now - 15, 2)
        assert coldest == [(repository, digests[1], 2), (repository, digests[2], 3)]
        assert [row[1] for row in await blobs.coldest(transaction, project, now - 15, 10)] == [
            digests[1], digests[2], digests[3],
        ]  # fmt: skip
        assert await blobs.coldest(transaction, project + 1, now, 10) == []


@pytest.mark.parametrize("size", [0, 2**40])
async def test_any_size(database: Database, size: int) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    digest = Digest.of(b"", "sha512")
    async with database.transaction() as transaction:
        await blobs.add(transaction, digest, "key", size)
        assert await blobs.add_link(transaction, project, repository, digest)
    assert await blobs.linked(database, repository, digest) == StoredBlob("key", size)
    assert await used_bytes(database) == size
