"""The audit log on both databases: nothing noted is lost, and anything is found again."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from app.access.principal import ANONYMOUS, Principal, PrincipalKind
from app.access.secrets import Secrets
from app.config import Policy
from app.database import Database, audit
from app.database.audit import EVERYTHING, Filter, Note
from app.database.keyset import Page
from app.projects import audit as module
from app.projects.audit import Audit

MARI = Principal(PrincipalKind.PERSON, "mari", id=2)
ROBOT = Principal(PrincipalKind.ROBOT, "robot-physics+ci", id=3)
DAY = 86400
SECRETS = Secrets("k" * 32)
_AWAY = "postgresql://postgres@127.0.0.1:1/registry"


@pytest.fixture
def log(database: Database) -> Audit:
    return Audit(database, Policy(), SECRETS.pseudonym)


async def resources(database: Database, chosen: Filter = EVERYTHING, *, offset: int = 0) -> list[str]:
    return [entry.resource for entry in await database.read(audit.page, Page(100, offset=offset), chosen)]


async def fill(database: Database, count: int, *, at: float | None = None) -> None:
    now = time.time() if at is None else at
    notes = [Note(now + number, "person:mari", "", "push", "artifact", f"lab/{number}", 1) for number in range(count)]
    async with database.transaction() as transaction:
        await audit.add(transaction, notes)


async def test_a_note_is_written_as_it_was_taken(database: Database, log: Audit) -> None:
    log.note(MARI, "193.40.5.7", "create", "project", "physics", (7, "physics"))
    log.note(ANONYMOUS, "2001:db8::1", "login", "account", "jaan")
    assert await resources(database) == []
    await log.flush()
    newest, oldest = await database.read(audit.page, Page(9))
    assert (oldest.actor, oldest.address, oldest.operation) == ("person:mari", "193.40.5.7", "create")
    assert (oldest.resource_type, oldest.resource, oldest.project_id) == ("project", "physics", 7)
    assert (oldest.project_name, oldest.times) == ("physics", 1)
    assert oldest.at == pytest.approx(time.time(), abs=60)
    assert (newest.actor, newest.project_id, newest.project_name) == ("anonymous", None, "")
    await log.flush()
    assert (await database.read(audit.total)).number == 2


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 100_000, "õ\N{SNOWMAN}", "<script>", "%_\\"], ids=ascii)
async def test_any_text_can_be_noted(database: Database, log: Audit, text: str) -> None:
    log.note(Principal(PrincipalKind.PERSON, text), text, "login", "account", text)
    log.note(MARI, "", "login", "account", "the next one")
    await log.flush()
    first, second = reversed(await database.read(audit.page, Page(9)))
    assert (len(first.resource) <= 1000, second.resource) == (True, "the next one")


async def test_the_running_job_writes_and_a_stop_writes_the_rest(database: Database, log: Audit) -> None:
    job = asyncio.create_task(log.run())
    log.note(MARI, "", "push", "artifact", "one")
    for _ in range(600):
        if await resources(database) == ["one"]:
            break
        await asyncio.sleep(0.05)
    assert await resources(database) == ["one"]
    log.note(MARI, "", "push", "artifact", "two")
    job.cancel()
    await log.close()
    assert await resources(database) == ["two", "one"]


async def test_what_is_noted_while_it_is_written_is_neither_lost_nor_written_twice(log: Audit) -> None:
    async def take_notes(number: int) -> None:
        for each in range(200):
            log.note(MARI, "", "push", "artifact", f"{number}/{each}")
            if each % 20 == number:
                await log.flush()
            await asyncio.sleep(0)

    await asyncio.gather(*(take_notes(number) for number in range(5)))
    await log.close()
    found = [entry.resource async for entry in log.export()]
    assert len(found) == 1000
    assert set(found) == {f"{number}/{each}" for number in range(5) for each in range(200)}


@pytest.mark.parametrize("steps", [0, 1, 5, 10, 11, 12, 20, 50])
async def test_a_write_whose_waiter_is_cancelled_is_neither_lost_nor_done_twice(log: Audit, steps: int) -> None:
    for number in range(1200):
        log.note(MARI, "", "push", "artifact", str(number))
    waiting = asyncio.create_task(log.flush())
    for _ in range(steps):
        await asyncio.sleep(0)
    waiting.cancel()
    await log.close()
    assert sorted([int(entry.resource) async for entry in log.export()]) == list(range(1200))


async def test_notes_are_kept_while_the_database_is_away(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    log = Audit(Database(_AWAY), Policy(), SECRETS.pseudonym)
    log.note(MARI, "", "push", "artifact", "kept")
    for _ in range(3):
        await log.flush()
    assert len([record for record in caplog.records if "not written yet" in record.getMessage()]) == 1
    log._database = database
    await log.close()
    assert await resources(database) == ["kept"]


async def test_what_is_lost_is_said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_NOTES", 3)
    log = Audit(Database(_AWAY), Policy(), SECRETS.pseudonym)
    for number in range(5):
        log.note(MARI, "", "push", "artifact", str(number))
    await log.close()
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [
        "2 audit entries were dropped: more than 3 were waiting",
        "3 audit entries are lost: the database is down",
    ]


async def test_pages_follow_each_other_by_key(database: Database, log: Audit) -> None:
    await fill(database, 25)
    seen: list[int] = []
    before = None
    while page := await database.read(audit.page, Page(10, before)):
        # What is noted meanwhile moves nothing.
        log.note(MARI, "", "push", "artifact", "new")
        await log.flush()
        seen += [entry.id for entry in page]
        before = page[-1].id
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 25
    assert await resources(database, offset=26) == ["lab/1", "lab/0"]
    assert len(await database.read(audit.page, Page(10, 1 << 62))) == 10
    assert await database.read(audit.page, Page(10, -1)) == []


async def test_entries_are_found_by_anything(database: Database, log: Audit) -> None:
    log.note(MARI, "", "push", "artifact", "physics/app:1", (7, "physics"))
    log.note(ROBOT, "", "delete", "tag", "physics/app:1", (7, "physics"))
    log.note(ROBOT, "", "push", "artifact", "chemistry/50%_off:1", (8, "chemistry"))
    log.note(Principal(PrincipalKind.ROBOT, "mari"), "", "update", "robot", "mari's")
    log.note(MARI, "", "create", "member", "jaan", (7, "physics"))
    await log.flush()
    for chosen, expected in [
        (Filter(project_id=7), 3),
        (Filter(project_id=9), 0),
        (Filter(project_name="physics"), 3),
        (Filter(project_name="phys"), 0),
        (Filter(project_name="\0"), 0),
        (Filter(text="physics"), 4),
        (Filter(text="PHYS", resource_type="member"), 1),
        (Filter(text="mari"), 3),
        (Filter(text="%_"), 1),
        (Filter(text="'; DROP TABLE audit; --"), 0),
        (Filter(text="\0"), 0),
        (Filter(text="\ud800"), 0),
        (Filter(operation="push"), 2),
        (Filter(resource_type="tag"), 1),
        (Filter(7, operation="push"), 1),
        (Filter(7, text="physics", resource_type="artifact"), 1),
        (Filter(since=0.0, until=1.0), 0),
        (Filter(since=time.time() - 60, until=time.time() + 60), 5),
        (EVERYTHING, 5),
    ]:
        assert len(await resources(database, chosen)) == expected, chosen
        assert (await database.read(audit.total, chosen)).number == expected, chosen


async def test_an_export_has_everything_however_much(
    database: Database, log: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EXPORTED_AT_ONCE", 10)
    await fill(database, 35)
    assert [entry.resource async for entry in log.export()] == [f"lab/{number}" for number in reversed(range(35))]
    assert [entry.resource async for entry in log.export(Filter(text="LAB/3", project_id=1))] == [
        "lab/34", "lab/33", "lab/32", "lab/31", "lab/30", "lab/3",
    ]  # fmt: skip


async def test_what_is_older_than_the_configured_days_goes(
    database: Database, log: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMOVED_AT_ONCE", 10)
    await fill(database, 25, at=time.time() - 1096 * DAY)
    await fill(database, 3, at=time.time() - 1094 * DAY)
    await log.remove_old()
    assert await resources(database) == ["lab/2", "lab/1", "lab/0"]
    await Audit(database, Policy(audit_kept_days=30), SECRETS.pseudonym).remove_old()
    assert await resources(database) == []


async def test_an_entry_outlives_what_it_tells_of(database: Database, log: Audit) -> None:
    log.note(MARI, "", "delete", "project", "physics", (4711, "physics"))
    await log.flush()
    assert await resources(database, Filter(project_id=4711)) == ["physics"]
    assert await resources(database, Filter(project_name="physics")) == ["physics"]


async def test_old_entries_have_pseudonyms(database: Database, log: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HIDDEN_AT_ONCE", 3)
    old, now = time.time() - 366 * DAY, time.time()
    told = [
        ("person:mari", "1.2.3.4", "push", "artifact", "lab/app:1"), ("person:jaan", "", "create", "member", "mari"),
        ("anonymous", "1.2.3.4", "refuse", "user", "mari"), ("robot:robot-lab+ci", "1.2.3.5", "pull", "artifact", "x"),
        ("person:mari", "1.2.3.4", "login", "user", "mari"), ("anonymous", "::1", "refuse", "user", ""),
        ("system:registry", "", "promote", "account", "mari"),
    ]  # fmt: skip
    async with database.transaction() as transaction:
        await audit.add(transaction, [Note(at, *one) for at in (old, now) for one in told])
    for _ in range(2):
        await log.hide_names()
        entries = await database.read(audit.page, Page(99))
        rows = [(one.actor, one.address, one.operation, one.resource_type, one.resource) for one in reversed(entries)]
        mari, jaan = SECRETS.pseudonym("mari"), SECRETS.pseudonym("jaan")
        assert mari != jaan
        assert rows[:7] == [
            (f"person:{mari}", "", "push", "artifact", "lab/app:1"), (f"person:{jaan}", "", "create", "member", mari),
            ("anonymous", "", "refuse", "user", mari), ("robot:robot-lab+ci", "", "pull", "artifact", "x"),
            (f"person:{mari}", "", "login", "user", mari), ("anonymous", "", "refuse", "user", ""),
            ("system:registry", "", "promote", "account", mari),
        ]  # fmt: skip
        assert rows[7:] == told
    # The rest follows when its time comes.
    monkeypatch.setattr(time, "time", lambda: now + 366 * DAY)
    await log.hide_names()
    assert not [one for one in await database.read(audit.page, Page(99)) if "mari" in f"{one.actor} {one.resource}"]
