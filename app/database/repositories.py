"""Queries on repositories as people see them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)

from . import keyset, projects
from .artifacts import is_top
from .engine import Transaction
from .keyset import MOST_COUNTED, MOST_SEARCHED, Count, Entries, Page, Walk, Walked, few
from .projects import Viewer
from .tables import manifest, project, repository, tag
from .text import END_OF_NAMES, has_any, is_kept


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository by its names; ``name`` is the name within the project."""

    id: int
    project: str
    name: str

    @property
    def full_name(self) -> str:
        return f"{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class Holding:
    """The choice of repositories by a tag or a manifest's digest that begins so."""

    kind: Literal["tag", "digest"]
    begins: str


@dataclass(frozen=True, slots=True)
class RepositoryEntry:
    """A repository as lists show it.

    ``name`` is the name within the project. ``artifacts`` counts the artifacts that
    `app.registry.artifacts.Artifacts.page` lists, up to `keyset.MOST_COUNTED` and one more. ``updated_at`` is the time
    of the last push. Times are in Unix seconds.
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


# Sorts after each character that a tag or a digest may have.
_AFTER = "\x7f"
_artifacts = few(manifest, manifest.c.repository_id == repository.c.id, is_top(), of=repository)
# The newest push is the first entry of an index; max() would not be read from it for each row.
_pushed_at = (
    select(manifest.c.created_at)
    .where(manifest.c.repository_id == repository.c.id)
    .order_by(manifest.c.created_at.desc())
    .limit(1)
    .correlate(repository)
    .scalar_subquery()
)
_updated_at = func.coalesce(_pushed_at, repository.c.created_at)
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
        _updated_at,
    )
    .join_from(repository, project, project.c.id == repository.c.project_id)
    .where(is_kept(repository.c.name), ~repository.c.pending)
)
_SORTS: keyset.Sorts = {
    "name": keyset.KEY,
    "creation_time": (repository.c.created_at, repository.c.id),
    "pull_count": (repository.c.pull_count, repository.c.id),
    "update_time": _updated_at,
    "id": repository.c.id,
    "description": repository.c.description,
}
_FULL_NAME = (project.c.name, repository.c.name)
# The fields by which the repositories of all projects can be sorted, and their columns.
_SHOWN = {"id": "id", "creation_time": "created_at", "pull_count": "pull_count", "description": "description"}


async def page(transaction: Transaction, project_id: int, page: Page[str]) -> Entries[RepositoryEntry]:
    """List a project's repositories by name."""
    walks = _walks(project_id, page.search)
    return await keyset.fetch(
        transaction, _entries, RepositoryEntry, page, repository.c.name, walks=walks, sorts=_SORTS
    )


async def total(transaction: Transaction, project_id: int, search: str = "") -> Count:
    """Count the repositories that `page` lists."""
    return await keyset.count(transaction, _entries, repository.c.name, walks=_walks(project_id, search))


async def search(
    transaction: Transaction, viewer: Viewer, page: Page[tuple[str, str]], holding: Holding | None = None
) -> Entries[RepositoryEntry]:
    """List the repositories of the projects that a viewer may see, by project name and repository name.

    ``holding``: only those that hold such a tag or manifest.
    """
    looks = holding or page.search or len(page.sort) > 1 or any(field != "name" for field, _ in page.sort)
    walked = _by_full_name(transaction, page, MOST_SEARCHED if looks else page.offset + page.limit)
    walks = await _seen(transaction, viewer, walked, page.search, holding)
    sorts = {"name": keyset.KEY, **(walked.sorts or {})}
    return await keyset.fetch(
        transaction, _entries, RepositoryEntry, page, *_FULL_NAME, walks=walks, walked=walked, sorts=sorts
    )


async def found(transaction: Transaction, viewer: Viewer, text: str) -> Count:
    """Count the repositories that `search` lists."""
    walked = _by_full_name(transaction, Page(0), MOST_SEARCHED if text else MOST_COUNTED + 1)
    walks = await _seen(transaction, viewer, walked, text)
    return await keyset.count(transaction, walked.statement, *walked.columns, walks=walks)


async def catalogue(
    transaction: Transaction, after: tuple[str, str], limit: int, *, everything: bool
) -> list[tuple[str, str, Mapping[str, Any]]]:
    """List repositories that hold a manifest, after ``after``, of public projects or of all.

    Each is the project's name, the repository's name and the project's settings.
    """
    if not keyset.is_storable(after):
        return []
    page = Page(limit, after)
    holds = exists().where(manifest.c.repository_id == repository.c.id)
    walked = _by_full_name(transaction, page, limit, holds)
    statement = walked.statement.add_columns(project.c.settings).where(tuple_(*walked.columns) > tuple_(*after))
    if not everything:
        statement = statement.where(project.c.public)
    rows = await transaction.execute(statement.order_by(*walked.columns).limit(limit))
    return [(row[0], row[1], row[2]) for row in rows]


def _by_full_name(
    transaction: Transaction, page: Page[tuple[str, str]], most: int, *conditions: ColumnElement[bool]
) -> Walked:
    """Return the walk through all repositories by full name, at most ``most`` of each project.

    PostgreSQL sorts the repositories of a project before it gives the first one, so it is given no more of each.
    """
    down, end = keyset.goes_down(page), page.after if page.before is None else page.before
    ordered = repository.c.name.desc() if down else repository.c.name
    is_sqlite = transaction.dialect.name == "sqlite"
    # So spelled, SQLite does not see that `ix_repository_shown` fits, and walks along the projects' names.
    is_shown = repository.c.pending.is_(False) if is_sqlite else ~repository.c.pending
    here = [repository.c.project_id == project.c.id, repository.c.name < END_OF_NAMES, is_shown, *conditions]
    whole = []
    if end is not None and keyset.is_storable(end):
        # The comparison of pairs implies these conditions, but with them the walk begins there.
        if down:
            whole.append(project.c.name <= end[0])
            here.append(or_(project.c.name < end[0], repository.c.name < end[1]))
        else:
            whole.append(project.c.name >= end[0])
            here.append(or_(project.c.name > end[0], repository.c.name > end[1]))
    if is_sqlite:
        joined = project.join(repository, and_(*here))
        statement = select(*_FULL_NAME).select_from(joined).where(*whole)
        sorts = {field: getattr(repository.c, name) for field, name in _SHOWN.items()} | {"update_time": _updated_at}
        return Walked(statement, _FULL_NAME, repository.c.id, repository.c.id, sorts)
    shown = [*(getattr(repository.c, name) for name in _SHOWN.values()), _updated_at.label("updated_at")]
    # Names alone come from an index.
    read = shown if page.sort else [repository.c.id]
    some = select(repository.c.name, *read).where(*here).order_by(ordered).limit(most).lateral("some")
    columns = (project.c.name, some.c.name)
    statement = select(*columns).select_from(project.join(some, true())).where(*whole)
    fields = {**_SHOWN, "update_time": "updated_at"} if page.sort else {}
    sorts = {field: some.c[name] for field, name in fields.items()}
    return Walked(statement, columns, some.c.id, repository.c.id, sorts)


async def find(transaction: Transaction, project_id: int, name: str) -> Repository | None:
    """Find a repository by its name within the project."""
    named = select(repository.c.id, project.c.name, repository.c.name).join_from(
        repository, project, project.c.id == repository.c.project_id
    )
    here = (repository.c.project_id == project_id) & (repository.c.name == name) & (repository.c.name < END_OF_NAMES)
    statement = named.where(here, ~repository.c.pending)
    row = (await transaction.execute(statement)).first()
    return Repository(*row) if row else None


async def entry(transaction: Transaction, project_id: int, name: str) -> RepositoryEntry | None:
    """Read a repository, as `page` lists it, by its name within the project."""
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


async def held(transaction: Transaction, repository_ids: Collection[int], holding: Holding) -> dict[int, str]:
    """Return the first tag or digest of each of these repositories that ``holding`` means, at most 100 repositories."""
    column = _held_column(holding)
    each = [
        select(literal(number).label("id"), column)
        .where(*_holds(holding, literal(number)))
        .order_by(column)
        .limit(1)
        .subquery()
        for number in sorted(repository_ids)
    ]
    if not each:
        return {}
    return {row[0]: row[1] for row in await transaction.execute(union_all(*(select(one) for one in each)))}


def _held_column(holding: Holding) -> ColumnElement[str]:
    return tag.c.name if holding.kind == "tag" else manifest.c.digest


def _holds(holding: Holding, repository_id: ColumnElement[int]) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on a tag or a manifest of a repository, which its primary key finds."""
    table, column = (tag, tag.c.name) if holding.kind == "tag" else (manifest, manifest.c.digest)
    return table.c.repository_id == repository_id, column >= holding.begins, column < holding.begins + _AFTER


async def _seen(
    transaction: Transaction, viewer: Viewer, walked: Walked, text: str, holding: Holding | None = None
) -> tuple[Walk, ...]:
    project_name, name = walked.columns
    matches = has_any([project_name + "/" + name], text)
    if holding is not None:
        column = _held_column(holding)
        held_one = select(column).where(*_holds(holding, walked.identity)).limit(1).scalar_subquery().is_not(None)
        matches = held_one if matches is None else and_(matches, held_one)
    return tuple(Walk(way.where, matches) for way in await projects.walks_of(transaction, viewer))


def _walks(project_id: int, search: str) -> tuple[Walk, ...]:
    return (Walk((repository.c.project_id == project_id,), has_any([repository.c.name], search)),)
