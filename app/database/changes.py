"""The scopes that a transaction changes, so that copies of their rows end with it.

A reader's question names its scope. That is a project by its name or by its id, a repository by its id, a tag, or the
name of an account. Scopes share a bounded number of versions. Two scopes with one version only lose their copies
together.

Every function of this package that changes or removes a row of which there are copies calls `changed`. New rows need
no call, because no copy says that something is absent. `tests/contract/test_changes.py` knows these functions.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from zlib import crc32

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .tables import setting
from .text import folded

_VERSIONS = 16 * 1024
# The option of a connection that holds its `Changes`.
NOTED = "changes"
# The name of the setting that every worker reads once a second (`shared_copies`).
EPOCH = "epoch of copies"


@dataclass(slots=True)
class Changes:
    """The scopes that a transaction has changed; ``leased``: workers may use copies without asking for a version.

    ``owed``: the bytes that ``settle`` charges before the commit, by repository (`quotas.owe`).
    """

    scopes: set[str] = field(default_factory=set)
    leased: bool = False
    owed: dict[int, int] = field(default_factory=dict)
    settle: Callable[[AsyncConnection, Mapping[int, int]], Awaitable[None]] | None = None


def project_named(name: str) -> str:
    """Return the scope of questions for a project by its name."""
    return f"n{crc32(name.encode()) % _VERSIONS}"


def project(project_id: int) -> str:
    """Return the scope of questions for what belongs to a project: its members and the names of its repositories."""
    return f"p{project_id % _VERSIONS}"


def account_named(username: str) -> str:
    """Return the scope of questions for who may log in by a name: a person with their keys, or a robot account.

    All spellings of a person's name are one scope.
    """
    return f"a{crc32(folded(username).encode()) % _VERSIONS}"


def repository(repository_id: int) -> str:
    """Return the scope of questions for what a repository holds, except its tags."""
    return f"r{repository_id % _VERSIONS}"


def tag(repository_id: int, name: str) -> str:
    """Return the scope of questions for a tag.

    A push that is not answered, because SQL goes down, ends the copies of its own tags and no others.
    """
    return f"t{crc32(f'{repository_id} {name}'.encode()) % _VERSIONS}"


def changed(transaction: AsyncConnection, *scopes: str, leased: bool = True) -> None:
    """Note that a transaction changes rows of these scopes.

    ``leased`` is False if all copies of these rows are dated by every question, which holds for hosted tags. Otherwise
    the writer has to wait until the leases have run out.
    """
    changes = noted(transaction)
    if changes is not None:
        changes.scopes.update(scopes)
        changes.leased |= leased


def noted(transaction: AsyncConnection) -> Changes | None:
    """Return the changes of a transaction; None if it only reads."""
    connection = transaction.sync_connection
    return connection.get_execution_options().get(NOTED) if connection is not None else None


async def raise_epoch(transaction: AsyncConnection) -> None:
    """End all copies of all workers, as soon as they read this. Without an epoch, nobody trusts a copy."""
    here = setting.c.name == EPOCH
    epoch = (await transaction.execute(select(setting.c.value).where(here).with_for_update())).scalar()
    if epoch is not None:
        redis, since, _ = epoch.split()
        await transaction.execute(update(setting).where(here).values(value=new_epoch(redis, since)))


def new_epoch(redis: str, since: str) -> str:
    """Return an epoch that no worker knows.

    ``redis`` is the run id of the server that knows the versions, ``since`` the Unix time from which it does, by the
    clock of SQL.
    """
    return f"{redis} {since} {secrets.token_hex(12)}"
