"""Somebody is told 14 and 2 days before something of theirs ends: once for each, by whichever worker is first."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from sqlalchemy import select, update

from app.access.absence import HANDING_OVER_SECONDS, Absence
from app.access.access_keys import AccessKeys
from app.access.letters import Letters, is_address
from app.access.notices import Notices
from app.access.principal import Principal, PrincipalKind
from app.access.robots import NEVER, Robots
from app.access.roles import ALL_RIGHTS, PULL, Role
from app.access.secrets import Secrets
from app.config import Access
from app.database import Database, accounts, attendance, audit, members
from app.database.keyset import Page
from app.database.robots import Robot
from app.database.tables import account, letter

from .conftest import Clock, on_both_databases

ADMIN = Principal(PrincipalKind.PERSON, "admin", is_admin=True, id=1)
MARI = Principal(PrincipalKind.PERSON, "mari", id=2)
DAY = 86400
SECRETS = Secrets("k" * 32)
URL = "https://registry.example.org"


@pytest.fixture
def robots(database: Database) -> Robots:
    return Robots(database, SECRETS, Access())


def told(database: Database, clock: Clock, days: int | None = 180) -> Notices:
    return Notices(database, Absence(days, clock), Letters(URL), clock)


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


async def person(database: Database, name: str, *, is_admin: bool = False) -> int:
    async with database.transaction() as transaction:
        await accounts.create(transaction, name, "hash", is_admin=is_admin, email=f"{name}@example.org")
        found = await accounts.find(transaction, name)
    assert found is not None
    return found.id


async def sent(database: Database) -> list[tuple[str, str]]:
    """The letters that wait: to whom, and on what."""
    async with database.reading() as transaction:
        rows = await transaction.execute(select(letter.c.address, letter.c.subject))
        return sorted((address, subject.removeprefix("registry.example.org: ")) for address, subject in rows)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return sorted(record.getMessage() for record in caplog.records if " on 20" in record.getMessage())


@on_both_databases
async def test_each_notice_is_given_once_by_all_workers(
    database: Database, other_database: Database, robots: Robots, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    soon, short = await make(robots, "soon", 15), await make(robots, "short", 14)
    await robots.update(await make(robots, "disabled", 15), by=MARI, rights=ALL_RIGHTS, disabled=True)
    await make(robots, "later", 40)
    await make(robots, "always", NEVER, ADMIN)
    keys = AccessKeys(database, SECRETS, Access())
    anna, gone = await person(database, "anna"), await person(database, "gone")
    key, _ = await keys.create(anna, name="laptop", permissions={"*": [PULL]}, days=15)
    await keys.create(anna, name="desktop", permissions={"*": [PULL]}, days=60)
    await keys.create(gone, name="laptop", permissions={"*": [PULL]}, days=15)
    async with database.transaction() as transaction:
        await accounts.change(transaction, gone, disabled=True)
        await members.add(transaction, 1, Role.PROJECT_ADMIN, account_id=anna)
    workers = [told(database, clock), told(other_database, clock)]
    assert await workers[0].give() == []
    clock.passed = 1.5 * DAY
    given = await asyncio.gather(*(worker.give() for worker in workers * 3))
    expected = [
        ("person:anna", "expiring", "access key", "laptop", None),
        ("robot:robot-open+soon", "expiring", "robot", "robot-open+soon", 1),
    ]

    def spelled(notes: list[audit.Note]) -> list[tuple[str, str, str, str, int | None]]:
        told = ((one.actor, one.operation, one.resource_type, one.resource, one.project_id) for one in notes)
        return sorted(told, key=str)

    assert spelled([note for notes in given for note in notes]) == expected
    assert spelled(list(await database.read(audit.page, Page(9)))) == expected
    days = [time.strftime("%Y-%m-%d", time.gmtime(one.expires_at)) for one in (soon, key)]
    assert said(caplog) == [
        f"the access key 'laptop' of anna expires on {days[1]}; they can make another one",
        f"the robot account robot-open+soon expires on {days[0]}; extend it if it is still needed",
    ]
    letters = [
        ("anna@example.org", f"the access key laptop expires on {days[1]}"),
        ("anna@example.org", f"the robot account robot-open+soon expires on {days[0]}"),
    ]
    assert await sent(database) == letters
    # A robot account that lived for two weeks from the start gets the second notice alone.
    clock.passed = 13.5 * DAY
    given = await asyncio.gather(*(worker.give() for worker in workers))
    names = sorted(note.resource for notes in given for note in notes)
    assert names == ["laptop", "robot-open+short", "robot-open+soon"]
    assert short.expires_at is not None
    clock.passed = 20 * DAY
    assert await workers[0].give() == []
    assert len(await sent(database)) == 5


async def test_a_missed_term_is_not_made_up_for(database: Database, robots: Robots, clock: Clock) -> None:
    notices, robot = told(database, clock), await make(robots, "ci", 30)
    clock.passed = 29 * DAY
    assert [note.resource for note in await notices.give()] == [robot.name]
    assert await notices.give() == []


async def test_notice_is_given_again_of_a_robot_that_was_prolonged(
    database: Database, robots: Robots, clock: Clock
) -> None:
    notices, robot = told(database, clock), await make(robots, "ci", 30)
    clock.passed = 17 * DAY
    assert [note.resource for note in await notices.give()] == [robot.name]
    await robots.update(robot, by=MARI, rights=ALL_RIGHTS, days=60)
    assert await notices.give() == []
    clock.passed = 47 * DAY
    assert [note.resource for note in await notices.give()] == [robot.name]
    assert await notices.give() == []


@on_both_databases
async def test_absence_is_told_before_it_ends_anything(database: Database, robots: Robots, clock: Clock) -> None:
    root, mari = await person(database, "root", is_admin=True), await person(database, "mari")
    await person(database, "jaan")
    keys = AccessKeys(database, SECRETS, Access())
    await keys.create(mari, name="laptop", permissions={"*": [PULL]}, days=300)
    await keys.create(root, name="short", permissions={"*": [PULL]}, days=100)
    await make(robots, "ci", 365)
    async with database.transaction() as transaction:
        await members.add(transaction, 1, Role.PROJECT_ADMIN, account_id=mari)
    notices, absence = told(database, clock), Absence(180, clock)
    expected = {165: [], 167: ["mari"], 177: [], 179: ["mari"], 181: ["open"], 192: [], 194: ["open"], 196: []}
    given = {}
    for days in expected:
        clock.passed = days * DAY
        await absence.look(database)
        given[days] = [note.resource for note in await notices.give() if note.resource != "short"]
        async with database.transaction() as transaction:
            # The administrator comes and goes, and the project is nothing of theirs.
            await transaction.execute(update(account).where(account.c.id == root).values(seen_at=clock()))
    assert given == expected
    subjects = [(to, subject.partition(" stop on ")[0]) for to, subject in await sent(database) if "stop" in subject]
    assert subjects == [
        *[("mari@example.org", "the robot accounts of open")] * 2,
        *[("mari@example.org", "your access keys")] * 2,
        *[("root@example.org", "the robot accounts of open")] * 2,
    ]
    (project,) = await database.read(attendance.page, Page(9))
    assert project.since + HANDING_OVER_SECONDS <= clock()
    assert await told(database, clock, None).give() == []


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("mari.maasikas@ut.ee", True),
        ("a+b@example.org", True),
        ("", False),
        ("mari", False),
        ("mari@ut.ee, all@ut.ee", False),
        ("mari@ut.ee\nBcc: all@ut.ee", False),
        ("Mari <mari@ut.ee>", False),
        ("m\N{LATIN SMALL LETTER A WITH DIAERESIS}ri@ut.ee", False),
        ("x" * 65 + "@ut.ee", False),
    ],
)
def test_what_mail_is_sent_to(text: str, fine: bool) -> None:
    assert is_address(text) is fine
