"""Queries on who is present, and on the projects that nobody manages any more."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, Text, and_, cast, or_, select, update

from . import changes, keyset
from .engine import Transaction
from .keyset import Count, Entries, Page, Walk
from .tables import account, member, project, robot
from .text import has, has_any, is_kept


@dataclass(frozen=True, slots=True)
class Unattended:
    """A project that nobody manages; ``since`` is in Unix seconds."""

    id: int
    name: str
    since: float


def _is_present(after: float) -> ColumnElement[bool]:
    """Return the condition that an account may log in, and was seen after a time (Unix seconds)."""
    return account.c.disabled.is_(False) & or_(account.c.seen_at.is_(None), account.c.seen_at > after)


async def batch(transaction: Transaction, above: int, limit: int) -> list[int]:
    """List the ids of the next projects after one."""
    following = select(project.c.id).where(project.c.id > above).order_by(project.c.id).limit(limit)
    return list((await transaction.execute(following)).scalars())


async def left_alone(transaction: Transaction, project_ids: Collection[int], role: str, after: float) -> set[int]:
    """Return those of the projects that have members with a role, and of these nobody who was seen after a time.

    A project without such a member belongs to the operators, and is never among them.
    """
    rows = await transaction.execute(
        select(member.c.project_id, member.c.group_name, _is_present(after))
        .join_from(member, account, account.c.id == member.c.account_id, isouter=True)
        .where(member.c.project_id.in_(project_ids), member.c.role == role)
    )
    groups: dict[int, set[str]] = {}
    attended = set()
    for project_id, group, present in rows:
        groups.setdefault(project_id, set()).update([group] if group is not None else [])
        if group is None and present:
            attended.add(project_id)
    for project_id in groups.keys() - attended:
        for group in groups[project_id]:
            if await _has_somebody(transaction, group, after):
                attended.add(project_id)
                break
    return groups.keys() - attended


async def _has_somebody(transaction: Transaction, group: str, after: float) -> bool:
    # A group is a text within a JSON list. Only projects whose other admins are all absent come here. The search also
    # finds other capitals, and so a few more rows than one are read.
    found = select(account.c.groups).where(_is_present(after), has(cast(account.c.groups, Text), json.dumps(group)))
    return any(group in groups for groups in (await transaction.execute(found.limit(20))).scalars())


async def marked(transaction: Transaction, project_ids: Collection[int]) -> set[int]:
    """Return those of the projects that are marked as unattended."""
    here = select(project.c.id).where(project.c.id.in_(project_ids), project.c.unattended_at.is_not(None))
    return set((await transaction.execute(here)).scalars())


async def since(transaction: Transaction, project_id: int) -> float | None:
    """Return since when (Unix seconds) nobody manages a project, None if somebody does."""
    here = select(project.c.unattended_at).where(project.c.id == project_id)
    return (await transaction.execute(here)).scalar()


async def mark(transaction: Transaction, project_ids: Collection[int], since: float | None) -> set[int]:
    """Mark projects as unattended since a time (Unix seconds), or as attended; return those that were not so yet."""
    if not project_ids:
        return set()
    was = project.c.unattended_at
    here = (project.c.id.in_(project_ids), was.is_not(None) if since is None else was.is_(None))
    statement = update(project).where(*here).values(unattended_at=since).returning(project.c.id)
    found = set((await transaction.execute(statement)).scalars())
    names = (await transaction.execute(select(robot.c.name).where(robot.c.project_id.in_(found)))).scalars()
    changes.changed(transaction, *map(changes.account_named, names))
    return found


async def attend(transaction: Transaction, account_id: int, groups: Collection[str], role: str) -> set[int]:
    """Mark the projects as attended in which a person has a role, of their own or by a group; return their ids."""
    theirs = or_(member.c.account_id == account_id, member.c.group_name.in_(groups))
    here = and_(member.c.role == role, theirs, project.c.unattended_at.is_not(None))
    found = await transaction.execute(
        select(project.c.id).join_from(project, member, member.c.project_id == project.c.id).where(here)
    )
    return await mark(transaction, set(found.scalars()), None)


_unattended: Select[tuple[int, str, float | None]] = select(project.c.id, project.c.name, project.c.unattended_at)


async def page(transaction: Transaction, page: Page[int]) -> Entries[Unattended]:
    """List the projects that nobody manages, by id."""
    walks = _walks(page.search)
    return await keyset.fetch(transaction, _unattended, Unattended, page, project.c.id, walks=walks)


async def total(transaction: Transaction, search: str = "") -> Count:
    """Count the projects that `page` lists."""
    return await keyset.count(transaction, _unattended, project.c.id, walks=_walks(search))


def _walks(search: str) -> tuple[Walk, ...]:
    return (Walk((project.c.unattended_at.is_not(None), is_kept(project.c.name)), has_any([project.c.name], search)),)
