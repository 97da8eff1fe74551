"""All that is kept of a person is shown on demand, and goes on demand; on both databases."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from sqlalchemy import insert, select

from app.access.absence import Absence
from app.access.principal import Principal
from app.access.roles import Role
from app.access.secrets import Secrets
from app.database import access_keys, accounts, audit, identities, letters, members, requests, robots
from app.database.audit import Note
from app.database.engine import Transaction
from app.database.keyset import Page
from app.database.personal_data import TRACES
from app.database.requests import KeptRequest
from app.database.tables import (
    immutable_rule,
    metadata,
    plan,
    project,
    repository,
    review,
    tag_history,
    upload,
    webhook,
)
from app.projects import personal_data as module
from app.projects.personal_data import PersonalData

from .house import House

SECRETS = Secrets("k" * 32)
ADDRESS = "mari@example.org"


@pytest.fixture
def data(house: House, monkeypatch: pytest.MonkeyPatch) -> PersonalData:
    monkeypatch.setattr(module, "_LATE_SECONDS", 0.0)
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    return PersonalData(house.database, Absence(180), SECRETS.pseudonym)


def kept(who: str) -> KeptRequest:
    return KeptRequest(
        1.0, "id", "host", "GET", "/", "page", 403, "refused", "DENIED", "", "", who, "1.2.3.4", "", "", "", 0, 0, 0.0
    )


DIGEST = "sha256:" + "0" * 64


async def leave_traces(transaction: Transaction, project_id: int, now: float) -> None:
    """Leave one of each trace of mari, one of the time when she was mari.tamm, and one of mari.tamm of today."""
    for number, (name, at) in enumerate([("mari", now - 50), ("mari.tamm", now - 100), ("mari.tamm", now - 40)]):
        who, binned = f"person:{name}", {"deleted_at": at, "deleted_by": f"person:{name}", "old_name": f"old{number}"}
        hidden = {"name": f"#{number}", "created_at": at, **binned}
        new = insert(repository).values(project_id=project_id, **hidden).returning(repository.c.id)
        repository_id = (await transaction.execute(new)).scalar_one()
        await transaction.execute(insert(project).values(public=False, settings={}, **hidden))
        of_project: dict[str, Any] = {"project_id": project_id, "created_at": at}
        rule = {"repositories": "**", "excludes_repositories": False, "tags": "*", "excludes_tags": False}
        await transaction.execute(insert(immutable_rule).values(disabled=False, created_by=who, **rule, **of_project))
        hook = {"name": f"hook{number}", "description": "", "url": "https://example.org", "payload_format": "Default"}
        hook |= {"event_types": "", "created_by": name}
        await transaction.execute(insert(webhook).values(enabled=True, updated_at=at, **hook, **of_project))
        dates = {"due_at": at, "ends_at": at, "created_at": at}
        await transaction.execute(insert(plan).values(title="class", owner=name, platforms=[], weekly=False, **dates))
        step = {"name": "1", "since": at, "until": now, "digest": DIGEST, "pointed_by": who, "charged_bytes": 0}
        await transaction.execute(insert(tag_history).values(repository_id=repository_id, **step))
        session = {"object_key": "", "bytes_written": 0, "digest_so_far": "", "updated_at": at, "opened_by": who}
        await transaction.execute(insert(upload).values(id=f"id{number}", repository_id=repository_id, **session))
        waits = {"digest": DIGEST, "review_at": at, "project_id": project_id, "pushed_by": who}
        await transaction.execute(insert(review).values(repository_id=repository_id, **waits))


async def furnish(house: House) -> tuple[Principal, int]:
    """Leave traces of mari, who was called mari.tamm before, as somebody else is now."""
    mari, jaan = await house.person("mari"), await house.person("jaan")
    await house.person("mari.tamm")
    project = await house.project("lab", by=mari)
    await house.members.add_person(project.id, "jaan", Role.DEVELOPER)
    now = time.time()
    notes = [
        Note(now - 100, "person:mari.tamm", "1.2.3.4", "push", "artifact", "lab/app:1"),
        Note(now - 90, "person:mari", "1.2.3.4", "rename", "account", "mari.tamm"),
        Note(now - 80, "person:mari", "1.2.3.4", "login", "user", "mari"),
        Note(now - 70, "anonymous", "1.2.3.4", "refuse", "user", "mari"),
        Note(now - 60, "person:jaan", "1.2.3.5", "update", "member", "mari"),
        Note(now - 50, "person:jaan", "1.2.3.5", "push", "artifact", "mari/app"),
        Note(now - 40, "person:mari.tamm", "1.2.3.6", "push", "artifact", "other/app"),
    ]

    async def write(transaction: Transaction) -> None:
        assert mari.id is not None
        await accounts.change(transaction, mari.id, email=ADDRESS)
        await identities.keep(transaction, mari.id, ["pairwise-id 7@ut.ee"])
        await access_keys.create(
            transaction, account_id=mari.id, name="laptop", secret_hash="hidden", permissions={}, expires_at=2e9
        )
        await robots.create(
            transaction, project_id=project.id, name="robot-lab+ci", description="", secret_hash="hidden",
            permissions={}, created_by="person:mari", expires_at=None,
        )  # fmt: skip
        await letters.add(transaction, ADDRESS, "subject", "text", now)
        await requests.add(transaction, [kept("person:mari"), kept("person:jaan")])
        await audit.add(transaction, notes)
        await leave_traces(transaction, project.id, now)

    await house.database.transact(write)
    assert jaan.id is not None
    return mari, project.id


async def whos_of(transaction: Transaction, key: str) -> list[str]:
    column = TRACES[key].who
    return list((await transaction.execute(select(column).where(column.is_not(None)))).scalars())


def test_each_column_that_names_somebody_is_a_trace() -> None:
    """The audit log and kept requests have queries of their own."""
    of_their_own = {("audit", "actor"), ("request", "who")}
    names = {
        (table.name, column.name)
        for table in metadata.sorted_tables
        for column in table.columns
        if column.name.endswith("_by") or column.name in ("actor", "owner", "who")
    }
    assert names - of_their_own == {(trace.who.table.name, trace.who.name) for trace in TRACES.values()}


async def test_everything_is_exported_and_no_secret(house: House, data: PersonalData) -> None:
    await furnish(house)
    found = await data.export("Mari")
    assert json.loads(json.dumps(found)) == found | {"account": found["account"] | {"groups": []}}
    assert "hidden" not in json.dumps(found)
    assert found["account"]["email"] == ADDRESS
    assert found["lasting_ids"] == ["pairwise-id 7@ut.ee"]
    assert [(one["project"], one["role"]) for one in found["memberships"]] == [("lab", "project admin")]
    assert [one["name"] for one in found["projects_owned"]] == ["lab"]
    assert [one["name"] for one in found["access_keys"]] == ["laptop"]
    assert [one["name"] for one in found["robot_accounts_made"]] == ["robot-lab+ci"]
    for key, number in dict.fromkeys(TRACES, 2).items() - {("robot_accounts_made", 2), ("tags_pushed", 2)}:
        assert len(found[key]) == number, key
    assert [one["subject"] for one in found["letters"]] == ["subject"]
    assert [one["client"] for one in found["requests"]] == ["1.2.3.4"]
    told = [(one["operation"], one["resource"]) for one in found["audit_log"]]
    assert told == [
        ("push", "lab/app:1"), ("rename", "mari.tamm"), ("login", "mari"), ("refuse", "mari"), ("update", "mari"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no account 'nobody'"):
        await data.export("nobody")


async def test_nothing_is_left_of_somebody_but_a_pseudonym(house: House, data: PersonalData) -> None:
    _, project_id = await furnish(house)
    for heir in (None, "mari", "nobody"):
        with pytest.raises(ValueError, match="nobody else manages lab"):
            await data.erase("mari", heir)
    assert (await data.export("mari"))["access_keys"]
    pseudonym = await data.erase("mari", "jaan")
    assert pseudonym.startswith("somebody-")
    entries = await house.database.read(audit.page, Page(99))
    for key in TRACES.keys() - {"robot_accounts_made", "tags_pushed"}:
        whos = sorted(await house.database.read(whos_of, key))
        of_today, hidden = (
            ("mari.tamm", pseudonym) if TRACES[key].only_name else ("person:mari.tamm", f"person:{pseudonym}")
        )
        assert whos == sorted([of_today, hidden, hidden]), key
    rows = [(one.actor, one.address, one.operation, one.resource) for one in reversed(entries)]
    assert rows == [
        (f"person:{pseudonym}", "", "push", "lab/app:1"), (f"person:{pseudonym}", "", "rename", pseudonym),
        (f"person:{pseudonym}", "", "login", pseudonym), ("anonymous", "", "refuse", pseudonym),
        ("person:jaan", "1.2.3.5", "update", pseudonym), ("person:jaan", "1.2.3.5", "push", "mari/app"),
        # The name belongs to somebody else by then.
        ("person:mari.tamm", "1.2.3.6", "push", "other/app"),
    ]  # fmt: skip
    found = await house.database.read(members.page, project_id, Page(9))
    assert [(one.name, one.role) for one in found] == [("jaan", "project admin")]
    (robot,) = await house.database.read(robots.page, project_id, Page(9))
    assert robot.created_by == f"person:{pseudonym}"
    assert [one.who for one in await house.database.read(requests.newest, limit=9)] == ["person:jaan"]
    with pytest.raises(ValueError, match="no account"):
        await data.erase("mari", "jaan")


async def test_the_last_administrator_stays(house: House, data: PersonalData) -> None:
    await house.admin()
    with pytest.raises(ValueError, match="last administrator"):
        await data.erase("admin", None)
