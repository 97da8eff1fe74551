"""Every field by which a list can be sorted, alone and beside another, on both databases; and what a sort looks at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.access.roles import Role
from app.database import Database, accounts, artifacts, audit, keyset, labels, projects, quotas, repositories, robots
from app.database.artifacts import EVERYTHING
from app.database.audit import Note
from app.database.keyset import Page
from app.database.projects import Filter, Viewer
from app.oci.digest import Digest
from app.oci.reference import Tag
from tests.api.documents import EMPTY, image

from .house import House

ADMIN, MARI = Viewer(everything=True), Viewer(account_id=1)
LISTS: dict[str, tuple[keyset.Sorts, Callable[[Any, Page[Any]], Awaitable[Any]]]] = {
    "projects": (projects._SORTS, lambda t, page: projects.page(t, ADMIN, page, Filter())),
    "projects of a member": (projects._SORTS, lambda t, page: projects.page(t, MARI, page, Filter())),
    "quotas": (quotas._SORTS, quotas.page),
    "repositories": (repositories._SORTS, lambda t, page: repositories.page(t, 1, page)),
    "all repositories": (
        {**repositories._SHOWN, "name": keyset.KEY, "update_time": keyset.KEY},  # type: ignore[dict-item]
        lambda t, page: repositories.search(t, ADMIN, page),
    ),
    "repositories of a member": (
        {**repositories._SHOWN, "name": keyset.KEY, "update_time": keyset.KEY},  # type: ignore[dict-item]
        lambda t, page: repositories.search(t, MARI, page),
    ),
    "artifacts": (artifacts._SORTS, lambda t, page: artifacts.page(t, 2, page, EVERYTHING)),
    "tags": (artifacts._TAG_SORTS, lambda t, page: artifacts.tags(t, 2, page)),
    "labels": (labels._SORTS, lambda t, page: labels.page(t, 1, page)),
    "robots": (robots._SORTS, lambda t, page: robots.page(t, 1, page)),
    "users": (accounts._SORTS, accounts.page),
    "log": (audit._SORTS, audit.page),
}


@pytest.fixture
async def house(database: Database, tmp_path: Path) -> House:
    """Three of everything."""
    house = House(database, tmp_path / "blobs")
    admin = await house.admin()
    for name in ("physics", "biology", "arts"):
        made = await house.projects.create(admin, name=name, public=True, quota_bytes=None)
        await house.members.add_group(made.id, "staff", Role.GUEST)
    for name in ("c", "a", "b"):
        await house.person(name)
        for to in (f"physics/{name}", "physics/app"):
            layer = f"{to} {name}".encode()
            for data in (EMPTY, layer):
                await house.push_blob(data, to=to)
            await house.push(image(layer), name, to=to)
        await house.labels.create(1, name=name)
        async with database.transaction() as transaction:
            await robots.create(
                transaction, project_id=1, name=f"robot-{name}", description="", secret_hash=name, permissions={},
                created_by="x", expires_at=None,
            )  # fmt: skip
            await audit.add(transaction, [Note(1.0, f"person:{name}", "", "push", "artifact", name)])
    digest = Digest.of(image(b"physics/app a"))
    await house.artifacts.add_tag(await house.id_of(), digest, Tag("z"))
    return house


async def test_each_field_and_each_with_another(house: House) -> None:
    async with house.database.reading() as transaction:
        for name, (sorts, fetch) in LISTS.items():
            whole = await fetch(transaction, Page(50))
            assert len(whole) >= 3, name
            for field in sorts:
                two = ((field, True), (next(iter(sorts)), False))
                for sort in (((field, False),), ((field, True),), two):
                    found = await fetch(transaction, Page(50, sort=sort))
                    assert len(found) == len(whole), (name, sort)
                    assert all(one in whole for one in found), (name, sort)
                ordered = await fetch(transaction, Page(50, sort=two))
                one_by_one = [
                    (await fetch(transaction, Page(1, offset=offset, sort=two)))[0] for offset in range(len(whole))
                ]
                assert one_by_one == ordered, (name, two)


async def test_two_fields(house: House) -> None:
    async with house.database.reading() as transaction:
        page: Page[str] = Page(50, sort=(("owner_name", True), ("name", False)))
        found = await projects.page(transaction, ADMIN, page, Filter())
        assert [project.name for project, _, _ in found] == ["arts", "biology", "physics"]
        found = await projects.page(transaction, ADMIN, Page(50, sort=(("owner_name", True), ("name", True))), Filter())
        assert [project.name for project, _, _ in found] == ["physics", "biology", "arts"]


async def test_a_sort_looks_at_so_many(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first entries of the list's own order, whatever it holds."""
    monkeypatch.setattr(keyset, "MOST_SEARCHED", 2)
    async with house.database.reading() as transaction:
        found = await projects.page(transaction, ADMIN, Page(50, sort=(("project_id", True),)), Filter())
        # Biology was made after arts, and physics is the third by its name.
        assert [project.name for project, _, _ in found] == ["arts", "biology"]


async def test_a_sort_and_a_search(house: House) -> None:
    async with house.database.reading() as transaction:
        page: Page[str] = Page(50, sort=(("project_id", True),), search="S")
        found = await projects.page(transaction, ADMIN, page, Filter())
        assert [project.name for project, _, _ in found] == ["arts", "physics"]
