"""Robot accounts as they are made and changed; what they then may do is tested through the running service."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from app.access.errors import Conflict, Forbidden, Invalid, Missing
from app.access.principal import Principal, PrincipalKind
from app.access.robots import NEVER, Robots
from app.access.roles import ALL_RIGHTS, CREATE_ROBOT, PULL, PUSH, Role, rights_of
from app.access.secrets import Secrets
from app.config import Access
from app.database import Database
from app.database import robots as listed
from app.database.keyset import Page
from app.database.robots import Robot
from app.oci.errors import OCIError

from .conftest import on_both_databases

ADMIN = Principal(PrincipalKind.PERSON, "admin", is_admin=True, id=1)
MARI = Principal(PrincipalKind.PERSON, "mari", id=2)
OPEN, SECRET = (1, "open"), (2, "secret")
DAY = 86400
SECRETS = Secrets("k" * 32)


@pytest.fixture
def robots(database: Database) -> Robots:
    return Robots(database, SECRETS, Access())


async def make(robots: Robots, **changes: Any) -> tuple[Robot, str]:
    """Make a robot as a project admin called mari would, but for ``changes``."""
    project = changes.get("project", OPEN)
    usual: dict[str, Any] = {
        "project": project,
        "name": "ci",
        "description": "builds",
        "permissions": {str(project[0]): [PULL, PUSH]} if project else {"*": [PULL]},
        "days": None,
        "by": MARI,
        "rights": ALL_RIGHTS,
    }
    return await robots.create(**{**usual, **changes})


@on_both_databases
async def test_a_robot_is_made_with_its_secret_shown_once(robots: Robots) -> None:
    robot, secret = await make(robots)
    assert robot.name == "robot-open+ci"
    assert robot.permissions == {"1": [PULL, PUSH]}
    assert (robot.project_id, robot.description, robot.created_by, robot.disabled) == (
        1,
        "builds",
        "person:mari",
        False,
    )
    assert robot.expires_at == pytest.approx(time.time() + 30 * DAY, abs=60)
    assert robot.secret_hash == SECRETS.hash(secret)
    assert await robots.find(robot.id) == robot
    assert secret not in repr(robot)
    assert robot.secret_hash not in repr(robot)


@on_both_databases
async def test_each_project_and_the_system_has_its_own_names(robots: Robots) -> None:
    names = [
        (await make(robots, project=OPEN))[0].name,
        (await make(robots, project=SECRET))[0].name,
        (await make(robots, project=None, by=ADMIN))[0].name,
    ]
    assert names == ["robot-open+ci", "robot-secret+ci", "robot-ci"]
    for project, by in ((OPEN, MARI), (None, ADMIN)):
        with pytest.raises(Conflict, match="already"):
            await make(robots, project=project, by=by)


async def test_of_many_who_take_a_name_at_once_one_gets_it(robots: Robots) -> None:
    made = await asyncio.gather(*(make(robots) for _ in range(5)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in made) == ["Conflict"] * 4 + ["tuple"]


async def test_the_prefix_is_the_configured_one(database: Database) -> None:
    robot, _ = await make(Robots(database, SECRETS, Access(robot_prefix="robot$")))
    assert robot.name == "robot$open+ci"


@pytest.mark.parametrize(
    "name",
    ["", "CI", "ci ", "a b", "a$b", "a+b", "a/b", "-a", "a-", "a--b", "õ", "a\n", "a" * 65, "<b>", "a;id", "a`id`"],
    ids=repr,
)
async def test_other_names_are_refused_in_words(robots: Robots, name: str) -> None:
    with pytest.raises(Invalid, match="lower-case letters and digits"):
        await make(robots, name=name)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"permissions": {}}, Invalid, "at least one right"),
        ({"permissions": {"1": []}}, Invalid, "at least one right"),
        ({"permissions": {"1": ["fly"]}}, Invalid, "'fly' cannot be given"),
        ({"permissions": {"1": [CREATE_ROBOT]}}, Invalid, "cannot be given"),
        ({"permissions": {"2": [PULL]}}, Invalid, "in that project only"),
        ({"permissions": {"1": [PULL], "2": [PULL]}}, Invalid, "in that project only"),
        ({"permissions": {"*": [PULL]}}, Invalid, "in that project only"),
        ({"rights": rights_of(Role.GUEST)}, Forbidden, "you cannot give repository:push"),
        ({"days": 0}, Invalid, "between 1 and 365 days"),
        ({"days": 366}, Invalid, "between 1 and 365 days"),
        ({"days": NEVER}, Invalid, "between 1 and 365 days"),
        ({"days": -2, "by": ADMIN}, Invalid, "between 1 and 365 days"),
        ({"description": "x" * 1001}, Invalid, "description"),
        ({"description": "a\0b"}, Invalid, "description"),
        ({"project": None}, Forbidden, "only administrators"),
        ({"project": None, "by": ADMIN, "permissions": {"one": [PULL]}}, Invalid, "is not a project id"),
        ({"project": None, "by": ADMIN, "permissions": {"01": [PULL]}}, Invalid, "is not a project id"),
        ({"project": None, "by": ADMIN, "permissions": {"9" * 30: [PULL]}}, Invalid, "is not a project id"),
        ({"project": None, "by": ADMIN, "permissions": {"77": [PULL]}}, Invalid, "no project with the id 77"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_given_is_refused_in_words(
    database: Database, robots: Robots, changes: dict[str, Any], error: type[OCIError], words: str
) -> None:
    with pytest.raises(error, match=words):
        await make(robots, **changes)
    assert await database.read(listed.page, None, Page(10)) + await database.read(listed.page, 1, Page(10)) == []


async def test_an_administrators_key_makes_none_of_the_systems(robots: Robots) -> None:
    key = Principal(PrincipalKind.PERSON, "admin", is_admin=True, id=1, limits={"*": ALL_RIGHTS})
    with pytest.raises(Forbidden):
        await make(robots, project=None, by=key)


async def test_an_administrator_may_make_one_that_never_ends(robots: Robots) -> None:
    assert (await make(robots, by=ADMIN, days=NEVER))[0].expires_at is None


@on_both_databases
async def test_what_is_changed_is_what_was_said(robots: Robots) -> None:
    robot, _ = await make(robots)
    assert await robots.update(robot, by=MARI, rights=ALL_RIGHTS) == robot
    changed = await robots.update(robot, by=MARI, rights=ALL_RIGHTS, description="nightly", disabled=True)
    assert (changed.description, changed.disabled) == ("nightly", True)
    assert (changed.permissions, changed.expires_at) == (robot.permissions, robot.expires_at)
    changed = await robots.update(robot, by=MARI, rights=ALL_RIGHTS, permissions={"1": [PULL]}, days=1, disabled=False)
    assert (changed.permissions, changed.disabled) == ({"1": [PULL]}, False)
    assert changed.expires_at == pytest.approx(time.time() + DAY, abs=60)
    assert await robots.find(robot.id) == changed


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"permissions": {"2": [PULL]}}, Invalid),
        ({"permissions": {"1": [PUSH]}, "rights": frozenset({PULL})}, Forbidden),
        ({"days": 999}, Invalid),
        ({"days": NEVER}, Invalid),
        ({"description": "x" * 1001}, Invalid),
    ],
    ids=str,
)
async def test_a_change_is_bound_by_the_same_rules(
    robots: Robots, changes: dict[str, Any], error: type[OCIError]
) -> None:
    robot, _ = await make(robots)
    with pytest.raises(error):
        await robots.update(robot, **{"by": MARI, "rights": ALL_RIGHTS, **changes})
    assert await robots.find(robot.id) == robot


@on_both_databases
async def test_a_refreshed_secret_replaces_the_one_before(robots: Robots) -> None:
    robot, secret = await make(robots)
    changed, fresh = await robots.refresh(robot)
    assert fresh != secret
    assert changed.secret_hash == SECRETS.hash(fresh)
    assert (changed.name, changed.expires_at) == (robot.name, robot.expires_at)


async def test_what_is_gone_is_missing(robots: Robots) -> None:
    robot, _ = await make(robots)
    await robots.remove(robot)
    for doing in (robots.find(robot.id), robots.refresh(robot), robots.remove(robot)):
        with pytest.raises(Missing):
            await doing
    with pytest.raises(Missing):
        await robots.update(robot, by=MARI, rights=ALL_RIGHTS, disabled=True)


async def test_a_robot_of_another_project_is_missing(robots: Robots) -> None:
    robot, _ = await make(robots)
    assert await robots.find_in(1, robot.id) == robot
    for project_id in (2, None, 77):
        with pytest.raises(Missing) as raised:
            await robots.find_in(project_id, robot.id)
        for robot_id in (4711, 0, -1, 1 << 70):
            with pytest.raises(Missing) as unknown:
                await robots.find_in(project_id, robot_id)
            assert raised.value.body() == unknown.value.body()


@on_both_databases
async def test_robots_are_listed_by_name_page_by_page(database: Database, robots: Robots) -> None:
    for number in (3, 1, 2):
        await make(robots, name=f"ci{number}")
    await make(robots, project=SECRET, name="other")
    await make(robots, project=None, by=ADMIN, name="backup")
    first = await database.read(listed.page, 1, Page(2))
    assert [robot.name for robot in first] == ["robot-open+ci1", "robot-open+ci2"]
    assert [robot.name for robot in await database.read(listed.page, 1, Page(2, first[-1].name))] == ["robot-open+ci3"]
    assert [robot.name for robot in await database.read(listed.page, 1, Page(2, offset=2))] == ["robot-open+ci3"]
    assert [robot.name for robot in await database.read(listed.page, None, Page(9))] == ["robot-backup"]
    assert [robot.name for robot in await database.read(listed.page, 1, Page(9, search="ci2"))] == ["robot-open+ci2"]
    assert (
        await database.read(listed.page, 1, Page(9, search="ci%"))
        == await database.read(listed.page, 1, Page(9, search="_"))
        == await database.read(listed.page, 1, Page(9, search="\0"))
        == []
    )
    assert (
        await database.read(listed.page, 1, Page(9, search="\0"))
        == await database.read(listed.page, 1, Page(9, "\0"))
        == []
    )
    assert [
        (await database.read(listed.total, 1)).number,
        (await database.read(listed.total, None)).number,
        (await database.read(listed.total, 1, search="ci2")).number,
    ] == [3, 1, 1]
