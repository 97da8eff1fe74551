"""Who looks after a robot account or an access key is told a week before it ends: once, whoever's worker says it."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from app.access.access_keys import AccessKeys
from app.access.notices import Notices
from app.access.principal import Principal, PrincipalKind
from app.access.robots import NEVER, Robots
from app.access.roles import ALL_RIGHTS, PULL
from app.access.secrets import Secrets
from app.config import Access
from app.database import Database, accounts, audit
from app.database.keyset import Page
from app.database.robots import Robot

from .conftest import on_both_databases

ADMIN = Principal(PrincipalKind.PERSON, "admin", is_admin=True, id=1)
MARI = Principal(PrincipalKind.PERSON, "mari", id=2)
DAY = 86400
SECRETS = Secrets("k" * 32)


@pytest.fixture
def robots(database: Database) -> Robots:
    return Robots(database, SECRETS, Access())


async def make(robots: Robots, name: str, days: int, by: Principal = MARI) -> Robot:
    made, _ = await robots.create(
        project=(1, "open"),
        name=name,
        description="",
        permissions={"1": [PULL]},
        days=days,
        by=by,
        rights=ALL_RIGHTS,
    )
    return made


async def person(database: Database, name: str) -> int:
    async with database.transaction() as transaction:
        await accounts.create(transaction, name, "hash", is_admin=False)
        found = await accounts.find(transaction, name)
    assert found is not None
    return found.id


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "expires on" in record.getMessage()]


@on_both_databases
async def test_notice_is_given_a_week_before_and_once(
    database: Database, other_database: Database, robots: Robots, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    soon = await make(robots, "soon", 3)
    await robots.update(await make(robots, "disabled", 3), by=MARI, rights=ALL_RIGHTS, disabled=True)
    await make(robots, "later", 30)
    await make(robots, "always", NEVER, ADMIN)
    keys = AccessKeys(database, SECRETS, Access())
    anna, gone = await person(database, "anna"), await person(database, "gone")
    key, _ = await keys.create(anna, name="laptop", permissions={"*": [PULL]}, days=5)
    await keys.create(anna, name="desktop", permissions={"*": [PULL]}, days=60)
    await keys.create(gone, name="laptop", permissions={"*": [PULL]}, days=5)
    async with database.transaction() as transaction:
        await accounts.change(transaction, gone, disabled=True)
    workers = [Notices(database), Notices(other_database)]
    given = await asyncio.gather(*(worker.give() for worker in workers * 3))
    expected = [
        ("robot:robot-open+soon", "expiring", "robot", "robot-open+soon", 1),
        ("person:anna", "expiring", "access key", "laptop", None),
    ]
    told = [
        (note.actor, note.operation, note.resource_type, note.resource, note.project_id)
        for notes in given
        for note in notes
    ]
    assert sorted(told, key=str) == sorted(expected, key=str)
    async with database.reading() as transaction:
        entries = await audit.page(transaction, Page(9), audit.EVERYTHING)
    noted = [(one.actor, one.operation, one.resource_type, one.resource, one.project_id) for one in entries]
    assert sorted(noted, key=str) == sorted(expected, key=str)
    days = [time.strftime("%Y-%m-%d", time.gmtime(one.expires_at)) for one in (soon, key)]
    assert sorted(said(caplog)) == [
        f"the access key 'laptop' of anna expires on {days[1]}; they can make another one",
        f"the robot account robot-open+soon expires on {days[0]}; extend it if it is still needed",
    ]


async def test_notice_is_given_again_of_a_robot_that_was_prolonged(
    database: Database, robots: Robots, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices, robot = Notices(database), await make(robots, "ci", 3)
    assert [note.resource for note in await notices.give()] == [robot.name]
    await robots.update(robot, by=MARI, rights=ALL_RIGHTS, days=30)
    assert await notices.give() == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 24 * DAY)
    assert [note.resource for note in await notices.give()] == [robot.name]
    assert await notices.give() == []
