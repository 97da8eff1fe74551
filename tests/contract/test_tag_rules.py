"""Immutable tags, and the history of tags: what a rule holds stays, also of two pushes at once."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from app.access.errors import Conflict, Invalid, Missing
from app.database import tag_history
from app.oci.digest import Digest
from app.oci.errors import Denied, OCIError
from app.oci.reference import Tag
from app.oci.selectors import Selector
from app.projects.immutability import MOST_RULES
from tests.api.documents import EMPTY, image

from .house import House
from .rows import rows


@pytest.fixture(autouse=True)
async def project(house: House) -> None:
    made = await house.project()
    await house.quotas.set(await house.admin(), made.id, None)
    for name in ("physics/app", "physics/other"):
        await house.push_blob(EMPTY, to=name)


def build(number: int) -> bytes:
    return image(annotations={"build": str(number)})


async def the_id(house: House) -> int:
    return (await house.open()).project_id


async def rule(house: House, tags: str = "v*", repositories: str = "**", **more: object) -> int:
    made = await house.immutability.create(
        await the_id(house),
        tags=Selector(tags),
        repositories=Selector(repositories),
        **more,  # type: ignore[arg-type]
    )
    return made.id


async def refused(house: House, number: int, *tags: str, to: str = "physics/app") -> str:
    with pytest.raises(Denied) as found:
        await house.push(build(number), *tags, to=to)
    assert found.value.answer_status == 412
    return found.value.message


async def test_an_immutable_tag_is_not_moved_and_its_own_image_is_taken_again(house: House) -> None:
    number = await rule(house, "{v*,release-?}", "app")
    await house.push(build(1), "v1", "latest")
    await house.push(build(1), "v1")
    assert f"rule {number} ({{v*,release-?}} in app)" in await refused(house, 2, "v1")
    await refused(house, 2, "latest", "v1")
    assert await rows(house.database, "SELECT DISTINCT digest FROM tag") == [(Digest.of(build(1)),)], "all or nothing"
    await house.push(build(2), "latest", "v2", "release-10")
    await house.push(build(3), "latest", "release-10")
    await house.push(build(4), "v1", to="physics/other")
    await house.push(build(5), "v1", to="physics/other")


async def test_nothing_immutable_is_deleted(house: House) -> None:
    number = await rule(house)
    digest = await house.push(build(1), "v1", "latest")
    repository = await house.open()
    assert repository.id is not None
    ways = (
        house.manifests.delete(repository, Tag("v1")),
        house.manifests.delete(repository, digest),
        house.artifacts.remove_tag(repository.id, digest, Tag("v1")),
        house.artifacts.remove(repository.id, digest),
        house.repositories.remove(repository.id),
        house.projects.remove(repository.project_id),
    )
    for way in ways:
        with pytest.raises(Denied) as found:
            await way
        assert found.value.answer_status == 412
        assert f"rule {number}" in found.value.message
    assert (await house.open()).id == repository.id
    await house.manifests.delete(repository, Tag("latest"))
    await house.immutability.remove(repository.project_id, number)
    await house.repositories.remove(repository.id)


async def test_a_rule_can_be_off_over_or_about_all_others(house: House) -> None:
    project_id, number = await the_id(house), await rule(house)
    await house.push(build(1), "v1", "x")
    await house.immutability.change(project_id, number, disabled=True)
    await house.push(build(2), "v1")
    await house.immutability.change(project_id, number, disabled=False, ends_at=time.time() + 60)
    await refused(house, 3, "v1")
    await house.immutability.change(project_id, number, ends_at=time.time() - 1)
    await house.push(build(3), "v1")
    await house.immutability.change(project_id, number, ends_at=None, tags=Selector("v*", excludes=True))
    await house.push(build(4), "v1")
    await refused(house, 4, "x")


async def test_what_is_no_rule(house: House) -> None:
    project_id = await the_id(house)
    for tags, repositories in (("a/b", "**"), ("**", "App"), ("", "**")):
        with pytest.raises(Invalid):
            await rule(house, tags, repositories)
    with pytest.raises(Missing):
        await house.immutability.change(project_id, 10**6, disabled=True)
    mirror = await house.projects.create(await house.admin(), name="cache", public=True, upstream="docker.io")
    for no_pin in (
        {"ends_at": None},
        {"ends_at": time.time() - 1},
        {"ends_at": time.time() + 400 * 86400},
        {"tags": Selector("1.*")},
        {"repositories": Selector("library/a", excludes=True)},
    ):
        pin: dict[str, Any] = {"tags": Selector("1"), "repositories": Selector("library/a")}
        with pytest.raises(Invalid):
            await house.immutability.create(mirror.id, **{**pin, "ends_at": time.time() + 60, **no_pin})
    for _ in range(MOST_RULES):
        await house.immutability.create(project_id, disabled=True)
    with pytest.raises(Conflict):
        await house.immutability.create(project_id)


async def test_of_pushes_at_once_one_makes_the_tag(house: House) -> None:
    await rule(house)
    pushes = (house.push(build(number), "v1") for number in range(6))
    outcomes = await asyncio.gather(*pushes, return_exceptions=True)
    assert sum(isinstance(one, Digest) for one in outcomes) == 1
    assert all(one.answer_status == 412 for one in outcomes if isinstance(one, OCIError))


async def test_no_push_moves_a_tag_after_the_rule_is_answered(house: House) -> None:
    """Pushes that began before wait in front of the rule, or behind it."""
    await house.push(build(0), "v1")
    answered: list[float] = []

    async def make() -> None:
        await rule(house)
        answered.append(time.monotonic())
        tagged = await rows(house.database, "SELECT digest FROM tag WHERE name = 'v1'")
        await asyncio.gather(*pushes, return_exceptions=True)
        assert await rows(house.database, "SELECT digest FROM tag WHERE name = 'v1'") == tagged

    pushes = [asyncio.create_task(house.push(build(number), "v1")) for number in range(1, 9)]
    await asyncio.sleep(0)
    await make()


async def test_a_tag_s_history(house: House) -> None:
    repository = await house.id_of()
    for number, by in enumerate(("person:mari", "robot:ci", "person:jaan")):
        await house.push(build(number), "latest", by=by)
        await house.push(build(number), "latest", by="person:again")
    found = await house.tags.history(repository, Tag("latest"))
    assert found.current is not None
    spans = [found.current, *found.past]
    assert [one.digest for one in spans] == [Digest.of(build(number)) for number in (2, 1, 0)]
    assert [one.by for one in spans] == ["person:jaan", "robot:ci", "person:mari"]
    assert all(older.until == newer.since for newer, older in itertools.pairwise(spans))
    assert found.present == {Digest.of(build(0)), Digest.of(build(1))}
    await house.tags.point_back(repository, Tag("latest"), Digest.of(build(0)), "person:mari")
    assert (await house.artifacts.resolve(repository, Tag("latest"))) == Digest.of(build(0))
    with pytest.raises(Missing):
        await house.tags.point_back(repository, Tag("latest"), Digest.of(build(7)), "")
    with pytest.raises(Missing):
        await house.tags.history(repository, Tag("never"))


async def test_a_removed_tag_is_pointed_back_unless_its_image_is_gone(house: House) -> None:
    repository = await house.open()
    assert repository.id is not None
    first, second = await house.push(build(1), "a", by="person:mari"), await house.push(build(2), "b")
    await house.manifests.delete(repository, Tag("a"))
    await house.artifacts.remove(repository.id, second)
    gone = await house.tags.history(repository.id, Tag("b"))
    assert (gone.current, [one.digest for one in gone.past], gone.present) == (None, [second], frozenset())
    with pytest.raises(Missing):
        await house.tags.point_back(repository.id, Tag("b"), second, "")
    await house.tags.point_back(repository.id, Tag("a"), first, "person:jaan")
    back = await house.tags.history(repository.id, Tag("a"))
    assert back.current is not None
    assert [(one.digest, one.by) for one in (back.current, *back.past)] == [
        (first, "person:jaan"),
        (first, "person:mari"),
    ]


async def test_an_immutable_tag_is_not_pointed_back(house: House) -> None:
    repository = await house.id_of()
    first = await house.push(build(1), "v1")
    await house.push(build(2), "v1")
    await rule(house)
    with pytest.raises(Denied):
        await house.tags.point_back(repository, Tag("v1"), first, "")


async def test_a_history_is_bounded_and_ends(house: House) -> None:
    repository, used = await house.id_of(), await house.used(await the_id(house))
    for number in range(tag_history.MOST_ENTRIES + 4):
        await house.push(build(number), "latest")
    past = (await house.tags.history(repository, Tag("latest"))).past
    newest = [Digest.of(build(tag_history.MOST_ENTRIES + 2 - number)) for number in range(tag_history.MOST_ENTRIES)]
    assert [one.digest for one in past] == newest
    async with house.database.transaction() as transaction:
        assert await tag_history.remove_older(transaction, past[5].until, 100) == tag_history.MOST_ENTRIES - 6
    assert len((await house.tags.history(repository, Tag("latest"))).past) == 6
    await house.repositories.remove(repository)
    assert await rows(house.database, "SELECT * FROM tag_history") == []
    assert await house.used(await the_id(house)) <= used
