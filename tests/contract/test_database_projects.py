"""Projects, repositories, upload sessions, accounts and keys on both databases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from app.database import Database, accounts, projects, repositories, uploads
from app.database.accounts import SigningKey
from app.database.uploads import UploadSession

from .rows import add_manifest, image, make_project, make_repository, rows


async def test_a_project_is_made_once(database: Database) -> None:
    async with database.transaction() as transaction:
        assert await projects.create(
            transaction, "mirror", public=True, upstream="docker.io", settings={"cache_bytes": 2**40, "tõde": None}
        )
        assert not await projects.create(transaction, "mirror", public=False, upstream=None, settings={})
        assert await projects.create(transaction, "physics", public=False, upstream=None, settings={})
        mirror = await projects.find(transaction, "mirror")
        assert mirror is not None
        assert (mirror.public, mirror.upstream, mirror.used_bytes) == (True, "docker.io", 0)
        assert mirror.settings == {"cache_bytes": 2**40, "tõde": None}
        assert await projects.mirrors(transaction) == [mirror]
        assert await projects.find(transaction, "Mirror") is None
    assert await projects.head(database, "mirror") == (mirror.id, True, "docker.io")
    hosted = await projects.head(database, "physics")
    assert hosted is not None
    assert hosted[1:] == (False, None)
    assert await projects.head(database, "biology") is None


async def test_a_change_shows_at_once(database: Database) -> None:
    project = await make_project(database)
    async with database.transaction() as transaction:
        assert await projects.change(transaction, "physics", public=False, settings={"a": 1})
        assert not await projects.change(transaction, "biology", public=False)
        found = await projects.find(transaction, "physics")
    assert found is not None
    assert found.settings == {"a": 1}
    assert await projects.head(database, "physics") == (project, False, None)


async def test_names_resolve(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project, "team/app")
    made_at = float((await rows(database, "SELECT created_at FROM project WHERE name = 'physics'"))[0][0])
    here = project, True, None
    assert await projects.resolve(database, "physics", "team/app") == (*here, repository, made_at, {}, None)
    assert await projects.resolve(database, "physics", "team") == (*here, None, made_at, {}, None)
    assert await projects.resolve(database, "biology", "team/app") is None


async def test_many_begin_a_repository_at_once(database: Database) -> None:
    project = await make_project(database)
    ids = await asyncio.gather(*(make_repository(database, project, "app") for _ in range(10)))
    assert len(set(ids)) == 1


async def test_a_repository_needs_its_project(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await make_repository(database, 404)


async def test_the_catalogue(database: Database) -> None:
    expected = []
    for name, public in (("a", True), ("a-b", False), ("a_b", True), ("b", False), ("0", True)):
        project = await make_project(database, name, public=public)
        for repository in ("z", "a/b", "a", "a-b"):
            await add_manifest(database, await make_repository(database, project, repository), image("app"))
            expected.append((name, repository, public))
        await make_repository(database, project, "empty")
    ordered = sorted(expected, key=lambda entry: (entry[0].encode(), entry[1].encode()))

    for everything in (True, False):
        visible: list[tuple[str, str, Mapping[str, Any]]] = [
            (*entry[:2], {}) for entry in ordered if everything or entry[2]
        ]
        async with database.reading() as transaction:
            assert await repositories.catalogue(transaction, ("", ""), 100, everything=everything) == visible
            paged: list[tuple[str, str, Mapping[str, Any]]] = []
            while page := await repositories.catalogue(
                transaction, paged[-1][:2] if paged else ("", ""), 3, everything=everything
            ):
                paged += page
            assert paged == visible
    async with database.reading() as transaction:
        after = await repositories.catalogue(transaction, ("a", "a/b"), 2, everything=True)
    assert after == [("a", "z", {}), ("a-b", "a", {})]


def session(repository: int, **changes: Any) -> UploadSession:
    return replace(UploadSession("upload1", repository, "key1", None, 0, "sha256:e3b0"), **changes)


async def test_an_upload_goes_on(database: Database) -> None:
    repository = await make_repository(database, await make_project(database))
    begun = session(repository)
    moved = session(repository, bytes_written=5, state={"parts": [[1, "etag", 5]]}, digest_so_far="sha256:1234")
    async with database.transaction() as transaction:
        await uploads.create(transaction, begun)
        assert await uploads.find(transaction, repository, "upload1") == begun
        assert await uploads.advance(transaction, begun, moved)
        assert await uploads.find(transaction, repository, "upload1") == moved
        assert await uploads.find(transaction, repository + 1, "upload1") is None, "another repository's"
        assert await uploads.find(transaction, repository, "upload2") is None
        assert await uploads.remove(transaction, "upload1")
        assert not await uploads.remove(transaction, "upload1")
        assert not await uploads.advance(transaction, moved, replace(moved, bytes_written=6))


async def test_of_two_requests_that_move_an_upload_one_loses(database: Database) -> None:
    repository = await make_repository(database, await make_project(database))
    begun = session(repository)
    async with database.transaction() as transaction:
        await uploads.create(transaction, begun)

    async def advance(to: int) -> bool:
        async with database.transaction() as transaction:
            return await uploads.advance(transaction, begun, replace(begun, bytes_written=to))

    outcomes = await asyncio.gather(*(advance(to) for to in range(1, 9)))
    assert outcomes.count(True) == 1
    assert await rows(database, "SELECT bytes_written FROM upload") == [(outcomes.index(True) + 1,)]


async def test_of_two_requests_that_end_an_upload_one_loses(database: Database) -> None:
    repository = await make_repository(database, await make_project(database))
    async with database.transaction() as transaction:
        await uploads.create(transaction, session(repository))

    async def remove() -> bool:
        async with database.transaction() as transaction:
            return await uploads.remove(transaction, "upload1")

    assert sorted(await asyncio.gather(remove(), remove())) == [False, True]


async def test_idle_uploads_end_the_oldest_first(database: Database) -> None:
    repository = await make_repository(database, await make_project(database))
    for number in range(4):
        async with database.transaction() as transaction:
            await uploads.create(transaction, session(repository, id=f"upload{number}", object_key=f"key{number}"))
    async with database.transaction() as transaction:
        first = await uploads.find(transaction, repository, "upload0")
        assert first is not None
        assert await uploads.advance(transaction, first, replace(first, bytes_written=1))
        times = dict(await rows(database, "SELECT id, updated_at FROM upload"))
        assert await uploads.remove_idle(transaction, times["upload1"], 10) == []
        assert await uploads.remove_idle(transaction, time.time() + 1, 2) == ["key1", "key2"]
        assert sorted(await uploads.remove_idle(transaction, time.time() + 1, 2)) == ["key0", "key3"]


async def test_accounts(database: Database) -> None:
    async with database.transaction() as transaction:
        assert await accounts.create(transaction, "admin", "hash1", is_admin=True)
        assert not await accounts.create(transaction, "admin", "hash2", is_admin=False)
        found = await accounts.find(transaction, "admin")
        assert found is not None
        assert (found.username, found.password_hash, found.is_admin, found.disabled) == ("admin", "hash1", True, False)
        assert await accounts.find(transaction, "ADMIN") == found
        assert await accounts.find(transaction, "ADMIN1") is None
        assert await accounts.set_password(transaction, "admin", "hash3")
        assert not await accounts.set_password(transaction, "mari", "hash3")
        found = await accounts.find(transaction, "admin")
        assert found is not None
        assert found.password_hash == "hash3"
    assert "hash3" not in repr(found)


async def test_signing_keys(database: Database) -> None:
    keys = [SigningKey(f"key{number}", f"secret{number}", 100.5 + number) for number in range(3)]
    async with database.transaction() as transaction:
        for key in keys:
            await accounts.add_signing_key(transaction, key)
        assert await accounts.signing_keys(transaction) == keys[::-1]
        await accounts.remove_signing_keys(transaction, 101.5)
        assert await accounts.signing_keys(transaction) == keys[:0:-1]
    assert "secret" not in repr(keys)
