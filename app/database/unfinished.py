"""Queries on unfinished pushes: open upload sessions, and pushed blobs that no manifest names yet.

People can see how much of a quota they hold, and free it. The review of a blob says to whose push it belongs.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Subquery, func, select

from app.oci.digest import Digest

from . import blobs, manifests, uploads
from .engine import Transaction
from .keyset import MOST_SEARCHED, exactly
from .tables import blob, link, part, review, upload


async def charged(transaction: Transaction, project_id: int) -> int:
    """Add up what unfinished pushes hold of a project's quota, in bytes.

    Of the blobs that were pushed within the last day, the first `keyset.MOST_SEARCHED` are looked at. A blob that the
    project has in another repository as well is not counted.
    """
    sessions = select(func.coalesce(func.sum(upload.c.charged_bytes), 0)).where(upload.c.opened_in == project_id)
    looked, here, named = _pushed([review.c.project_id == project_id])
    other = link.alias("other")
    elsewhere = select(other.c.digest).where(
        other.c.project_id == project_id,
        other.c.digest == looked.c.digest,
        other.c.repository_id != looked.c.repository_id,
    )
    kept = (
        select(func.coalesce(func.sum(blob.c.size), 0))
        .join_from(looked, link, here)
        .join(blob, blob.c.digest == link.c.digest)
        .where(~named, ~elsewhere.exists())
    )
    return await exactly(transaction, sessions) + await exactly(transaction, kept)


async def end_sessions(transaction: Transaction, project_id: int, limit: int, *, before: float) -> int:
    """End up to ``limit`` sessions of a project without a request since ``before`` (Unix seconds); return how many."""
    keys = await uploads.remove_idle_in(transaction, project_id, None, before, limit)
    for key in keys:
        await blobs.discard(transaction, key, 0)
    return len(keys)


async def left_blobs(
    transaction: Transaction, project_id: int, *, due_before: float, used_since: float | None, limit: int
) -> list[tuple[int, Digest]]:
    """List blobs of a project that no manifest names, and whose review is due before a time (Unix seconds).

    They are (repository id, digest), and at most ``limit``. With ``used_since`` (Unix seconds), repositories to which
    somebody has been pushing since then are left out.
    """
    chosen = [review.c.project_id == project_id, review.c.review_at < due_before]
    if used_since is not None:
        used = select(upload.c.repository_id).where(upload.c.opened_in == project_id, upload.c.updated_at >= used_since)
        chosen.append(review.c.repository_id.not_in(used))
    return await _unnamed(transaction, chosen, limit)


async def blobs_of_push(
    transaction: Transaction, project_id: int, repository_id: int, pushed_by: str, limit: int
) -> list[tuple[int, Digest]]:
    """List at most ``limit`` blobs, as `left_blobs` does, that a principal pushed to a repository."""
    here = (review.c.project_id == project_id) & (review.c.repository_id == repository_id)
    return await _unnamed(transaction, [here, review.c.pushed_by == pushed_by], limit)


async def unlink(transaction: Transaction, found: list[tuple[int, Digest]]) -> int:
    """Remove those of the blobs that no manifest names by now; return how many."""
    removed = 0
    for repository_id, digest in sorted(found):
        # The lock makes a push that names the blob wait; one that was first is seen after it.
        here = (link.c.repository_id == repository_id) & (link.c.digest == digest)
        await transaction.execute(select(link.c.digest).where(here).with_for_update())
        if not await manifests.names_blob(transaction, repository_id, digest):
            removed += await blobs.unlink(transaction, repository_id, digest)
    return removed


async def _unnamed(transaction: Transaction, chosen: list[ColumnElement[bool]], limit: int) -> list[tuple[int, Digest]]:
    looked, here, named = _pushed(chosen)
    statement = select(looked).join_from(looked, link, here).where(~named).limit(limit)
    return [(row[0], Digest(row[1])) for row in await transaction.execute(statement)]


def _pushed(chosen: list[ColumnElement[bool]]) -> tuple[Subquery, ColumnElement[bool], ColumnElement[bool]]:
    """Return the chosen blobs that are under review, their join with `link`, and whether a manifest names one."""
    looked = (
        select(review.c.repository_id, review.c.digest)
        .where(*chosen)
        .order_by(review.c.review_at)
        .limit(MOST_SEARCHED)
        .subquery()
    )
    here = (link.c.repository_id == looked.c.repository_id) & (link.c.digest == looked.c.digest)
    named = select(part.c.digest).where(
        part.c.repository_id == looked.c.repository_id, part.c.digest == looked.c.digest, ~part.c.is_manifest
    )
    return looked, here, named.exists()
