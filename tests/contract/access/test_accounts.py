from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import argon2
import pytest
from sqlalchemy import update

from app.access.accounts import Accounts
from app.access.errors import Conflict, Invalid
from app.access.principal import Principal, PrincipalKind
from app.access.throttle import Throttle
from app.cache.client import Cache
from app.database import Database, accounts
from app.database.tables import account
from app.oci.errors import OCIError, TooManyRequests, Unauthorized
from tests.parts.process import eventually

from .conftest import no_redis, on_both_databases

LAB = "193.40.5.7"
PASSWORD = "õige hobune €"


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def people(database: Database, clock: Clock) -> Accounts:
    """An admin called admin."""
    people = Accounts(database, Throttle(no_redis(), clock), clock)
    assert await people.ensure_admin("admin", PASSWORD) is None
    return people


class Hashing:
    """What the hasher really did: how often, and how many at a time."""

    def __init__(self) -> None:
        self.count = self.at_once = self.most_at_once = 0
        self.costs: set[str] = set()
        self._lock = threading.Lock()

    def began(self, password_hash: str) -> None:
        with self._lock:
            self.count += 1
            self.costs.add(password_hash.rsplit("$", 2)[0])
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)

    def ended(self) -> None:
        with self._lock:
            self.at_once -= 1


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    """Look over the hasher's shoulder."""
    seen, verify = Hashing(), argon2.PasswordHasher.verify

    def watched(self: argon2.PasswordHasher, password_hash: Any, password: Any) -> Any:
        seen.began(password_hash)
        try:
            return verify(self, password_hash, password)
        finally:
            seen.ended()

    monkeypatch.setattr(argon2.PasswordHasher, "verify", watched)
    return seen


async def refusal(people: Accounts, username: str, password: str, address: str = LAB) -> OCIError:
    with pytest.raises(OCIError) as raised:
        await people.authenticate(username, password, address)
    return raised.value


async def test_the_right_password_is_the_person(people: Accounts) -> None:
    assert await people.authenticate("admin", PASSWORD, LAB) == Principal(
        PrincipalKind.PERSON, "admin", is_admin=True, id=1
    )


async def test_unknown_disabled_and_wrong_get_one_answer_for_one_work(
    database: Database, people: Accounts, hashing: Hashing
) -> None:
    async with database.transaction() as transaction:
        await accounts.create(transaction, "gone", argon2.PasswordHasher().hash("x"), is_admin=True)
        await transaction.execute(update(account).where(account.c.username == "gone").values(disabled=True))
        await accounts.create(transaction, "saml", "", is_admin=False)
        await transaction.execute(update(account).where(account.c.username == "saml").values(password_hash=None))
    refusals = [
        await refusal(people, "admin", "wrong"),
        await refusal(people, "nobody", PASSWORD),
        await refusal(people, "gone", "x"),
        await refusal(people, "saml", "x"),
    ]
    assert {type(error) for error in refusals} == {Unauthorized}
    assert len({error.body() for error in refusals}) == 1
    assert hashing.count == 4
    assert len(hashing.costs) == 1


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("", "x"),
        ("admin", ""),
        ("admin\0", PASSWORD),
        ("ad\nmin", PASSWORD),
        ("\ud800", "x"),
        ("admin", "\ud800"),
        ("admin", "x" * 1025),
        ("x" * 256, "x"),
    ],
    ids=repr,
)
async def test_what_no_account_can_have_is_refused_alike(people: Accounts, username: str, password: str) -> None:
    expected = await refusal(people, "nobody", "x")
    assert (await refusal(people, username, password)).body() == expected.body()


async def test_names_are_exact_but_for_capitals(people: Accounts) -> None:
    for name in ("Admin", "ADMIN"):
        assert (await people.authenticate(name, PASSWORD, LAB)).name == "admin"
    for name in ("admin ", " admin", "%", "ad_in"):
        assert isinstance(await refusal(people, name, PASSWORD), Unauthorized)


async def test_a_right_password_is_hashed_once_a_minute(people: Accounts, hashing: Hashing, clock: Clock) -> None:
    await asyncio.gather(*(people.authenticate("admin", PASSWORD, f"10.0.0.{host}") for host in range(64)))
    # Those two that are hashed at a time may both be the first.
    assert 1 <= hashing.count <= 2
    before = hashing.count
    clock.now += 59
    await people.authenticate("admin", PASSWORD, LAB)
    assert hashing.count == before
    clock.now += 2
    await people.authenticate("admin", PASSWORD, LAB)
    assert hashing.count == before + 1


async def test_what_was_right_a_moment_ago_is_wrong_with_a_new_password_or_a_disabled_account(
    database: Database, people: Accounts
) -> None:
    await people.authenticate("admin", PASSWORD, LAB)
    await people.set_password("admin", "new")
    assert isinstance(await refusal(people, "admin", PASSWORD), Unauthorized)
    assert (await people.authenticate("admin", "new", LAB)).is_admin
    for change, wrong in (({"is_admin": False}, False), ({"disabled": True}, True)):
        async with database.transaction() as transaction:
            await transaction.execute(update(account).values(change))
        if wrong:
            assert isinstance(await refusal(people, "admin", "new"), Unauthorized)
        else:
            assert not (await people.authenticate("admin", "new", LAB)).is_admin


async def test_a_password_that_is_changed_while_it_is_checked_begins_no_session_that_lasts(
    people: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = people._verify

    async def slow(password_hash: str, password: str) -> bool:
        await people.set_password("admin", "new")
        return await verify(password_hash, password)

    monkeypatch.setattr(people, "_verify", slow)
    # The session will carry the generation of the password that was typed, which has passed.
    assert (await people.authenticate("admin", PASSWORD, LAB)).generation == 0
    monkeypatch.undo()
    assert (await people.authenticate("admin", "new", LAB)).generation == 1


async def test_a_wrong_password_is_never_remembered(people: Accounts, hashing: Hashing) -> None:
    for _ in range(3):
        await refusal(people, "admin", "wrong")
    assert hashing.count == 3
    await people.authenticate("admin", PASSWORD, LAB)


async def test_many_guesses_at_once_are_hashed_two_at_a_time_and_get_not_past_the_count(
    people: Accounts, hashing: Hashing
) -> None:
    errors = await asyncio.gather(*(refusal(people, "admin", f"guess {number}") for number in range(40)))
    assert hashing.most_at_once <= 2
    assert 10 <= sum(isinstance(error, Unauthorized) for error in errors) <= 11
    late = [error for error in errors if isinstance(error, TooManyRequests)]
    assert late
    assert all("Retry-After" in error.headers for error in late)


async def test_an_account_that_is_guessed_at_still_works_elsewhere_and_where_it_works_already(
    people: Accounts, clock: Clock
) -> None:
    other = "mari"
    assert await people.ensure_admin(other, "kass") is None
    await people.authenticate("admin", PASSWORD, LAB)
    for username in ("admin", other):
        for _ in range(10):
            await refusal(people, username, "wrong")
    assert isinstance(await refusal(people, other, "wrong"), TooManyRequests)
    assert isinstance(await refusal(people, "admin", "wrong"), Unauthorized)
    await people.authenticate("admin", PASSWORD, LAB)
    assert isinstance(await refusal(people, other, "kass"), TooManyRequests)
    await people.authenticate(other, "kass", "10.0.0.1")


async def test_guesses_are_counted_across_workers(database: Database, cache: Cache, clock: Clock) -> None:
    workers = [Accounts(database, Throttle(cache, clock), clock) for _ in range(2)]
    for number in range(10):
        await refusal(workers[number % 2], "admin", "wrong")
    assert isinstance(await refusal(workers[0], "admin", "wrong"), TooManyRequests)


@on_both_databases
async def test_of_workers_that_start_together_one_gets_the_made_up_password(
    database: Database, database_url: str
) -> None:
    databases = [Database(database_url) for _ in range(6)]
    workers = [Accounts(each, Throttle(no_redis())) for each in databases]
    shown = [
        password for password in await asyncio.gather(*(w.ensure_admin("admin", None) for w in workers)) if password
    ]
    assert len(shown) == 1
    assert len(shown[0]) >= 16
    for worker in workers:
        assert (await worker.authenticate("admin", shown[0], LAB)).is_admin
        assert await worker.ensure_admin("admin", None) is None
    for each in databases:
        await each.close()


async def test_a_configured_password_becomes_the_password(database: Database, clock: Clock) -> None:
    people = Accounts(database, Throttle(no_redis(), clock), clock)
    made_up = await people.ensure_admin("admin", None)
    assert made_up is not None
    assert await people.ensure_admin("admin", "configured") is None
    await people.authenticate("admin", "configured", LAB)
    assert isinstance(await refusal(people, "admin", made_up), Unauthorized)
    async with database.reading() as transaction:
        before = await accounts.find(transaction, "admin")
    assert await people.ensure_admin("admin", "configured") is None
    assert await people.ensure_admin("admin", None) is None
    async with database.reading() as transaction:
        assert await accounts.find(transaction, "admin") == before


@pytest.mark.parametrize(("username", "password"), [("admin", ""), ("", None), ("admin", "x" * 1025), ("a\0", "x")])
async def test_an_admin_nobody_could_log_in_as_is_not_made(
    database: Database, username: str, password: str | None
) -> None:
    people = Accounts(database, Throttle(no_redis()))
    with pytest.raises(ValueError, match="the admin needs"):
        await people.ensure_admin(username, password)


async def test_a_password_can_be_changed(people: Accounts) -> None:
    assert await people.set_password("admin", "new")
    await people.authenticate("admin", "new", LAB)
    assert isinstance(await refusal(people, "admin", PASSWORD), Unauthorized)
    assert not await people.set_password("nobody", "new")


async def test_no_password_and_no_hash_shows_anywhere(
    database: Database, people: Accounts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    principal = await people.authenticate("admin", PASSWORD, LAB)
    error = await refusal(people, "admin", "hunter2")
    async with database.reading() as transaction:
        row = await accounts.find(transaction, "admin")
    seen = repr((people, vars(people), principal, row, error, error.body())) + caplog.text
    assert not any(secret in seen for secret in (PASSWORD, "hunter2", "$argon2id$"))


@on_both_databases
async def test_an_account_is_made_with_a_password(people: Accounts, database: Database) -> None:
    made = await people.create("mari", PASSWORD, full_name=" Mari Maasikas ", email="mari@ut.ee")
    assert (made.username, made.full_name, made.email, made.source, made.is_admin) == (
        "mari", "Mari Maasikas", "mari@ut.ee", "local", False,
    )  # fmt: skip
    assert (await people.authenticate("mari", PASSWORD, LAB)).id == made.id
    async with database.reading() as transaction:
        kept = await accounts.find(transaction, "mari")
    assert kept is not None
    assert (kept.password_hash or "").startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    for taken in ("mari", "admin"):
        with pytest.raises(Conflict, match="choose another user name"):
            await people.create(taken, "somebody else's", full_name="", email="")
    assert (await people.authenticate("mari", PASSWORD, LAB)).id == made.id


@pytest.mark.parametrize(
    ("username", "password"),
    [("", PASSWORD), ("a:b", PASSWORD), (" a", PASSWORD), ("a\nb", PASSWORD), ("a" * 256, PASSWORD), ("a", "1234567"),
     ("a", "x" * 1025), ("a", "\ud800" * 8)],
)  # fmt: skip
async def test_no_account_that_could_not_log_in_is_made(people: Accounts, username: str, password: str) -> None:
    with pytest.raises(Invalid):
        await people.create(username, password, full_name="", email="")


async def test_a_text_that_cannot_be_kept_is_refused(people: Accounts) -> None:
    for full_name, email in (("\0", ""), ("", "x" * 256)):
        with pytest.raises(Invalid):
            await people.create("mari", PASSWORD, full_name=full_name, email=email)


async def test_a_right_password_is_not_refused_for_others_wrong_ones(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """230 wrong ones came from the same address, and the right one got 429."""
    # Only how many there are counts here, so that each may be cheap.
    monkeypatch.setattr("app.access.accounts._MEMORY_KIB", 64)
    people = Accounts(database, Throttle(no_redis(), clock, pause=0.0), clock)
    await people.ensure_admin("admin", PASSWORD)
    for number in range(230):
        with pytest.raises(Unauthorized):
            await people.authenticate(f"user{number}", "wrong", LAB)
    assert (await people.authenticate("admin", PASSWORD, LAB)).name == "admin"
    for _ in range(30):
        with pytest.raises(Unauthorized):
            await people.authenticate("admin", "wrong", LAB)
    clock.now += 61  # the proof of the right one is forgotten
    for _ in range(30):
        with pytest.raises(Unauthorized):
            await people.authenticate("admin", "wrong", LAB)
    assert (await people.authenticate("admin", PASSWORD, LAB)).name == "admin"


async def test_a_flood_from_one_address_makes_nobody_else_wait_for_all_of_it(
    database: Database, clock: Clock, hashing: Hashing
) -> None:
    people = Accounts(database, Throttle(no_redis(), clock, pause=0.0), clock)
    await people.ensure_admin("admin", PASSWORD)
    flood = [asyncio.create_task(people.authenticate(f"user{number}", "wrong", LAB)) for number in range(300)]

    async def in_line() -> bool:
        return people._line.turns(LAB) > 100

    await eventually(in_line, what="a line of hashes")
    before = hashing.count
    await people.authenticate("admin", PASSWORD, "193.40.5.8")
    # It has to find its account before it stands in line. In the line itself only three hashes come before its own.
    assert hashing.count - before < 100
    ends = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(end) for end in ends} == {Unauthorized, TooManyRequests}
    # Some were checked before the last of them came.
    assert 0 < sum(isinstance(end, TooManyRequests) for end in ends) <= 300 - 256 - 2
    assert people._line.turns(LAB) == 1


async def test_a_class_behind_one_address_logs_in_at_once(database: Database, clock: Clock) -> None:
    people = Accounts(database, Throttle(no_redis(), clock), clock)
    for number in range(4):
        await people.create(f"user{number}", PASSWORD, full_name="", email="")
    found = await asyncio.gather(*(people.authenticate(f"user{number % 4}", PASSWORD, LAB) for number in range(64)))
    assert len(found) == 64
