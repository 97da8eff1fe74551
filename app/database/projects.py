"""Queries on projects and the repositories in them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, exists, select, tuple_, update

from .engine import Database, PointQuery, Transaction, insert
from .tables import manifest, project, repository


@dataclass(frozen=True, slots=True)
class Project:
    """A project's row. ``upstream`` names the upstream it mirrors, None where it hosts; sizes in bytes."""

    id: int
    name: str
    public: bool
    upstream: str | None
    settings: Mapping[str, Any]
    used_bytes: int


_columns = (
    project.c.id,
    project.c.name,
    project.c.public,
    project.c.upstream,
    project.c.settings,
    project.c.used_bytes,
)
_by_name = PointQuery(
    select(project.c.id, project.c.public, project.c.upstream).where(project.c.name == bindparam("name"))
)
_repository_id = PointQuery(
    select(repository.c.id).where(
        repository.c.project_id == bindparam("project"), repository.c.name == bindparam("name")
    )
)
_resolve = PointQuery(
    select(project.c.id, project.c.public, project.c.upstream, repository.c.id)
    .join_from(
        project,
        repository,
        and_(repository.c.project_id == project.c.id, repository.c.name == bindparam("repository")),
        isouter=True,
    )
    .where(project.c.name == bindparam("project"))
)


async def head(database: Database, name: str) -> tuple[int, bool, str | None] | None:
    """Answer what access asks of a project: its id, whether it is public, its upstream."""
    row = await database.point(_by_name, name)
    return (int(row[0]), bool(row[1]), row[2]) if row else None


async def resolve(
    database: Database, name: str, repository_name: str
) -> tuple[int, bool, str | None, int | None] | None:
    """Find a project's id, publicity and upstream, and the id of a repository in it (None: no such repository)."""
    row = await database.point(_resolve, repository_name, name)
    return (row[0], bool(row[1]), row[2], row[3]) if row else None


async def repository_id(database: Database, project_id: int, name: str) -> int | None:
    """Find a repository's id by its name within the project."""
    row = await database.point(_repository_id, project_id, name)
    return int(row[0]) if row else None


async def find(transaction: Transaction, name: str) -> Project | None:
    """Read a project's whole row."""
    row = (await transaction.execute(select(*_columns).where(project.c.name == name))).first()
    return Project(*row) if row else None


async def mirrors(transaction: Transaction) -> list[Project]:
    """List the projects that mirror an upstream; there are as many as operators made, a handful."""
    rows = await transaction.execute(select(*_columns).where(project.c.upstream.is_not(None)).order_by(project.c.id))
    return [Project(*row) for row in rows]


async def create(
    transaction: Transaction, name: str, *, public: bool, upstream: str | None, settings: Mapping[str, Any]
) -> bool:
    """Make a project unless one of that name is there; answers whether it was made."""
    statement = (
        insert(transaction, project)
        .values(name=name, public=public, upstream=upstream, settings=dict(settings), created_at=time.time())
        .on_conflict_do_nothing()
    )
    return bool((await transaction.execute(statement)).rowcount)


async def change(transaction: Transaction, name: str, **values: object) -> bool:
    """Set columns of a project; answers whether it is there."""
    return bool((await transaction.execute(update(project).where(project.c.name == name).values(values))).rowcount)


async def charge(transaction: Transaction, project_id: int, size: int) -> None:
    """Add to (or with a negative size take off) what the project's blobs take up."""
    await transaction.execute(
        update(project).where(project.c.id == project_id).values(used_bytes=project.c.used_bytes + size)
    )


async def ensure_repository(transaction: Transaction, project_id: int, name: str) -> int:
    """Find a repository or make it; answers its id."""
    statement = insert(transaction, repository).values(project_id=project_id, name=name, created_at=time.time())
    await transaction.execute(statement.on_conflict_do_nothing())
    found = select(repository.c.id).where(repository.c.project_id == project_id, repository.c.name == name)
    return int((await transaction.execute(found)).scalar_one())


async def catalogue(
    transaction: Transaction, after: tuple[str, str], limit: int, *, everything: bool
) -> list[tuple[str, str]]:
    """List (project, repository) pairs that hold a manifest, by key, past ``after``; public projects or all."""
    statement = (
        select(project.c.name, repository.c.name)
        .join_from(project, repository, repository.c.project_id == project.c.id)
        .where(
            # Says nothing new, but lets the walk begin at that project.
            project.c.name >= after[0],
            tuple_(project.c.name, repository.c.name) > tuple_(*after),
            exists().where(manifest.c.repository_id == repository.c.id),
        )
        .order_by(project.c.name, repository.c.name)
        .limit(limit)
    )
    if not everything:
        statement = statement.where(project.c.public)
    return [(row[0], row[1]) for row in await transaction.execute(statement)]
