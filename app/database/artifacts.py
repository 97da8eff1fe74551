"""Queries on artifacts: the manifests at the top of a repository, as people see them, with tags, parts and referrers.

A page is a walk along the index by push time; it skips manifests that belong to another artifact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    Table,
    and_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    union_all,
)

from app.oci.digest import Digest
from app.oci.manifest import DOCKER_MANIFEST, INDEX_TYPES

from . import keyset, quotas
from .engine import Transaction, insert
from .keyset import MOST_COUNTED, Count, Entries, Page, Walk, few
from .tables import link, manifest, manifest_label, part, tag
from .text import equals, has, has_any

IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_KINDS: Mapping[str, frozenset[str]] = {
    "image": IMAGE_CONFIGS,
    "chart": frozenset({"application/vnd.cncf.helm.config.v1+json"}),
    "wasm": frozenset({"application/vnd.wasm.config.v0+json", "application/vnd.wasm.config.v1+json"}),
}
_INDEX = "index"
# After "sha256-HEX" in a tag that attaches something: the fallback of referrers, and those of cosign until 2.
ATTACHING_ENDINGS = ("", ".sig", ".att", ".sbom")
# Lists read neither the payload nor the annotations of a larger manifest, because a page has a hundred of them.
LISTED_BYTES = 32 * 1024
# No page reads the contents of a larger manifest or config: each request would do so again, on the event loop.
DETAILED_BYTES = 512 * 1024
# SQLite takes 500 SELECTs in one statement.
_DIGESTS_AT_ONCE = 100
# The parts that are added up at once. Images have some dozens, but a manifest can have tens of thousands.
MOST_PARTS = 50_000


@dataclass(frozen=True, slots=True)
class TagEntry:
    """A tag; ``pushed_at`` is the time when it was last pointed at this digest (Unix seconds)."""

    name: str
    digest: Digest
    pushed_at: float


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """A manifest's row without its payload; ``size`` is the manifest's own in bytes, times are Unix seconds.

    `page` leaves out the annotations of manifests of more than `LISTED_BYTES`.
    """

    digest: Digest
    media_type: str
    artifact_type: str | None
    subject: str | None
    size: int
    pushed_at: float
    pulled_at: float
    referrers: int
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """A blob that a manifest names or, in an index, another manifest; ``size`` in bytes."""

    manifest: str
    digest: str
    is_manifest: bool
    size: int


@dataclass(frozen=True, slots=True)
class Accessory:
    """A manifest that names a subject, without its annotations; ``size`` in bytes."""

    digest: str
    media_type: str
    size: int
    artifact_type: str | None


@dataclass(frozen=True, slots=True)
class ArtifactFilter:
    """The choice of artifacts to list; "" and None choose all."""

    tagged: bool | None = None
    label_id: int | None = None
    kind: str = ""
    # A part of the digest.
    digest: str = ""


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
    manifest.c.size,
    manifest.c.created_at,
    manifest.c.pulled_at,
    few(
        _referrer,
        _referrer.c.repository_id == manifest.c.repository_id,
        _referrer.c.subject == manifest.c.digest,
        of=manifest,
    ),
)
_annotations = case((manifest.c.size <= LISTED_BYTES, manifest.c.annotations))
_KEY = (manifest.c.created_at, manifest.c.digest)
_SORTS: keyset.Sorts = {
    "push_time": keyset.KEY,
    "pull_time": manifest.c.pulled_at,
    "digest": manifest.c.digest,
    "manifest_media_type": manifest.c.media_type,
    "artifact_type": manifest.c.artifact_type,
}


def is_top() -> ColumnElement[bool]:
    """Return the condition that a manifest is at the top of its repository.

    It has a tag, or it belongs neither to an index nor to a subject in the repository.
    """
    child = _one(
        part, part.c.repository_id == manifest.c.repository_id, part.c.digest == manifest.c.digest, part.c.is_manifest
    )
    beneath = _one(
        _subject, _subject.c.repository_id == manifest.c.repository_id, _subject.c.digest == manifest.c.subject
    )
    return or_(is_tagged(), and_(child.is_(None), beneath.is_(None)))


def is_tagged() -> ColumnElement[bool]:
    """Return the condition that a manifest has a tag."""
    return _one(tag, tag.c.repository_id == manifest.c.repository_id, tag.c.digest == manifest.c.digest).is_not(None)


def _one(table: FromClause, *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    """Return the SQL of 1 if there is such a row, else NULL.

    For EXISTS within OR, PostgreSQL may read the whole table into memory instead of asking for one row each time.
    """
    return select(literal(1)).select_from(table).where(*conditions).limit(1).correlate(manifest).scalar_subquery()


async def page(
    transaction: Transaction, repository_id: int, page: Page[tuple[float, str]], wanted: ArtifactFilter
) -> Entries[ArtifactRow]:
    """List a repository's artifacts by push time and digest, the newest first; the search covers their tags."""
    walks = _walks(repository_id, wanted, page.search)
    statement = select(*_columns, _annotations)
    return await keyset.fetch(transaction, statement, _row, page, *_KEY, walks=walks, descending=True, sorts=_SORTS)


async def total(transaction: Transaction, repository_id: int, wanted: ArtifactFilter, search: str) -> Count:
    """Count the artifacts that `page` lists."""
    walks = _walks(repository_id, wanted, search)
    return await keyset.count(transaction, select(*_columns), *_KEY, walks=walks, descending=True)


async def find(transaction: Transaction, repository_id: int, digest: Digest) -> ArtifactRow | None:
    """Read one manifest's row, at the top of the repository or not."""
    here = (manifest.c.repository_id == repository_id) & (manifest.c.digest == digest)
    row = (await transaction.execute(select(*_columns, manifest.c.annotations).where(here))).first()
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
    """List the parts of the manifests, at most `MOST_PARTS` of them."""
    found: list[Part] = []
    wanted = sorted(manifests)
    for start in range(0, len(wanted), 500):
        statement = (
            select(part.c.manifest, part.c.digest, part.c.is_manifest, part.c.size)
            .where(part.c.repository_id == repository_id, part.c.manifest.in_(wanted[start : start + 500]))
            .limit(MOST_PARTS - len(found))
        )
        found += [Part(*row) for row in await transaction.execute(statement)]
        if len(found) == MOST_PARTS:
            break
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
    """Read each manifest's ``most`` newest tags and the number of all, up to `keyset.MOST_COUNTED` and one more."""
    found: dict[str, tuple[int, list[TagEntry]]] = {}
    wanted = sorted(digests)
    for start in range(0, len(wanted), _DIGESTS_AT_ONCE):
        statement = _newest_tags(repository_id, wanted[start : start + _DIGESTS_AT_ONCE], most)
        for name, digest, pushed_at, count, _ in await transaction.execute(statement):
            found.setdefault(digest, (count, []))[1].append(_tag(name, digest, pushed_at))
    return found


def _newest_tags(repository_id: int, digests: Collection[str], most: int) -> Select[Any]:
    newest = [
        select(tag.c.name, tag.c.digest, tag.c.updated_at)
        .where(tag.c.repository_id == repository_id, tag.c.digest == digest)
        .order_by(tag.c.updated_at.desc(), tag.c.name.desc())
        .limit(MOST_COUNTED + 1)
        .subquery()
        for digest in digests
    ]
    looked = union_all(*(select(each) for each in newest)).subquery()
    ranked = select(
        looked.c.name,
        looked.c.digest,
        looked.c.updated_at,
        func.count().over(partition_by=looked.c.digest).label("count"),
        func.row_number()
        .over(partition_by=looked.c.digest, order_by=(looked.c.updated_at.desc(), looked.c.name))
        .label("rank"),
    ).subquery()
    return select(ranked).where(ranked.c.rank <= most).order_by(ranked.c.digest, ranked.c.rank)


_TAG_SORTS: keyset.Sorts = {"name": keyset.KEY, "push_time": tag.c.updated_at}
_tags: Select[Any] = select(tag.c.name, tag.c.digest, tag.c.updated_at)


async def tags(
    transaction: Transaction, repository_id: int, page: Page[str], digest: Digest | None = None
) -> Entries[TagEntry]:
    """List tags by name: all of the repository, or those of one manifest."""
    walks = _tag_walks(repository_id, digest, page.search)
    return await keyset.fetch(transaction, _tags, _tag, page, tag.c.name, walks=walks, sorts=_TAG_SORTS)


async def compared_at(transaction: Transaction, repository_id: int, digest: Digest) -> float | None:
    """Return when a mirror last compared the manifest's newest tag with the upstream; None if it has no tag."""
    here = (tag.c.repository_id == repository_id) & (tag.c.digest == digest)
    statement = select(tag.c.checked_at).where(here).order_by(tag.c.updated_at.desc(), tag.c.name.desc()).limit(1)
    return (await transaction.execute(statement)).scalar_one_or_none()


async def tag_of(transaction: Transaction, repository_id: int, digest: Digest, name: str) -> TagEntry | None:
    """Read a tag of a manifest by its exact name."""
    here = (tag.c.repository_id == repository_id) & (tag.c.digest == digest) & equals(tag.c.name, name)
    row = (await transaction.execute(_tags.where(here))).first()
    return _tag(*row) if row else None


async def shown_tags(
    transaction: Transaction,
    repository_id: int,
    page: Page[tuple[float, str]],
    *,
    by_name: bool = False,
    backwards: bool = False,
) -> Entries[TagEntry]:
    """List a repository's tags for people, the newest first or by name; ``backwards``, the other way round.

    Tags that only attach something to another manifest are left out, see `_attaches`. The keys of a list by name are
    such pairs too; only the name of a key counts.
    """
    walks = _shown_walks(repository_id, page.search)
    if by_name:
        named = page.with_keys(lambda key: key[1])
        found = await keyset.fetch(transaction, _tags, _tag, named, tag.c.name, walks=walks, descending=backwards)
        return Entries(found, None if found.reached is None else (0.0, found.reached))
    return await keyset.fetch(
        transaction, _tags, _tag, page, tag.c.updated_at, tag.c.name, walks=walks, descending=not backwards
    )


async def total_shown_tags(transaction: Transaction, repository_id: int, search: str) -> Count:
    """Count the tags that `shown_tags` lists."""
    walks = _shown_walks(repository_id, search)
    return await keyset.count(transaction, _tags, tag.c.updated_at, tag.c.name, walks=walks, descending=True)


async def some(transaction: Transaction, repository_id: int, digests: Collection[str]) -> list[ArtifactRow]:
    """Read the rows of some manifests as `page` lists them; those that are gone are left out."""
    statement = select(*_columns, _annotations).where(
        manifest.c.repository_id == repository_id, manifest.c.digest.in_(digests)
    )
    return [_row(*row) for row in await transaction.execute(statement)]


async def attached(
    transaction: Transaction, repository_id: int, subjects: Collection[str], most: int
) -> list[tuple[str, Accessory]]:
    """List the first ``most`` manifests that name each of these as their subject, each with its subject."""
    each = [
        select(manifest.c.subject, manifest.c.digest, manifest.c.media_type, manifest.c.size, manifest.c.artifact_type)
        .where(manifest.c.repository_id == repository_id, manifest.c.subject == subject)
        .order_by(manifest.c.digest)
        .limit(most)
        .subquery()
        for subject in sorted(subjects)
    ]
    if not each:
        return []
    found = await transaction.execute(union_all(*(select(one) for one in each)))
    return [(row[0], Accessory(*row[1:])) for row in found]


async def named_tags(transaction: Transaction, repository_id: int, names: Collection[str]) -> list[TagEntry]:
    """Read the tags of these names that the repository has; at most 500 names."""
    if not names:
        return []
    # One by one, because SQLite reads a whole index of the repository for a list of names.
    each = (_tags.where(tag.c.repository_id == repository_id, tag.c.name == name) for name in sorted(names))
    return [_tag(*row) for row in await transaction.execute(union_all(*each))]


async def total_tags(
    transaction: Transaction, repository_id: int, search: str = "", digest: Digest | None = None
) -> Count:
    """Count the tags that `tags` lists."""
    return await keyset.count(transaction, _tags, tag.c.name, walks=_tag_walks(repository_id, digest, search))


async def accessories(
    transaction: Transaction, repository_id: int, subject: Digest, after: str, limit: int
) -> list[Accessory]:
    """List the manifests that name a manifest as their subject, by digest, after ``after``."""
    statement = (
        select(manifest.c.digest, manifest.c.media_type, manifest.c.size, manifest.c.artifact_type)
        .where(manifest.c.repository_id == repository_id, manifest.c.subject == subject, manifest.c.digest > after)
        .order_by(manifest.c.digest)
        .limit(limit)
    )
    return [Accessory(*row) for row in await transaction.execute(statement)]


async def total_referrers(transaction: Transaction, repository_id: int, subject: Digest) -> Count:
    """Count the manifests that name a manifest as their subject."""
    here = (manifest.c.repository_id == repository_id, manifest.c.subject == subject)
    return await keyset.count(transaction, select(manifest.c.digest), manifest.c.digest, walks=(Walk(here),))


async def add_tag(transaction: Transaction, repository_id: int, digest: Digest, name: str, now: float, by: str) -> bool:
    """Add a new tag to a manifest; return False if the repository has that tag already.

    ``now`` is in Unix seconds, ``by`` the principal's subject.
    """
    statement = insert(transaction, tag).values(
        repository_id=repository_id,
        name=name,
        digest=digest,
        updated_at=now,
        checked_at=now,
        pointed_at=now,
        pointed_by=by,
        charged_bytes=quotas.ROW_BYTES,
    )
    added = bool((await transaction.execute(statement.on_conflict_do_nothing())).rowcount)
    quotas.owe(transaction, repository_id, quotas.ROW_BYTES if added else 0)
    return added


def _row(digest: str, *rest: Any) -> ArtifactRow:
    row = ArtifactRow(Digest(digest), *rest)
    # Left out, they are NULL.
    return row if row.annotations is not None else replace(row, annotations={})


def _tag(name: str, digest: str, pushed_at: float) -> TagEntry:
    return TagEntry(name, Digest(digest), pushed_at)


def _walks(repository_id: int, wanted: ArtifactFilter, search: str) -> tuple[Walk, ...]:
    matches = [is_top()]
    if search:
        matches.append(
            exists().where(
                tag.c.repository_id == manifest.c.repository_id,
                tag.c.digest == manifest.c.digest,
                has(tag.c.name, search),
            )
        )
    if wanted.tagged is not None:
        matches.append(is_tagged() if wanted.tagged else ~is_tagged())
    if wanted.label_id is not None:
        matches.append(
            exists().where(
                manifest_label.c.repository_id == manifest.c.repository_id,
                manifest_label.c.digest == manifest.c.digest,
                manifest_label.c.label_id == wanted.label_id,
            )
        )
    if wanted.kind:
        matches.append(_is_kind(wanted.kind))
    if wanted.digest:
        matches.append(has(manifest.c.digest, wanted.digest))
    return (Walk((manifest.c.repository_id == repository_id,), and_(*matches)),)


def _is_kind(kind: str) -> ColumnElement[bool]:
    if kind == _INDEX:
        return and_(manifest.c.media_type.in_(sorted(INDEX_TYPES)), manifest.c.artifact_type.is_(None))
    types = _KINDS.get(kind)
    return equals(manifest.c.artifact_type, kind) if types is None else manifest.c.artifact_type.in_(sorted(types))


def _shown_walks(repository_id: int, search: str) -> tuple[Walk, ...]:
    matches = (_attaches().is_(None), *((has(tag.c.name, search),) if search else ()))
    return (Walk((tag.c.repository_id == repository_id,), and_(*matches)),)


def _attaches() -> ColumnElement[Any]:
    """Return the SQL of 1 if a tag's name is the digest of a manifest that is here, else NULL.

    `ATTACHING_ENDINGS` lists the possible endings.
    """
    digest = literal("sha256:") + func.substr(tag.c.name, len("sha256-") + 1, 64)
    subject = (
        select(literal(1))
        .where(manifest.c.repository_id == tag.c.repository_id, manifest.c.digest == digest)
        .limit(1)
        .correlate(tag)
        .scalar_subquery()
    )
    ending = func.substr(tag.c.name, len("sha256-") + 65)
    return case((and_(func.substr(tag.c.name, 1, 7) == "sha256-", ending.in_(ATTACHING_ENDINGS)), subject))


def _tag_walks(repository_id: int, digest: Digest | None, search: str) -> tuple[Walk, ...]:
    here = [tag.c.repository_id == repository_id]
    if digest is not None:
        here.append(tag.c.digest == digest)
    return (Walk(tuple(here), has_any([tag.c.name], search)),)
