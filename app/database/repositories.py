"""Queries on repositories as people see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select, update

from . import keyset, projects
from .artifacts import is_top
from .engine import Transaction
from .keyset import Order, Page
from .projects import Viewer
from .tables import manifest, project, repository
from .text import END_OF_NAMES, has


@dataclass(frozen=True, slots=True)
class RepositoryEntry:
    """A repository as lists show it.

    ``name`` is the name within the project. ``artifacts`` counts the artifacts that
    `app.registry.artifacts.Artifacts.page` lists. ``updated_at`` is the time of the last push. Times are in Unix
    seconds.
    """

    id: int
    project_id: int
    project: str
    name: str
    description: str
    artifacts: int
    pulls: int
    created_at: float
    updated_at: float

    @property
    def full_name(self) -> str:
        return f"{self.project}/{self.name}"


_artifacts = (
    select(func.count()).select_from(manifest).where(manifest.c.repository_id == repository.c.id, is_top())
).scalar_subquery()
_pushed_at = (
    select(func.max(manifest.c.created_at)).where(manifest.c.repository_id == repository.c.id).scalar_subquery()
)
_entries = (
    select(
        repository.c.id,
        repository.c.project_id,
        project.c.name,
        repository.c.name,
        repository.c.description,
        _artifacts,
        repository.c.pull_count,
        repository.c.created_at,
        func.coalesce(_pushed_at, repository.c.created_at),
    )
    .join_from(repository, project, project.c.id == repository.c.project_id)
    .where(repository.c.name < END_OF_NAMES)
)
_ORDERS: Mapping[Order, tuple[ColumnElement[Any], ...]] = {
    "created": (repository.c.created_at, repository.c.id),
    "-created": (repository.c.created_at.desc(), repository.c.id.desc()),
    "pulls": (repository.c.pull_count, repository.c.id),
    "-pulls": (repository.c.pull_count.desc(), repository.c.id.desc()),
}


async def page(transaction: Transaction, project_id: int, page: Page[str]) -> list[RepositoryEntry]:
    """List a project's repositories by name."""
    statement = _searched(_entries, project_id, page.search)
    return await keyset.fetch(transaction, statement, RepositoryEntry, page, repository.c.name, orders=_ORDERS)


async def total(transaction: Transaction, project_id: int, search: str = "") -> int:
    """Count all repositories that `page` lists."""
    counted = select(func.count()).select_from(repository).where(repository.c.name < END_OF_NAMES)
    return await keyset.count(transaction, _searched(counted, project_id, search))


async def search(transaction: Transaction, viewer: Viewer, page: Page[tuple[str, str]]) -> list[RepositoryEntry]:
    """List the repositories of the projects that a viewer may see, by project name and repository name."""
    statement = _seen(_entries, viewer, page.search)
    return await keyset.fetch(transaction, statement, RepositoryEntry, page, project.c.name, repository.c.name)


async def found(transaction: Transaction, viewer: Viewer, text: str) -> int:
    """Count all repositories that `search` lists."""
    counted = (
        select(func.count())
        .select_from(repository)
        .join(project, project.c.id == repository.c.project_id)
        .where(repository.c.name < END_OF_NAMES)
    )
    return await keyset.count(transaction, _seen(counted, viewer, text))


async def find(transaction: Transaction, project_id: int, name: str) -> RepositoryEntry | None:
    """Read a repository by its name within the project."""
    statement = _entries.where(repository.c.project_id == project_id, repository.c.name == name)
    row = (await transaction.execute(statement)).first()
    return RepositoryEntry(*row) if row else None


async def describe(transaction: Transaction, repository_id: int, description: str) -> bool:
    """Set a repository's description; return False if it is gone."""
    here = (repository.c.id == repository_id) & (repository.c.name < END_OF_NAMES)
    return bool((await transaction.execute(update(repository).where(here).values(description=description))).rowcount)


async def add_pulls(transaction: Transaction, pulls: Mapping[int, int]) -> None:
    """Add to the pull counts; ``pulls`` maps repository ids to numbers of pulls."""
    if pulls:
        statement = (
            update(repository)
            .where(repository.c.id == bindparam("r"))
            .values(pull_count=repository.c.pull_count + bindparam("n"))
        )
        await transaction.execute(statement, [{"r": r, "n": n} for r, n in sorted(pulls.items())])


def _seen(statement: Select[Any], viewer: Viewer, text: str) -> Select[Any]:
    statement = statement.where(projects.visible(viewer))
    return statement.where(has(project.c.name + "/" + repository.c.name, text)) if text else statement


def _searched(statement: Select[Any], project_id: int, search: str) -> Select[Any]:
    statement = statement.where(repository.c.project_id == project_id)
    return statement.where(has(repository.c.name, search)) if search else statement
