"""Queries on the members of projects."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, literal_column, or_, select, update

from . import changes, keyset
from .engine import Database, PointQuery, Transaction, insert
from .ids import retire
from .keyset import Count, Entries, Page, Walk
from .tables import account, member, project
from .text import has_any


@dataclass(frozen=True, slots=True)
class Member:
    """A member's row: a person, or a group if ``account_id`` is None; ``role`` is an `app.access.roles.Role`."""

    id: int
    project_id: int
    account_id: int | None
    name: str
    full_name: str
    email: str
    role: str
    created_at: float

    @property
    def is_group(self) -> bool:
        return self.account_id is None


_own_role = PointQuery(
    select(member.c.role).where(
        member.c.project_id == bindparam("project"), member.c.account_id == bindparam("account")
    ),
    scope=lambda project_id, _: changes.project(project_id),
)


# In the statement itself, because a point query has no other parameters than its caller's.
_LINE_BREAK: Any = literal_column("'\n'")
# One row for all groups of a project, so that a copy of it serves everybody's.
_group_roles = PointQuery(
    select(func.aggregate_strings(member.c.role + literal_column("':'") + member.c.group_name, _LINE_BREAK)).where(
        member.c.project_id == bindparam("project"), member.c.group_name.is_not(None)
    ),
    scope=changes.project,
)


async def roles(database: Database, project_id: int, account_id: int, groups: Collection[str]) -> list[str]:
    """List the roles that a person has in a project: their own and those of their groups; raises Unavailable."""
    row = await database.point(_own_role, project_id, account_id)
    found = [str(row[0])] if row else []
    if groups:
        row = await database.point(_group_roles, project_id)
        for line in str(row[0]).split("\n") if row and row[0] else ():
            role, _, group = line.partition(":")
            if group in groups:
                found.append(role)
    return found


async def deleted_projects_of(
    transaction: Transaction, account_id: int, groups: Collection[str], role: str
) -> list[int]:
    """List the projects in the bin in which a person has a role, by themselves or by a group."""
    mine = or_(member.c.account_id == account_id, member.c.group_name.in_(sorted(groups)))
    statement = (
        select(member.c.project_id)
        .join_from(member, project, project.c.id == member.c.project_id)
        .where(mine, member.c.role == role, project.c.deleted_at.is_not(None))
    )
    return sorted(set((await transaction.execute(statement)).scalars()))


_members = select(
    member.c.id,
    member.c.project_id,
    member.c.account_id,
    func.coalesce(account.c.username, member.c.group_name),
    func.coalesce(account.c.full_name, ""),
    func.coalesce(account.c.email, ""),
    member.c.role,
    member.c.created_at,
).join_from(member, account, account.c.id == member.c.account_id, isouter=True)


async def page(transaction: Transaction, project_id: int, page: Page[int]) -> Entries[Member]:
    """List a project's members by id; the search covers the names of people and groups."""
    walks = _walks(project_id, page.search)
    return await keyset.fetch(transaction, _members, Member, page, member.c.id, walks=walks)


async def total(transaction: Transaction, project_id: int, search: str = "") -> Count:
    """Count the members that `page` lists."""
    return await keyset.count(transaction, _members, member.c.id, walks=_walks(project_id, search))


async def find(transaction: Transaction, project_id: int, member_id: int) -> Member | None:
    """Read a member of this project."""
    return await _one(transaction, _members.where(member.c.id == member_id, member.c.project_id == project_id))


async def of_account(transaction: Transaction, project_id: int, account_id: int) -> Member | None:
    """Read a person's own membership."""
    here = (member.c.project_id == project_id) & (member.c.account_id == account_id)
    return await _one(transaction, _members.where(here))


async def add(
    transaction: Transaction, project_id: int, role: str, *, account_id: int | None = None, group: str | None = None
) -> int | None:
    """Make a person or a group a member; return the row's id, None if they are a member already."""
    _changed(transaction, project_id)
    statement = (
        insert(transaction, member)
        .values(project_id=project_id, account_id=account_id, group_name=group, role=role, created_at=time.time())
        .on_conflict_do_nothing()
        .returning(member.c.id)
    )
    made: int | None = (await transaction.execute(statement)).scalar()
    return made


async def set_role(transaction: Transaction, member_id: int, role: str) -> None:
    """Change a role."""
    statement = update(member).where(member.c.id == member_id).values(role=role).returning(member.c.project_id)
    _changed(transaction, (await transaction.execute(statement)).scalar())


async def remove(transaction: Transaction, member_id: int) -> None:
    """Remove a member."""
    await retire(transaction, member)
    statement = delete(member).where(member.c.id == member_id).returning(member.c.project_id)
    _changed(transaction, (await transaction.execute(statement)).scalar())


def _changed(transaction: Transaction, project_id: int | None) -> None:
    if project_id is not None:
        changes.changed(transaction, changes.project(project_id))


async def others_with_role(transaction: Transaction, project_id: int, role: str, member_id: int) -> int:
    """Count a project's other members with a role.

    The project is locked, so that no two transactions count its members at once.
    """
    lock = select(project.c.id).where(project.c.id == project_id).with_for_update(key_share=True)
    await transaction.execute(lock)
    here = (member.c.project_id == project_id) & (member.c.role == role) & (member.c.id != member_id)
    return await keyset.exactly(transaction, select(func.count()).select_from(member).where(here))


async def left_without(transaction: Transaction, account_id: int, role: str) -> list[int]:
    """List the projects in which a person is the only member with a role; their rows are locked, as one by one."""
    theirs = select(member.c.id, member.c.project_id).where(member.c.account_id == account_id, member.c.role == role)
    rows = (await transaction.execute(theirs.order_by(member.c.project_id))).all()
    return [
        project_id
        for member_id, project_id in rows
        if not await others_with_role(transaction, project_id, role, member_id)
    ]


def _walks(project_id: int, search: str) -> tuple[Walk, ...]:
    # One search text covers the names of people and of groups.
    columns = (account.c.username, account.c.full_name, member.c.group_name)
    return (Walk((member.c.project_id == project_id,), has_any(columns, search)),)


async def _one(transaction: Transaction, statement: Select[Any]) -> Member | None:
    row = (await transaction.execute(statement)).first()
    return Member(*row) if row else None
