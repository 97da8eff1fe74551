"""Queries on all that is kept of a person beside their account, its keys and the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, delete, select, update

from .engine import Transaction
from .tables import letter, member, project, request, robot
from .text import is_kept

Rows = Sequence[Mapping[str, Any]]


async def memberships(transaction: Transaction, account_id: int) -> Rows:
    """List the projects in which a person has a role of their own."""
    columns = (project.c.name.label("project"), member.c.role, member.c.created_at)
    joined = select(*columns).join_from(member, project, member.c.project_id == project.c.id)
    return await _read(transaction, joined.where(member.c.account_id == account_id, is_kept(project.c.name)))


async def owned(transaction: Transaction, account_id: int) -> Rows:
    """List the projects that a person owns."""
    here = (project.c.owner_id == account_id, is_kept(project.c.name))
    return await _read(transaction, select(project.c.name, project.c.created_at).where(*here))


async def robots_made(transaction: Transaction, subject: str) -> Rows:
    """List the robot accounts that a person has made."""
    columns = (robot.c.name, robot.c.description, robot.c.created_at, robot.c.expires_at)
    return await _read(transaction, select(*columns).where(robot.c.created_by == subject))


async def requests_of(transaction: Transaction, subject: str) -> Rows:
    """List the requests of a person that are kept for operators."""
    columns = [column for column in request.c if column.name not in ("id", "who")]
    return await _read(transaction, select(*columns).where(request.c.who == subject).order_by(request.c.id))


async def letters_to(transaction: Transaction, address: str) -> Rows:
    """List the letters to an address that wait for the mail server."""
    columns = (letter.c.subject, letter.c.text, letter.c.made_at)
    return await _read(transaction, select(*columns).where(letter.c.address == address))


async def erase(transaction: Transaction, subject: str, hidden: str, address: str) -> None:
    """Remove a person's requests and letters, and put a ``hidden`` subject in place of theirs at robot accounts."""
    await transaction.execute(delete(request).where(request.c.who == subject))
    if address:
        await transaction.execute(delete(letter).where(letter.c.address == address))
    made = update(robot).where(robot.c.created_by == subject)
    await transaction.execute(made.values(created_by=hidden))


async def _read(transaction: Transaction, statement: Select[Any]) -> Rows:
    return [dict(row) for row in (await transaction.execute(statement)).mappings()]
