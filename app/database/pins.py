"""Queries on pins: immutability rules of a mirror, each of which keeps one tag as it is for a term."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import select

from . import plans
from .engine import Transaction
from .tables import immutable_rule, part, repository, tag


class Pin(NamedTuple):
    """A pin in force; times are Unix seconds. ``digest`` is None before the tag is here.

    ``newer`` is the upstream's digest, if it has another one now. ``by`` is the subject who made it.
    """

    rule_id: int
    tag: str
    ends_at: float
    by: str | None
    digest: str | None
    newer: str | None


async def of_repository(transaction: Transaction, project_id: int, repository_name: str, now: float) -> list[Pin]:
    """List the pins of a mirror's repository, by their tags; the service bounds their number."""
    rule = immutable_rule.c
    statement = (
        select(rule.id, rule.tags, rule.ends_at, rule.created_by, tag.c.digest, tag.c.newer)
        .select_from(immutable_rule)
        .outerjoin(repository, (repository.c.project_id == rule.project_id) & (repository.c.name == rule.repositories))
        .outerjoin(tag, (tag.c.repository_id == repository.c.id) & (tag.c.name == rule.tags))
        .where(rule.project_id == project_id, rule.repositories == repository_name, ~rule.disabled, rule.ends_at > now)
        .order_by(rule.tags, rule.id)
    )
    return [Pin(*row) for row in await transaction.execute(statement)]


async def keep(transaction: Transaction, project_id: int, now: float, until: float) -> None:
    """Keep from eviction until a time what the pinned tags of a mirror name (Unix seconds)."""
    rule = immutable_rule.c
    statement = (
        select(tag.c.repository_id, tag.c.digest)
        .select_from(immutable_rule)
        .join(repository, (repository.c.project_id == rule.project_id) & (repository.c.name == rule.repositories))
        .join(tag, (tag.c.repository_id == repository.c.id) & (tag.c.name == rule.tags))
        .where(rule.project_id == project_id, ~rule.disabled, rule.ends_at > now)
        .order_by(tag.c.repository_id)
    )
    found = (await transaction.execute(statement)).all()
    for repository_id, rows in groupby(found, itemgetter(0)):
        named = {row[1] for row in rows}
        children = await _parts(transaction, repository_id, named, is_manifest=True)
        blobs = await _parts(transaction, repository_id, named | children, is_manifest=False)
        await plans.keep(transaction, repository_id, named | children, blobs, until)


async def _parts(
    transaction: Transaction, repository_id: int, digests: Iterable[str], *, is_manifest: bool
) -> set[str]:
    here = (part.c.repository_id == repository_id) & (part.c.is_manifest == is_manifest)
    statement = select(part.c.digest).where(here, part.c.manifest.in_(sorted(digests)))
    return set((await transaction.execute(statement)).scalars())
