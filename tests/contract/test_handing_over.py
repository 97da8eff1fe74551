"""A project whose last project admin goes is handed over to the administrator who did that."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from app.access.absence import Absence
from app.access.errors import Missing
from app.access.people import People
from app.access.roles import Role
from app.database import Database, members
from app.database.keyset import Page

from .house import House


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> House:
    return House(database, tmp_path / "blobs")


async def roles(house: House, project_id: int) -> dict[str, str]:
    found = await house.database.read(members.page, project_id, Page(10))
    return {one.name: one.role for one in found}


async def test_projects_of_somebody_who_is_removed(house: House) -> None:
    admin, mari = await house.admin(), await house.person("mari")
    jaan = await house.person("jaan")
    assert mari.id is not None
    alone = await house.project("alone", by=mari)
    with_guests = await house.project("guests", by=mari)
    shared = await house.project("shared", by=mari)
    joined = await house.project("joined", by=jaan)
    await house.members.add_person(with_guests.id, "jaan", Role.MAINTAINER)
    await house.members.add_person(with_guests.id, "admin", Role.GUEST)
    await house.members.add_group(shared.id, "staff", Role.PROJECT_ADMIN)
    await house.members.add_person(joined.id, "mari", Role.PROJECT_ADMIN)
    people = People(house.database, AsyncMock(), "robot-", Absence(180))
    await people.remove(admin, mari.id)
    assert await roles(house, alone.id) == {"admin": "project admin"}
    # Nobody gets more rights without being asked; the administrator's own membership is raised.
    assert await roles(house, with_guests.id) == {"jaan": "maintainer", "admin": "project admin"}
    assert await roles(house, shared.id) == {"staff": "project admin"}
    assert await roles(house, joined.id) == {"jaan": "project admin"}
    owners = {project.name: (await house.projects.get(project.id)).owner_id for project in (alone, with_guests, shared)}
    assert owners == {"alone": admin.id, "guests": admin.id, "shared": None}


@pytest.mark.parametrize("removed", [True, False])
async def test_an_administrator_who_takes_the_last_admin_gets_the_project(house: House, removed: bool) -> None:
    admin, mari = await house.admin(), await house.person("mari")
    project = await house.project("alone", by=mari)
    own = await house.members.own(project.id, mari)
    assert own is not None
    if removed:
        await house.members.remove(project.id, own.id, by=admin)
    else:
        await house.members.set_role(project.id, own.id, Role.GUEST, by=admin)
    assert await roles(house, project.id) == {"admin": "project admin"} | ({} if removed else {"mari": "guest"})
    assert (await house.projects.get(project.id)).owner_id == admin.id
    # An administrator may leave a project to the operators, and give it to somebody.
    own = await house.members.own(project.id, admin)
    assert own is not None
    await house.members.remove(project.id, own.id, by=admin)
    assert "admin" not in await roles(house, project.id)
    with pytest.raises(Missing, match="log in once"):
        await house.members.hand_over(project.id, "nobody")
    assert (await house.members.hand_over(project.id, "Mari")).role == Role.PROJECT_ADMIN
    assert (await house.projects.get(project.id)).owner_id == mari.id
