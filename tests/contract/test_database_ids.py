"""An id is given once in every table that has ids, on both databases, whatever became of its row."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Table, func, select

from app.database import (
    Database,
    Transaction,
    access_keys,
    accounts,
    audit,
    immutability,
    labels,
    members,
    plans,
    projects,
    removals,
    requests,
    retention,
    robots,
    webhooks,
)
from app.database.audit import Note
from app.database.keyset import Page
from app.database.tables import metadata
from app.database.webhooks import EventType
from app.oci.selectors import Selector
from tests.kept import made

EVERYTHING = Selector()
Step = Callable[[Transaction, int], Awaitable[object]]


async def account_of(transaction: Transaction) -> int:
    await accounts.create(transaction, "mari", "hash", is_admin=False)
    found = await accounts.find(transaction, "mari")
    assert found is not None
    return found.id


async def project_of(transaction: Transaction) -> int:
    await projects.create(transaction, "physics", public=True, upstream=None, settings={})
    found = await projects.find(transaction, "physics")
    assert found is not None
    return found.id


async def make_robot(transaction: Transaction) -> object:
    about: dict[str, Any] = {"description": "", "secret_hash": "", "permissions": {}, "created_by": ""}
    project_id = await project_of(transaction)
    return await robots.create(transaction, project_id=project_id, name="robot", expires_at=None, **about)


async def make_key(transaction: Transaction) -> object:
    account_id = await account_of(transaction)
    about: dict[str, Any] = {"name": "laptop", "secret_hash": "", "permissions": {}, "expires_at": 1.0}
    return await access_keys.create(transaction, account_id=account_id, **about)


async def make_member(transaction: Transaction) -> object:
    account_id = await account_of(transaction)
    return await members.add(transaction, await project_of(transaction), "guest", account_id=account_id)


async def make_label(transaction: Transaction) -> object:
    return await labels.create(transaction, await project_of(transaction), "good", "", "#000000")


async def make_repository(transaction: Transaction) -> object:
    return await projects.ensure_repository(transaction, await project_of(transaction), "app")


async def make_entry(transaction: Transaction) -> object:
    await audit.add(transaction, [Note(float(at), "", "", "login", "user", "mari") for at in range(2)])
    return None


async def make_request(transaction: Transaction) -> object:
    await requests.add(transaction, [made(number) for number in range(2)])
    return None


async def make_rule(transaction: Transaction) -> object:
    return await immutability.create(transaction, await project_of(transaction), EVERYTHING, EVERYTHING, disabled=False)


async def make_retention(transaction: Transaction) -> int:
    number = await retention.create(transaction, await project_of(transaction), [], "", None)
    assert number is not None
    return number


async def make_run(transaction: Transaction) -> int:
    number = await retention.begin(transaction, await make_retention(transaction), "Manual", dry_run=True)
    assert number is not None
    return number


async def make_task(transaction: Transaction) -> object:
    about: dict[str, Any] = {"repository": "app", "status": "Success", "started_at": 1.0, "total": 0, "retained": 0}
    run = await make_run(transaction)
    return await retention.add_task(transaction, run, repository_id=1, freed_bytes=0, removed=[], **about)


async def make_webhook(transaction: Transaction) -> object:
    about: dict[str, Any] = {"name": "to us", "description": "", "enabled": True, "event_types": [EventType.DELETE]}
    about |= {"url": "https://example.org/", "payload_format": "Default"}
    return await webhooks.create(transaction, await project_of(transaction), created_by="mari", **about)


async def make_delivery(transaction: Transaction) -> object:
    await make_webhook(transaction)
    await webhooks.emit_of_project(transaction, await project_of(transaction), EventType.DELETE, {})
    return None


async def make_plan(transaction: Transaction) -> object:
    image = {"project_id": await project_of(transaction), "repository": "library/redis", "reference": "7"}
    about = {"title": "class", "owner": "mari", "platforms": [], "weekly": False, "created_at": 1.0}
    return await plans.create(transaction, {**about, "due_at": 2.0, "ends_at": 2.0}, [image])


async def remove_rule(transaction: Transaction, _: int) -> object:
    (rule,) = await immutability.rules(transaction, await project_of(transaction))
    await immutability.remove(transaction, rule)
    return None


async def remove_retention(transaction: Transaction, _: int) -> object:
    policy = await retention.of_project(transaction, await project_of(transaction))
    assert policy is not None
    await retention.remove(transaction, policy)
    return None


async def remove_webhook(transaction: Transaction, _: int) -> object:
    project_id = await project_of(transaction)
    (found,) = await webhooks.page(transaction, project_id, Page(10))
    await webhooks.remove(transaction, found)
    return None


async def remove_deliveries(transaction: Transaction, delivery_id: int) -> object:
    await webhooks.note_attempt(transaction, delivery_id, answer="200", succeeded=True, ends=True)
    assert await webhooks.remove_ended(transaction, time.time() + 1, 10) == 1
    return await remove_webhook(transaction, 0)


async def remove_key(transaction: Transaction, key_id: int) -> object:
    return await access_keys.remove(transaction, await account_of(transaction), key_id)


async def remove_entries(transaction: Transaction, _: int) -> object:
    return await audit.remove_older(transaction, time.time(), 10)


async def remove_requests(transaction: Transaction, _: int) -> object:
    return await requests.remove_older(transaction, time.time(), 10, 10)


async def remove_account(transaction: Transaction, _: int) -> object:
    return await accounts.remove(transaction, await account_of(transaction))


async def remove_project(transaction: Transaction, _: int) -> object:
    project_id = await project_of(transaction)
    for repository_id in await removals.repositories_of(transaction, project_id, 10):
        await removals.remove_repository(transaction, repository_id)
    await removals.hide_project(transaction, project_id)
    return await removals.remove_project(transaction, project_id)


MAKE: dict[str, Callable[[Transaction], Awaitable[object]]] = {
    "access_key": make_key,
    "account": account_of,
    "audit": make_entry,
    "delivery": make_delivery,
    "immutable_rule": make_rule,
    "label": make_label,
    "member": make_member,
    "plan": make_plan,
    "project": project_of,
    "repository": make_repository,
    "request": make_request,
    "retention": make_retention,
    "retention_execution": make_run,
    "retention_task": make_task,
    "robot": make_robot,
    "webhook": make_webhook,
}
# Every way in which a row goes, by itself or together with another one.
REMOVE: list[tuple[str, Step]] = [
    ("access_key", remove_key),
    ("access_key", remove_account),
    ("account", remove_account),
    ("audit", remove_entries),
    ("delivery", remove_deliveries),
    ("delivery", remove_webhook),
    ("delivery", remove_project),
    ("immutable_rule", remove_rule),
    ("immutable_rule", remove_project),
    ("label", labels.remove),
    ("label", remove_project),
    ("member", members.remove),
    ("member", remove_account),
    ("member", remove_project),
    ("plan", plans.remove),
    ("project", remove_project),
    ("repository", removals.remove_repository),
    ("repository", remove_project),
    ("request", remove_requests),
    ("retention", remove_retention),
    ("retention", remove_project),
    ("retention_execution", remove_retention),
    ("retention_execution", remove_project),
    ("retention_task", remove_retention),
    ("retention_task", remove_project),
    ("robot", robots.remove),
    ("robot", remove_project),
    ("webhook", remove_webhook),
    ("webhook", remove_project),
]


def tables_with_ids() -> dict[str, Table]:
    return {table.name: table for table in metadata.sorted_tables if table.autoincrement_column is not None}


def test_every_table_with_ids_is_tried() -> None:
    assert set(tables_with_ids()) == set(MAKE) == {name for name, _ in REMOVE}


@pytest.mark.parametrize(("name", "remove"), REMOVE)
async def test_the_id_of_a_removed_row_is_not_given_again(database: Database, name: str, remove: Step) -> None:
    given: list[int] = []
    for _ in range(3):
        async with database.transaction() as transaction:
            await MAKE[name](transaction)
            given.append(await highest(transaction, name))
        async with database.transaction() as transaction:
            await remove(transaction, given[-1])
            assert await highest(transaction, name) == 0, "nothing is left to count from"
    assert given == sorted(set(given))


async def highest(transaction: Transaction, name: str) -> int:
    found = await transaction.execute(select(func.max(tables_with_ids()[name].c.id)))
    return int(found.scalar() or 0)


async def test_entries_that_are_written_together_have_ids_of_their_own(database: Database) -> None:
    async with database.transaction() as transaction:
        await audit.add(transaction, [Note(float(at), "", "", "login", "user", "mari") for at in range(5)])
        entries = await audit.page(transaction, Page(10), audit.EVERYTHING)
    assert [entry.at for entry in entries] == [4.0, 3.0, 2.0, 1.0, 0.0]
