"""Queries that robot accounts, access keys and people have in common."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, exists, select, update

from .engine import Transaction
from .tables import access_key, account, robot

# The time of use in Unix seconds and the client's address, by row id.
Used = Mapping[int, tuple[float, str]]


async def is_name(transaction: Transaction, username: str) -> bool:
    """Return whether a person or a robot account has exactly that name."""
    named = exists().where(account.c.username == username), exists().where(robot.c.name == username)
    return any((await transaction.execute(select(*named))).one())


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
