"""Queries on robot accounts."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, delete, literal, or_, select, update

from . import changes, keyset
from .engine import Transaction, insert
from .ids import retire
from .keyset import Count, Entries, Page, Walk
from .tables import project, robot
from .text import REMOVED, equals, has_any


@dataclass(frozen=True, slots=True)
class Robot:
    """A robot's row; ``name`` is its user name, ``project_id`` is None for the system's robots, times in Unix seconds.

    ``permissions`` holds rights by project id, or by "*" for every project. ``expires_at`` is None for never.
    """

    id: int
    project_id: int | None
    name: str
    description: str
    secret_hash: str = field(repr=False)
    permissions: Mapping[str, Sequence[str]]
    disabled: bool
    created_at: float
    created_by: str
    expires_at: float | None
    last_used_at: float | None
    last_used_from: str | None


_columns: tuple[ColumnElement[Any], ...] = (
    robot.c.id,
    robot.c.project_id,
    robot.c.name,
    robot.c.description,
    robot.c.secret_hash,
    robot.c.permissions,
    robot.c.disabled,
    robot.c.created_at,
    robot.c.created_by,
    robot.c.expires_at,
    robot.c.last_used_at,
    robot.c.last_used_from,
)

_SORTS: keyset.Sorts = {
    "name": keyset.KEY,
    "id": robot.c.id,
    "description": robot.c.description,
    "creation_time": robot.c.created_at,
    "expires_at": robot.c.expires_at,
    "disable": robot.c.disabled,
    "last_used_time": robot.c.last_used_at,
}


async def create(
    transaction: Transaction,
    *,
    project_id: int | None,
    name: str,
    description: str,
    secret_hash: str,
    permissions: Mapping[str, Sequence[str]],
    disabled: bool = False,
    created_by: str,
    expires_at: float | None,
) -> Robot | None:
    """Make a robot; return None if the name is taken."""
    changes.changed(transaction, changes.account_named(name))
    statement = (
        insert(transaction, robot)
        .values(
            project_id=project_id,
            name=name,
            description=description,
            secret_hash=secret_hash,
            permissions=dict(permissions),
            disabled=disabled,
            created_at=time.time(),
            created_by=created_by,
            expires_at=expires_at,
        )
        .on_conflict_do_nothing()
        .returning(*_columns)
    )
    row = (await transaction.execute(statement)).first()
    return Robot(*row) if row else None


async def find(transaction: Transaction, robot_id: int) -> Robot | None:
    """Find a robot by its id."""
    row = (await transaction.execute(select(*_columns).where(robot.c.id == robot_id))).first()
    return Robot(*row) if row else None


async def page(transaction: Transaction, project_id: int | None, page: Page[str]) -> Entries[Robot]:
    """List a project's robots by full name; ``project_id`` None lists the system's."""
    walks = _walks(project_id, page.search)
    return await keyset.fetch(transaction, select(*_columns), Robot, page, robot.c.name, walks=walks, sorts=_SORTS)


async def named(transaction: Transaction, project_id: int | None, names: Collection[str]) -> list[Robot]:
    """List the robots of a project, or of the system, that have exactly one of these full names."""
    here = (robot.c.project_id == project_id) & or_(*(equals(robot.c.name, name) for name in names))
    return [Robot(*row) for row in await transaction.execute(select(*_columns).where(here).order_by(robot.c.name))]


async def total(transaction: Transaction, project_id: int | None, search: str = "") -> Count:
    """Count the robots that `page` lists."""
    return await keyset.count(transaction, select(*_columns), robot.c.name, walks=_walks(project_id, search))


def _walks(project_id: int | None, search: str) -> tuple[Walk, ...]:
    return (Walk((robot.c.project_id == project_id,), has_any([robot.c.name], search)),)


async def change(transaction: Transaction, robot_id: int, **values: object) -> Robot | None:
    """Set columns of a robot; return the changed row, None if it is gone."""
    statement = update(robot).where(robot.c.id == robot_id).values(values).returning(*_columns)
    row = (await transaction.execute(statement)).first()
    if row is None:
        return None
    changed = Robot(*row)
    changes.changed(transaction, changes.account_named(changed.name))
    return changed


async def remove(transaction: Transaction, robot_id: int) -> bool:
    """Remove a robot; return False if it is gone already."""
    await retire(transaction, robot)
    statement = delete(robot).where(robot.c.id == robot_id).returning(robot.c.name)
    name = (await transaction.execute(statement)).scalar()
    if name is None:
        return False
    changes.changed(transaction, changes.account_named(name))
    return True


async def remove_of_project(transaction: Transaction, project_id: int) -> None:
    """Remove all robots of a project."""
    await retire(transaction, robot)
    statement = delete(robot).where(robot.c.project_id == project_id).returning(robot.c.name)
    names = (await transaction.execute(statement)).scalars()
    changes.changed(transaction, *map(changes.account_named, names))


def _hidden(project_id: int) -> str:
    # Nobody can log in by a name with a line break (`app.access.accounts.acceptable`).
    return f"{REMOVED}{project_id}\n"


async def hide_of_project(transaction: Transaction, project_id: int) -> None:
    """Free the names of a project's robots, because it goes to the bin; none of them can log in any more."""
    renamed = literal(_hidden(project_id)) + robot.c.name
    here = select(robot.c.name).where(robot.c.project_id == project_id)
    names = list((await transaction.execute(here)).scalars())
    await transaction.execute(update(robot).where(robot.c.project_id == project_id).values(name=renamed))
    changes.changed(transaction, *map(changes.account_named, names))


async def show_of_project(transaction: Transaction, project_id: int) -> list[str]:
    """Give the robots of a project that was in the bin their names again; return those that are taken by now."""
    hidden, taken = _hidden(project_id), []
    here = (robot.c.project_id == project_id, robot.c.name.startswith(hidden, autoescape=True))
    rows = (await transaction.execute(select(robot.c.id, robot.c.name).where(*here).order_by(robot.c.name))).all()
    for number, spelled in rows:
        name = spelled.removeprefix(hidden)
        if (await transaction.execute(select(robot.c.id).where(robot.c.name == name))).first() is not None:
            taken.append(name)
            await remove(transaction, number)
            continue
        changes.changed(transaction, changes.account_named(name))
        await transaction.execute(update(robot).where(robot.c.id == number).values(name=name))
    return taken


async def ending(
    transaction: Transaction, project_ids: Collection[int], after: float, until: float, limit: int
) -> list[Robot]:
    """List the first enabled robots of some projects that expire between two times, as `expiring` does."""
    found: list[Robot] = []
    for number in sorted(project_ids):
        statement = (
            select(*_columns)
            .where(robot.c.project_id == number, robot.c.expires_at > after, robot.c.expires_at <= until)
            .where(robot.c.disabled.is_(False))
            .order_by(robot.c.expires_at)
            .limit(limit)
        )
        found += [Robot(*row) for row in await transaction.execute(statement)]
    return sorted(found, key=lambda one: one.expires_at or 0.0)[:limit]


async def project_names(transaction: Transaction, ids: Collection[int]) -> dict[int, str]:
    """Return the names of some projects by their ids."""
    rows = await transaction.execute(select(project.c.id, project.c.name).where(project.c.id.in_(ids)))
    return {row.id: row.name for row in rows}


async def unknown_projects(transaction: Transaction, ids: Collection[int]) -> set[int]:
    """Return those of the ids that no project has."""
    found = await transaction.execute(select(project.c.id).where(project.c.id.in_(ids)))
    return set(ids) - set(found.scalars())
