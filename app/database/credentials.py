"""Queries that robot accounts, access keys and people have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    String,
    Text,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    null,
    select,
    union_all,
    update,
)

from . import changes
from .accounts import has_name
from .engine import Database, PointQuery, Transaction
from .tables import access_key, account, project, robot
from .text import folded

# The time of use in Unix seconds and the client's address, by row id.
Used = Mapping[int, tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Secret:
    """A generated secret that is right, with the robot account or the access key that it belongs to.

    ``id`` and ``name`` are those of the robot account or the key. ``account_id`` is the key's person, None for a robot;
    ``is_admin``, ``disabled`` and ``groups`` are the person's. ``permissions`` hold rights by project id, or by "*" for
    every project. ``expires_at`` is in Unix seconds, None for never. ``username`` is the robot's or the person's name.
    ``since``: when the person was last seen; since when nobody manages the robot's project, None if somebody does.
    """

    id: int
    name: str
    permissions: Mapping[str, Sequence[str]]
    expires_at: float | None
    disabled: bool
    account_id: int | None
    is_admin: bool
    groups: frozenset[str]
    username: str
    since: float | None


_is_person = has_name(*(bindparam(name, type_=String) for name in ("typed", "folded", "again")))
# Columns are texts where the two drivers differ in what they make of JSON.
_keys = select(
    access_key.c.id,
    access_key.c.name,
    cast(access_key.c.permissions, Text),
    access_key.c.expires_at,
    account.c.disabled,
    access_key.c.account_id,
    account.c.is_admin,
    cast(account.c.groups, Text),
    account.c.username,
    account.c.seen_at,
).join_from(access_key, account, access_key.c.account_id == account.c.id)
_secret = PointQuery(
    union_all(
        select(
            robot.c.id,
            robot.c.name,
            cast(robot.c.permissions, Text),
            robot.c.expires_at,
            robot.c.disabled,
            cast(null(), BigInteger),
            false(),
            cast(null(), Text),
            robot.c.name,
            project.c.unattended_at,
        )
        .join_from(robot, project, robot.c.project_id == project.c.id, isouter=True)
        .where(robot.c.name == bindparam("robot"), robot.c.secret_hash == bindparam("robot_hash")),
        _keys.where(_is_person, access_key.c.secret_hash == bindparam("key_hash")),
    ),
    scope=lambda username, *_: changes.account_named(username),
)
_is_name = PointQuery(
    union_all(
        select(account.c.id).where(_is_person),
        select(robot.c.id).where(robot.c.name == bindparam("robot")),
        select(access_key.c.id).where(access_key.c.login_name == bindparam("login")),
    ),
    scope=lambda username, *_: changes.account_named(username),
)
# In the place of a robot account's hash.
OF_KEY = ""
_is_moved_key = select(access_key.c.id).where(access_key.c.login_name == bindparam("login")).exists()
_hash_of_robot = select(robot.c.secret_hash).where(robot.c.name == bindparam("robot")).scalar_subquery()
# One row for every name, so that a worker also keeps that a name is neither. The hash of a secret that a person may
# have chosen stays in the worker.
_moved_hash = PointQuery(
    select(func.coalesce(_hash_of_robot, case((_is_moved_key, literal_column("''")), else_=null()))),
    scope=lambda username, _: changes.account_named(username),
    shared=False,
)
# Without copies, because a change of the person ends those of their own name.
_by_login_name = PointQuery(
    _keys.where(access_key.c.login_name == bindparam("login"), access_key.c.secret_hash == bindparam("key_hash"))
)


async def find(database: Database, username: str, secret_hash: str) -> Secret | None:
    """Find the robot account of that name, or the access key of the person of that name, by a secret's hash."""
    plain = folded(username)
    row = await database.point(_secret, username, secret_hash, username, plain, plain, secret_hash)
    return _as_secret(row) if row else None


def _as_secret(row: Sequence[Any]) -> Secret:
    key, name, permissions, expires_at, disabled, account_id, is_admin, groups, of, since = row
    listed = frozenset(json.loads(groups) or ()) if groups else frozenset()
    allowed = json.loads(permissions)
    return Secret(key, name, allowed, expires_at, bool(disabled), account_id, bool(is_admin), listed, of, since)


async def is_name(database: Database, username: str) -> bool:
    """Return whether a typed name means a person or a robot account."""
    plain = folded(username)
    return await database.point(_is_name, username, plain, plain, username, plain) is not None


async def moved_hash(database: Database, username: str) -> str | None:
    """Return the hash of the robot account of a name, or `OF_KEY` if a secret from a Harbor has it as its login name.

    None if the name is neither.
    """
    row = await database.point(_moved_hash, username, folded(username))
    return None if row is None or row[0] is None else str(row[0])


async def find_by_login_name(database: Database, username: str, secret_hash: str) -> Secret | None:
    """Find the access key that logs in by a name of Harbor's, by its secret's hash."""
    row = await database.point(_by_login_name, folded(username), secret_hash)
    return _as_secret(row) if row else None


async def renew_robot(transaction: Transaction, robot_id: int, before: str, after: str) -> None:
    """Replace the hash of a robot account's secret, unless it has another one by now."""
    here = (robot.c.id == robot_id, robot.c.secret_hash == before)
    statement = update(robot).where(*here).values(secret_hash=after).returning(robot.c.name)
    names = (await transaction.execute(statement)).scalars()
    changes.changed(transaction, *map(changes.account_named, names))


async def touch(transaction: Transaction, *, robots: Used, access_keys: Used) -> None:
    """Write when and from where robots and access keys were last used."""
    for table, used in ((robot, robots), (access_key, access_keys)):
        statement = (
            update(table)
            .where(table.c.id == bindparam("key"))
            .values(last_used_at=bindparam("at"), last_used_from=bindparam("address"))
        )
        # Every worker writes in the same order, so that no two wait for each other.
        rows = [{"key": key, "at": used[key][0], "address": used[key][1]} for key in sorted(used)]
        if rows:
            await transaction.execute(statement, rows)
