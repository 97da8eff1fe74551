"""People: made at a log-in, followed at the next, shut out and removed; on both databases."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from app.access.absence import Absence
from app.access.errors import Forbidden, Invalid, Missing, PreconditionFailed
from app.access.people import Identity, People
from app.access.principal import Principal, PrincipalKind
from app.access.sessions import Sessions
from app.cache.client import Cache
from app.database import Database, accounts, identities
from app.database.accounts import Person
from app.database.keyset import Page
from app.database.tables import access_key, member, project
from app.oci.errors import Denied

from .conftest import no_redis, on_both_databases

pytestmark = on_both_databases

ROOT = Principal(PrincipalKind.PERSON, "root", is_admin=True, id=1 << 40)
MARI = Identity("mari@ut.ee", "Mari Maasikas", "mari@ut.ee", ("staff",), None)


@pytest.fixture
def sessions(cache: Cache) -> Sessions:
    return Sessions(cache, 600, 3600)


@pytest.fixture
def people(database: Database, sessions: Sessions) -> People:
    return People(database, sessions, "robot-", Absence(180))


def changed(**values: object) -> Identity:
    return Identity(**{**{name: getattr(MARI, name) for name in Identity.__slots__}, **values})


async def local(database: Database, username: str) -> Person:
    async with database.transaction() as transaction:
        await accounts.create(transaction, username, "hash", is_admin=True)
        found = await accounts.person_by_name(transaction, username)
    assert found is not None
    return found


async def sign_in(people: People, identity: Identity) -> Person:
    return (await people.signed_in(identity)).person


async def test_somebody_is_made_and_followed(database: Database, people: People) -> None:
    made = await sign_in(people, MARI)
    assert (made.username, made.source, made.full_name, made.groups) == (
        "mari@ut.ee",
        "saml",
        "Mari Maasikas",
        ("staff",),
    )
    assert made.last_login_at is not None
    again = await sign_in(people, changed(full_name="Mari Mets", email="mets@ut.ee", groups=("staff", "hpc")))
    assert (again.id, again.full_name, again.email, again.groups) == (
        made.id,
        "Mari Mets",
        "mets@ut.ee",
        ("staff", "hpc"),
    )
    assert again.created_at == made.created_at
    assert (
        await database.read(accounts.person, made.id)
        == again
        == await database.read(accounts.person_by_name, "mari@ut.ee")
    )


@pytest.mark.parametrize(("says", "after_setting"), [(None, True), (False, False), (True, True)])
async def test_rules_say_who_is_an_admin_where_there_are_any(
    people: People, says: bool | None, after_setting: bool
) -> None:
    first = await people.signed_in(changed(is_admin=says))
    assert first.person.is_admin is bool(says)
    assert first.changes == (("create", "promote") if says else ("create",))
    await people.set_admin(ROOT, first.person.id, is_admin=True)
    next_one = await people.signed_in(changed(is_admin=says))
    assert next_one.person.is_admin is after_setting
    assert next_one.changes == (() if after_setting else ("demote",))
    promoted = await people.signed_in(changed(is_admin=True))
    assert promoted.changes == (() if after_setting else ("promote",))


async def test_a_principal_is_as_the_account_is_now(people: People) -> None:
    made = await sign_in(people, MARI)
    principal = await people.principal_of(made.id, 0)
    assert principal is not None
    assert (principal.name, principal.id, principal.groups) == ("mari@ut.ee", made.id, frozenset({"staff"}))
    assert not principal.administers
    assert await people.set_admin(ROOT, made.id, is_admin=True)
    now = await people.principal_of(made.id, 0)
    assert now is not None
    assert now.administers
    assert await people.principal_of(made.id + 1, 0) is None


async def test_what_ends_sessions_raises_the_generation(people: People, database: Database) -> None:
    admin, _ = await local(database, "admin"), await local(database, "other")
    generations = [admin.generation]
    for disabled in (True, False):
        assert await people.set_disabled(ROOT, admin.id, disabled=disabled)
        generations.append((await database.read(accounts.person, admin.id) or admin).generation)
    async with database.transaction() as transaction:
        assert await accounts.set_password(transaction, "admin", "another hash")
        assert not await accounts.set_password(transaction, "nobody", "another hash")
        generations.append((await accounts.person(transaction, admin.id) or admin).generation)
    assert generations == [0, 1, 2, 3]
    assert [bool(await people.principal_of(admin.id, generation)) for generation in range(5)] == [
        False, False, False, True, False,
    ]  # fmt: skip
    assert (await people.principal_of(admin.id, 3) or ROOT).generation == 3


async def test_what_ends_no_sessions_leaves_the_generation(people: People) -> None:
    made = await sign_in(people, MARI)
    await people.set_admin(ROOT, made.id, is_admin=True)
    await people.noted(made.id)
    assert (await sign_in(people, changed(full_name="Mari Mets"))).generation == made.generation == 0


async def test_who_is_disabled_is_nobody_until_enabled_again(people: People, sessions: Sessions) -> None:
    made = await sign_in(people, MARI)
    secret = await sessions.begin(made.id, 0, "192.0.2.1", "")
    assert await people.set_disabled(ROOT, made.id, disabled=True)
    assert await people.principal_of(made.id, 1) is None
    assert await sessions.find(secret) is None
    with pytest.raises(Denied, match="is disabled"):
        await sign_in(people, MARI)
    assert await people.set_disabled(ROOT, made.id, disabled=False)
    assert await people.principal_of(made.id, 2)
    assert await sessions.find(secret) is None
    with pytest.raises(Missing):
        await people.set_disabled(ROOT, made.id + 1, disabled=True)


async def test_redis_need_not_know_who_is_disabled_or_removed(
    people: People, database: Database, sessions: Sessions
) -> None:
    cache = no_redis()
    apart = People(database, Sessions(cache, 600, 3600), "robot-", Absence(180))
    made = await sign_in(people, MARI)
    secret = await sessions.begin(made.id, made.generation, "192.0.2.1", "")
    for change in (apart.set_disabled(ROOT, made.id, disabled=True), apart.set_disabled(ROOT, made.id, disabled=False)):
        await change
        session = await sessions.find(secret)
        assert session is not None
        assert await people.principal_of(session.account_id, session.generation) is None
    await apart.remove(ROOT, made.id)
    next_one = await sign_in(people, changed(username="juri@ut.ee"))
    assert next_one.id > made.id
    assert await people.principal_of(made.id, next_one.generation) is None
    await cache.close()


async def test_the_university_takes_no_local_account_over(people: People, database: Database) -> None:
    admin = await local(database, "admin")
    with pytest.raises(Denied, match="is a local account"):
        await sign_in(people, changed(username="admin", full_name="Mallory"))
    assert await database.read(accounts.person, admin.id) == admin


async def test_a_password_opens_no_account_of_the_university(people: People, database: Database) -> None:
    made = await sign_in(people, MARI)
    async with database.transaction() as transaction:
        assert not await accounts.create(transaction, "mari@ut.ee", "hash", is_admin=True)
        assert not await accounts.set_password(transaction, "mari@ut.ee", "hash")
        known = await accounts.find(transaction, "mari@ut.ee")
    assert known is not None
    assert (known.id, known.password_hash, known.is_admin) == (made.id, None, False)


async def test_nobody_is_called_like_a_robot(database: Database, people: People) -> None:
    with pytest.raises(Denied, match="begins with the prefix of robot accounts"):
        await sign_in(people, changed(username="robot-mari@ut.ee"))
    assert (await database.read(accounts.total)).number == 0


async def test_people_are_paged_by_name_and_searched(database: Database, people: People) -> None:
    for number in range(5):
        await sign_in(people, changed(username=f"user{number}@ut.ee", full_name=f"Nr 10{number}%", email=f"{number}@x"))
    names = [person.username for person in await database.read(accounts.page, Page(2))]
    assert names == ["user0@ut.ee", "user1@ut.ee"]
    assert [person.username for person in await database.read(accounts.page, Page(2, names[-1]))] == [
        "user2@ut.ee",
        "user3@ut.ee",
    ]
    assert [person.username for person in await database.read(accounts.page, Page(50, offset=4))] == ["user4@ut.ee"]
    for search, found in [("NR 103", 1), ("3@X", 1), ("%", 5), ("_", 0), ("USER", 5), ("nobody", 0)]:
        assert (
            (await database.read(accounts.total, search=search)).number
            == len(await database.read(accounts.page, Page(50, search=search)))
            == found
        ), search


async def test_who_is_removed_leaves_projects_and_nothing_else(
    people: People, database: Database, sessions: Sessions
) -> None:
    made = await sign_in(people, MARI)
    secret = await sessions.begin(made.id, 0, "192.0.2.1", "")
    async with database.transaction() as transaction:
        await transaction.execute(project.update().values(owner_id=made.id))
        (project_id, _) = (await transaction.execute(select(project.c.id))).scalars()
        role = {"project_id": project_id, "account_id": made.id, "role": "guest", "created_at": 0.0}
        await transaction.execute(member.insert().values(role))
        key = {"account_id": made.id, "name": "laptop", "secret_hash": "x", "permissions": {}, "created_at": 0.0}
        await transaction.execute(access_key.insert().values(key))
    assert await people.remove(ROOT, made.id) == made
    with pytest.raises(Missing):
        await people.remove(ROOT, made.id)
    assert await database.read(accounts.person, made.id) is None
    assert await sessions.find(secret) is None
    async with database.reading() as transaction:
        assert [*(await transaction.execute(select(project.c.owner_id))).scalars()] == [None, None]
        assert [*await transaction.execute(select(member))] == [*await transaction.execute(select(access_key))] == []


async def test_nobody_shuts_themselves_out(people: People, database: Database) -> None:
    admin, other = await local(database, "admin"), await local(database, "other")
    by = Principal(PrincipalKind.PERSON, "admin", is_admin=True, id=admin.id)
    for change in (
        people.set_disabled(by, admin.id, disabled=True),
        people.set_admin(by, admin.id, is_admin=False),
        people.remove(by, admin.id),
    ):
        with pytest.raises(Forbidden, match="your own account; ask another administrator"):
            await change
    assert await database.read(accounts.person, admin.id) == admin
    await people.set_admin(by, other.id, is_admin=False)


async def test_the_last_administrator_stays(people: People, database: Database) -> None:
    admin, other = await local(database, "admin"), await local(database, "other")
    await people.set_disabled(ROOT, other.id, disabled=True)
    for change in (
        people.set_disabled(ROOT, admin.id, disabled=True),
        people.set_admin(ROOT, admin.id, is_admin=False),
        people.remove(ROOT, admin.id),
    ):
        with pytest.raises(PreconditionFailed, match="admin is the last administrator"):
            await change
    # One who is shut out administers nothing, and may go.
    await people.remove(ROOT, other.id)
    assert await database.read(accounts.person, admin.id) == admin


async def test_of_two_who_dismiss_each_other_one_stays(people: People, database: Database) -> None:
    both = [await local(database, "admin"), await local(database, "other")]
    one, other = (Principal(PrincipalKind.PERSON, person.username, is_admin=True, id=person.id) for person in both)
    done = await asyncio.gather(
        people.set_admin(one, both[1].id, is_admin=False),
        people.set_admin(other, both[0].id, is_admin=False),
        return_exceptions=True,
    )
    assert [type(answer) for answer in done if isinstance(answer, Exception)] == [PreconditionFailed]
    assert sorted([(await database.read(accounts.person, person.id) or person).is_admin for person in both]) == [
        False,
        True,
    ]


async def test_no_local_account_is_called_like_a_robot(people: People) -> None:
    people.check_name("mari")
    with pytest.raises(Invalid, match="begin with the prefix of robot accounts"):
        people.check_name("robot-mari")


async def test_a_local_log_in_is_noted(people: People, database: Database) -> None:
    admin = await local(database, "admin")
    assert admin.last_login_at is None
    await people.noted(admin.id)
    assert (await database.read(accounts.person, admin.id) or admin).last_login_at


PAIRWISE, SUBJECT = "pairwise-id 77@ut.ee", "subject-id mari7@ut.ee"


async def test_somebody_with_another_name_has_what_was_theirs(people: People) -> None:
    first = await people.signed_in(changed(lasting=(PAIRWISE,)))
    later = await people.signed_in(changed(username="mari.mets@ut.ee", lasting=(PAIRWISE, SUBJECT)))
    assert (later.person.id, later.person.username, later.former) == (first.person.id, "mari.mets@ut.ee", "mari@ut.ee")
    assert later.changes == ()
    again = await people.signed_in(changed(username="mari.mets@ut.ee", lasting=(SUBJECT,)))
    assert (again.person.id, again.former) == (first.person.id, None)
    # The name is free, and the next one who has it has nothing of hers.
    other = await people.signed_in(changed(lasting=("pairwise-id 88@ut.ee",)))
    assert other.person.id != first.person.id
    assert other.changes == ("create",)


async def test_an_account_of_before_is_known_by_its_name_once(people: People, database: Database) -> None:
    before = await sign_in(people, changed(lasting=()))
    assert await sign_in(people, changed(lasting=None)) == await database.read(accounts.person, before.id)
    assert (await sign_in(people, changed(lasting=(PAIRWISE,)))).id == before.id
    for lasting in (("pairwise-id 88@ut.ee",), (SUBJECT,), ()):
        with pytest.raises(Denied, match="lasting id"):
            await people.signed_in(changed(lasting=lasting))
    # The configuration may know no such attribute any more.
    assert (await sign_in(people, changed(lasting=None))).id == before.id
    assert await database.transact(lambda transaction: identities.forget(transaction, before.id)) == 1
    assert (await sign_in(people, changed(lasting=("pairwise-id 88@ut.ee",)))).id == before.id
    with pytest.raises(Denied, match="another lasting id"):
        await people.signed_in(changed(lasting=(PAIRWISE,)))


async def test_names_and_ids_that_contradict_each_other(people: People, database: Database) -> None:
    mari = await sign_in(people, changed(lasting=(PAIRWISE,)))
    jaan = await sign_in(people, changed(username="jaan@ut.ee", lasting=(SUBJECT,)))
    with pytest.raises(Denied, match="several accounts"):
        await people.signed_in(changed(lasting=(PAIRWISE, SUBJECT)))
    with pytest.raises(Denied, match="there is another account of that name"):
        await people.signed_in(changed(username="jaan@ut.ee", lasting=(PAIRWISE,)))
    await local(database, "root")
    with pytest.raises(Denied, match="another account of that name"):
        await people.signed_in(changed(username="root", lasting=(PAIRWISE,)))
    with pytest.raises(Denied, match="local account"):
        await people.signed_in(changed(username="root", lasting=("pairwise-id 99@ut.ee",)))
    await people.remove(ROOT, jaan.id)
    assert (await sign_in(people, changed(username="jaan@ut.ee", lasting=(PAIRWISE, SUBJECT)))).id == mari.id
    # An id that was given anew replaces the former one.
    assert (
        await sign_in(people, changed(username="jaan@ut.ee", lasting=("pairwise-id 1@ut.ee", SUBJECT)))
    ).id == mari.id
    assert await database.read(identities.of_account, mari.id) == {"pairwise-id 1@ut.ee", SUBJECT}
