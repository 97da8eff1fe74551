"""Queries on manifests, their parts, the tags that name them, and their referrers."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import bindparam, case, delete, func, or_, select, update

from app.oci.digest import Digest
from app.oci.manifest import Manifest

from . import changes, quotas, tag_history
from .engine import Database, Encoded, PointQuery, Transaction, insert
from .tables import link, manifest, manifest_label, part, project, repository, review, tag

# The most bytes of manifests on one page of referrers, because the page includes their annotations.
_PAGE_BYTES = 4 * 1024 * 1024


class StoredManifest(NamedTuple):
    """A manifest as a pull returns it."""

    digest: Digest
    media_type: str
    payload: bytes


class Tagged(NamedTuple):
    """The manifest that a tag names; ``checked_at`` is the last comparison with the upstream (Unix seconds)."""

    digest: Digest
    checked_at: float
    media_type: str


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that names a subject, as the referrers list shows it; ``size`` in bytes."""

    digest: str
    media_type: str
    size: int
    artifact_type: str | None
    annotations: Mapping[str, str]


def _of_repository(repository_id: int, _: str) -> str:
    return changes.repository(repository_id)


_tag = (
    select(tag.c.digest, tag.c.checked_at, manifest.c.media_type)
    .join_from(tag, manifest, (manifest.c.repository_id == tag.c.repository_id) & (manifest.c.digest == tag.c.digest))
    .where(tag.c.repository_id == bindparam("repository"), tag.c.name == bindparam("name"))
)
# A push moves a hosted tag and does not wait, so every question for one asks for its version.
_tagged = PointQuery(_tag, scope=changes.tag, leased=False)
_mirrored_tag = PointQuery(_tag, scope=changes.tag)
_present = PointQuery(
    select(manifest.c.media_type, manifest.c.size).where(
        manifest.c.repository_id == bindparam("repository"), manifest.c.digest == bindparam("digest")
    ),
    scope=_of_repository,
)
_payload = PointQuery(
    select(manifest.c.media_type, manifest.c.payload).where(
        manifest.c.repository_id == bindparam("repository"), manifest.c.digest == bindparam("digest")
    )
)
_under_review = PointQuery(
    select(review.c.review_at).where(
        review.c.repository_id == bindparam("repository"), review.c.digest == bindparam("digest")
    )
)
_part_size = PointQuery(
    select(func.max(part.c.size)).where(
        part.c.repository_id == bindparam("repository"),
        part.c.digest == bindparam("digest"),
        part.c.is_manifest == bindparam("is_manifest"),
    )
)


async def tagged(
    database: Database, repository_id: int, name: str, *, leased: bool = False, renew: bool = False
) -> Tagged | None:
    """Return the manifest that a tag names, None if there is no such tag.

    ``leased``, for the tags of mirrors: a move of a moment ago may be missing. ``renew``: the time of the last
    comparison with the upstream is that of SQL (`set_checked`), unless SQL is down.
    """
    row = await database.point(_mirrored_tag if leased else _tagged, repository_id, name, renew=renew)
    return Tagged(Digest(row[0]), row[1], row[2]) if row else None


async def present(database: Database, repository_id: int, digest: Digest) -> tuple[str, int] | None:
    """Return the media type and the size in bytes of a manifest, None if the repository does not have it."""
    row = await database.point(_present, repository_id, digest)
    return (row[0], row[1]) if row else None


async def payload(database: Database, repository_id: int, digest: Digest) -> StoredManifest | None:
    """Read a manifest of this repository; None if it does not have it."""
    row = await database.point(_payload, repository_id, digest)
    return StoredManifest(digest, row[0], bytes(row[1])) if row else None


async def part_size(database: Database, repository_id: int, digest: Digest, *, is_manifest: bool) -> int | None:
    """Return the size in bytes that the repository's manifests state for a blob or manifest; None if none does."""
    row = await database.point(_part_size, repository_id, digest, is_manifest)
    # 0 stands for a size that the manifest does not state.
    return row[0] or None if row else None


async def sizes(transaction: Transaction, repository_id: int, digests: Iterable[Digest]) -> dict[str, int]:
    """Return the sizes in bytes of those manifests that the repository has.

    Their rows are locked against removal until the transaction ends.
    """
    found: dict[str, int] = {}
    wanted = list(digests)
    for start in range(0, len(wanted), 500):
        statement = (
            select(manifest.c.digest, manifest.c.size)
            .where(manifest.c.repository_id == repository_id, manifest.c.digest.in_(wanted[start : start + 500]))
            .with_for_update(key_share=True, read=True)
        )
        found.update({row[0]: row[1] for row in await transaction.execute(statement)})
    return found


async def add(
    transaction: Transaction,
    repository_id: int,
    digest: Digest,
    parsed: Manifest,
    known: Mapping[str, int] | None = None,
) -> None:
    """Write a manifest and its parts, and charge them; a manifest that exists already stays as it is.

    ``known``: the sizes of parts in bytes, for those that the manifest does not state.
    """
    now = time.time()
    charged = _price(parsed)
    statement = insert(transaction, manifest).values(
        repository_id=repository_id,
        digest=digest,
        media_type=parsed.media_type,
        artifact_type=parsed.artifact_type,
        subject=parsed.subject.digest if parsed.subject else None,
        annotations=Encoded(parsed.annotations_json),
        payload=parsed.payload,
        size=len(parsed.payload),
        created_at=now,
        pulled_at=now,
        charged_bytes=charged,
    )
    if (await transaction.execute(statement.on_conflict_do_nothing())).rowcount:
        quotas.owe(transaction, repository_id, charged)
    # An index keeps its other entries as blobs, and as manifests too if they are here as such.
    here = await sizes(transaction, repository_id, {entry.digest for entry in parsed.others}) if parsed.others else {}
    children = (*parsed.manifests, *(entry for entry in parsed.others if entry.digest in here))
    rows: dict[tuple[str, bool], dict[str, Any]] = {}
    for descriptors, is_manifest in (((*parsed.blobs, *parsed.others), False), (children, True)):
        for descriptor in descriptors:
            stated = (known or {}).get(descriptor.digest, 0) if descriptor.size is None else descriptor.size
            rows[descriptor.digest, is_manifest] = {
                "repository_id": repository_id,
                "manifest": digest,
                "digest": descriptor.digest,
                "is_manifest": is_manifest,
                "size": stated,
            }
    if rows:
        await transaction.execute(insert(transaction, part).on_conflict_do_nothing(), list(rows.values()))


def _price(parsed: Manifest) -> int:
    """Return the bytes that a manifest is charged: its payload, the second copy of its annotations, and its rows."""
    # The other entries of an index may become parts of both kinds.
    parts = len({part.digest for part in (*parsed.blobs, *parsed.manifests)}) + 2 * len(parsed.others)
    return len(parsed.payload) + len(parsed.annotations_json) + quotas.ROW_BYTES * (1 + parts)


async def set_tags(
    transaction: Transaction, repository_id: int, names: Iterable[str], digest: Digest, pushed_by: str | None = None
) -> dict[str, Digest]:
    """Point tags at a manifest; return those that named another one, with its digest.

    ``pushed_by`` is the principal's subject for the history of tags; None for a mirror, whose tags have none.
    """
    names, now = sorted(set(names)), time.time()
    if not names:
        return {}
    changes.changed(transaction, *(changes.tag(repository_id, name) for name in names), leased=False)
    values = {"digest": digest, "updated_at": now, "checked_at": now, "newer": None}
    pointed = {"pointed_at": now, "pointed_by": pushed_by}
    # The tags are written before they are read. If two pushes make the same tag, the second one must find the
    # manifest that the first one named.
    more = pointed | {"repository_id": repository_id, "charged_bytes": quotas.ROW_BYTES}
    made = insert(transaction, tag).values([values | more | {"name": name} for name in names])
    new = (await transaction.execute(made.on_conflict_do_nothing().returning(tag.c.name))).all()
    quotas.owe(transaction, repository_id, quotas.ROW_BYTES * len(new))
    here = (tag.c.repository_id == repository_id) & tag.c.name.in_(names)
    before = select(tag.c.name, tag.c.digest, tag_history.pointed_at, tag.c.pointed_by).where(here)
    found = (await transaction.execute(before.order_by(tag.c.name).with_for_update())).all()
    moved = [(row[0], row[1], row[2], row[3]) for row in found if row[1] != digest]
    if pushed_by is not None:
        await tag_history.add(transaction, repository_id, moved, until=now)
    # A tag that names the manifest already has done so since then.
    stays = tag.c.digest == digest
    since = {
        "pointed_at": case((stays, tag_history.pointed_at), else_=now),
        "pointed_by": case((stays, tag.c.pointed_by), else_=pushed_by),
    }
    await transaction.execute(update(tag).where(here).values(values | since))
    return {name: Digest(old) for name, old, _, _ in moved}


async def set_checked(
    transaction: Transaction, repository_id: int, name: str, digest: Digest, **noted: Digest | None
) -> None:
    """Write that the tag was compared with the upstream. ``newer``: what the upstream has in place of a pinned one.

    That ends no copies, because they are needed if SQL goes down now. A copy with an earlier time only makes its
    worker look into SQL before it asks the upstream again.
    """
    here = (tag.c.repository_id == repository_id) & (tag.c.name == name) & (tag.c.digest == digest)
    await transaction.execute(update(tag).where(here).values(checked_at=time.time(), **noted))


async def compared_before(
    transaction: Transaction, project_id: int, pulled_since: float, before: float, limit: int
) -> list[tuple[str, str]]:
    """List tags of a mirror that people pull, and that were not compared with the upstream since ``before``.

    Each is (repository, tag); those pulled last come first. Times are Unix seconds. Each repository is looked at.
    """
    statement = (
        select(repository.c.name, tag.c.name)
        .join_from(repository, manifest, manifest.c.repository_id == repository.c.id)
        .join(tag, (tag.c.repository_id == manifest.c.repository_id) & (tag.c.digest == manifest.c.digest))
        .where(repository.c.project_id == project_id, manifest.c.pulled_at > pulled_since, tag.c.checked_at < before)
        .order_by(manifest.c.pulled_at.desc())
        .limit(limit)
    )
    return [(row[0], row[1]) for row in await transaction.execute(statement)]


async def remove_tag(transaction: Transaction, repository_id: int, name: str, *, leased: bool = True) -> Digest | None:
    """Remove a tag; return the manifest it named, None if there was no such tag.

    ``leased`` is False for the tag of a hosted repository, as for `tagged`.
    """
    changes.changed(transaction, changes.tag(repository_id, name), leased=leased)
    here = (tag.c.repository_id == repository_id, tag.c.name == name)
    row = (await transaction.execute(delete(tag).where(*here).returning(tag.c.digest, tag.c.charged_bytes))).first()
    if row is None:
        return None
    quotas.owe(transaction, repository_id, -(row[1] or 0))
    return Digest(row[0])


async def remove(transaction: Transaction, repository_id: int, digest: Digest) -> list[Digest] | None:
    """Remove a manifest with its tags; return the digests of its parts and referrers, None if it did not exist."""
    parts = select(part.c.digest).where(part.c.repository_id == repository_id, part.c.manifest == digest)
    referrers = select(manifest.c.digest).where(manifest.c.repository_id == repository_id, manifest.c.subject == digest)
    touched = [Digest(row[0]) for row in await transaction.execute(parts.union(referrers))]
    return touched if await remove_rows(transaction, repository_id, [digest]) else None


async def remove_rows(transaction: Transaction, repository_id: int, digests: Collection[str]) -> int:
    """Remove manifests with their tags, and return the bytes to the quota; return how many there were."""
    changes.changed(transaction, changes.repository(repository_id))
    here = manifest.c.repository_id == repository_id
    wanted = select(manifest.c.digest, manifest.c.charged_bytes).where(here, manifest.c.digest.in_(digests))
    # A manifest whose row is locked gets no tag and no label. So their sum holds until they go with it.
    locked = wanted.order_by(manifest.c.digest).with_for_update()
    found = {row[0]: row[1] or 0 for row in await transaction.execute(locked)}
    if not found:
        return 0
    charged = sum(found.values())
    theirs = select(tag.c.name).where(tag.c.repository_id == repository_id, tag.c.digest.in_(found))
    names = (await transaction.execute(theirs)).scalars()
    changes.changed(transaction, *(changes.tag(repository_id, name) for name in names))
    for table in (tag, manifest_label):
        theirs = select(table.c.charged_bytes).where(table.c.repository_id == repository_id, table.c.digest.in_(found))
        rows = theirs.with_for_update().subquery()
        total = select(func.coalesce(func.sum(rows.c.charged_bytes), 0))
        charged += int((await transaction.execute(total)).scalar_one())
    quotas.owe(transaction, repository_id, -charged)
    await transaction.execute(delete(manifest).where(here, manifest.c.digest.in_(found)))
    return len(found)


async def tags(transaction: Transaction, repository_id: int, after: str, limit: int) -> list[str]:
    """List tag names after ``after``, in ASCII order."""
    statement = (
        select(tag.c.name)
        .where(tag.c.repository_id == repository_id, tag.c.name > after)
        .order_by(tag.c.name)
        .limit(limit)
    )
    return list((await transaction.execute(statement)).scalars())


async def named_by(transaction: Transaction, repository_id: int, name: str) -> Digest | None:
    """Return the manifest that a tag names, None if there is no such tag; the tag is locked."""
    here = (tag.c.repository_id == repository_id, tag.c.name == name)
    digest = (await transaction.execute(select(tag.c.digest).where(*here).with_for_update())).scalar()
    return None if digest is None else Digest(digest)


async def lock(transaction: Transaction, repository_id: int, digest: Digest) -> None:
    """Lock a manifest, so that nothing refers to it newly until the transaction ends."""
    here = (manifest.c.repository_id == repository_id, manifest.c.digest == digest)
    await transaction.execute(select(manifest.c.digest).where(*here).with_for_update())


async def tags_of(transaction: Transaction, repository_id: int, digest: Digest, limit: int | None = 100) -> list[str]:
    """List some of the tags that name a manifest, all of them without a ``limit``."""
    here = (tag.c.repository_id == repository_id, tag.c.digest == digest)
    return list(
        (await transaction.execute(select(tag.c.name).where(*here).order_by(tag.c.name).limit(limit))).scalars()
    )


async def referrers(
    transaction: Transaction, repository_id: int, subject: Digest, artifact_type: str | None, after: str, limit: int
) -> tuple[list[Referrer], bool]:
    """List manifests that name the subject, by digest, after ``after``; return also whether there are more.

    The list has fewer than ``limit`` entries if the manifests are larger than `_PAGE_BYTES` in all.
    """
    sizes = (
        select(manifest.c.digest, manifest.c.size)
        .where(manifest.c.repository_id == repository_id, manifest.c.subject == subject, manifest.c.digest > after)
        .order_by(manifest.c.digest)
        .limit(limit + 1)
    )
    if artifact_type is not None:
        sizes = sizes.where(manifest.c.artifact_type == artifact_type)
    found = (await transaction.execute(sizes)).all()
    so_far = accumulate(size for _, size in found)
    page = [digest for (digest, _), total in zip(found[:limit], so_far, strict=False) if total <= _PAGE_BYTES]
    page = page or [digest for digest, _ in found[:1]]
    if not page:
        return [], False
    statement = (
        select(
            manifest.c.digest,
            manifest.c.media_type,
            manifest.c.size,
            manifest.c.artifact_type,
            manifest.c.annotations,
        )
        .where(manifest.c.repository_id == repository_id, manifest.c.digest.in_(page))
        .order_by(manifest.c.digest)
    )
    return [Referrer(*row) for row in await transaction.execute(statement)], len(page) < len(found)


async def is_referenced(transaction: Transaction, repository_id: int, digest: Digest) -> bool:
    """Return whether a tag, an index or, for a referrer, an existing subject keeps the manifest."""
    subject = select(manifest.c.subject).where(manifest.c.repository_id == repository_id, manifest.c.digest == digest)
    statement = select(
        or_(
            select(tag.c.name).where(tag.c.repository_id == repository_id, tag.c.digest == digest).exists(),
            select(part.c.digest)
            .where(part.c.repository_id == repository_id, part.c.digest == digest, part.c.is_manifest)
            .exists(),
            select(manifest.c.digest)
            .where(manifest.c.repository_id == repository_id, manifest.c.digest == subject.scalar_subquery())
            .exists(),
        )
    )
    return bool((await transaction.execute(statement)).scalar())


async def index_of(transaction: Transaction, repository_id: int, digest: Digest) -> str | None:
    """Return an index that names a hosted manifest: one of its tags, else its digest; None if no index does.

    The manifest is locked before, so that no index arrives that names it. A mirror fetches a child again, so there
    nothing hangs on it.
    """
    await lock(transaction, repository_id, digest)
    tagged = select(tag.c.name).where(tag.c.repository_id == repository_id, tag.c.digest == part.c.manifest)
    statement = (
        select(func.coalesce(tagged.limit(1).scalar_subquery(), part.c.manifest))
        .join_from(part, repository, repository.c.id == part.c.repository_id)
        .join(project, project.c.id == repository.c.project_id)
        .where(part.c.repository_id == repository_id, part.c.digest == digest, part.c.is_manifest)
        .where(project.c.upstream.is_(None))
    )
    found: str | None = (await transaction.execute(statement.limit(1))).scalar()
    return found


async def pulled_from_mirror(transaction: Transaction, repository_id: int, digest: Digest) -> float | None:
    """Return the Unix time of a mirrored manifest's last pull; None if it is hosted or does not exist.

    For a manifest that a plan keeps, it is the time at which the plan no longer does.
    """
    used_at = case((manifest.c.kept_until > manifest.c.pulled_at, manifest.c.kept_until), else_=manifest.c.pulled_at)
    statement = (
        select(used_at)
        .join_from(manifest, repository, repository.c.id == manifest.c.repository_id)
        .join(project, project.c.id == repository.c.project_id)
        .where(manifest.c.repository_id == repository_id, manifest.c.digest == digest, project.c.upstream.is_not(None))
    )
    return (await transaction.execute(statement)).scalar()


async def coldest(
    transaction: Transaction, project_id: int, before: float, limit: int
) -> list[tuple[int, Digest, int]]:
    """List the project's least recently pulled manifests, all last pulled before ``before`` (Unix seconds).

    Each is (repository id, digest, charged bytes). Those that plans keep are left out. All manifests of the project
    are read.
    """
    statement = (
        select(manifest.c.repository_id, manifest.c.digest, func.coalesce(manifest.c.charged_bytes, 0))
        .join_from(repository, manifest, manifest.c.repository_id == repository.c.id)
        .where(
            repository.c.project_id == project_id,
            manifest.c.pulled_at < before,
            manifest.c.kept_until < time.time(),
        )
        .order_by(manifest.c.pulled_at)
        .limit(limit)
    )
    return [(row[0], Digest(row[1]), row[2]) for row in await transaction.execute(statement)]


async def names_blob(transaction: Transaction, repository_id: int, digest: Digest) -> bool:
    """Return whether any manifest of the repository names the blob."""
    statement = select(part.c.digest).where(
        part.c.repository_id == repository_id, part.c.digest == digest, ~part.c.is_manifest
    )
    return (await transaction.execute(statement.limit(1))).first() is not None


async def touch(transaction: Transaction, pulls: Mapping[tuple[int, str], float]) -> None:
    """Write when manifests were last pulled; ``pulls`` maps (repository id, digest) to Unix time."""
    if pulls:
        statement = (
            update(manifest)
            .where(manifest.c.repository_id == bindparam("r"), manifest.c.digest == bindparam("d"))
            .values(pulled_at=bindparam("t"))
        )
        await transaction.execute(statement, [{"r": r, "d": d, "t": t} for (r, d), t in sorted(pulls.items())])


async def ask_review(transaction: Transaction, repository_id: int, digests: Iterable[Digest], review_at: float) -> None:
    """Queue a review, not before ``review_at`` (Unix seconds), of whether these are still referenced.

    A review that is queued already gets the new time.
    """
    rows = [
        {"repository_id": repository_id, "digest": digest, "review_at": review_at} for digest in sorted(set(digests))
    ]
    if rows:
        statement = insert(transaction, review).on_conflict_do_update(
            index_elements=["repository_id", "digest"], set_={"review_at": review_at}
        )
        await transaction.execute(statement, rows)


async def ask_review_of_push(
    transaction: Transaction, repository_id: int, digest: Digest, review_at: float, *, project_id: int, pushed_by: str
) -> None:
    """Queue a review of a blob as `ask_review` does, and note to whose push in which project it belongs."""
    values = {"review_at": review_at, "project_id": project_id, "pushed_by": pushed_by}
    statement = insert(transaction, review).values(repository_id=repository_id, digest=digest, **values)
    await transaction.execute(statement.on_conflict_do_update(index_elements=["repository_id", "digest"], set_=values))


async def under_review(database: Database, repository_id: int, digest: Digest) -> bool:
    """Return whether a review of this manifest or blob is queued."""
    return await database.point(_under_review, repository_id, digest) is not None


async def put_off_review(transaction: Transaction, repository_id: int, digest: Digest, review_at: float) -> None:
    """Move a review that is queued to ``review_at`` (Unix seconds); do not queue a new one."""
    here = (review.c.repository_id == repository_id) & (review.c.digest == digest)
    await transaction.execute(update(review).where(here).values(review_at=review_at))


async def cancel_review(transaction: Transaction, repository_id: int, digest: str) -> None:
    """Take a manifest off the queue, because it has come back."""
    await transaction.execute(delete(review).where(review.c.repository_id == repository_id, review.c.digest == digest))


async def due_reviews(transaction: Transaction, limit: int) -> list[tuple[int, Digest]]:
    """Take due reviews off the queue; they are queued again if the transaction fails.

    The manifests and links are locked. A transaction that wants to refer to one of them waits until this one ends,
    and then sees the outcome.
    """
    due = (
        select(review.c.repository_id, review.c.digest)
        .where(review.c.review_at < time.time())
        .order_by(review.c.review_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = [(int(row[0]), Digest(row[1])) for row in await transaction.execute(due)]
    # One repository at a time, because SQLite reads the whole table if it is asked for a list of pairs.
    for repository_id, pairs in groupby(sorted(rows), key=itemgetter(0)):
        digests = [digest for _, digest in pairs]
        await transaction.execute(
            delete(review).where(review.c.repository_id == repository_id, review.c.digest.in_(digests))
        )
        for table in (manifest, link):
            here = (table.c.repository_id == repository_id) & table.c.digest.in_(digests)
            await transaction.execute(select(table.c.digest).where(here).order_by(table.c.digest).with_for_update())
    return rows
