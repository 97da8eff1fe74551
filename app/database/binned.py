"""Queries on the bin: what was deleted within the last days, and can be restored.

A row in the bin has a name that nobody can type (`text.REMOVED`), as one that is being removed. So no pull, list or
mount finds it. ``deleted_at`` tells the two apart:

    seen ── deleted ──► in the bin ── its days are over, or somebody empties it ──► being removed (`removals`)
      ▲                     │           deleted_at becomes NULL
      └────── restored ─────┘

A project or a repository is renamed. An artifact is copied, with all that belongs to it, into a repository of its own
in the same project. So an entry can be restored even if the rest of its repository is gone. The project is charged once
for a blob, so the copy costs its rows only.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Subquery, Table, delete, exists, func, literal, select, union_all, update

from app.oci.digest import Digest
from app.oci.reference import spelled

from . import artifacts, blobs, changes, keyset, manifests, quotas, retained
from .engine import Transaction, insert
from .ids import retire
from .keyset import MOST_COUNTED, Count, Entries, Page, Walk
from .tables import blob, link, manifest, manifest_label, part, project, repository, review, tag
from .text import REMOVED, has_any

# SQLite takes 500 SELECTs in one statement.
_AT_ONCE = 100
_TAGS_SHOWN = 20
_OUT: dict[str, Any] = {"deleted_at": None, "deleted_by": None, "old_name": None}


@dataclass(frozen=True, slots=True)
class Entry:
    """A repository in the bin, or an artifact if ``digest`` is set; ``repository`` is the name within the project.

    ``deleted_by`` is a principal's subject, ``deleted_at`` in Unix seconds. ``tags`` are the artifact's first ones.
    """

    id: int
    project_id: int
    repository: str
    digest: Digest | None
    deleted_at: float
    deleted_by: str
    tags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return its place in a list, which `app.projects.checks.position` parses."""
        return f"{self.deleted_at!r},{self.id}"

    @property
    def name(self) -> str:
        """Return its old address within the project."""
        return self.repository if self.digest is None else spelled(self.repository, self.digest)


@dataclass(frozen=True, slots=True)
class DeletedProject:
    """A project in the bin; ``name`` is the one that it had. Times in Unix seconds, sizes in bytes."""

    id: int
    name: str
    public: bool
    owner_id: int | None
    used_bytes: int
    deleted_at: float
    deleted_by: str

    @property
    def key(self) -> str:
        """Return its place in a list, which `app.projects.checks.position` parses."""
        return f"{self.deleted_at!r},{self.id}"


@dataclass(slots=True)
class Belonging:
    """The manifests that belong to an artifact, itself first: children of an index, referrers, and what tags attach.

    ``followers`` are those that go with it because they name it as their subject, or a tag of ``tags`` attaches them.
    """

    digests: list[str]
    followers: list[str] = field(default_factory=list)
    tags: list[tuple[str, str]] = field(default_factory=list)


# -- into the bin


async def belonging(transaction: Transaction, repository_id: int, digest: Digest) -> Belonging:
    """Read what belongs to an artifact."""
    found, leading, frontier = Belonging([digest]), {str(digest)}, [str(digest)]
    while frontier:
        here, frontier = frontier[:_AT_ONCE], frontier[_AT_ONCE:]
        children = select(part.c.digest).where(part.c.repository_id == repository_id, part.c.manifest.in_(here))
        reached = [
            (child, False) for child in (await transaction.execute(children.where(part.c.is_manifest))).scalars()
        ]
        referrers = select(manifest.c.digest, manifest.c.subject)
        referrers = referrers.where(manifest.c.repository_id == repository_id, manifest.c.subject.in_(here))
        reached += [(one, subject in leading) for one, subject in await transaction.execute(referrers)]
        for subject, name, attached in await retained.attached_by_tag(transaction, repository_id, here):
            found.tags.append((name, attached))
            reached.append((attached, subject in leading))
        known = set(found.digests)
        for one, follows in reached:
            if follows and one not in leading:
                leading.add(one)
                found.followers.append(one)
            if one not in known:
                known.add(one)
                found.digests.append(one)
                frontier.append(one)
    return found


async def put(
    transaction: Transaction, repository_id: int, digest: Digest, tags: Collection[str], deleted_by: str
) -> Belonging | None:
    """Copy an artifact with these of its tags into the bin; return what belongs to it.

    Return None if there is no such manifest, or the repository is one of a mirror: what is deleted there can be fetched
    again. The copies are locked against removal until the transaction ends.
    """
    of = select(repository.c.project_id, repository.c.name).join_from(
        repository, project, project.c.id == repository.c.project_id
    )
    row = (await transaction.execute(of.where(repository.c.id == repository_id, project.c.upstream.is_(None)))).first()
    if row is None or not await manifests.sizes(transaction, repository_id, [digest]):
        return None
    whole = await belonging(transaction, repository_id, digest)
    await manifests.sizes(transaction, repository_id, sorted(map(Digest, whole.digests)))
    entry = await _make(transaction, row[0], spelled(row[1], digest), deleted_by)
    names = [*tags, *(name for name, _ in whole.tags)]
    charged, layers = 0, set[str]()
    for some in _chunks(whole.digests):
        charged += await _copy(transaction, manifest, repository_id, entry, manifest.c.digest.in_(some))
        await _copy(transaction, part, repository_id, entry, part.c.manifest.in_(some))
        named = select(part.c.digest).where(part.c.repository_id == repository_id, part.c.manifest.in_(some))
        layers.update((await transaction.execute(named.where(~part.c.is_manifest))).scalars())
        charged += await _copy(transaction, manifest_label, repository_id, entry, manifest_label.c.digest.in_(some))
    for some in _chunks(names):
        # A tag that attaches a manifest which has just gone has no copy of it.
        there = tag.c.digest.in_(select(manifest.c.digest).where(manifest.c.repository_id == entry))
        charged += await _copy(transaction, tag, repository_id, entry, tag.c.name.in_(some) & there)
    for some in _chunks(sorted(layers)):
        await blobs.linked_sizes(transaction, repository_id, map(Digest, some))
        await _copy(transaction, link, repository_id, entry, link.c.digest.in_(some))
    quotas.owe(transaction, entry, charged)
    # Nobody is kept from deleting because there is no room for the copies.
    quotas.let_pass(transaction)
    return whole


async def _make(transaction: Transaction, project_id: int, old_name: str, deleted_by: str) -> int:
    now = time.time()
    values = {"project_id": project_id, "name": f"{REMOVED}{uuid4().hex}", "created_at": now, "pending": True}
    more = {"deleted_at": now, "deleted_by": deleted_by, "old_name": old_name}
    made = insert(transaction, repository).values(values | more).returning(repository.c.id)
    return int((await transaction.execute(made)).scalar_one())


async def _copy(transaction: Transaction, table: Table, source: int, target: int, *chosen: ColumnElement[bool]) -> int:
    """Copy rows of a repository into another one, except those that it has; return the bytes they are charged."""
    names = [column.name for column in table.columns]
    columns = [literal(target) if name == "repository_id" else table.c[name] for name in names]
    rows = select(*columns).where(table.c.repository_id == source, *chosen)
    statement = insert(transaction, table).from_select(names, rows).on_conflict_do_nothing()
    if "charged_bytes" not in table.c:
        await transaction.execute(statement)
        return 0
    charged = (await transaction.execute(statement.returning(table.c.charged_bytes))).scalars()
    return sum(size or 0 for size in charged)


async def _copy_and_lock(transaction: Transaction, table: Table, source: int, target: int) -> int:
    """Copy manifests or links as `_copy` does, and lock all of them against removal; return the bytes they are charged.

    A row that is there already may be one that a review removes just now. Locking it waits for that review. Then the
    row is gone, and is copied after all. It is locked before the copy locks blobs, because a review locks them last.
    """
    wanted = set((await transaction.execute(select(table.c.digest).where(table.c.repository_id == source))).scalars())
    charged = 0
    while True:
        locked = set[str]()
        for some in _chunks(sorted(wanted)):
            here = select(table.c.digest).where(table.c.repository_id == target, table.c.digest.in_(some))
            here = here.order_by(table.c.digest).with_for_update(key_share=True, read=True)
            locked.update((await transaction.execute(here)).scalars())
        if wanted <= locked:
            return charged
        charged += await _copy(transaction, table, source, target)


async def blobs_of(transaction: Transaction, repository_id: int) -> list[str]:
    """List the blobs that the manifests of an entry name."""
    named = select(part.c.digest).where(part.c.repository_id == repository_id, ~part.c.is_manifest)
    return list((await transaction.execute(named.distinct().order_by(part.c.digest))).scalars())


async def manifests_of(transaction: Transaction, repository_id: int, limit: int) -> list[str]:
    """List at most ``limit`` manifests of an entry."""
    here = select(manifest.c.digest).where(manifest.c.repository_id == repository_id)
    return list((await transaction.execute(here.order_by(manifest.c.digest).limit(limit))).scalars())


def _chunks(values: Iterable[str]) -> Iterable[list[str]]:
    listed = list(values)
    return (listed[start : start + _AT_ONCE] for start in range(0, len(listed), _AT_ONCE))


# -- lists

_columns = (
    repository.c.id,
    repository.c.project_id,
    repository.c.old_name,
    repository.c.deleted_at,
    func.coalesce(repository.c.deleted_by, ""),
)
_KEY = (repository.c.deleted_at, repository.c.id)
_of_project = (
    project.c.id,
    project.c.old_name,
    func.coalesce(project.c.was_public, project.c.public),
    project.c.owner_id,
    project.c.used_bytes,
    project.c.deleted_at,
    func.coalesce(project.c.deleted_by, ""),
)


def _entry(number: int, project_id: int, old_name: str, deleted_at: float, deleted_by: str) -> Entry:
    name, _, digest = old_name.partition("@")
    return Entry(number, project_id, name, Digest(digest) if digest else None, deleted_at, deleted_by)


async def page(transaction: Transaction, project_id: int, page: Page[tuple[float, int]]) -> Entries[Entry]:
    """List what is in the bin of a project, the newest first."""
    walks = _walks(project_id, page.search)
    found = await keyset.fetch(transaction, select(*_columns), _entry, page, *_KEY, walks=walks, descending=True)
    tags = await _tags(transaction, [(one.id, one.digest) for one in found if one.digest is not None])
    return found.with_entries(replace(one, tags=tags.get(one.id, ())) for one in found)


async def total(transaction: Transaction, project_id: int, search: str = "") -> Count:
    """Count the entries that `page` lists."""
    walks = _walks(project_id, search)
    return await keyset.count(transaction, select(*_columns), *_KEY, walks=walks, descending=True)


def _walks(project_id: int, search: str) -> tuple[Walk, ...]:
    here = (repository.c.project_id == project_id, repository.c.deleted_at.is_not(None))
    return (Walk(here, has_any([repository.c.old_name], search)),)


async def _tags(transaction: Transaction, entries: Sequence[tuple[int, str]]) -> dict[int, tuple[str, ...]]:
    each = [
        select(tag.c.repository_id, tag.c.name)
        .where(tag.c.repository_id == number, tag.c.digest == digest)
        .order_by(tag.c.name)
        .limit(_TAGS_SHOWN)
        .subquery()
        for number, digest in entries
    ]
    found: dict[int, tuple[str, ...]] = {}
    for start in range(0, len(each), _AT_ONCE):
        for number, name in await transaction.execute(
            union_all(*(select(one) for one in each[start : start + _AT_ONCE]))
        ):
            found[number] = (*found.get(number, ()), name)
    return found


async def find(transaction: Transaction, project_id: int, entry_id: int) -> Entry | None:
    """Read an entry of a project's bin, and lock it; None if there is none."""
    here = (repository.c.id == entry_id, repository.c.project_id == project_id, repository.c.deleted_at.is_not(None))
    row = (await transaction.execute(select(*_columns).where(*here).with_for_update())).first()
    return None if row is None else _entry(*row)


async def twins(transaction: Transaction, entry: Entry) -> list[int]:
    """List the entries of the same artifact or repository, with this one; they are locked."""
    here = (repository.c.project_id == entry.project_id, repository.c.deleted_at.is_not(None))
    same = select(repository.c.id).where(*here, repository.c.old_name == entry.name).order_by(repository.c.id)
    return list((await transaction.execute(same.with_for_update())).scalars())


async def oldest(transaction: Transaction, project_id: int, limit: int) -> list[Entry]:
    """List the oldest entries of a project that no other transaction has; they are locked."""
    here = (repository.c.project_id == project_id, repository.c.deleted_at.is_not(None))
    first = select(*_columns).where(*here).order_by(*_KEY).limit(limit).with_for_update(skip_locked=True)
    return [_entry(*row) for row in await transaction.execute(first)]


async def charged(transaction: Transaction, project_id: int, *, at_most: bool = False) -> Count:
    """Return how many bytes an empty bin would give back to a project.

    Of the rows of each kind, the first `keyset.MOST_COUNTED` are looked at; if there are more, the sum is not exact. A
    blob does not count if a manifest that people see names it. ``at_most``: it counts anyway.
    """
    binned = (repository.c.project_id == project_id, repository.c.deleted_at.is_not(None))
    # Each has a manifest at least. Without this, SQLite may walk along all manifests.
    entries = select(repository.c.id).where(*binned).order_by(*_KEY).limit(MOST_COUNTED).subquery()
    total, exact = 0, True
    for table in (manifest, tag, manifest_label, link):
        columns = (table.c.digest,) if table is link else (table.c.charged_bytes,)
        looked = (
            select(*columns)
            .join_from(entries, table, table.c.repository_id == entries.c.id)
            .limit(MOST_COUNTED)
            .subquery()
        )
        number = int((await transaction.execute(select(func.count()).select_from(looked))).scalar_one())
        exact = exact and number < MOST_COUNTED
        if table is link:
            once = select(looked.c.digest).distinct().subquery()
            summed = select(func.sum(blob.c.size)).join_from(once, blob, blob.c.digest == once.c.digest)
            if not at_most:
                summed = summed.where(_named_by_seen(project_id, once).is_(None))
        else:
            summed = select(func.sum(looked.c.charged_bytes))
        total += int((await transaction.execute(summed)).scalar() or 0)
    return Count(total, exact)


def _named_by_seen(project_id: int, once: Subquery) -> ColumnElement[Any]:
    """Return the SQL of 1 if a manifest that people see names a blob, else NULL.

    A manifest under review does not count: most of these are children of an index in the bin.
    """
    seen = repository.alias("seen")
    waits = review.c.repository_id == part.c.repository_id, review.c.digest == part.c.manifest
    statement = (
        select(literal(1))
        .join_from(link, seen, seen.c.id == link.c.repository_id)
        .join(part, (part.c.repository_id == link.c.repository_id) & (part.c.digest == link.c.digest))
        .where(link.c.project_id == project_id, link.c.digest == once.c.digest, seen.c.deleted_at.is_(None))
        .where(~part.c.is_manifest, ~exists().where(*waits))
    )
    return statement.limit(1).correlate(once).scalar_subquery()


# -- out of the bin


async def return_artifact(
    transaction: Transaction, entry: Entry, repository_id: int, restored_by: str
) -> tuple[list[str], list[str]]:
    """Copy an artifact from a locked entry back into a locked repository, and remove the entry.

    Return the tags that it has again, and those that stay where they are, because somebody has used the names since.
    """
    added = await _copy_and_lock(transaction, manifest, entry.id, repository_id)
    for table in (part, manifest_label):
        added += await _copy(transaction, table, entry.id, repository_id)
    added += await _copy_and_lock(transaction, link, entry.id, repository_id)
    rows = select(tag.c.name, tag.c.digest).where(tag.c.repository_id == entry.id).order_by(tag.c.name)
    back: list[str] = []
    taken: list[str] = []
    for name, digest in (await transaction.execute(rows)).all():
        is_free = await artifacts.add_tag(transaction, repository_id, Digest(digest), name, time.time(), restored_by)
        now = None if is_free else await manifests.named_by(transaction, repository_id, name)
        (back if is_free or now == digest else taken).append(name)
    await manifests.cancel_review(transaction, repository_id, entry.digest or "")
    changes.changed(transaction, changes.repository(repository_id))
    removed = await _forget(transaction, entry.id)
    quotas.owe(transaction, repository_id, added - removed)
    quotas.let_pass(transaction)
    return back, taken


async def _forget(transaction: Transaction, entry_id: int) -> int:
    """Remove an entry whose content is in a repository again; return what its rows were charged, in bytes."""
    charged = 0
    for table in (manifest, tag, manifest_label):
        sums = select(func.coalesce(func.sum(table.c.charged_bytes), 0)).where(table.c.repository_id == entry_id)
        charged += int((await transaction.execute(sums)).scalar_one())
    await retire(transaction, repository)
    await transaction.execute(delete(repository).where(repository.c.id == entry_id))
    return charged


async def return_repository(transaction: Transaction, entry: Entry, name: str) -> bool:
    """Give a locked repository of the bin a name; return False if another one has it."""
    taken = select(repository.c.id).where(repository.c.project_id == entry.project_id, repository.c.name == name)
    if (await transaction.execute(taken)).first() is not None:
        return False
    here = update(repository).where(repository.c.id == entry.id)
    await transaction.execute(here.values(_OUT | {"name": name, "pending": False}))
    return True


async def end(transaction: Transaction, entry_ids: Collection[int]) -> None:
    """Have locked entries removed by the collection from now on; nobody can restore them any more."""
    await transaction.execute(update(repository).where(repository.c.id.in_(entry_ids)).values(_OUT))


async def end_older(transaction: Transaction, before: float, limit: int) -> int:
    """End up to ``limit`` entries that were deleted before a time (Unix seconds); return how many."""
    old = select(repository.c.id).where(repository.c.deleted_at < before).order_by(*_KEY).limit(limit)
    found = list((await transaction.execute(old.with_for_update(skip_locked=True))).scalars())
    if found:
        await end(transaction, found)
    return len(found)


# -- projects

_PROJECT_KEY = (project.c.deleted_at, project.c.id)


async def projects_of(
    transaction: Transaction, project_ids: Collection[int] | None, page: Page[tuple[float, int]]
) -> Entries[DeletedProject]:
    """List the projects in the bin, the newest first: all, or some."""
    walks, statement = _walks_of(project_ids, page.search), select(*_of_project)
    return await keyset.fetch(transaction, statement, DeletedProject, page, *_PROJECT_KEY, walks=walks, descending=True)


async def total_projects(transaction: Transaction, project_ids: Collection[int] | None, search: str = "") -> Count:
    """Count the projects that `projects_of` lists."""
    walks, statement = _walks_of(project_ids, search), select(*_of_project)
    return await keyset.count(transaction, statement, *_PROJECT_KEY, walks=walks, descending=True)


def _walks_of(project_ids: Collection[int] | None, search: str) -> tuple[Walk, ...]:
    here = (project.c.deleted_at.is_not(None), *(() if project_ids is None else (project.c.id.in_(project_ids),)))
    return (Walk(here, has_any([project.c.old_name], search)),)


async def find_project(transaction: Transaction, project_id: int) -> DeletedProject | None:
    """Read a project of the bin, and lock it; None if there is none."""
    here = (project.c.id == project_id, project.c.deleted_at.is_not(None))
    row = (await transaction.execute(select(*_of_project).where(*here).with_for_update())).first()
    return None if row is None else DeletedProject(*row)


async def return_project(transaction: Transaction, found: DeletedProject, name: str) -> bool:
    """Give a locked project of the bin a name; return False if another one has it."""
    if (await transaction.execute(select(project.c.id).where(project.c.name == name))).first() is not None:
        return False
    changes.changed(transaction, changes.project_named(name), changes.project(found.id))
    values = _OUT | {"name": name, "public": found.public, "was_public": None}
    await transaction.execute(update(project).where(project.c.id == found.id).values(values))
    return True


async def older_projects(transaction: Transaction, before: float, limit: int) -> list[int]:
    """List and lock up to ``limit`` projects that were deleted before a time (Unix seconds)."""
    old = select(project.c.id).where(project.c.deleted_at < before).order_by(project.c.deleted_at, project.c.id)
    return list((await transaction.execute(old.limit(limit).with_for_update(skip_locked=True))).scalars())


async def oldest_of_owner(transaction: Transaction, account_id: int, limit: int) -> list[int]:
    """List and lock the oldest projects in the bin that a person owns."""
    theirs = (project.c.owner_id == account_id, project.c.deleted_at.is_not(None))
    first = select(project.c.id).where(*theirs).order_by(project.c.deleted_at, project.c.id).limit(limit)
    return list((await transaction.execute(first.with_for_update(skip_locked=True))).scalars())
