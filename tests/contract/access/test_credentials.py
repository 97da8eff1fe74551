"""Who somebody is by what they typed: robots, access keys, passwords, and what none of them tells."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import argon2
import pytest
from sqlalchemy import update

from app.access.absence import Absence
from app.access.access_keys import AccessKeys
from app.access.accounts import Accounts
from app.access.credentials import Credentials
from app.access.last_used import LastUsed
from app.access.permissions import Permissions
from app.access.principal import ANONYMOUS, Principal, PrincipalKind
from app.access.refusals import Refusals
from app.access.robots import Robots
from app.access.roles import ALL_RIGHTS, PULL, PUSH
from app.access.secrets import Secrets
from app.access.throttle import Throttle
from app.config import Access
from app.database import Database, access_keys, accounts
from app.database.robots import Robot
from app.database.tables import account, member
from app.oci.errors import OCIError, TooManyRequests, Unauthorized
from tests.parts.process import eventually

from .conftest import no_redis, on_both_databases

LAB = "193.40.5.7"
PASSWORD = "the admin's password"
ADMIN = Principal(PrincipalKind.PERSON, "admin", is_admin=True, id=1)
SECRETS = Secrets("k" * 32)
WRONG = "hpcr_" + "0" * 40
DAY = 86400


class Clock:
    """The time of day, moved by hand."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return time.time() + self.passed


class Place:
    """One worker's services on one database, with an admin and a person called mari."""

    def __init__(self, database: Database, *, enabled: bool = True) -> None:
        self.database = database
        self.clock = Clock()
        throttle = Throttle(no_redis(), self.clock)
        self.accounts = Accounts(database, throttle, enabled=enabled)
        self.robots = Robots(database, SECRETS, Access())
        self.keys = AccessKeys(database, SECRETS, Access())
        self.used = LastUsed(database, self.clock)
        # Names and addresses of whom was not let in, as the audit log is told them.
        self.refused: list[tuple[str, str]] = []
        refusals = Refusals(database, lambda name, address: self.refused.append((name, address)))
        self.credentials = Credentials(
            database, SECRETS, self.accounts, throttle, self.used, refusals, Absence(180, self.clock), self.clock
        )

    async def robot(self, name: str = "ci", *, days: int = 30) -> tuple[Robot, str]:
        return await self.robots.create(
            project=(1, "open"), name=name, description="", permissions={"1": [PULL, PUSH]}, days=days,
            by=ADMIN, rights=ALL_RIGHTS,
        )  # fmt: skip

    async def key(self, permissions: Mapping[str, list[str]], name: str = "laptop") -> str:
        return (await self.keys.create(2, name=name, permissions=permissions, days=30))[1]

    async def refusal(self, username: str, password: str, address: str = LAB) -> OCIError:
        with pytest.raises(OCIError) as raised:
            await self.credentials.authenticate(username, password, address)
        return raised.value

    async def change_mari(self, **values: Any) -> None:
        async with self.database.transaction() as transaction:
            await transaction.execute(update(account).where(account.c.username == "mari").values(values))


@pytest.fixture
async def place(database: Database) -> Place:
    place = Place(database)
    await place.accounts.ensure_admin("admin", PASSWORD)
    async with database.transaction() as transaction:
        await accounts.create(transaction, "mari", "", is_admin=False)
    await place.change_mari(groups=["chemists"])
    return place


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What argon2 was asked to verify; it still does."""
    seen: list[str] = []
    verify = argon2.PasswordHasher.verify

    def watched(self: argon2.PasswordHasher, password_hash: Any, password: Any) -> Any:
        seen.append(password_hash)
        return verify(self, password_hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", watched)
    return seen


@on_both_databases
async def test_each_is_told_by_what_was_typed(place: Place, hashing: list[str]) -> None:
    robot, secret = await place.robot()
    key = await place.key({"2": [PULL]})
    assert await place.credentials.authenticate(robot.name, secret, LAB) == Principal(
        PrincipalKind.ROBOT, "robot-open+ci", id=robot.id, limits={"1": frozenset({PULL, PUSH})}
    )
    assert await place.credentials.authenticate("mari", key, LAB) == Principal(
        PrincipalKind.PERSON, "mari", id=2, groups=frozenset({"chemists"}), limits={"2": frozenset({PULL})}
    )
    assert hashing == []
    assert await place.credentials.authenticate("admin", PASSWORD, LAB) == ADMIN
    assert len(hashing) == 1


async def test_wrong_secrets_get_the_words_of_a_wrong_password_and_cost_no_hashing(
    place: Place, hashing: list[str]
) -> None:
    robot, secret = await place.robot()
    key = await place.key({"*": [PULL]})
    expected = await place.refusal("nobody", "a wrong password")
    assert len(hashing) == 1
    for username, password in [
        (robot.name, WRONG),
        ("robot-open+missing", WRONG),
        ("robot-open+missing", secret),
        ("mari", WRONG),
        ("nobody", WRONG),
        ("mari", secret),
        ("admin", key),
        ("Marii", key),
        (robot.name, key),
        (f"{robot.name}\0", secret),
        ("", secret),
    ]:
        assert (await place.refusal(username, password, "10.0.0.1")).body() == expected.body(), username
    assert len(hashing) == 1


@on_both_databases
async def test_who_was_not_let_in_is_told_by_a_name_that_is_somebodys_or_none(place: Place) -> None:
    robot, secret = await place.robot()
    await place.credentials.authenticate(robot.name, secret, LAB)
    assert place.refused == []
    tried = [
        ("mari", "a wrong password", "mari"), ("mari", WRONG, "mari"), ("admin", secret, "admin"),
        (robot.name, "a wrong password", robot.name), (robot.name, WRONG, robot.name),
        # A name that is nobody's may be a secret in the wrong field.
        (PASSWORD, "admin", ""), (secret, robot.name, ""), ("nobody\0", WRONG, ""),
        ("x" * 300, WRONG, ""), ("", WRONG, ""),
    ]  # fmt: skip
    for username, password, _ in tried:
        await place.refusal(username, password)
    assert place.refused == [(name, LAB) for _, _, name in tried]
    await place.robots.update(robot, by=ADMIN, rights=ALL_RIGHTS, disabled=True)
    await place.refusal(robot.name, secret, "10.0.0.1")
    assert place.refused[-1] == (robot.name, "10.0.0.1")


async def test_what_is_slowed_down_is_told_of_as_well(place: Place) -> None:
    for _ in range(30):
        await place.refusal("mari", WRONG)
    assert isinstance(await place.refusal("mari", WRONG), TooManyRequests)
    assert place.refused == [("mari", LAB)] * 31


async def test_a_robots_name_with_a_password_is_tried_as_one(place: Place) -> None:
    robot, _ = await place.robot()
    expected = await place.refusal("nobody", "x")
    assert (await place.refusal(robot.name, "x")).body() == expected.body()


@on_both_databases
async def test_what_is_done_to_a_robot_counts_at_once(place: Place) -> None:
    robot, secret = await place.robot()
    await place.credentials.authenticate(robot.name, secret, LAB)

    await place.robots.update(robot, by=ADMIN, rights=ALL_RIGHTS, permissions={"1": [PULL]})
    assert (await place.credentials.authenticate(robot.name, secret, LAB)).limits == {"1": frozenset({PULL})}

    await place.robots.update(robot, by=ADMIN, rights=ALL_RIGHTS, disabled=True)
    assert "is disabled" in (await place.refusal(robot.name, secret)).message
    assert "disabled" not in (await place.refusal(robot.name, WRONG)).message
    await place.robots.update(robot, by=ADMIN, rights=ALL_RIGHTS, disabled=False)

    _, fresh = await place.robots.refresh(robot)
    assert isinstance(await place.refusal(robot.name, secret), Unauthorized)
    await place.credentials.authenticate(robot.name, fresh, LAB)

    await place.robots.remove(robot)
    assert "wrong user name or password" in (await place.refusal(robot.name, fresh)).message


async def test_who_has_the_right_secret_is_told_that_it_has_expired(place: Place) -> None:
    robot, secret = await place.robot(days=1)
    key = await place.key({"*": [PULL]})
    place.clock.passed = DAY - 60
    await place.credentials.authenticate(robot.name, secret, LAB)
    place.clock.passed = DAY + 60
    assert "robot-open+ci has expired" in (await place.refusal(robot.name, secret)).message
    assert "expired" not in (await place.refusal(robot.name, WRONG)).message
    await place.credentials.authenticate("mari", key, LAB)
    place.clock.passed = 30 * DAY + 60
    assert "the access key 'laptop' has expired" in (await place.refusal("mari", key)).message


@on_both_databases
async def test_a_disabled_persons_keys_are_refused_at_once_and_the_removed_ones_are_gone(place: Place) -> None:
    keys = [await place.key({"*": [PULL]}, name) for name in ("laptop", "cluster")]
    for key in keys:
        await place.credentials.authenticate("mari", key, LAB)
    await place.change_mari(disabled=True)
    for key in keys:
        assert "the account mari is disabled" in (await place.refusal("mari", key)).message
    async with place.database.transaction() as transaction:
        await transaction.exec_driver_sql("DELETE FROM account WHERE username = 'mari'")
    assert "wrong user name or password" in (await place.refusal("mari", keys[0])).message


@on_both_databases
async def test_a_key_does_part_of_what_its_person_may(place: Place) -> None:
    async with place.database.transaction() as transaction:
        await transaction.execute(
            member.insert().values(project_id=2, account_id=2, role="developer", created_at=time.time())
        )
    permissions = Permissions(place.database)
    for given, on_open, on_secret in [
        ({"*": [PULL, PUSH]}, {"pull"}, {"pull", "push"}),
        ({"2": [PULL]}, {"pull"}, {"pull"}),
        ({"1": [PULL, PUSH]}, {"pull"}, set()),
    ]:
        key = await place.key(given, str(given))
        principal = await place.credentials.authenticate("mari", key, LAB)
        assert (await permissions.access(principal, "open")).actions == on_open
        assert (await permissions.access(principal, "secret")).actions == on_secret


async def test_an_administrators_key_is_for_projects_only(place: Place) -> None:
    await place.change_mari(is_admin=True)
    principal = await place.credentials.authenticate("mari", await place.key({"2": [PULL]}), LAB)
    assert principal.is_admin
    assert not principal.administers
    permissions = Permissions(place.database)
    assert (await permissions.access(principal, "secret")).actions == {"pull"}
    assert (await permissions.access(principal, "missing")).actions == frozenset()


async def test_guesses_are_slowed_down_and_nobody_who_has_the_secret_is(place: Place) -> None:
    robot, secret = await place.robot()
    for _ in range(10):
        assert isinstance(await place.refusal(robot.name, WRONG), Unauthorized)
    slowed = await place.refusal(robot.name, WRONG)
    assert isinstance(slowed, TooManyRequests)
    assert 1 <= int(slowed.headers["Retry-After"]) <= 60
    await place.credentials.authenticate(robot.name, secret, LAB)
    for number in range(200):
        await place.refusal(f"robot-open+guess{number}", WRONG)
    # A secret cannot be guessed and costs no hash, so that no other account is refused for that.
    assert isinstance(await place.refusal("robot-open+another", WRONG), Unauthorized)
    await place.credentials.authenticate(robot.name, secret, LAB)


async def test_what_expired_or_is_disabled_is_no_guess(place: Place) -> None:
    """A forgotten job that knocks all day costs its neighbours behind one address nothing."""
    robot, secret = await place.robot()
    await place.robots.update(robot, by=ADMIN, rights=ALL_RIGHTS, disabled=True)
    for _ in range(250):
        assert isinstance(await place.refusal(robot.name, secret), Unauthorized)
    await place.credentials.authenticate("admin", PASSWORD, LAB)


async def test_without_passwords_robots_and_keys_go_on(place: Place, database: Database, hashing: list[str]) -> None:
    closed = Place(database, enabled=False)
    robot, secret = await place.robot()
    key = await place.key({"*": [PULL]})
    for username, password in (("admin", PASSWORD), ("admin", "wrong"), ("nobody", "x")):
        assert "passwords are not accepted here" in (await closed.refusal(username, password)).message
    assert hashing == []
    await closed.credentials.authenticate(robot.name, secret, LAB)
    await closed.credentials.authenticate("mari", key, LAB)


@on_both_databases
async def test_when_and_from_where_something_was_used_is_written_once_a_minute(
    database: Database, place: Place
) -> None:
    robot, secret = await place.robot()
    key = await place.key({"*": [PULL]})
    await place.credentials.authenticate(robot.name, secret, LAB)
    await place.credentials.authenticate("mari", key, "2001:db8::7")
    began = place.clock()
    assert (await place.robots.find(robot.id)).last_used_at is None
    await place.used.flush()
    seen = await place.robots.find(robot.id)
    assert seen.last_used_from == LAB
    assert seen.last_used_at == pytest.approx(began, abs=30)
    assert [each.last_used_from for each in await database.read(access_keys.of_account, 2)] == ["2001:db8::7"]

    place.clock.passed = 30
    await place.credentials.authenticate(robot.name, secret, "10.0.0.2")
    await place.used.flush()
    assert await place.robots.find(robot.id) == seen
    place.clock.passed = 90
    await place.credentials.authenticate(robot.name, secret, "10.0.0.3")
    await place.used.flush()
    assert (await place.robots.find(robot.id)).last_used_from == "10.0.0.3"


async def test_a_refused_login_is_no_use(place: Place) -> None:
    robot, _ = await place.robot()
    await place.refusal(robot.name, WRONG)
    await place.used.flush()
    assert (await place.robots.find(robot.id)).last_used_at is None


async def test_uses_are_kept_while_the_database_is_away(tmp_path: Any, place: Place) -> None:
    robot, _ = await place.robot()
    away = LastUsed(Database(f"sqlite:///{tmp_path}/nowhere/registry.db"))
    away.robot(robot.id, LAB)
    await away.flush()
    away._database = place.database
    await away.flush()
    assert (await place.robots.find(robot.id)).last_used_from == LAB


async def test_at_a_public_mirror_the_right_secrets_are_somebodys(place: Place) -> None:
    robot, secret = await place.robot()
    key = await place.key({"*": [PULL]})
    for username, password in ((robot.name, secret), ("mari", key), ("admin", PASSWORD)):
        expected = await place.credentials.authenticate(username, password, LAB)
        assert await place.credentials.authenticate_or_anonymous(username, password, LAB) == expected


async def test_at_a_public_mirror_a_login_of_another_registry_is_nobodys_and_costs_nothing(
    place: Place, hashing: list[str]
) -> None:
    logins = [(f"hubuser{number}", password) for number in range(100) for password in ("dckr_pat_x", WRONG, "")]
    answers = await asyncio.gather(*(place.credentials.authenticate_or_anonymous(*login, LAB) for login in logins))
    assert set(answers) == {ANONYMOUS}
    assert hashing == []
    assert place.refused == []
    # Nothing of it was counted: a guess elsewhere is still a guess, and not one too many.
    assert isinstance(await place.refusal("nobody", WRONG), Unauthorized)


@on_both_databases
async def test_at_a_public_mirror_guesses_count_and_are_not_answered(place: Place, hashing: list[str]) -> None:
    robot, secret = await place.robot()
    for name, password in (("admin", "a guess"), (robot.name, WRONG), (robot.name, "a guess"), ("mari", WRONG)):
        assert await place.credentials.authenticate_or_anonymous(name, password, "10.0.0.1") == ANONYMOUS
        assert place.refused[-1] == (name, "10.0.0.1")
    place.clock.passed = 60 - place.clock() % 60  # Failures are counted by the minute.
    for _ in range(20):
        assert await place.credentials.authenticate_or_anonymous("admin", "a guess", LAB) == ANONYMOUS
    # Ten of them and the two of the other address were verified; past that, not even the right one is.
    assert len(hashing) == 12
    assert await place.credentials.authenticate_or_anonymous("admin", PASSWORD, LAB) == ANONYMOUS
    assert isinstance(await place.refusal("admin", PASSWORD), TooManyRequests)
    assert len(hashing) == 12
    assert (await place.credentials.authenticate_or_anonymous(robot.name, secret, LAB)).name == robot.name


async def test_at_a_public_mirror_what_expired_or_is_disabled_is_anonymous(place: Place) -> None:
    robot, secret = await place.robot(days=1)
    await place.robots.update(robot, by=ADMIN, rights=ALL_RIGHTS, disabled=True)
    assert await place.credentials.authenticate_or_anonymous(robot.name, secret, LAB) == ANONYMOUS
    await place.robots.update(robot, by=ADMIN, rights=ALL_RIGHTS, disabled=False)
    place.clock.passed = DAY + 60
    assert await place.credentials.authenticate_or_anonymous(robot.name, secret, LAB) == ANONYMOUS
    assert place.refused == [(robot.name, LAB)] * 2


async def test_at_a_public_mirror_nobody_learns_from_the_time_which_names_exist(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hash takes 0.4 s here. Each answer comes after the same time, also for those that stand in line for a hash."""
    verify = argon2.PasswordHasher.verify

    def slow(self: argon2.PasswordHasher, password_hash: Any, password: Any) -> Any:
        time.sleep(0.4)
        return verify(self, password_hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", slow)
    await place.credentials.authenticate_or_anonymous("admin", "first", "10.1.0.1")

    async def seconds(username: str, password: str, address: str) -> float:
        began = time.monotonic()
        assert await place.credentials.authenticate_or_anonymous(username, password, address) == ANONYMOUS
        return time.monotonic() - began

    robot, _ = await place.robot()
    logins = [("admin", "x"), ("hubuser", "x"), ("mari", "x"), (robot.name, WRONG), ("hubuser", WRONG)]
    # The shortest of three: other work on the machine only makes it longer.
    rounds = [[await seconds(*login, "10.1.0.2") for login in logins] for _ in range(3)]
    alone = [min(times) for times in zip(*rounds, strict=True)]
    assert max(alone) < min(alone) * 1.3, alone
    # Six real checks stand in line, three turns of two; who comes then waits as long, whether it is checked or not.
    line = [asyncio.create_task(seconds("admin", "y", f"10.2.0.{number}")) for number in range(6)]

    async def in_line() -> bool:
        return place.accounts._line.turns("10.1.0.3") >= 3

    await eventually(in_line, what="a line for the hash")
    crowded = await asyncio.gather(*(seconds(*login, "10.1.0.3") for login in logins[:2]))
    await asyncio.gather(*line)
    assert min(crowded) > min(alone) * 1.5
    assert max(crowded) < min(crowded) * 1.3, crowded


async def test_at_a_public_mirror_logins_are_anonymous_while_the_database_is_down(tmp_path: Any) -> None:
    away = Place(Database(f"sqlite:///{tmp_path}/nowhere/registry.db"))
    assert await away.credentials.authenticate_or_anonymous("mari", "x", LAB) == ANONYMOUS


async def test_no_secret_shows_anywhere(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    robot, secret = await place.robot()
    principal = await place.credentials.authenticate(robot.name, secret, LAB)
    error = await place.refusal("mari", secret)
    seen = repr((principal, robot, error, error.body(), vars(place.credentials)))
    assert secret not in seen + caplog.text
    assert SECRETS.hash(secret) not in seen
