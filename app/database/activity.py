"""Queries on what was pushed lately to some projects, and on what fills a project."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import case, func, select, union_all

from .engine import Transaction
from .keyset import MOST_SEARCHED
from .tables import blob, link, project, repository, tag
from .text import END_OF_NAMES

# Of the newest tags of a repository, so many are read to find one that people gave.
_TAGS_LOOKED = 5
_ATTACHING = "sha256-"


@dataclass(frozen=True, slots=True)
class Push:
    """The newest tag of a repository; ``name`` is the name within the project. Times are Unix seconds."""

    project: str
    name: str
    tag: str
    pushed_at: float


@dataclass(frozen=True, slots=True)
class RepositorySize:
    """The size of a repository's blobs in bytes; ``own_bytes`` are of those that no other repository here has."""

    name: str
    bytes: int
    own_bytes: int
    blobs: int


async def pushed(transaction: Transaction, project_ids: Collection[int], *, looked: int, limit: int) -> list[Push]:
    """List the repositories of some projects to which a tag was pushed last, the latest first.

    Of each project, the ``looked`` repositories that were made last are looked at.
    """
    each = [
        select(repository.c.id, repository.c.name, repository.c.project_id)
        .where(repository.c.project_id == number, ~repository.c.pending, repository.c.name < END_OF_NAMES)
        .order_by(repository.c.created_at.desc(), repository.c.id.desc())
        .limit(looked)
        .subquery()
        for number in sorted(project_ids)
    ]
    if not each:
        return []
    some = union_all(*(select(one) for one in each)).subquery()
    pushed_at = (
        select(tag.c.updated_at)
        .where(tag.c.repository_id == some.c.id)
        .order_by(tag.c.updated_at.desc())
        .limit(1)
        .correlate(some)
        .scalar_subquery()
        .label("pushed_at")
    )
    dated = select(some.c.id, some.c.name, some.c.project_id, pushed_at).subquery()
    statement = (
        select(dated.c.id, project.c.name, dated.c.name)
        .join_from(dated, project, project.c.id == dated.c.project_id)
        .where(dated.c.pushed_at.is_not(None))
        .order_by(dated.c.pushed_at.desc(), dated.c.id)
        .limit(limit)
    )
    rows = (await transaction.execute(statement)).all()
    newest = await _newest_tags(transaction, [row[0] for row in rows])
    return [Push(row[1], row[2], *newest[row[0]]) for row in rows if row[0] in newest]


async def _newest_tags(transaction: Transaction, repository_ids: Sequence[int]) -> dict[int, tuple[str, float]]:
    """Return the newest tag of each repository and its time; one that attaches something only if there is no other."""
    each = [
        select(tag.c.repository_id, tag.c.name, tag.c.updated_at)
        .where(tag.c.repository_id == number)
        .order_by(tag.c.updated_at.desc(), tag.c.name.desc())
        .limit(_TAGS_LOOKED)
        .subquery()
        for number in repository_ids
    ]
    found: dict[int, tuple[str, float]] = {}
    if each:
        rows = (await transaction.execute(union_all(*(select(one) for one in each)))).all()
        for number, name, updated_at in sorted(rows, key=lambda row: (row[1].startswith(_ATTACHING), -row[2])):
            found.setdefault(number, (name, updated_at))
    return found


async def sizes(transaction: Transaction, project_id: int, limit: int) -> tuple[list[RepositorySize], bool]:
    """List the largest repositories of a project by the size of their blobs; say whether all blobs were looked at.

    The first `MOST_SEARCHED` blobs in the order of their digests are looked at.
    """
    looked = (
        select(link.c.repository_id, link.c.digest)
        .where(link.c.project_id == project_id)
        .order_by(link.c.digest)
        .limit(MOST_SEARCHED)
        .subquery()
    )
    places = func.count().over(partition_by=looked.c.digest).label("places")
    each = select(looked.c.repository_id, blob.c.size, places).join_from(looked, blob, blob.c.digest == looked.c.digest)
    one = each.subquery()
    total = func.sum(one.c.size)
    statement = (
        select(
            repository.c.name,
            total,
            func.sum(case((one.c.places == 1, one.c.size), else_=0)),
            func.count(),
            func.sum(func.count()).over(),
        )
        .join_from(one, repository, repository.c.id == one.c.repository_id)
        .where(repository.c.name < END_OF_NAMES, ~repository.c.pending)
        .group_by(repository.c.name)
        .order_by(total.desc(), repository.c.name)
        .limit(limit)
    )
    rows = (await transaction.execute(statement)).all()
    complete = not rows or int(rows[0][4]) < MOST_SEARCHED
    return [RepositorySize(row[0], int(row[1]), int(row[2]), int(row[3])) for row in rows], complete
