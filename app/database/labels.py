"""Queries on labels and on the artifacts that have them."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from app.oci.digest import Digest

from . import keyset, quotas
from .engine import Transaction, insert
from .ids import retire
from .keyset import Count, Entries, Page, Walk
from .tables import label, manifest, manifest_label
from .text import equals, has_any


@dataclass(frozen=True, slots=True)
class Label:
    """A label's row; ``project_id`` is None for a label of the system, ``color`` is ``#rrggbb``."""

    id: int
    project_id: int | None
    name: str
    description: str
    color: str
    created_at: float


_columns = (label.c.id, label.c.project_id, label.c.name, label.c.description, label.c.color, label.c.created_at)


_SORTS: keyset.Sorts = {
    "name": keyset.KEY,
    "id": label.c.id,
    "creation_time": label.c.created_at,
    "description": label.c.description,
    "color": label.c.color,
}


async def page(transaction: Transaction, project_id: int | None, page: Page[str]) -> Entries[Label]:
    """List a project's labels by name; ``project_id`` None lists the system's."""
    walks = _walks(project_id, page.search)
    return await keyset.fetch(transaction, select(*_columns), Label, page, label.c.name, walks=walks, sorts=_SORTS)


async def total(transaction: Transaction, project_id: int | None, search: str = "") -> Count:
    """Count the labels that `page` lists."""
    return await keyset.count(transaction, select(*_columns), label.c.name, walks=_walks(project_id, search))


async def named(transaction: Transaction, project_id: int | None, name: str) -> Label | None:
    """Read a label of a project, or of the system, by its exact name."""
    here = (label.c.project_id == project_id) & equals(label.c.name, name)
    row = (await transaction.execute(select(*_columns).where(here).limit(1))).first()
    return Label(*row) if row else None


async def find(transaction: Transaction, label_id: int) -> Label | None:
    """Read a label by its id."""
    row = (await transaction.execute(select(*_columns).where(label.c.id == label_id))).first()
    return Label(*row) if row else None


async def create(
    transaction: Transaction, project_id: int | None, name: str, description: str, color: str
) -> int | None:
    """Make a label; return its id, None if the name is taken."""
    # A unique index takes two NULLs for different: it would admit two labels of the system with one name.
    if project_id is None and await _taken(transaction, name):
        return None
    statement = (
        insert(transaction, label)
        .values(project_id=project_id, name=name, description=description, color=color, created_at=time.time())
        .on_conflict_do_nothing()
        .returning(label.c.id)
    )
    made: int | None = (await transaction.execute(statement)).scalar()
    return made


async def change(transaction: Transaction, before: Label, *, name: str, description: str, color: str) -> bool:
    """Change a label; return False if another one has that name."""
    if name != before.name and await _taken(transaction, name, before.project_id):
        return False
    values = {"name": name, "description": description, "color": color}
    await transaction.execute(update(label).where(label.c.id == before.id).values(values))
    return True


async def remove(transaction: Transaction, label_id: int) -> bool:
    """Remove a label, also from every artifact; return False if there is no such label."""
    await retire(transaction, label)
    # A label whose row is locked is attached to nothing. So the sums hold until it is gone.
    await transaction.execute(select(label.c.id).where(label.c.id == label_id).with_for_update())
    theirs = select(manifest_label.c.repository_id, manifest_label.c.charged_bytes)
    locked = theirs.where(manifest_label.c.label_id == label_id).with_for_update().subquery()
    sums = select(locked.c.repository_id, func.sum(locked.c.charged_bytes)).group_by(locked.c.repository_id)
    for repository_id, charged in await transaction.execute(sums):
        quotas.owe(transaction, repository_id, -int(charged or 0))
    return bool((await transaction.execute(delete(label).where(label.c.id == label_id))).rowcount)


async def attach(transaction: Transaction, repository_id: int, digest: Digest, label_id: int) -> bool | None:
    """Attach a label to a manifest; return False if it has the label already, None if there is no such manifest.

    The manifest is locked, so that `count_on` counts right.
    """
    here = (manifest.c.repository_id == repository_id) & (manifest.c.digest == digest)
    there = select(manifest.c.digest).where(here).with_for_update(key_share=True)
    if (await transaction.execute(there)).first() is None:
        return None
    statement = insert(transaction, manifest_label).values(
        repository_id=repository_id, digest=digest, label_id=label_id, charged_bytes=quotas.ROW_BYTES
    )
    attached = bool((await transaction.execute(statement.on_conflict_do_nothing())).rowcount)
    quotas.owe(transaction, repository_id, quotas.ROW_BYTES if attached else 0)
    return attached


async def count_on(transaction: Transaction, repository_id: int, digest: Digest) -> int:
    """Count the labels on a manifest."""
    here = (manifest_label.c.repository_id == repository_id, manifest_label.c.digest == digest)
    return int((await transaction.execute(select(func.count()).where(*here))).scalar_one())


async def detach(transaction: Transaction, repository_id: int, digest: Digest, label_id: int) -> bool:
    """Remove a label from a manifest; return False if the manifest did not have it."""
    statement = delete(manifest_label).where(
        manifest_label.c.repository_id == repository_id,
        manifest_label.c.digest == digest,
        manifest_label.c.label_id == label_id,
    )
    row = (await transaction.execute(statement.returning(manifest_label.c.charged_bytes))).first()
    if row is None:
        return False
    quotas.owe(transaction, repository_id, -(row[0] or 0))
    return True


async def of_manifests(
    transaction: Transaction, repository_id: int, digests: Collection[str]
) -> dict[str, list[Label]]:
    """List the labels of each of the manifests, by name."""
    found: dict[str, list[Label]] = {}
    statement = (
        select(manifest_label.c.digest, *_columns)
        .join_from(manifest_label, label, label.c.id == manifest_label.c.label_id)
        .where(manifest_label.c.repository_id == repository_id, manifest_label.c.digest.in_(digests))
    )
    for row in await transaction.execute(statement):
        found.setdefault(row[0], []).append(Label(*row[1:]))
    return {digest: sorted(labels, key=lambda each: each.name) for digest, labels in found.items()}


async def _taken(transaction: Transaction, name: str, project_id: int | None = None) -> bool:
    statement = select(label.c.id).where(label.c.project_id == project_id, label.c.name == name)
    return (await transaction.execute(statement.limit(1))).first() is not None


def _walks(project_id: int | None, search: str) -> tuple[Walk, ...]:
    return (Walk((label.c.project_id == project_id,), has_any([label.c.name], search)),)
