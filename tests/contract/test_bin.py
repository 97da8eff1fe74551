"""The bin: a deleted artifact comes back whole. Nobody sees it meanwhile, and it goes if the quota needs the room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app.access.errors import Conflict, Forbidden, Invalid, Missing
from app.access.permissions import Permissions
from app.access.robots import Robots
from app.access.roles import Role
from app.access.secrets import Secrets
from app.config import Access
from app.database import Database, binned, projects
from app.database.keyset import Page
from app.oci.digest import Digest
from app.oci.errors import Denied
from app.oci.manifest import OCI_INDEX
from app.oci.reference import Tag
from app.registry.bin import Bin
from app.registry.payloads import Payloads
from tests.api.documents import EMPTY, descriptor, fresh, image, index

from .bin_house import EVERYTHING, MARI, BinHouse, bin_house
from .house import POLICY
from .rows import rows

SECRETS = Secrets("k" * 32)


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> AsyncIterator[BinHouse]:
    async with bin_house(database, tmp_path / "blobs") as house:
        yield house


@pytest.fixture
async def project(house: BinHouse) -> int:
    made = await house.project()
    await house.quotas.set(await house.admin(), made.id, None)
    return made.id


def signature(subject: bytes) -> bytes:
    return image(subject=descriptor(subject, "application/vnd.oci.image.manifest.v1+json"), annotations={"a": "sig"})


class TestArtifacts:
    async def test_an_image_comes_back_with_tags_labels_and_signatures(self, house: BinHouse, project: int) -> None:
        layer = fresh()
        for data in (EMPTY, layer):
            await house.push_blob(data)
        payload = image(layer)
        digest = await house.push(payload, "v1", "latest")
        by_subject = await house.push(signature(payload))
        by_tag = await house.push(image(annotations={"by": "tag"}), f"{digest.replace(':', '-')}.sig")
        label = await house.labels.create(project, name="good", description="", color="#FFFFFF")
        repository_id = await house.id_of()
        await house.labels.attach(project, repository_id, digest, label.id)
        used = await house.used(project)

        await house.delete(digest)

        assert not [reference for reference in ("v1", digest, by_subject, by_tag) if await house.pulls(reference)]
        assert await house.listed() == []
        assert await house.referrers(digest) == []
        entry = await house.only(project)
        assert (entry.name, entry.tags, entry.deleted_by) == (f"app@{digest}", ("latest", "v1"), MARI)
        assert await house.used(project) >= used - 2 * 512, "it is charged"
        await house.days_pass(3)
        await house.days_pass(3)
        assert (await house.open()).id == repository_id
        assert await rows(house.database, f"SELECT 1 FROM link WHERE repository_id = {repository_id}") == []

        restored = await house.bin.restore(project, entry.id, MARI)
        assert (restored.repository, list(restored.taken)) == ("app", [])
        assert await house.pulls("v1")
        assert await house.pulls("latest")
        assert await house.pulls(f"{digest.replace(':', '-')}.sig")
        assert await house.referrers(digest) == [by_subject]
        found = await house.artifacts.find(repository_id, digest)
        assert [one.name for one in found.labels] == ["good"]
        assert await house.entries(project) == []
        for _ in range(3):
            await house.days_pass(2)
        assert await house.pulls("v1"), "and stays"

    async def test_an_index_comes_back_with_its_images(self, house: BinHouse, project: int) -> None:
        layers = [fresh(), fresh()]
        for data in (EMPTY, *layers):
            await house.push_blob(data)
        children = [image(layer) for layer in layers]
        for child in children:
            await house.push(child)
        await house.push(children[0], "amd64")
        digest = await house.push(index(*children), "v1", media_type=OCI_INDEX)
        await house.delete(digest)
        for _ in range(5):
            await house.days_pass(1.1)
        assert await house.pulls("amd64")
        assert not await house.pulls(Digest.of(children[1]))
        await house.bin.restore(project, (await house.only(project)).id, MARI)
        for reference in ("v1", "amd64", *map(Digest.of, children)):
            assert await house.pulls(reference)

    async def test_a_tag_comes_back_to_what_it_named(self, house: BinHouse, project: int) -> None:
        digest = await house.image("v1", "v2")
        await house.delete("v1")
        assert await house.listed() == ["v2"]
        await house.delete("v2")
        for _ in range(4):
            await house.days_pass(1.1)
        assert not await house.pulls(digest)
        newest, oldest = await house.entries(project)
        assert (oldest.tags, newest.tags) == (("v1",), ("v2",))
        await house.bin.restore(project, oldest.id, MARI)
        assert await house.listed() == ["v1"]
        assert await house.pulls(digest)
        history = await house.tags.history(await house.id_of(), Tag("v1"))
        assert history.current is not None
        assert (history.current.by, len(history.past)) == (MARI, 1)

    async def test_a_tag_that_is_in_use_again_is_not_overwritten(self, house: BinHouse, project: int) -> None:
        old = await house.image("v1", "v2")
        await house.delete(old)
        new = await house.image("v1")
        restored = await house.bin.restore(project, (await house.only(project)).id, MARI)
        assert (list(restored.tags), list(restored.taken)) == (["v2"], ["v1"])
        assert await house.artifacts.resolve(await house.id_of(), Tag("v1")) == new
        assert await house.pulls(old)

    async def test_the_same_can_be_pushed_beside_it(self, house: BinHouse, project: int) -> None:
        layer = fresh()
        for data in (EMPTY, layer):
            await house.push_blob(data)
        digest = await house.push(image(layer), "v1")
        await house.delete(digest)
        await house.days_pass(3)
        for data in (EMPTY, layer):
            await house.push_blob(data)
        assert await house.push(image(layer), "v1") == digest
        assert await house.pulls("v1")
        restored = await house.bin.restore(project, (await house.only(project)).id, MARI)
        assert (list(restored.tags), list(restored.taken)) == (["v1"], [])

    async def test_nothing_mounts_from_the_bin(self, house: BinHouse, project: int) -> None:
        layer = fresh()
        for data in (EMPTY, layer):
            await house.push_blob(data)
        await house.delete(await house.push(image(layer), "v1"))
        await house.days_pass(3)
        target, source = await house.open("physics/other"), await house.open()
        assert not await house.blobs.mount(target, Digest.of(layer), None, MARI)
        assert not await house.blobs.mount(target, Digest.of(layer), source, MARI)

    async def test_it_goes_after_a_week(self, house: BinHouse, project: int) -> None:
        await house.delete(await house.image("v1"))
        await house.days_pass(6.9)
        assert len(await house.entries(project)) == 1
        for _ in range(4):
            await house.days_pass(1)
        assert await house.entries(project) == []
        assert house.objects() == 0
        assert await rows(house.database, "SELECT name FROM repository") == [("app",)]

    async def test_to_another_repository(self, house: BinHouse, project: int) -> None:
        digest = await house.image("v1")
        await house.delete(digest)
        await house.bin.restore(project, (await house.only(project)).id, MARI, "team/other")
        assert await house.pulls("v1", "physics/team/other")


class TestRepositories:
    async def test_a_repository_comes_back_as_it_was(self, house: BinHouse, project: int) -> None:
        digest = await house.image("v1", to="physics/team/app")
        await house.image("v1")
        number = await house.id_of("physics/team/app")
        await house.repositories.remove(number, MARI)
        assert (await house.open("physics/team/app")).id is None
        with pytest.raises(Missing):
            await house.repositories.find(project, "team/app")
        await house.days_pass(3)
        entry = await house.only(project)
        assert (entry.id, entry.name, entry.digest, entry.deleted_by) == (number, "team/app", None, MARI)
        await house.bin.restore(project, entry.id, MARI)
        assert await house.id_of("physics/team/app") == number
        assert await house.pulls("v1", "physics/team/app")
        assert await house.pulls(digest, "physics/team/app")
        assert (await house.repositories.entry(project, "team/app")).artifacts == 1

    async def test_its_name_may_be_in_use_again(self, house: BinHouse, project: int) -> None:
        old = await house.image("v1")
        await house.repositories.remove(await house.id_of(), MARI)
        new = await house.image("v1")
        entry = await house.only(project)
        with pytest.raises(Conflict, match="another name"):
            await house.bin.restore(project, entry.id, MARI)
        restored = await house.bin.restore(project, entry.id, MARI, "old-app")
        assert restored.repository == "old-app"
        assert await house.pulls(old, "physics/old-app")
        assert await house.pulls(new)

    async def test_it_goes_after_a_week(self, house: BinHouse, project: int) -> None:
        await house.image("v1")
        await house.repositories.remove(await house.id_of(), MARI)
        await house.days_pass(7.1)
        await house.days_pass(1)
        assert [house.objects(), await rows(house.database, "SELECT id FROM repository")] == [0, []]
        assert await house.used(project) == 0


class TestProjects:
    async def test_a_project_comes_back_with_members_and_robots(self, house: BinHouse) -> None:
        mari, jaan = await house.person("mari"), await house.person("jaan")
        made = await house.project("lab", by=mari, public=True)
        await house.members.add_person(made.id, "jaan", Role.MAINTAINER)
        robots = Robots(house.database, SECRETS, Access())
        everything = {"permissions": {str(made.id): ["repository:pull"]}, "days": 30, "by": mari}
        rights = frozenset({"repository:pull"})
        about = {"project": (made.id, "lab"), "name": "ci", "description": "", "rights": rights, **everything}
        robot, _ = await robots.create(**about)  # type: ignore[arg-type]
        await house.push_blob(EMPTY, to="lab/app")
        digest = await house.push(image(), "v1", to="lab/app")
        await house.projects.remove(made.id, mari.subject)

        with pytest.raises(Missing):
            await house.projects.find("lab")
        assert await house.projects.page(mari, Page(10)) == []
        assert await house.bin.projects(jaan, EVERYTHING) == []
        (found,) = await house.bin.projects(mari, EVERYTHING)
        (same,) = await house.bin.projects(await house.admin(), EVERYTHING)
        assert found == same
        assert (found.name, found.deleted_by, found.public) == ("lab", mari.subject, True)
        with pytest.raises(Missing):
            await house.bin.restore_project(jaan, made.id)
        await house.days_pass(5)
        restored = await house.bin.restore_project(mari, made.id)
        assert (restored.name, list(restored.taken)) == ("lab", [])
        project = await house.projects.find("lab")
        assert (project.public, project.owner_id) == (True, mari.id)
        assert await house.pulls(digest, "lab/app")
        assert await house.members.role(made.id, jaan) is Role.MAINTAINER
        assert await rows(house.database, "SELECT id, name FROM robot") == [(robot.id, robot.name)]

    async def test_its_name_may_be_in_use_again(self, house: BinHouse) -> None:
        mari = await house.person("mari")
        made = await house.project("lab", by=mari)
        await house.projects.remove(made.id, mari.subject)
        await house.project("lab", by=await house.person("jaan"))
        with pytest.raises(Conflict, match="another name"):
            await house.bin.restore_project(mari, made.id)
        assert (await house.bin.restore_project(mari, made.id, "old-lab")).name == "old-lab"

    async def test_it_goes_after_a_week_or_when_somebody_says_so(self, house: BinHouse) -> None:
        mari, numbers = await house.person("mari"), {}
        for name in ("one", "two"):
            numbers[name] = (await house.project(name, by=mari)).id
            await house.push_blob(EMPTY, to=f"{name}/app")
            await house.push(image(), "v1", to=f"{name}/app")
            await house.projects.remove(numbers[name], mari.subject)
        await house.bin.delete_project(mari, numbers["two"])
        assert [one.name for one in await house.bin.projects(mari, EVERYTHING)] == ["one"]
        await house.days_pass(7.1)
        await house.days_pass(1)
        assert await rows(house.database, "SELECT id FROM project") == []
        assert house.objects() == 0

    async def test_nobody_stores_more_by_deleting_projects(self, house: BinHouse) -> None:
        mari = await house.person("mari")
        for number in range(5):
            made = await house.project(f"lab-{number}", by=mari)
            await house.projects.remove(made.id, mari.subject)
        binned = {one.name for one in await house.bin.projects(mari, EVERYTHING)}
        assert binned == {"lab-2", "lab-3", "lab-4"}, "three at most, as many as one person may have"
        for number in range(3):
            await house.project(f"new-{number}", by=mari)
        assert await house.bin.projects(mari, EVERYTHING) == []

    async def test_nobody_gets_more_projects_by_restoring(self, house: BinHouse) -> None:
        mari = await house.person("mari")
        made = await house.project("lab", by=mari)
        await house.projects.remove(made.id, mari.subject)
        async with house.database.transaction() as transaction:
            for number in range(3):
                await projects.create(
                    transaction, f"new-{number}", public=True, upstream=None, settings={}, owner_id=mari.id
                )
        with pytest.raises(Forbidden):
            await house.bin.restore_project(mari, made.id)
        await house.bin.restore_project(await house.admin(), made.id)


class TestForGood:
    async def test_a_pushed_secret_is_gone_at_once(self, house: BinHouse, project: int) -> None:
        secret, payload = fresh(), b""
        for data in (EMPTY, secret):
            await house.push_blob(data)
        payload = image(secret)
        digest = await house.push(payload, "v1", "v2")
        listing = await house.push(index(payload), "multi", media_type=OCI_INDEX)
        await house.delete("v1")
        with pytest.raises(Denied):
            await house.delete(digest)
        await house.delete(listing)
        await house.delete(digest)
        assert house.manifests._payloads.remembered(digest) == payload
        newest = (await house.entries(project))[0]
        assert (newest.name, newest.tags) == (f"app@{digest}", ("v2",))
        await house.bin.delete(project, newest.id)
        assert [one.name for one in await house.entries(project)] == [f"app@{listing}"], "with its other entries"
        await house.bin.delete(project, (await house.only(project)).id)
        assert await rows(house.database, "SELECT digest FROM blob") == []
        assert await rows(house.database, "SELECT digest FROM manifest") == []
        await house.collection.collect()
        assert house.objects() == 0, "at once, and not only in 15 minutes"
        assert house.manifests._payloads.remembered(digest) is None
        other = Payloads(None)
        await other.keep(digest, payload)
        await Bin(house.database, other, Permissions(house.database), POLICY).drop_copies()
        assert other.remembered(digest) is None, "in other workers, too"

    async def test_what_others_have_stays(self, house: BinHouse, project: int) -> None:
        shared, own = fresh(), fresh()
        for data in (EMPTY, shared, own):
            await house.push_blob(data)
        stays = await house.push(image(shared), "stays")
        await house.delete(await house.push(image(shared, own), "goes"))
        await house.bin.delete(project, (await house.only(project)).id)
        assert await house.pulls("stays")
        digests = {row[0] for row in await rows(house.database, "SELECT digest FROM blob")}
        assert digests == {Digest.of(EMPTY), Digest.of(shared)}
        await house.days_pass(3)
        assert await house.pulls(stays)

    async def test_it_cannot_be_restored_then(self, house: BinHouse, project: int) -> None:
        await house.delete(await house.image("v1"))
        entry = await house.only(project)
        await house.bin.delete(project, entry.id)
        for act in (house.bin.restore(project, entry.id, MARI), house.bin.delete(project, entry.id)):
            with pytest.raises(Missing):
                await act

    async def test_another_project_has_no_hand_in_it(self, house: BinHouse, project: int) -> None:
        other = await house.project("other")
        await house.delete(await house.image("v1"))
        entry = await house.only(project)
        for act in (house.bin.restore(other.id, entry.id, MARI), house.bin.delete(other.id, entry.id)):
            with pytest.raises(Missing):
                await act

    async def test_emptying(self, house: BinHouse, project: int) -> None:
        for number in range(3):
            await house.delete(await house.image(f"v{number}"))
        kept = await house.image("kept")
        charged = await house.bin.charged(project)
        assert charged.exact
        assert 3 * 2000 < charged.number < 3 * 2000 + 3 * 4 * 1024
        assert await house.bin.empty(project) == 3
        assert await house.entries(project) == []
        assert (await house.bin.charged(project)).number == 0
        assert await house.pulls(kept)


class TestQuota:
    async def test_a_push_that_needs_the_room_gets_it_from_the_oldest(self, house: BinHouse, project: int) -> None:
        for number in range(3):
            await house.delete(await house.image(f"v{number}", size=100_000))
            await house.days_pass(2)
        oldest = (await house.entries(project))[-1]
        await house.quotas.set(await house.admin(), project, 320_000)
        await house.image("new", size=90_000)
        left = await house.entries(project)
        assert [oldest.id in {one.id for one in left}, len(left)] == [False, 2]
        await house.bin.restore(project, left[0].id, MARI)
        assert await house.pulls("v2")

    async def test_of_today_too_if_nobody_is_pushing_it(self, house: BinHouse, project: int) -> None:
        await house.image("v1", size=100_000)
        # Pushed long ago.
        async with house.database.transaction() as transaction:
            await transaction.execute(text("DELETE FROM review"))
        await house.delete("v1")
        await house.quotas.set(await house.admin(), project, 120_000)
        await house.image("new", size=90_000)
        assert await house.entries(project) == []

    async def test_what_could_never_fit_empties_nothing(self, house: BinHouse, project: int) -> None:
        await house.delete(await house.image("v1", size=100_000))
        await house.days_pass(3)
        await house.quotas.set(await house.admin(), project, 150_000)
        with pytest.raises(Denied):
            await house.image("new", size=200_000)
        assert len(await house.entries(project)) == 1

    async def test_a_layer_that_a_push_was_told_it_need_not_send_stays(self, house: BinHouse, project: int) -> None:
        base, big = fresh(50_000), fresh(90_000)
        for data in (EMPTY, base):
            await house.push_blob(data)
        await house.push(image(base), "old")
        async with house.database.transaction() as transaction:
            await transaction.execute(text("DELETE FROM review"))
        await house.delete("old")
        async with house.database.transaction() as transaction:
            await transaction.execute(text("UPDATE repository SET deleted_at = deleted_at - 3600"))
            await transaction.execute(text("UPDATE review SET review_at = review_at - 3600"))
        await house.quotas.set(await house.admin(), project, 100_000)
        for data in (EMPTY, base):
            await house.blobs.keep(await house.id_of(), Digest.of(data))
        with pytest.raises(Denied):
            await house.push_blob(big)
        assert await house.push(image(base), "new")

    async def test_nobody_is_kept_from_deleting_in_a_full_project(self, house: BinHouse, project: int) -> None:
        await house.image("v1", "v2", size=10_000)
        await house.quotas.set(await house.admin(), project, await house.used(project))
        await house.delete("v1")
        assert await house.listed() == ["v2"]


class TestAtOnce:
    async def test_one_of_many_restores_wins(self, house: BinHouse, project: int) -> None:
        digest = await house.image("v1")
        await house.delete(digest)
        entry = await house.only(project)
        acts = [house.bin.restore(project, entry.id, MARI) for _ in range(4)]
        outcomes = await asyncio.gather(*acts, return_exceptions=True)
        assert sorted(type(one).__name__ for one in outcomes) == ["Missing"] * 3 + ["Restored"]
        assert await house.pulls("v1")

    async def test_what_comes_back_is_not_collected_meanwhile(self, house: BinHouse, project: int) -> None:
        """Its layer is in the repository still, and due for its review."""
        digest = await house.image("v1")
        await house.delete(digest)
        entry = await house.only(project)
        async with house.database.transaction() as transaction:
            await transaction.execute(text("UPDATE review SET review_at = 1"))
        async with house.database.transaction() as transaction:
            assert await binned.find(transaction, project, entry.id)
            await binned.return_artifact(transaction, entry, await house.id_of(), MARI)
            collecting = asyncio.create_task(house.collection.collect())
            # Without the lock, it removes the layer now.
            await asyncio.wait([collecting], timeout=1)
        await collecting
        assert await house.pulls(digest)

    @pytest.mark.parametrize("attempt", [0, *(pytest.param(days, marks=pytest.mark.long) for days in (1, 2))])
    async def test_restore_delete_collect_and_push_race(self, house: BinHouse, project: int, attempt: int) -> None:
        """Whatever is answered holds: what was restored can be pulled, what was pushed too, and the books are right."""
        layers = [fresh() for _ in range(4)]
        for data in (EMPTY, *layers):
            await house.push_blob(data)
        images = [image(layers[number], layers[(number + 1) % 4]) for number in range(4)]
        for number, payload in enumerate(images):
            await house.delete(await house.push(payload, f"v{number}"))
        if attempt:
            await house.days_pass(1.5 * attempt)
        by_tag = {one.tags[0]: one for one in await house.entries(project)}
        await asyncio.gather(
            house.bin.restore(project, by_tag["v0"].id, MARI),
            house.bin.restore(project, by_tag["v1"].id, MARI),
            house.bin.delete(project, by_tag["v2"].id),
            house.collection.collect(),
            house.image("fresh"),
        )
        assert [tag for tag in ("v0", "v1", "fresh") if not await house.pulls(tag)] == []
        assert set(await house.listed()) == {"v0", "v1", "fresh"}
        for _ in range(4):
            await house.days_pass(1.1)
        assert [tag for tag in ("v0", "v1", "fresh") if not await house.pulls(tag)] == []


@pytest.mark.parametrize("key", ["", "1", "x,1", "nan,1", "inf,1", "1,-1", "1,0", "1,\u00b2", f"1,{10**30}"])
async def test_what_is_no_position_is_refused(house: BinHouse, project: int, key: str) -> None:
    page: Page[str] = Page(10, after=key)
    with pytest.raises(Invalid):
        await house.bin.page(project, page)
    with pytest.raises(Invalid):
        await house.bin.projects(await house.admin(), page)
