"""Somebody who has not logged in for long: their keys stop, and the robots of a project that nobody manages."""

from __future__ import annotations

import time
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import update

from app.access.absence import HANDING_OVER_SECONDS, Absence
from app.access.access_keys import AccessKeys
from app.access.accounts import Accounts
from app.access.credentials import Credentials
from app.access.last_used import LastUsed
from app.access.people import Identity, People
from app.access.principal import Principal, PrincipalKind
from app.access.refusals import Refusals
from app.access.robots import Robots
from app.access.roles import ALL_RIGHTS, PULL, Role
from app.access.secrets import Secrets
from app.access.throttle import Throttle
from app.config import Access
from app.database import Database, accounts, attendance, members
from app.database.accounts import Person
from app.database.keyset import Page
from app.database.tables import account
from app.oci.errors import Unauthorized

from .conftest import no_redis, on_both_databases

ADMIN = Principal(PrincipalKind.PERSON, "admin", is_admin=True, id=1)
SECRETS = Secrets("k" * 32)
DAY = 86400
LAB = "193.40.5.7"
# The projects of the fixture, and their ids.
OPEN, SECRET = 1, 2


class Place:
    """The services of a worker, with a clock that `pass_days` moves on."""

    def __init__(self, database: Database, days: int | None = 180) -> None:
        self.database = database
        self.passed = 0.0
        self.absence = Absence(days, self.now)
        self.people = People(database, AsyncMock(), "robot-", self.absence)
        self.keys = AccessKeys(database, SECRETS, Access(most_key_days=9999))
        self.robots = Robots(database, SECRETS, Access(most_robot_days=9999))
        throttle = Throttle(no_redis())
        self.credentials = Credentials(
            database, SECRETS, Accounts(database, throttle), throttle, LastUsed(database),
            Refusals(database, lambda *_: None), self.absence, self.now,
        )  # fmt: skip

    def now(self) -> float:
        return time.time() + self.passed

    async def person(self, name: str, *groups: str) -> Person:
        return (await self.people.signed_in(Identity(name, name.title(), "", groups, None))).person

    async def seen(self, person: Person, days_ago: float | None) -> None:
        """Set when somebody was last seen, in days before the clock's present."""
        at = None if days_ago is None else self.now() - days_ago * DAY
        async with self.database.transaction() as transaction:
            await transaction.execute(update(account).where(account.c.id == person.id).values(seen_at=at))

    async def key(self, person: Person) -> str:
        return (await self.keys.create(person.id, name="laptop", permissions={"*": [PULL]}, days=9999))[1]

    async def robot(self, project: tuple[int, str] | None, name: str) -> str:
        made = await self.robots.create(
            project=project, name=name, description="", permissions={"1": [PULL]}, days=9999, by=ADMIN,
            rights=ALL_RIGHTS,
        )  # fmt: skip
        return made[1]

    async def admits(self, username: str, secret: str) -> bool:
        try:
            await self.credentials.authenticate(username, secret, LAB)
        except Unauthorized as error:
            return "stopped" not in error.message
        return True

    async def unattended(self) -> list[str]:
        return [one.name for one in await self.database.read(attendance.page, Page(9))]

    async def member(self, project_id: int, person: Person | None = None, group: str | None = None) -> None:
        async with self.database.transaction() as transaction:
            account_id = person.id if person is not None else None
            await members.add(transaction, project_id, Role.PROJECT_ADMIN, account_id=account_id, group=group)


@on_both_databases
async def test_keys_stop_until_the_next_log_in(database: Database) -> None:
    place = Place(database)
    mari = await place.person("mari")
    key = await place.key(mari)
    for days_ago, admitted in ((0, True), (179, True), (180, False), (9999, False), (None, True)):
        await place.seen(mari, days_ago)
        assert await place.admits("mari", key) is admitted, days_ago
    # A key that is refused says what to do, and its use is no sign of a person.
    await place.seen(mari, 181)
    with pytest.raises(Unauthorized, match="not logged in for 180 days; log in with a browser once"):
        await place.credentials.authenticate("mari", key, LAB)
    await place.person("mari")
    assert await place.admits("mari", key)
    # So does a local log-in in a browser; a wrong secret learns nothing.
    await place.seen(mari, 181)
    with pytest.raises(Unauthorized, match="wrong user name"):
        await place.credentials.authenticate("mari", "hpcr_" + "0" * 40, LAB)
    await place.people.noted(mari.id)
    assert await place.admits("mari", key)
    never = Place(database, None)
    await never.seen(mari, 9999)
    assert await never.admits("mari", key)


async def test_a_local_password_is_never_refused_for_absence(database: Database) -> None:
    """It is the operators' way in, and a log-in of its own; on the command line it is no sign of a person."""
    place = Place(database)
    await Accounts(database, Throttle(no_redis())).ensure_admin("admin", "the admin's password")
    admin = await database.read(accounts.person_by_name, "admin")
    assert admin is not None
    key = await place.key(admin)
    await place.seen(admin, 9999)
    assert (await place.credentials.authenticate("admin", "the admin's password", LAB)).is_admin
    assert not await place.admits("admin", key)
    await place.people.noted(admin.id)
    assert await place.admits("admin", key)


async def test_a_log_in_is_noted_once_a_day(database: Database) -> None:
    place = Place(database)
    mari = await place.person("mari")
    assert mari.seen_at is not None
    assert (await place.person("mari")).seen_at == mari.seen_at
    await place.seen(mari, 1.5)
    assert (await place.person("mari")).seen_at != mari.seen_at


@on_both_databases
async def test_robots_end_after_their_project_was_left_alone(database: Database) -> None:
    place = Place(database)
    mari, jaan = await place.person("mari"), await place.person("jaan", "staff")
    await place.member(OPEN, mari)
    await place.member(OPEN, group="staff")
    robot, system = await place.robot((OPEN, "open"), "ci"), await place.robot(None, "all")
    operators = await place.robots.create(
        project=(SECRET, "secret"), name="ci", description="", permissions={"2": [PULL]}, days=9999, by=ADMIN,
        rights=ALL_RIGHTS,
    )  # fmt: skip
    assert await place.absence.look(database) == 0
    await place.seen(mari, 181)
    # Somebody of the group is there.
    assert await place.absence.look(database) == 0
    async with database.transaction() as transaction:
        await accounts.set_disabled(transaction, jaan.id, disabled=True)
    assert await place.absence.look(database) == 1
    assert await place.absence.look(database) == 0
    # A project without any project admin is the operators'.
    assert await place.unattended() == ["open"]
    assert await place.admits("robot-open+ci", robot)
    place.passed = HANDING_OVER_SECONDS + 60
    assert not await place.admits("robot-open+ci", robot)
    assert await place.admits("robot-all", system)
    assert await place.admits("robot-secret+ci", operators[1])
    # Whoever manages the project comes back.
    await place.person("mari")
    assert await place.admits("robot-open+ci", robot)
    assert await place.unattended() == []


@on_both_databases
async def test_who_lifts_the_mark(database: Database) -> None:
    place = Place(database)
    mari, jaan = await place.person("mari"), await place.person("jaan", 'st"aff')
    await place.member(OPEN, mari)
    await place.member(SECRET, group='St"aff')
    await place.seen(mari, 500)
    assert await place.absence.look(database) == 2
    # A member of a group whose name has other capitals manages nothing.
    await place.person("jaan", 'st"aff')
    assert await place.unattended() == ["open", "secret"]
    await place.person("jaan", 'St"aff')
    assert await place.unattended() == ["open"]
    assert await place.absence.look(database) == 0
    async with database.transaction() as transaction:
        await members.add(transaction, OPEN, Role.PROJECT_ADMIN, account_id=jaan.id)
        await place.absence.recheck(transaction, OPEN)
    assert await place.unattended() == []
    # The job lifts what nobody else has lifted.
    async with database.transaction() as transaction:
        await attendance.mark(transaction, [OPEN], 1.0)
    assert await place.absence.look(database) == 0
    assert await place.unattended() == []
