"""Lists with more entries than one page may read or count: no entry is lost, and the page says that there are more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from app.config import Policy
from app.database import Database, accounts, audit, labels, members, projects, repositories
from app.database.audit import Note
from app.database.keyset import Count, Entries, Page
from app.database.projects import Filter, Viewer
from app.projects.audit import Audit

from .rows import make_project, make_repository

# Of the entries of each list, every fourth is searched for.
MANY = 24


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("keyset", "repositories"):
        monkeypatch.setattr(f"app.database.{module}.MOST_SEARCHED", 5)
    for module in ("keyset", "repositories", "projects", "artifacts"):
        monkeypatch.setattr(f"app.database.{module}.MOST_COUNTED", 4)


async def whole(ask: Callable[[Page[object]], Awaitable[Entries[str]]], search: str, limit: int = 3) -> list[str]:
    """Turn all the pages of a search, forwards; every page that found too little says where it stopped."""
    found: list[str] = []
    after: object = None
    while True:
        page = await ask(Page(limit, after, search=search))
        found += page
        if page.reached is None and len(page) < limit:
            return found
        after = page[-1] if page.reached is None else page.reached


async def test_a_search_goes_on_where_it_stopped(database: Database) -> None:
    names = [f"{'mari' if number % 4 == 3 else 'jaan'}-{number:02}" for number in range(MANY)]
    async with database.transaction() as transaction:
        for number, name in enumerate(names):
            await accounts.create(transaction, f"{number:02}-{name}", "hash", is_admin=False)

    async def ask(page: Page[object]) -> Entries[str]:
        people = await database.read(accounts.page, page)  # type: ignore[arg-type]
        return people.with_entries(person.username for person in people)

    assert await whole(ask, "MARI") == [f"{number:02}-{name}" for number, name in enumerate(names) if "mari" in name]
    assert await whole(ask, "nobody") == []
    assert await database.read(accounts.total, "mari") == Count(1, exact=False)
    assert await database.read(accounts.total) == Count(5, exact=False)
    assert await database.read(accounts.total, "23-mari-23") == Count(0, exact=False)


async def test_two_walks_search_as_one(database: Database) -> None:
    """A person's list: public projects, some of them their own, and private ones, some of them others'."""
    mine: list[int] = []
    for number in range(MANY):
        made = await make_project(database, f"p{number:02}{'x' if number % 4 else 'y'}", public=number % 3 == 0)
        mine += [made] if number % 2 else []
    viewer = Viewer(account_id=await _person(database, mine), groups=frozenset())
    seen = [f"p{number:02}{'x' if number % 4 else 'y'}" for number in range(MANY) if number % 3 == 0 or number % 2]

    async def ask(page: Page[object]) -> Entries[str]:
        rows = await database.read(projects.page, viewer, page, Filter())  # type: ignore[arg-type]
        return rows.with_entries(row[0].name for row in rows)

    for search in ("", "x", "y", "1", "p23x", "none"):
        for limit in (1, 3, 50):
            assert await whole(ask, search, limit) == [name for name in seen if search in name], (search, limit)
    back = await database.read(projects.page, viewer, Page(3, before="p20y"), Filter())
    assert [row[0].name for row in back] == [name for name in seen if name < "p20y"][-3:]
    for offset in range(0, len(seen), 5):
        rows = await database.read(projects.page, viewer, Page(5, offset=offset, sort=(("name", True),)), Filter())
        assert [row[0].name for row in rows] == seen[::-1][offset : offset + 5]
    assert await database.read(projects.total, viewer, Filter(), "") == Count(5, exact=False)


async def test_repositories_are_searched_across_projects(database: Database) -> None:
    for project in ("a", "a-b", "b"):
        project_id = await make_project(database, project)
        for number in range(8):
            await make_repository(database, project_id, f"{'tool' if number % 4 else 'app'}/{number}")
    names = [f"{p}/{'tool' if n % 4 else 'app'}/{n}" for p in ("a", "a-b", "b") for n in range(8)]
    names.sort(key=lambda name: name.split("/", 1))

    async def ask(page: Page[object]) -> Entries[str]:
        keyed = page.with_keys(lambda key: tuple(key.split("/", 1)) if isinstance(key, str) else key)
        rows = await database.read(repositories.search, Viewer(everything=True), keyed)  # type: ignore[arg-type]
        return rows.with_entries(row.full_name for row in rows)

    for search in ("", "app", "b/app", "a-b/", "7", "none"):
        assert await whole(ask, search) == [name for name in names if search in name], search
    for offset in (0, 4, 20):
        page: Page[tuple[str, str]] = Page(4, offset=offset)
        rows = await database.read(repositories.search, Viewer(everything=True), page)
        assert [row.full_name for row in rows] == names[offset : offset + 4]


async def test_the_whole_log_is_exported(database: Database) -> None:
    log = Audit(database, Policy(), str)
    notes = [Note(float(at), "system", "", "push" if at % 4 else "pull", "x", f"r{at}") for at in range(MANY)]
    async with database.transaction() as transaction:
        await audit.add(transaction, notes)
    exported = [entry.resource async for entry in log.export(audit.Filter(operation="push", text="r1"))]
    assert exported == [f"r{at}" for at in reversed(range(MANY)) if at % 4 and f"r{at}".startswith("r1")]


async def test_old_entries_are_found_by_their_time(database: Database) -> None:
    async with database.transaction() as transaction:
        await audit.add(
            transaction, [Note(hour * 7200.0, "system", "", "push", "x", f"r{hour}") for hour in range(MANY)]
        )
    chosen = audit.Filter(since=3 * 7200.0, until=5 * 7200.0)
    assert [entry.resource for entry in await database.read(audit.page, Page(9), chosen)] == ["r4", "r3"]
    assert await database.read(audit.total, chosen) == Count(2)


async def test_a_list_as_long_as_the_bound_is_counted(database: Database) -> None:
    project_id = await make_project(database)
    async with database.transaction() as transaction:
        for number in range(4):
            await labels.create(transaction, project_id, f"l{number}", "", "#000000")
    assert await database.read(labels.total, project_id) == Count(4)
    assert await database.read(labels.total, project_id, "L") == Count(4)


async def _person(database: Database, project_ids: list[int]) -> int:
    async with database.transaction() as transaction:
        await accounts.create(transaction, "mari", "hash", is_admin=False)
        found = await accounts.find(transaction, "mari")
        assert found is not None
        for project_id in project_ids:
            await members.add(transaction, project_id, "guest", account_id=found.id)
    return found.id
