"""Remove what a deleted artifact has left in its repository: parts that wait a day for their review."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import select

from app.oci.digest import Digest

from . import blobs, manifests
from .engine import Transaction
from .tables import link, repository, review
from .text import END_OF_NAMES

# The review of what a deletion leaves is due after so long (`app.registry.garbage_collection.GRACE_SECONDS`).
_REVIEW_SECONDS = 24 * 3600.0
# A deletion notes its time before the reviews.
_SLACK_SECONDS = 60.0


async def remove(
    transaction: Transaction,
    project_id: int,
    name: str,
    digests: Sequence[Digest],
    blob_digests: Sequence[Digest],
    *,
    deleted_at: float | None,
    grace: float,
) -> None:
    """Remove those of an artifact's manifests and blobs that nothing in the repository of that name needs.

    With ``deleted_at`` (Unix seconds), those stay that somebody has pushed or looked for since. Objects that nothing
    has any more become garbage in ``grace`` seconds.
    """
    here = (repository.c.project_id == project_id, repository.c.name == name, repository.c.name < END_OF_NAMES)
    repository_id = (await transaction.execute(select(repository.c.id).where(*here))).scalar()
    if repository_id is None:
        return
    kept = await _kept(transaction, repository_id, [*digests, *blob_digests], deleted_at)
    going = {digest for digest in digests if not kept.get(digest, True)}
    while going:
        going = await _remove_some(transaction, repository_id, sorted(going)) & set(digests)
    for digest in sorted(blob_digests):
        # A blob without a review was named by one of those manifests until now.
        if kept.get(digest, False) or await manifests.names_blob(transaction, repository_id, digest):
            continue
        held = (link.c.repository_id == repository_id, link.c.digest == digest)
        await transaction.execute(select(link.c.digest).where(*held).with_for_update())
        if not await manifests.names_blob(transaction, repository_id, digest):
            await blobs.unlink(transaction, repository_id, digest, grace)


async def _remove_some(transaction: Transaction, repository_id: int, digests: Sequence[Digest]) -> set[Digest]:
    """Remove those that nothing refers to; return what they had referred to, which is reviewed in a day."""
    touched: set[Digest] = set()
    for digest in digests:
        await manifests.lock(transaction, repository_id, digest)
        if not await manifests.is_referenced(transaction, repository_id, digest):
            touched.update(await manifests.remove(transaction, repository_id, digest) or ())
    await manifests.ask_review(transaction, repository_id, touched, time.time() + _REVIEW_SECONDS)
    return touched


async def _kept(
    transaction: Transaction, repository_id: int, digests: Sequence[Digest], deleted_at: float | None
) -> dict[str, bool]:
    """Return of the digests under review which stay, because somebody has touched them."""
    found: dict[str, bool] = {}
    for start in range(0, len(digests), 400):
        rows = select(review.c.digest, review.c.review_at, review.c.pushed_by).where(
            review.c.repository_id == repository_id, review.c.digest.in_(digests[start : start + 400])
        )
        for digest, review_at, pushed_by in await transaction.execute(rows):
            is_touched = deleted_at is not None and review_at > deleted_at + _REVIEW_SECONDS + _SLACK_SECONDS
            found[digest] = deleted_at is not None and (is_touched or pushed_by is not None)
    return found
