"""Members and labels of projects, on both databases."""

from __future__ import annotations

import asyncio

import pytest

from app.access.errors import Conflict, Invalid, Missing, PreconditionFailed
from app.access.permissions import Permissions
from app.access.roles import Role, rights_of
from app.database import labels, members
from app.database.keyset import Page
from app.database.projects import Project
from tests.api.documents import image

from .house import House


@pytest.fixture
async def project(house: House) -> Project:
    """A private project of mari's."""
    return await house.project(by=await house.person("mari"), public=False)


async def test_people_and_groups(house: House, project: Project) -> None:
    jaan = await house.person("jaan", groups=("astronomers",))
    permissions = Permissions(house.database)
    assert await house.members.role(project.id, jaan) is None
    group = await house.members.add_group(project.id, " astronomers ", Role.GUEST)
    assert (group.name, group.is_group, group.role) == ("astronomers", True, Role.GUEST)
    assert await house.members.own(project.id, jaan) is None
    assert await permissions.rights(jaan, project.id, public=False) == rights_of(Role.GUEST)
    member = await house.members.add_person(project.id, "jaan", Role.DEVELOPER)
    assert (member.name, member.is_group, member.account_id) == ("jaan", False, jaan.id)
    assert await house.members.own(project.id, jaan) == member == await house.members.find(project.id, member.id)
    assert await house.members.role(project.id, jaan) is Role.DEVELOPER
    assert await permissions.rights(jaan, project.id, public=False) == rights_of(Role.DEVELOPER)
    assert (await house.members.set_role(project.id, member.id, Role.LIMITED_GUEST)).role == Role.LIMITED_GUEST
    assert await permissions.rights(jaan, project.id, public=False) == rights_of(Role.GUEST)
    assert await house.members.remove(project.id, member.id) is not None
    await house.members.remove(project.id, group.id)
    assert await permissions.rights(jaan, project.id, public=False) == frozenset()


async def test_who_cannot_be_added(house: House, project: Project) -> None:
    with pytest.raises(Missing, match="log in once"):
        await house.members.add_person(project.id, "nobody", Role.GUEST)
    with pytest.raises(Conflict):
        await house.members.add_person(project.id, "mari", Role.GUEST)
    await house.members.add_group(project.id, "astronomers", Role.GUEST)
    with pytest.raises(Conflict):
        await house.members.add_group(project.id, "astronomers", Role.MAINTAINER)
    for bad in ("", "  ", "a\0b", "a\nb", "half \ud800", "x" * 256):
        with pytest.raises(Invalid):
            await house.members.add_group(project.id, bad, Role.GUEST)
        with pytest.raises(Invalid):
            await house.members.add_person(project.id, bad, Role.GUEST)
    with pytest.raises(Missing):
        await house.members.add_group(4711, "astronomers", Role.GUEST)


async def test_another_projects_member_is_none_of_this_one(house: House, project: Project) -> None:
    admin, other = await house.admin(), await house.project("biology")
    member = (await house.database.read(members.page, other.id, Page(50)))[0]
    for number in (member.id, 4711, -1, 1 << 80):
        with pytest.raises(Missing):
            await house.members.find(project.id, number)
        with pytest.raises(Missing):
            await house.members.set_role(project.id, number, Role.PROJECT_ADMIN, by=admin)
        with pytest.raises(Missing):
            await house.members.remove(project.id, number, by=admin)


async def test_a_project_keeps_its_last_admin(house: House, project: Project) -> None:
    admin, first = await house.admin(), (await house.database.read(members.page, project.id, Page(50)))[0]
    with pytest.raises(PreconditionFailed, match="last project admin"):
        await house.members.remove(project.id, first.id)
    with pytest.raises(PreconditionFailed):
        await house.members.set_role(project.id, first.id, Role.MAINTAINER)
    await house.members.set_role(project.id, first.id, Role.PROJECT_ADMIN)
    group = await house.members.add_group(project.id, "astronomers", Role.PROJECT_ADMIN)
    outcomes = await asyncio.gather(
        *(house.members.remove(project.id, member) for member in (first.id, group.id)), return_exceptions=True
    )
    assert sum(isinstance(outcome, PreconditionFailed) for outcome in outcomes) == 1
    (last,) = await house.database.read(members.page, project.id, Page(50))
    assert (await house.members.set_role(project.id, last.id, Role.GUEST, by=admin)).role == Role.GUEST
    await house.members.remove(project.id, last.id)


async def test_pages_of_members(house: House, project: Project) -> None:
    for name in ("anna", "Berta", "b_1"):
        await house.person(name)
        await house.members.add_person(project.id, name, Role.GUEST)
    await house.members.add_group(project.id, "bees", Role.GUEST)
    everybody = await house.database.read(members.page, project.id, Page(50))
    assert [member.name for member in everybody] == ["mari", "anna", "Berta", "b_1", "bees"]
    assert await house.database.read(members.page, project.id, Page(2, everybody[1].id)) == everybody[2:4]
    assert await house.database.read(members.page, project.id, Page(50, offset=4)) == everybody[4:]
    assert [member.name for member in await house.database.read(members.page, project.id, Page(50, search="be"))] == [
        "Berta",
        "bees",
    ]
    assert (await house.database.read(members.total, project.id, search="be")).number == 2
    assert (await house.database.read(members.total, project.id)).number == 5
    assert await house.database.read(members.page, project.id, Page(50, search="\0")) == []


async def test_labels(house: House, project: Project) -> None:
    good = await house.labels.create(project.id, name="good", description="tried", color="#AABBCC")
    assert (good.name, good.project_id, good.color) == ("good", project.id, "#aabbcc")
    system = await house.labels.create(None, name="good")
    with pytest.raises(Conflict):
        await house.labels.create(project.id, name="good")
    with pytest.raises(Conflict):
        await house.labels.create(None, name="good")
    bad = await house.labels.create(project.id, name="bad")
    with pytest.raises(Conflict):
        await house.labels.update(bad.id, name="good")
    changed = await house.labels.update(bad.id, name="worse", color="#000000")
    assert (changed.name, changed.description, changed.color) == ("worse", "", "#000000")
    assert await house.database.read(labels.page, project.id, Page(50)) == [good, changed]
    assert await house.database.read(labels.page, project.id, Page(50, "good")) == [changed]
    assert await house.database.read(labels.page, project.id, Page(50, sort=(("name", True),))) == [changed, good]
    assert await house.database.read(labels.page, None, Page(50)) == [system]
    assert (await house.database.read(labels.total, project.id, search="OO")).number == 1
    await house.labels.remove(bad.id)
    for number in (bad.id, 4711, -1, 1 << 80):
        with pytest.raises(Missing):
            await house.labels.find(number)
        with pytest.raises(Missing):
            await house.labels.update(number, name="x")
        with pytest.raises(Missing):
            await house.labels.remove(number)


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": ""},
        {"name": "x" * 300},
        {"name": "a\nb"},
        {"name": "a", "color": "red"},
        {"name": "a", "color": "#12345g"},
        {"name": "a", "color": "#aabbcc\n"},
        {"name": "a", "description": "\0"},
    ],
)
async def test_a_label_that_cannot_be(house: House, project: Project, wanted: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        await house.labels.create(project.id, **wanted)


async def test_labels_on_artifacts(house: House, project: Project) -> None:
    await house.quotas.set(await house.admin(), project.id, None)
    await house.push_blob(b"{}")
    digest = await house.push(image(), "latest")
    repository = await house.id_of()
    good, system = await house.labels.create(project.id, name="good"), await house.labels.create(None, name="all")
    other = await house.labels.create((await house.project("biology")).id, name="theirs")
    for label in (good, system):
        await house.labels.attach(project.id, repository, digest, label.id)
    with pytest.raises(Conflict):
        await house.labels.attach(project.id, repository, digest, good.id)
    with pytest.raises(Missing):
        await house.labels.attach(project.id, repository, digest, other.id)
    with pytest.raises(Missing):
        await house.labels.attach(project.id, repository, type(digest).of(b"nothing"), good.id)
    assert (await house.artifacts.find(repository, digest)).labels == [system, good]
    await house.labels.detach(repository, digest, system.id)
    with pytest.raises(Missing):
        await house.labels.detach(repository, digest, system.id)
    await house.labels.remove(good.id)
    assert (await house.artifacts.find(repository, digest)).labels == ()
