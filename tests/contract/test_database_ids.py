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
    labels,
    members,
    projects,
    removals,
    requests,
    robots,
)
from app.database.audit import Note
from app.database.keyset import Page
from app.database.tables import metadata
from tests.kept import made

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
    "label": make_label,
    "member": make_member,
    "project": project_of,
    "repository": make_repository,
    "request": make_request,
    "robot": make_robot,
}
# Every way in which a row goes, by itself or together with another one.
REMOVE: list[tuple[str, Step]] = [
    ("access_key", remove_key),
    ("access_key", remove_account),
    ("account", remove_account),
    ("audit", remove_entries),
    ("label", labels.remove),
    ("label", remove_project),
    ("member", members.remove),
    ("member", remove_account),
    ("member", remove_project),
    ("project", remove_project),
    ("repository", removals.remove_repository),
    ("repository", remove_project),
    ("request", remove_requests),
    ("robot", robots.remove),
    ("robot", remove_project),
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
