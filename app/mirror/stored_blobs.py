"""Find and record a mirror's stored blobs: bytes in the store, rows in SQL, links by repository."""

from __future__ import annotations

from pathlib import Path

from app.database import Database, Transaction, blobs, manifests, projects
from app.database.blobs import StoredBlob
from app.database.traffic import Counts
from app.oci.digest import Digest
from app.projects.service import Repository, ensure
from app.storage import BlobStore, new_key

from .statistics import Traffic

# Until the verified bytes are stored and recorded, their object is future garbage (see app.storage.interface).
_COMMIT_SECONDS = 24 * 3600


class StoredBlobs:
    """Finds, commits and links blobs."""

    def __init__(self, database: Database, store: BlobStore, traffic: Traffic) -> None:
        self._database = database
        self._store = store
        self._traffic = traffic

    async def find(self, repository: Repository, digest: Digest) -> StoredBlob | None:
        """Return the blob if it is linked in the repository, else None, even if the store has it."""
        return None if repository.id is None else await blobs.linked(self._database, repository.id, digest)

    async def described_size(self, repository: Repository, digest: Digest) -> int | None:
        """Return the size in bytes that a manifest of the repository gives for the blob; None if none names it."""
        if repository.id is None:
            return None
        return await manifests.part_size(self._database, repository.id, digest, is_manifest=False)

    async def present(self, digest: Digest) -> bool:
        """Return whether the store has the blob, for any repository."""
        return await blobs.present(self._database, digest)

    async def commit(self, repository: Repository, digest: Digest, path: Path, size: int) -> None:
        """Store a verified file of ``size`` bytes, which may move, and link its blob; raises Unavailable."""
        key = new_key()
        async with self._database.transaction() as transaction:
            await blobs.discard(transaction, key, _COMMIT_SECONDS)
        await self._store.adopt(key, path)

        async def record(transaction: Transaction) -> None:
            await blobs.add(transaction, digest, key, size)
            await _add_link(transaction, repository, digest, size)

        await self._database.transact(record)
        self._traffic.count(repository.project_id, Counts(fetched_bytes=size))

    async def link(self, repository: Repository, digest: Digest) -> Repository:
        """Link a blob that the store has; return the repository with its id."""

        async def link(transaction: Transaction) -> int:
            return await _add_link(transaction, repository, digest)

        return repository._replace(id=await self._database.transact(link))

    async def made_meanwhile(self, repository: Repository) -> Repository:
        """Return the repository with its current id, because it may have been made since the request came."""
        if repository.id is not None:
            return repository
        made = await projects.repository_id(self._database, repository.project_id, repository.name.repository)
        return repository._replace(id=made)


async def _add_link(transaction: Transaction, repository: Repository, digest: Digest, size: int | None = None) -> int:
    repository_id = await ensure(transaction, repository)
    await blobs.add_link(transaction, repository.project_id, repository_id, digest, size=size)
    return repository_id
