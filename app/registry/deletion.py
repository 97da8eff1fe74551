"""Delete tags and manifests of a repository, by hand or by retention: into the bin, if there is one.

Referrers, and what cosign's tags attach, go to the bin with their subject. Blobs and the children of an index are
copied there, but stay in the repository for a day, as after every removal. Somebody may be pushing another image of the
same parts.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from app.database import Transaction, binned, immutability, manifests, retained
from app.database.binned import Belonging
from app.oci.digest import Digest

from .garbage_collection import GRACE_SECONDS


async def delete_tags(
    transaction: Transaction,
    repository_id: int,
    digest: Digest,
    names: Collection[str],
    deleted_by: str | None,
    *,
    leased: bool,
) -> None:
    """Remove tags that name a manifest and are locked; ``leased`` is as for `app.database.manifests.remove_tag`.

    ``deleted_by`` is a principal's subject; None means that there is no bin. A manifest that nothing names any more is
    collected a day later.
    """
    if deleted_by is not None:
        await binned.put(transaction, repository_id, digest, names, deleted_by)
    for name in names:
        await manifests.remove_tag(transaction, repository_id, name, leased=leased)
    await manifests.ask_review(transaction, repository_id, [digest], time.time() + GRACE_SECONDS)


async def delete_manifest(transaction: Transaction, repository_id: int, digest: Digest, deleted_by: str | None) -> bool:
    """Remove a manifest with its tags; return False if it is not there. ``deleted_by`` is as for `delete_tags`."""
    whole = None
    if deleted_by is not None:
        names = await manifests.tags_of(transaction, repository_id, digest, limit=None)
        whole = await binned.put(transaction, repository_id, digest, names, deleted_by)
    touched = await manifests.remove(transaction, repository_id, digest)
    if touched is None:
        return False
    if whole is not None:
        touched += await _delete_followers(transaction, repository_id, whole)
    await manifests.ask_review(transaction, repository_id, touched, time.time() + GRACE_SECONDS)
    return True


async def delete_attached(transaction: Transaction, repository_id: int, subject: Digest) -> None:
    """Remove the tags that attach something to a manifest which has been removed; what they named is collected."""
    attached = await retained.attached_by_tag(transaction, repository_id, [subject])
    for _, name, _ in attached:
        await manifests.remove_tag(transaction, repository_id, name, leased=False)
    named = [Digest(digest) for _, _, digest in attached]
    await manifests.ask_review(transaction, repository_id, named, time.time() + GRACE_SECONDS)


async def _delete_followers(transaction: Transaction, repository_id: int, whole: Belonging) -> list[Digest]:
    """Remove what is attached to a manifest that has been removed, unless something else needs it.

    Return the manifests and blobs that may have lost their last reference.
    """
    holds, touched = await immutability.holding_in(transaction, repository_id), []
    for name, attached in whole.tags:
        if attached in whole.followers and not (holds and holds(name)):
            await manifests.remove_tag(transaction, repository_id, name, leased=False)
    for one in whole.followers:
        digest = Digest(one)
        await manifests.lock(transaction, repository_id, digest)
        if not await manifests.is_referenced(transaction, repository_id, digest):
            touched += await manifests.remove(transaction, repository_id, digest) or []
    return touched
