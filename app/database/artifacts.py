"""Queries on artifacts: the manifests at the top of a repository, as people see them, with tags, parts and referrers.

A page is a walk along the index by push time; it skips manifests that belong to another artifact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, exists, func, or_, select

from app.oci.digest import Digest
from app.oci.manifest import DOCKER_MANIFEST, INDEX_TYPES

from . import keyset
from .engine import Transaction, insert
from .keyset import Page
from .tables import link, manifest, manifest_label, part, tag
from .text import equals, has

IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_KINDS: Mapping[str, frozenset[str]] = {
    "image": IMAGE_CONFIGS,
    "chart": frozenset({"application/vnd.cncf.helm.config.v1+json"}),
    "wasm": frozenset({"application/vnd.wasm.config.v0+json", "application/vnd.wasm.config.v1+json"}),
}
_INDEX = "index"


@dataclass(frozen=True, slots=True)
class TagEntry:
    """A tag; ``pushed_at`` is the time when it was last pointed at this digest (Unix seconds)."""

    name: str
    digest: Digest
    pushed_at: float


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """A manifest's row without its payload; ``size`` is the manifest's own in bytes, times are Unix seconds."""

    digest: Digest
    media_type: str
    artifact_type: str | None
    subject: str | None
    annotations: Mapping[str, str]
    size: int
    pushed_at: float
    pulled_at: float
    referrers: int


@dataclass(frozen=True, slots=True)
class Part:
    """A blob that a manifest names or, in an index, another manifest; ``size`` in bytes."""

    manifest: str
    digest: str
    is_manifest: bool
    size: int


@dataclass(frozen=True, slots=True)
class ArtifactFilter:
    """The choice of artifacts to list; "" and None choose all."""

    tagged: bool | None = None
    label_id: int | None = None
    kind: str = ""


EVERYTHING = ArtifactFilter()


def kind_of(media_type: str, artifact_type: str | None) -> str:
    """Return the kind of a manifest in one word, or its artifact type if it has no such word."""
    if media_type in INDEX_TYPES:
        return artifact_type or _INDEX
    for kind, types in _KINDS.items():
        if artifact_type in types:
            return kind
    return artifact_type or ("image" if media_type == DOCKER_MANIFEST else "artifact")


_referrer = manifest.alias("referrer")
_subject = manifest.alias("subject")
_columns = (
    manifest.c.digest,
    manifest.c.media_type,
    manifest.c.artifact_type,
    manifest.c.subject,
    manifest.c.annotations,
    manifest.c.size,
    manifest.c.created_at,
    manifest.c.pulled_at,
    select(func.count())
    .select_from(_referrer)
    .where(_referrer.c.repository_id == manifest.c.repository_id, _referrer.c.subject == manifest.c.digest)
    .scalar_subquery(),
)


def is_top() -> ColumnElement[bool]:
    """Return the condition that a manifest is at the top of its repository.

    It has a tag, or it belongs neither to an index nor to a subject in the repository.
    """
    child = exists().where(
        part.c.repository_id == manifest.c.repository_id, part.c.digest == manifest.c.digest, part.c.is_manifest
    )
    beneath = exists().where(
        _subject.c.repository_id == manifest.c.repository_id, _subject.c.digest == manifest.c.subject
    )
    return or_(_is_tagged(), and_(~child, ~beneath))


def _is_tagged() -> ColumnElement[bool]:
    return exists().where(tag.c.repository_id == manifest.c.repository_id, tag.c.digest == manifest.c.digest)


async def page(
    transaction: Transaction, repository_id: int, page: Page[tuple[float, str]], wanted: ArtifactFilter
) -> list[ArtifactRow]:
    """List a repository's artifacts by push time and digest, the newest first; the search covers their tags."""
    statement = _wanted(select(*_columns), repository_id, wanted, page.search)
    columns = (manifest.c.created_at, manifest.c.digest)
    return await keyset.fetch(transaction, statement, _row, page, *columns, descending=True)


async def total(transaction: Transaction, repository_id: int, wanted: ArtifactFilter, search: str) -> int:
    """Count all artifacts that `page` lists."""
    statement = _wanted(select(func.count()).select_from(manifest), repository_id, wanted, search)
    return await keyset.count(transaction, statement)


async def find(transaction: Transaction, repository_id: int, digest: Digest) -> ArtifactRow | None:
    """Read one manifest's row, at the top of the repository or not."""
    here = (manifest.c.repository_id == repository_id) & (manifest.c.digest == digest)
    row = (await transaction.execute(select(*_columns).where(here))).first()
    return _row(*row) if row else None


async def payloads(
    transaction: Transaction, repository_id: int, digests: Collection[str], most_bytes: int
) -> dict[str, bytes]:
    """Read the payloads of the manifests, except those larger than ``most_bytes``."""
    statement = select(manifest.c.digest, manifest.c.payload).where(
        manifest.c.repository_id == repository_id, manifest.c.digest.in_(digests), manifest.c.size <= most_bytes
    )
    return {row[0]: bytes(row[1]) for row in await transaction.execute(statement)}


async def parts(transaction: Transaction, repository_id: int, manifests: Collection[str]) -> list[Part]:
    """List the parts of the manifests."""
    found: list[Part] = []
    wanted = sorted(manifests)
    for start in range(0, len(wanted), 500):
        statement = select(part.c.manifest, part.c.digest, part.c.is_manifest, part.c.size).where(
            part.c.repository_id == repository_id, part.c.manifest.in_(wanted[start : start + 500])
        )
        found += [Part(*row) for row in await transaction.execute(statement)]
    return found


async def present(transaction: Transaction, repository_id: int, digests: Collection[str]) -> set[str]:
    """Return which of the manifests the repository has."""
    return await _present(transaction, manifest, repository_id, digests)


async def linked(transaction: Transaction, repository_id: int, digests: Collection[str]) -> set[str]:
    """Return which of the blobs the repository links."""
    return await _present(transaction, link, repository_id, digests)


async def _present(transaction: Transaction, table: Table, repository_id: int, digests: Collection[str]) -> set[str]:
    found: set[str] = set()
    wanted = sorted(digests)
    for start in range(0, len(wanted), 500):
        statement = select(table.c.digest).where(
            table.c.repository_id == repository_id, table.c.digest.in_(wanted[start : start + 500])
        )
        found.update((await transaction.execute(statement)).scalars())
    return found


async def newest_tags(
    transaction: Transaction, repository_id: int, digests: Collection[str], most: int
) -> dict[str, tuple[int, list[TagEntry]]]:
    """Read each manifest's number of tags and its ``most`` newest tags."""
    ranked = (
        select(
            tag.c.name,
            tag.c.digest,
            tag.c.updated_at,
            func.count().over(partition_by=tag.c.digest).label("count"),
            func.row_number()
            .over(partition_by=tag.c.digest, order_by=(tag.c.updated_at.desc(), tag.c.name))
            .label("rank"),
        )
        .where(tag.c.repository_id == repository_id, tag.c.digest.in_(digests))
        .subquery()
    )
    found: dict[str, tuple[int, list[TagEntry]]] = {}
    statement = select(ranked).where(ranked.c.rank <= most).order_by(ranked.c.digest, ranked.c.rank)
    for name, digest, pushed_at, count, _ in await transaction.execute(statement):
        found.setdefault(digest, (count, []))[1].append(_tag(name, digest, pushed_at))
    return found


async def tags(
    transaction: Transaction, repository_id: int, page: Page[str], digest: Digest | None = None
) -> list[TagEntry]:
    """List tags by name: all of the repository, or those of one manifest."""
    columns: Select[Any] = select(tag.c.name, tag.c.digest, tag.c.updated_at)
    statement = _searched_tags(columns, repository_id, digest, page.search)
    return await keyset.fetch(transaction, statement, _tag, page, tag.c.name)


async def total_tags(
    transaction: Transaction, repository_id: int, search: str = "", digest: Digest | None = None
) -> int:
    """Count all tags that `tags` lists."""
    statement = _searched_tags(select(func.count()).select_from(tag), repository_id, digest, search)
    return await keyset.count(transaction, statement)


async def total_referrers(transaction: Transaction, repository_id: int, subject: Digest) -> int:
    """Count the manifests that name a manifest as their subject."""
    here = (manifest.c.repository_id == repository_id) & (manifest.c.subject == subject)
    return await keyset.count(transaction, select(func.count()).select_from(manifest).where(here))


async def add_tag(transaction: Transaction, repository_id: int, digest: Digest, name: str, now: float) -> bool:
    """Add a new tag to a manifest; return False if the repository has that tag already. ``now`` is in Unix seconds."""
    statement = insert(transaction, tag).values(
        repository_id=repository_id, name=name, digest=digest, updated_at=now, checked_at=now
    )
    return bool((await transaction.execute(statement.on_conflict_do_nothing())).rowcount)


def _row(digest: str, *rest: Any) -> ArtifactRow:
    return ArtifactRow(Digest(digest), *rest)


def _tag(name: str, digest: str, pushed_at: float) -> TagEntry:
    return TagEntry(name, Digest(digest), pushed_at)


def _wanted(statement: Select[Any], repository_id: int, wanted: ArtifactFilter, search: str) -> Select[Any]:
    statement = statement.where(manifest.c.repository_id == repository_id, is_top())
    if search:
        statement = statement.where(
            exists().where(
                tag.c.repository_id == manifest.c.repository_id,
                tag.c.digest == manifest.c.digest,
                has(tag.c.name, search),
            )
        )
    if wanted.tagged is not None:
        statement = statement.where(_is_tagged() if wanted.tagged else ~_is_tagged())
    if wanted.label_id is not None:
        statement = statement.where(
            exists().where(
                manifest_label.c.repository_id == manifest.c.repository_id,
                manifest_label.c.digest == manifest.c.digest,
                manifest_label.c.label_id == wanted.label_id,
            )
        )
    return statement.where(_is_kind(wanted.kind)) if wanted.kind else statement


def _is_kind(kind: str) -> ColumnElement[bool]:
    if kind == _INDEX:
        return and_(manifest.c.media_type.in_(sorted(INDEX_TYPES)), manifest.c.artifact_type.is_(None))
    types = _KINDS.get(kind)
    return equals(manifest.c.artifact_type, kind) if types is None else manifest.c.artifact_type.in_(sorted(types))


def _searched_tags(statement: Select[Any], repository_id: int, digest: Digest | None, search: str) -> Select[Any]:
    statement = statement.where(tag.c.repository_id == repository_id)
    if digest is not None:
        statement = statement.where(tag.c.digest == digest)
    return statement.where(has(tag.c.name, search)) if search else statement
