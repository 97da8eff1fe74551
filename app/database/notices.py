"""Queries on what ends soon, and on the notices that were given of it.

A notice is a row: the kind and the id of what ends, its end, and how many days before. Of workers that look at once,
the one that writes the row gives the notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, literal, select

from .engine import Transaction, insert
from .tables import access_key, account, member, notice, project, robot
from .text import is_kept


@dataclass(frozen=True, slots=True)
class Ending:
    """A key, a person's keys, a robot account or a project's robot accounts, and when they end (Unix seconds).

    ``name`` is the key's, the robot's or the project's. ``username`` and ``email`` are the person's, "" without one.
    """

    id: int
    name: str
    ends_at: float
    username: str = ""
    email: str = ""
    project_id: int | None = None


async def keys(transaction: Transaction, after: float, until: float, days: int, limit: int) -> list[Ending]:
    """List keys that expire after one time and until another, without a notice so many days before."""
    found = select(access_key.c.id, access_key.c.name, access_key.c.expires_at, account.c.username, account.c.email)
    ends = access_key.c.expires_at
    here = found.join_from(access_key, account, access_key.c.account_id == account.c.id).where(
        ends > after, ends <= until, account.c.disabled.is_(False), *_is_due("key", access_key, ends, days)
    )
    return await _read(transaction, here.order_by(ends, access_key.c.id).limit(limit))


async def robot_accounts(transaction: Transaction, after: float, until: float, days: int, limit: int) -> list[Ending]:
    """List enabled robot accounts, as `keys` does."""
    ends = robot.c.expires_at
    here = select(robot.c.id, robot.c.name, ends, literal(""), literal(""), robot.c.project_id).where(
        is_kept(robot.c.name),
        ends > after,
        ends <= until,
        robot.c.disabled.is_(False),
        *_is_due("robot", robot, ends, days),
    )
    return await _read(transaction, here.order_by(ends, robot.c.id).limit(limit))


async def people(
    transaction: Transaction, after: float, until: float, days: int, limit: int, *, absent_after: float
) -> list[Ending]:
    """List people with keys that stop because they are absent, ``absent_after`` seconds after they were seen."""
    ends: ColumnElement[float] = account.c.seen_at + absent_after
    has_key = exists().where(access_key.c.account_id == account.c.id, access_key.c.expires_at > ends)
    here = select(account.c.id, literal(""), ends, account.c.username, account.c.email).where(
        account.c.seen_at > after - absent_after,
        account.c.seen_at <= until - absent_after,
        account.c.disabled.is_(False),
        has_key,
        *_is_due("person", account, ends, days),
    )
    return await _read(transaction, here.order_by(account.c.seen_at, account.c.id).limit(limit))


async def projects(
    transaction: Transaction, after: float, until: float, days: int, limit: int, *, robots_after: float
) -> list[Ending]:
    """List unattended projects with enabled robot accounts, which stop ``robots_after`` seconds after the mark."""
    ends: ColumnElement[float] = project.c.unattended_at + robots_after
    has_robot = exists().where(robot.c.project_id == project.c.id, robot.c.disabled.is_(False))
    here = select(project.c.id, project.c.name, ends, literal(""), literal(""), project.c.id).where(
        is_kept(project.c.name),
        project.c.unattended_at.is_not(None),
        ends > after,
        ends <= until,
        has_robot,
        ~_given("project", project.c.id, ends, days),
    )
    return await _read(transaction, here.order_by(project.c.id).limit(limit))


async def give(transaction: Transaction, kind: str, ending: Ending, days: int) -> bool:
    """Write that notice is given; return False if it was given before, by any worker."""
    row = {"kind": kind, "thing_id": ending.id, "days": days, "ends_at": ending.ends_at}
    statement = insert(transaction, notice).values(row).on_conflict_do_nothing()
    return bool((await transaction.execute(statement)).rowcount)


async def forget(transaction: Transaction, before: float) -> None:
    """Remove notices of what ended before a time (Unix seconds)."""
    await transaction.execute(delete(notice).where(notice.c.ends_at < before))


async def addresses(transaction: Transaction, project_id: int | None, role: str, limit: int) -> list[str]:
    """List the e-mail addresses of a project's members with a role; without a project, of the administrators."""
    found = select(account.c.email).where(account.c.disabled.is_(False), account.c.email != "")
    if project_id is None:
        found = found.where(account.c.is_admin)
    else:
        joined = found.join_from(account, member, member.c.account_id == account.c.id)
        found = joined.where(member.c.project_id == project_id, member.c.role == role)
    return list((await transaction.execute(found.distinct().order_by(account.c.email).limit(limit))).scalars())


def _is_due(kind: str, table: Any, ends: ColumnElement[float], days: int) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that no such notice was given, and that the thing is older than that notice would be.

    The person who makes a key for a day knows when it ends.
    """
    return ends - table.c.created_at > days * 86400, ~_given(kind, table.c.id, ends, days)


def _given(kind: str, number: ColumnElement[int], ends: ColumnElement[float], days: int) -> ColumnElement[bool]:
    return exists().where(
        notice.c.kind == kind, notice.c.thing_id == number, notice.c.days == days, notice.c.ends_at == ends
    )


async def _read(transaction: Transaction, statement: Select[Any]) -> list[Ending]:
    return [Ending(*row) for row in await transaction.execute(statement)]
