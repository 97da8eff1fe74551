"""Queries on projects and the repositories in them.

The WHERE of a list holds the viewer's rights: a page is cut from the projects that the viewer may see.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    false,
    func,
    literal,
    or_,
    select,
    true,
    union,
    update,
)

from . import changes, keyset
from .accounts import is_named
from .engine import Database, PointQuery, Transaction, insert
from .keyset import MOST_COUNTED, Count, Entries, Page, Walk
from .tables import account, member, project, repository, robot
from .text import END_OF_NAMES, equals, has_any, is_kept


@dataclass(frozen=True, slots=True)
class Project:
    """A project's row. ``upstream`` names the upstream that it mirrors, None if it hosts images.

    ``quota_bytes`` is None for no limit. ``has_credential`` says whether a credential for the upstream is stored. Sizes
    are in bytes, ``created_at`` in Unix seconds.
    """

    id: int
    name: str
    public: bool
    upstream: str | None
    settings: Mapping[str, Any]
    used_bytes: int
    created_at: float
    owner_id: int | None
    description: str
    quota_bytes: int | None
    has_credential: bool
    retention_id: int | None = None


@dataclass(frozen=True, slots=True)
class Viewer:
    """The person or robot that a list is for: ``everything`` is set for administrators and robots.

    ``only`` holds the project ids that a limited key may see, None without such a limit. Memberships are found by
    ``account_id`` and ``groups``.
    """

    everything: bool = False
    account_id: int | None = None
    groups: frozenset[str] = frozenset()
    only: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """The choice among the projects that a viewer may see; None chooses all. ``mine``: they own it or are a member."""

    name: str | None = None
    public: bool | None = None
    mine: bool = False
    # True for projects that mirror an upstream, False for those that host images.
    mirrors: bool | None = None
    # The owner's user name.
    owner: str | None = None


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class ProjectEntry:
    """A project as lists show it; ``role`` is the viewer's highest role (`app.access.roles.Role`), None for none."""

    project: Project
    owner: str | None
    role: str | None
    repositories: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a project's content; ``members`` counts members by role."""

    project: Project
    owner: str | None
    repositories: int
    robots: int
    members: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Statistics:
    """The counts of what a viewer may see; ``used_bytes`` is for administrators, None for others.

    ``counted_at`` is the time of an earlier count (Unix seconds), None if it was counted just now.
    """

    public_projects: int
    private_projects: int
    public_repositories: int
    private_repositories: int
    used_bytes: int | None
    counted_at: float | None = None


_columns = (
    project.c.id,
    project.c.name,
    project.c.public,
    project.c.upstream,
    project.c.settings,
    project.c.used_bytes,
    project.c.created_at,
    project.c.owner_id,
    project.c.description,
    project.c.quota_bytes,
    project.c.upstream_credential.is_not(None),
    project.c.retention_id,
)
_owned = project.alias("owned")
# A person who is a member of more projects than this finds a page of them soon, on the way through all projects.
_MOST_NUMBERS = 1000
_by_name = PointQuery(
    select(project.c.id, project.c.public, project.c.upstream).where(project.c.name == bindparam("name")),
    scope=changes.project_named,
)
_repository_id = PointQuery(
    select(repository.c.id).where(
        repository.c.project_id == bindparam("project"), repository.c.name == bindparam("name")
    ),
    scope=lambda project_id, _: changes.project(project_id),
)
_resolve = PointQuery(
    select(
        project.c.id,
        project.c.public,
        project.c.upstream,
        repository.c.id,
        project.c.created_at,
        # As text, because the two drivers differ in what they make of JSON.
        cast(project.c.settings, Text),
        project.c.pulls_noted_until,
    )
    .join_from(
        project,
        repository,
        and_(repository.c.project_id == project.c.id, repository.c.name == bindparam("repository")),
        isouter=True,
    )
    .where(project.c.name == bindparam("project")),
    scope=lambda _, name: changes.project_named(name),
    # The first push to a repository changes nothing else, so it is not told.
    keeps=lambda row: row[3] is not None,
)


async def head(database: Database, name: str) -> tuple[int, bool, str | None] | None:
    """Return a project's id, whether it is public, and its upstream; None if there is no such project."""
    row = await database.point(_by_name, name)
    return (int(row[0]), bool(row[1]), row[2]) if row else None


async def resolve(
    database: Database, name: str, repository_name: str
) -> tuple[int, bool, str | None, int | None, float, Mapping[str, Any], float | None] | None:
    """Find a project and a repository in it by name.

    Return the project's id, whether it is public, its upstream, the repository's id, the project's creation time (Unix
    seconds), and its settings. The last one is until when its pulls are written before their answers
    (`retention.note_pulls`). The repository's id is None if there is no such repository.
    """
    row = await database.point(_resolve, repository_name, name)
    return (row[0], bool(row[1]), row[2], row[3], row[4], _settings(row[5]), row[6]) if row else None


@lru_cache(maxsize=1024)
def _settings(text: str) -> Mapping[str, Any]:
    """Read settings as a point query finds them; pulls find the same few again and again."""
    return MappingProxyType(json.loads(text))


async def repository_id(database: Database, project_id: int, name: str) -> int | None:
    """Find a repository's id by its name within the project."""
    row = await database.point(_repository_id, project_id, name)
    return int(row[0]) if row else None


async def find(transaction: Transaction, name: str) -> Project | None:
    """Read a project's whole row."""
    row = (await transaction.execute(select(*_columns).where(project.c.name == name))).first()
    return Project(*row) if row else None


async def get(transaction: Transaction, project_id: int) -> Project | None:
    """Read a project's whole row by its id."""
    here = (project.c.id == project_id) & (project.c.name < END_OF_NAMES)
    row = (await transaction.execute(select(*_columns).where(here))).first()
    return Project(*row) if row else None


async def mirrors(transaction: Transaction) -> list[Project]:
    """List all projects that mirror an upstream; operators make only a handful of them."""
    here = project.c.upstream.is_not(None) & (project.c.name < END_OF_NAMES)
    rows = await transaction.execute(select(*_columns).where(here).order_by(project.c.id))
    return [Project(*row) for row in rows]


async def create(
    transaction: Transaction,
    name: str,
    *,
    public: bool,
    upstream: str | None,
    settings: Mapping[str, Any],
    **more: object,
) -> bool:
    """Make a project unless the name is taken; return whether it was made."""
    values = {"name": name, "public": public, "upstream": upstream, "settings": dict(settings), **more}
    statement = insert(transaction, project).values(**values, created_at=time.time()).on_conflict_do_nothing()
    return bool((await transaction.execute(statement)).rowcount)


async def change(transaction: Transaction, name: str, **values: object) -> bool:
    """Set columns of a project; return whether it exists."""
    changes.changed(transaction, changes.project_named(name))
    return bool((await transaction.execute(update(project).where(project.c.name == name).values(values))).rowcount)


async def set_owner(transaction: Transaction, project_id: int, account_id: int) -> None:
    """Give a project to somebody."""
    await transaction.execute(update(project).where(project.c.id == project_id).values(owner_id=account_id))


async def names(transaction: Transaction, project_ids: Collection[int]) -> list[str]:
    """List the names of some projects."""
    here = select(project.c.name).where(project.c.id.in_(project_ids)).order_by(project.c.name)
    return list((await transaction.execute(here)).scalars())


async def owned(transaction: Transaction, account_id: int) -> int | None:
    """Count a person's projects; return None if there is no such person.

    The account is locked, so that no other transaction makes them a project before this one ends.
    """
    person = select(account.c.id).where(account.c.id == account_id).with_for_update()
    if (await transaction.execute(person)).first() is None:
        return None
    theirs = (project.c.owner_id == account_id) & (project.c.name < END_OF_NAMES)
    return await keyset.exactly(transaction, select(func.count()).select_from(project).where(theirs))


async def ensure_repository(transaction: Transaction, project_id: int, name: str, *, pending: bool = False) -> int:
    """Find a repository or make it; return its id. People do not see a ``pending`` one before its first manifest."""
    values = {"project_id": project_id, "name": name, "created_at": time.time(), "pending": pending}
    await transaction.execute(insert(transaction, repository).values(values).on_conflict_do_nothing())
    found = select(repository.c.id).where(repository.c.project_id == project_id, repository.c.name == name)
    return int((await transaction.execute(found)).scalar_one())


async def show_repository(transaction: Transaction, repository_id: int) -> None:
    """Let people see a repository from now on."""
    here = (repository.c.id == repository_id) & repository.c.pending
    await transaction.execute(update(repository).where(here).values(pending=False))


class Kept(NamedTuple):
    """A project that is not being removed: whether immutability rules are enabled, and one of its repositories.

    ``pending`` is None if there is no such repository, or it is being removed; True if people do not see it yet.
    """

    immutable: bool
    pending: bool | None


async def keep(transaction: Transaction, project_id: int, repository_id: int | None) -> Kept | None:
    """Lock a project and a repository in it, so that the answer stays true until the transaction ends.

    Return None if there is no such project, or it is being removed.
    """
    here = (project.c.id == project_id) & (project.c.name < END_OF_NAMES)
    if repository_id is not None:
        # One question instead of two, because each one waits for a turn of a busy event loop.
        there = (repository.c.id == repository_id) & (repository.c.name < END_OF_NAMES)
        both = select(project.c.immutable, repository.c.pending).join_from(
            project, repository, repository.c.project_id == project.c.id
        )
        both = both.where(here, there).with_for_update(key_share=True, read=True)
        if (found := (await transaction.execute(both)).first()) is not None:
            return Kept(*found)
    alone = select(project.c.immutable).where(here).with_for_update(key_share=True, read=True)
    row = (await transaction.execute(alone)).first()
    return None if row is None else Kept(row[0], None)


_SORTS: keyset.Sorts = {
    "name": keyset.KEY,
    "creation_time": (project.c.created_at, project.c.id),
    "project_id": project.c.id,
    "owner_name": account.c.username,
    "description": project.c.description,
}
_repositories = keyset.few(
    repository,
    repository.c.project_id == project.c.id,
    repository.c.name < END_OF_NAMES,
    ~repository.c.pending,
    of=project,
)
_entries = select(*_columns, account.c.username, _repositories).join_from(
    project, account, account.c.id == project.c.owner_id, isouter=True
)


async def page(
    transaction: Transaction, viewer: Viewer, page: Page[str], wanted: Filter
) -> Entries[tuple[Project, str | None, int]]:
    """List projects by name, with the owner's name and the number of repositories up to `keyset.MOST_COUNTED`."""
    walks = await walks_of(transaction, viewer, wanted, page.search)
    return await keyset.fetch(transaction, _entries, _entry, page, project.c.name, walks=walks, sorts=_SORTS)


def _entry(*row: Any) -> tuple[Project, str | None, int]:
    return Project(*row[:-2]), row[-2], row[-1]


async def total(transaction: Transaction, viewer: Viewer, wanted: Filter, search: str) -> Count:
    """Count the projects that `page` lists."""
    walks = await walks_of(transaction, viewer, wanted, search)
    return await keyset.count(transaction, _entries, project.c.name, walks=walks)


async def statistics(transaction: Transaction, viewer: Viewer) -> Statistics:
    """Count the projects and repositories that a viewer may see, each up to `keyset.MOST_COUNTED` and one more.

    The bytes are those of at most as many projects.
    """
    numbers = []
    for public in (True, False):
        some = [
            select(project.c.id, project.c.used_bytes).where(*walk.where).limit(MOST_COUNTED + 1).subquery()
            for walk in await walks_of(transaction, viewer, Filter(public=public))
        ]
        seen = union(*(select(each) for each in some)).subquery()
        held = (
            select(literal(1))
            .join_from(seen, repository, repository.c.project_id == seen.c.id)
            .where(repository.c.name < END_OF_NAMES, ~repository.c.pending)
            .limit(MOST_COUNTED + 1)
            .subquery()
        )
        counted = select(func.count(), func.coalesce(func.sum(seen.c.used_bytes), 0)).select_from(seen)
        count, used = (await transaction.execute(counted)).one()
        repositories = await keyset.exactly(transaction, select(func.count()).select_from(held))
        numbers.append((min(count, MOST_COUNTED + 1), repositories, int(used)))
    (public, in_public, used), (private, in_private, used_privately) = numbers
    return Statistics(public, private, in_public, in_private, used + used_privately)


async def census(transaction: Transaction) -> Statistics:
    """Count all projects, repositories and bytes. This reads whole tables, so no request waits for it."""
    of_projects = select(project.c.public, func.count(), func.sum(project.c.used_bytes))
    here = of_projects.where(project.c.name < END_OF_NAMES).group_by(project.c.public)
    projects = {bool(row[0]): (row[1], int(row[2])) for row in await transaction.execute(here)}
    of_repositories = (
        select(project.c.public, func.count())
        .join_from(project, repository, repository.c.project_id == project.c.id)
        .where(project.c.name < END_OF_NAMES, repository.c.name < END_OF_NAMES, ~repository.c.pending)
        .group_by(project.c.public)
    )
    held = {bool(row[0]): row[1] for row in await transaction.execute(of_repositories)}
    (public, used), (private, used_privately) = projects.get(True, (0, 0)), projects.get(False, (0, 0))
    counts = public, private, held.get(True, 0), held.get(False, 0)
    return Statistics(*counts, used + used_privately, time.time())


async def walks_of(
    transaction: Transaction, viewer: Viewer, wanted: Filter = EVERYTHING, search: str = ""
) -> tuple[Walk, ...]:
    """Return the ways to the projects that a viewer may see: public ones, and their own within their key's limits.

    Each way has an index. One condition for both would have to be asked of every private project of others.
    """
    chosen, matches = [is_kept(project.c.name), *_wanted(wanted)], has_any([project.c.name], search)
    if wanted.owner is not None:
        owner = select(account.c.id).where(is_named(wanted.owner)).scalar_subquery()
        chosen.append(await _among(transaction, select(_owned.c.id).where(_owned.c.owner_id == owner)))
    known = viewer.account_id is not None or viewer.groups
    joined = select(member.c.project_id).where(_membership(viewer))
    theirs: list[ColumnElement[bool]] = []
    if not viewer.everything:
        theirs.append(await _among(transaction, joined) if known else false())
    if viewer.only is not None:
        theirs.append(project.c.id.in_(viewer.only))
    if wanted.mirrors:
        # Operators make a handful of them, and an index has them alone.
        seen = or_(project.c.public, and_(*theirs)) if theirs else true()
        return (Walk((*chosen, seen), matches),)
    if wanted.mine:
        # They are few, and walked by themselves.
        owned = select(_owned.c.id).where(_owned.c.owner_id == viewer.account_id)
        mine = await _among(transaction, union(joined, owned))
        seen = or_(project.c.public, and_(*theirs)) if theirs else true()
        return (Walk((*chosen, mine, seen), matches),)
    if not theirs:
        return (Walk(tuple(chosen), matches),)
    public = Walk((*chosen, project.c.public), matches)
    return (public, Walk((*chosen, *theirs), matches)) if known or viewer.everything else (public,)


async def _among(transaction: Transaction, ids: Select[Any] | CompoundSelect[Any]) -> ColumnElement[bool]:
    """Return the condition that a project is one of ``ids``: as numbers, if they are few, so that they are looked up.

    Databases would rather walk through all projects in the list's order and look for each of them in ``ids``.
    """
    found = (await transaction.execute(ids.limit(_MOST_NUMBERS + 1))).scalars().all()
    return project.c.id.in_(sorted(set(found)) if len(found) <= _MOST_NUMBERS else ids)


def _membership(viewer: Viewer) -> ColumnElement[bool]:
    by_group = member.c.group_name.in_(sorted(viewer.groups))
    return or_(member.c.account_id == viewer.account_id, by_group) if viewer.account_id is not None else by_group


def _wanted(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.name is not None:
        conditions.append(equals(project.c.name, wanted.name))
    if wanted.public is not None:
        # Spelled as the index of public projects is; a comparison with a parameter would not use it.
        conditions.append(project.c.public if wanted.public else ~project.c.public)
    if wanted.mirrors is not None:
        conditions.append(project.c.upstream.is_not(None) if wanted.mirrors else project.c.upstream.is_(None))
    return conditions


async def roles(transaction: Transaction, viewer: Viewer, project_ids: Collection[int]) -> dict[int, list[str]]:
    """List the roles that a viewer has in each of the projects: their own and their groups'."""
    found: dict[int, list[str]] = {}
    statement = select(member.c.project_id, member.c.role).where(
        member.c.project_id.in_(project_ids), _membership(viewer)
    )
    for project_id, role in await transaction.execute(statement):
        found.setdefault(project_id, []).append(role)
    return found


async def summary(transaction: Transaction, project_id: int) -> Summary | None:
    """Count the content of a project; return None if there is no such project."""
    statement = _entries.where(project.c.id == project_id, project.c.name < END_OF_NAMES)
    row = (await transaction.execute(statement)).first()
    if row is None:
        return None
    robots = select(keyset.few(robot, robot.c.project_id == project.c.id, of=project)).where(project.c.id == project_id)
    some = select(member.c.role).where(member.c.project_id == project_id).limit(MOST_COUNTED + 1).subquery()
    by_role = select(some.c.role, func.count()).group_by(some.c.role)
    return Summary(
        Project(*row[:-2]),
        owner=row[-2],
        repositories=row[-1],
        robots=(await transaction.execute(robots)).scalar_one(),
        members={row[0]: row[1] for row in await transaction.execute(by_role)},
    )


async def upstream_account(transaction: Transaction, project_id: int) -> tuple[str | None, bool]:
    """Read a mirror's credential for its upstream, and whether it may use the configured accounts without one.

    The credential is encrypted as it was stored, None if there is none. A public mirror may use the accounts, because
    it shows only what anybody may see. A private one may if operators made it.
    """
    may_use = or_(project.c.public, project.c.uses_configured_account)
    statement = select(project.c.upstream_credential, may_use).where(project.c.id == project_id)
    row = (await transaction.execute(statement)).first()
    return (row[0], bool(row[1])) if row else (None, False)


async def mark_as_configured(transaction: Transaction, name: str, *, public: bool, upstream: str | None) -> None:
    """Let a project that is as the configuration made it use the configured accounts of its upstream."""
    here = (project.c.name == name) & project.c.owner_id.is_(None)
    same = (project.c.upstream == upstream) & (project.c.public == public)
    await transaction.execute(update(project).where(here, same).values(uses_configured_account=True))
