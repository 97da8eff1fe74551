"""Queries on whatever logs in: what robot accounts, access keys and people have in common."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import bindparam, exists, select, update

from .engine import Transaction
from .tables import access_key, account, robot

# When, in Unix seconds, and from which address, by a row's id.
Used = Mapping[int, tuple[float, str]]


async def is_name(transaction: Transaction, username: str) -> bool:
    """Say whether a person or a robot account is called exactly that."""
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
        # In one order, so that two workers never wait for each other in a ring.
        rows = [{"key": key, "at": used[key][0], "address": used[key][1]} for key in sorted(used)]
        if rows:
            await transaction.execute(statement, rows)
