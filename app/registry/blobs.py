"""Find, mount and delete the blobs of repositories."""

from __future__ import annotations

import time

from app.database import Database, Transaction, blobs, manifests
from app.database.blobs import StoredBlob
from app.database.quotas import QuotaExceeded
from app.oci.digest import Digest
from app.oci.errors import BlobUnknown
from app.projects import unfinished
from app.projects.service import Repository, ensure

from .garbage_collection import GRACE_SECONDS


class Blobs:
    """The blobs in the database; a repository has a blob only if the blob is linked there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, repository_id: int, digest: Digest) -> StoredBlob | None:
        """Return a blob that is linked in the repository, else None."""
        return await blobs.linked(self._database, repository_id, digest)

    async def keep(self, repository_id: int, digest: Digest) -> None:
        """Delay the collection of a blob by a day, because a client was told that it need not send it."""
        async with self._database.transaction() as transaction:
            await manifests.ask_review(transaction, repository_id, [digest], time.time() + GRACE_SECONDS)

    async def mount(
        self, repository: Repository, digest: Digest, source: Repository | None, pushed_by: str = ""
    ) -> bool:
        """Link a blob of ``source`` into ``repository``; return False if it was not found.

        The caller has checked that the same token may pull from ``source``. If ``source`` is None, only the
        repository's own project is searched. Otherwise a mount would reveal the digests of other people
        (distribution-spec, end-11). A blob from another project is charged to this one; raises QuotaExceeded. It
        belongs to the push of ``pushed_by``, a principal's subject.
        """

        async def link(transaction: Transaction) -> bool:
            if source is None:
                found = await blobs.served_in_project(transaction, repository.project_id, digest)
            else:
                found = source.id is not None and bool(await blobs.linked_sizes(transaction, source.id, [digest]))
            if not found:
                return False
            repository_id = await ensure(transaction, repository)
            project_id, review_at = repository.project_id, time.time() + GRACE_SECONDS
            await manifests.ask_review_of_push(
                transaction, repository_id, digest, review_at, project_id=project_id, pushed_by=pushed_by
            )
            return await blobs.add_link(transaction, project_id, repository_id, digest)

        try:
            return await unfinished.transact(self._database, link)
        except QuotaExceeded:
            if repository.id is not None:
                await unfinished.free_failed(self._database, repository.project_id, repository.id, pushed_by)
            raise

    async def delete(self, repository: Repository, digest: Digest) -> None:
        """Remove a blob from the repository; raises BlobUnknown."""

        async def unlink(transaction: Transaction) -> bool:
            return repository.id is not None and await blobs.unlink(transaction, repository.id, digest)

        if not await self._database.transact(unlink):
            raise BlobUnknown("%(repository)s has no blob %(digest)s", repository=repository.name, digest=digest)
