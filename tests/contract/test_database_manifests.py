"""Manifests, tags, referrers and the review queue on both databases."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from app.database import Database, Transaction, manifests
from app.database.manifests import StoredManifest
from app.oci.digest import Digest
from app.oci.manifest import OCI_MANIFEST

from .rows import (
    add_blob,
    add_manifest,
    descriptor,
    image,
    index,
    is_waiting,
    make_project,
    make_repository,
    rows,
)

NEVER = Digest.of(b"never pushed")


@pytest.fixture
async def repository(database: Database) -> int:
    return await make_repository(database, await make_project(database))


async def is_referenced(database: Database, repository: int, digest: Digest) -> bool:
    async with database.reading() as transaction:
        return await manifests.is_referenced(transaction, repository, digest)


async def tag_names(database: Database, repository: int, after: str = "", limit: int = 100) -> list[str]:
    async with database.reading() as transaction:
        return await manifests.tags(transaction, repository, after, limit)


async def test_a_manifest_is_kept_byte_for_byte(database: Database, repository: int) -> None:
    parsed = image("app", Digest.of(b"layer"), annotations={"org.example.note": "äöü \x00 \N{SNOWMAN}"})
    digest = await add_manifest(database, repository, parsed, "latest")
    stored = StoredManifest(digest, parsed.media_type, parsed.payload)
    assert await manifests.payload(database, repository, digest) == stored
    assert await manifests.present(database, repository, digest) == (parsed.media_type, len(parsed.payload))
    found = await manifests.tagged(database, repository, "latest")
    assert found is not None
    assert found[0] == digest
    assert await manifests.payload(database, repository + 1, digest) is None
    assert await manifests.payload(database, repository, NEVER) is None
    assert await manifests.present(database, repository, NEVER) is None
    assert await manifests.tagged(database, repository, "Latest") is None


async def test_adding_a_manifest_twice_changes_nothing(database: Database, repository: int) -> None:
    layer = Digest.of(b"layer")
    parsed = image("app", layer, layer)
    await add_manifest(database, repository, parsed, "a")
    before = await rows(database, "SELECT * FROM manifest") + await rows(database, "SELECT * FROM part ORDER BY digest")
    await add_manifest(database, repository, parsed, "b")
    after = await rows(database, "SELECT * FROM manifest") + await rows(database, "SELECT * FROM part ORDER BY digest")
    assert before == after
    assert len(before) == 3, "the manifest, its config, and a layer that it names twice"


async def test_parts(database: Database, repository: int) -> None:
    layer, child = Digest.of(b"layer"), image("child")
    await add_manifest(database, repository, image("app", layer))
    await add_manifest(database, repository, child)
    await add_manifest(database, repository, index(child))
    async with database.reading() as transaction:
        assert await manifests.names_blob(transaction, repository, layer)
        assert not await manifests.names_blob(transaction, repository, Digest.of(child.payload)), "that is a manifest"
        assert not await manifests.names_blob(transaction, repository + 1, layer)
        sizes = await manifests.sizes(transaction, repository, [Digest.of(child.payload), NEVER])
    assert sizes == {Digest.of(child.payload): len(child.payload)}
    assert await manifests.part_size(database, repository, layer, is_manifest=False) == 1
    assert await manifests.part_size(database, repository, layer, is_manifest=True) is None
    assert await manifests.part_size(database, repository, NEVER, is_manifest=False) is None


async def test_a_tag_moves_and_says_what_it_left(database: Database, repository: int) -> None:
    first, second = image("first"), image("second")
    a, b = await add_manifest(database, repository, first, "x", "y"), await add_manifest(database, repository, second)
    async with database.transaction() as transaction:
        assert await manifests.set_tags(transaction, repository, ["x", "x", "new"], b) == {"x": a}
        assert await manifests.set_tags(transaction, repository, ["x"], b) == {}
        assert await manifests.set_tags(transaction, repository, [], b) == {}
    assert await rows(database, "SELECT name, digest FROM tag ORDER BY name") == [("new", b), ("x", b), ("y", a)]
    async with database.transaction() as transaction:
        assert await manifests.remove_tag(transaction, repository, "y") == a
        assert await manifests.remove_tag(transaction, repository, "y") is None


async def test_a_tag_never_names_what_is_not_there(database: Database, repository: int) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as transaction:
            await manifests.set_tags(transaction, repository, ["x"], NEVER)
    assert await tag_names(database, repository) == []


async def test_two_pushes_of_a_new_tag_at_once(database: Database, repository: int) -> None:
    first = await add_manifest(database, repository, image("first"))
    second = await add_manifest(database, repository, image("second"))

    async def tag(digest: Digest) -> dict[str, Digest]:
        async with database.transaction() as transaction:
            return await manifests.set_tags(transaction, repository, ["latest"], digest)

    async with database.transaction() as transaction:
        assert await manifests.set_tags(transaction, repository, ["latest"], first) == {}
        other = asyncio.create_task(tag(second))
        assert await is_waiting(database, other)
    assert await other == {"latest": first}, (
        "whoever takes a tag from a manifest must know, or nobody looks at it again"
    )


async def test_many_pushes_of_the_same_tags_at_once(database: Database, repository: int) -> None:
    digests = [await add_manifest(database, repository, image(str(number))) for number in range(12)]
    names = [f"t{number}" for number in range(10)]

    async def tag(number: int) -> set[Digest]:
        async def work(transaction: Transaction) -> set[Digest]:
            chosen = names[:: 1 if number % 2 else -1]
            return set((await manifests.set_tags(transaction, repository, chosen, digests[number])).values())

        return await database.transact(work)

    lost = [digest for moved in await asyncio.gather(*map(tag, range(12))) for digest in moved]
    left = {row[0] for row in await rows(database, "SELECT digest FROM tag")}
    assert len(left) == 1
    assert sorted(lost) == sorted(set(digests) - left), "each but the last one lost its tags once"


async def test_tags_are_listed_in_ascii_order_by_key(database: Database, repository: int) -> None:
    names = ["a", "A", "_", "Z", "z", "1.9", "1.10", "1.10-rc", "1-0", "10", "9", "a.b", "a-b", "a_b", "aB", "ab", "v1"]
    digest = await add_manifest(database, repository, image("app"), *names)
    assert digest
    assert await tag_names(database, repository) == sorted(names, key=str.encode)
    paged: list[str] = []
    while page := await tag_names(database, repository, paged[-1] if paged else "", 3):
        assert len(page) <= 3
        paged += page
    assert paged == sorted(names, key=str.encode)
    assert await tag_names(database, repository, "1.10") == [
        name for name in sorted(names, key=str.encode) if name.encode() > b"1.10"
    ], "a last that is a tag"
    assert await tag_names(database, repository, "B") == ["Z", "_", "a", "a-b", "a.b", "aB", "a_b", "ab", "v1", "z"]
    assert await tag_names(database, repository, "zz") == []
    assert await tag_names(database, repository + 1) == []


async def test_checked_only_where_the_tag_has_not_moved(database: Database, repository: int) -> None:
    digest = await add_manifest(database, repository, image("app"), "latest")
    async with database.transaction() as transaction:
        await manifests.set_checked(transaction, repository, "latest", NEVER)
        before = await rows(database, "SELECT checked_at, updated_at FROM tag")
    async with database.transaction() as transaction:
        await manifests.set_checked(transaction, repository, "latest", digest)
    after = await rows(database, "SELECT checked_at, updated_at FROM tag")
    assert before[0][0] == before[0][1] < after[0][0]
    assert after[0][1] == before[0][1]
    assert await manifests.tagged(database, repository, "latest") == (digest, after[0][0], OCI_MANIFEST)


async def test_removing_a_manifest(database: Database, repository: int) -> None:
    parsed = image("app", Digest.of(b"layer"))
    subject = await add_manifest(database, repository, parsed, "x", "y")
    referrer = image("signature", subject=descriptor(subject, len(parsed.payload)))
    signature = await add_manifest(database, repository, referrer)
    async with database.transaction() as transaction:
        touched = await manifests.remove(transaction, repository, subject)
        assert touched is not None
        assert set(touched) == {Digest.of(b"config of app"), Digest.of(b"layer"), signature}
        assert await manifests.remove(transaction, repository, subject) is None
        assert await manifests.remove(transaction, repository, NEVER) is None
    assert await tag_names(database, repository) == []
    assert {row[0] for row in await rows(database, "SELECT manifest FROM part")} == {signature}
    async with database.transaction() as transaction:
        assert await manifests.remove(transaction, repository, await add_alone(transaction, repository)) == []


async def add_alone(transaction: Transaction, repository: int) -> Digest:
    """Put an index of nothing down."""
    parsed = index()
    await manifests.add(transaction, repository, Digest.of(parsed.payload), parsed)
    return Digest.of(parsed.payload)


async def test_referrers_are_listed_by_key_and_filtered(database: Database, repository: int) -> None:
    subject = descriptor(NEVER, 10)
    expected = {}
    for number in range(7):
        kind = "application/vnd.example.sbom" if number % 2 else None
        parsed = image(str(number), subject=subject, **({"artifactType": kind} if kind else {}), annotations={"n": "1"})
        expected[await add_manifest(database, repository, parsed)] = parsed
    await add_manifest(database, repository, image("another", subject=descriptor(Digest.of(b"another"))))
    await add_manifest(database, repository, image("none"))

    async with database.reading() as transaction:
        found, more = await manifests.referrers(transaction, repository, NEVER, None, "", 100)
        assert not more
        assert [referrer.digest for referrer in found] == sorted(expected)
        for referrer in found:
            parsed = expected[Digest(referrer.digest)]
            assert (referrer.media_type, referrer.size) == (parsed.media_type, len(parsed.payload))
            assert (referrer.artifact_type, referrer.annotations) == (parsed.artifact_type, {"n": "1"})
        pages = await referrer_pages(transaction, repository, None, 3)
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [referrer.digest for page in pages for referrer in page] == sorted(expected)
        pages = await referrer_pages(transaction, repository, "application/vnd.example.sbom", 2)
        assert [len(page) for page in pages] == [2, 1]
        assert {referrer.artifact_type for page in pages for referrer in page} == {"application/vnd.example.sbom"}
        assert await manifests.referrers(transaction, repository, NEVER, "other/type", "", 10) == ([], False)
        assert await manifests.referrers(transaction, repository + 1, NEVER, None, "", 10) == ([], False)


async def referrer_pages(transaction: Transaction, repository: int, kind: str | None, limit: int) -> list[Any]:
    pages: list[Any] = []
    more = True
    while more:
        last = pages[-1][-1].digest if pages else ""
        page, more = await manifests.referrers(transaction, repository, NEVER, kind, last, limit)
        pages.append(page)
    return pages


async def test_a_page_of_referrers_is_bounded_by_bytes_too(database: Database, repository: int) -> None:
    subject = descriptor(NEVER, 10)
    for number in range(4):
        large = {"note": "x" * (1536 * 1024)}
        await add_manifest(database, repository, image(str(number), subject=subject, annotations=large))
    await add_manifest(database, repository, image("larger", subject=subject, annotations={"n": "x" * 5 * 1024 * 1024}))
    async with database.reading() as transaction:
        pages = await referrer_pages(transaction, repository, None, 1000)
    assert sum(len(page) for page in pages) == 5
    assert len(pages) >= 3
    assert max(sum(referrer.size for referrer in page) for page in pages if len(page) > 1) <= 4 * 1024 * 1024


async def test_what_keeps_a_manifest(database: Database, repository: int) -> None:
    tagged = await add_manifest(database, repository, image("tagged"), "latest")
    child = image("child")
    inner, outer = index(child), index(index(child))
    for parsed in (child, inner):
        await add_manifest(database, repository, parsed)
    await add_manifest(database, repository, outer, "multi")
    signature = await add_manifest(database, repository, image("signature", subject=descriptor(tagged)))
    orphaned = await add_manifest(database, repository, image("orphaned", subject=descriptor(NEVER)))
    bare = await add_manifest(database, repository, image("bare"))
    for digest in (tagged, Digest.of(child.payload), Digest.of(inner.payload), Digest.of(outer.payload), signature):
        assert await is_referenced(database, repository, digest)
    for digest in (orphaned, bare, NEVER):
        assert not await is_referenced(database, repository, digest)
    other = await make_repository(database, await make_project(database), "other")
    await add_manifest(database, other, image("bare"), "latest")
    assert not await is_referenced(database, repository, bare), "another repository's tag keeps nothing here"


async def test_the_review_queue(database: Database, repository: int) -> None:
    now = time.time()
    digests = [Digest.of(bytes([number])) for number in range(4)]
    async with database.transaction() as transaction:
        await manifests.ask_review(transaction, repository, [], now)
        await manifests.ask_review(transaction, repository, [digests[0], digests[0], digests[1]], now - 10)
        await manifests.ask_review(transaction, repository, [digests[2]], now - 20)
        await manifests.ask_review(transaction, repository, [digests[3]], now - 30)
        await manifests.ask_review(transaction, repository, [digests[3]], now + 3600)
    async with database.transaction() as transaction:
        assert await manifests.due_reviews(transaction, 1) == [(repository, digests[2])]
        assert set(await manifests.due_reviews(transaction, 10)) == {(repository, digests[n]) for n in (0, 1)}
    assert await rows(database, "SELECT digest FROM review") == [(digests[3],)]


async def test_a_review_that_fails_is_given_back(database: Database, repository: int) -> None:
    async with database.transaction() as transaction:
        await manifests.ask_review(transaction, repository, [NEVER], 1)

    async def fail() -> None:
        async with database.transaction() as transaction:
            assert await manifests.due_reviews(transaction, 10) == [(repository, NEVER)]
            raise RuntimeError("killed in the middle")

    with pytest.raises(RuntimeError):
        await fail()
    async with database.transaction() as transaction:
        assert await manifests.due_reviews(transaction, 10) == [(repository, NEVER)]


async def test_two_workers_review_different_rows(database: Database, repository: int) -> None:
    digests = {Digest.of(bytes([number])) for number in range(20)}
    async with database.transaction() as transaction:
        await manifests.ask_review(transaction, repository, digests, 1)

    async def review() -> list[tuple[int, Digest]]:
        async with database.transaction() as transaction:
            return await manifests.due_reviews(transaction, 10)

    first, second = await asyncio.gather(review(), review())
    assert len(first) == len(second) == 10
    assert {digest for _, digest in first + second} == digests


async def test_nobody_begins_to_need_what_is_under_review(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    layer = await add_blob(database, project, repository, b"layer", "key1")
    child = image("child", layer)
    digest = await add_manifest(database, repository, child)
    async with database.transaction() as transaction:
        await manifests.ask_review(transaction, repository, [layer, digest], 1)

    async def push() -> dict[str, int]:
        async with database.transaction() as transaction:
            return await manifests.sizes(transaction, repository, [digest])

    async with database.transaction() as transaction:
        assert len(await manifests.due_reviews(transaction, 10)) == 2
        other = asyncio.create_task(push())
        assert await is_waiting(database, other)
        await manifests.remove(transaction, repository, digest)
    assert await other == {}, "it was removed, the push must see that"


async def test_children_that_were_counted_on_stay_until_the_end(database: Database, repository: int) -> None:
    child = image("child")
    digest = await add_manifest(database, repository, child)

    async def review() -> bool:
        async with database.transaction() as transaction:
            for repository_id, due in await manifests.due_reviews(transaction, 10):
                if not await manifests.is_referenced(transaction, repository_id, due):
                    await manifests.remove(transaction, repository_id, due)
                    return True
        return False

    async with database.transaction() as transaction:
        await manifests.ask_review(transaction, repository, [digest], 1)
    async with database.transaction() as transaction:
        assert await manifests.sizes(transaction, repository, [digest]) == {digest: len(child.payload)}
        other = asyncio.create_task(review())
        assert await is_waiting(database, other)
        parent = index(child)
        await manifests.add(transaction, repository, Digest.of(parent.payload), parent)
    assert not await other, "the index came first, its child stays"
    assert await manifests.present(database, repository, digest)


async def test_pulls_are_noted(database: Database, repository: int) -> None:
    digest = await add_manifest(database, repository, image("app"))
    async with database.transaction() as transaction:
        await manifests.touch(transaction, {(repository, digest): 12.5, (repository, NEVER): 1.0})
        await manifests.touch(transaction, {})
    assert await rows(database, "SELECT pulled_at FROM manifest") == [(12.5,)]
