"""Queries on the members of projects."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import bindparam, select

from .engine import Database, PointQuery
from .tables import member

_own_role = PointQuery(
    select(member.c.role).where(
        member.c.project_id == bindparam("project"), member.c.account_id == bindparam("account")
    )
)


async def roles(database: Database, project_id: int, account_id: int, groups: Collection[str]) -> list[str]:
    """List the roles that a person has in a project, their own and those of their groups."""
    row = await database.point(_own_role, project_id, account_id)
    found = [str(row[0])] if row else []
    if groups:
        theirs = select(member.c.role).where(member.c.project_id == project_id, member.c.group_name.in_(groups))
        async with database.reading() as transaction:
            found += (await transaction.execute(theirs)).scalars()
    return found
