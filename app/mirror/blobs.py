"""Blobs of a mirror: from the store where this repository was given them before, else from a fill of the upstream.

That the store has a digest counts for nothing: a repository's first look at a blob is answered by the upstream, which
either sends it or, where the bytes are here for another repository, says that it would.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from prometheus_client import Counter

from app.database import Database, Transaction, blobs, manifests, projects
from app.kit.single_flight import SingleFlight
from app.oci.digest import Digest
from app.oci.errors import Denied, Unavailable
from app.projects.service import Repository, ensure
from app.registry.blobs import Blobs
from app.registry.content import BlobAnswer, Client
from app.registry.pulls import Pulls
from app.storage import BlobStore, new_key

from .fill import Fill
from .statistics import Traffic
from .upstream import BlobBody
from .upstream_access import AccessByProject, UpstreamAccess

PULLS = Counter("registry_mirror_blobs_total", "Blobs asked of a mirror, by where they came from.", ["outcome"])

# Until the verified bytes are in the store and recorded, their object is garbage-to-be (see app.storage.interface).
_COMMIT_SECONDS = 24 * 3600


class MirrorBlobs:
    """Answers blobs of one upstream's mirrors."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        stored: Blobs,
        access: AccessByProject,
        pulls: Pulls,
        traffic: Traffic,
    ) -> None:
        self._database = database
        self._store = store
        self._stored = stored
        self._access = access
        self._pulls = pulls
        self._traffic = traffic
        self._looks: SingleFlight[int] = SingleFlight()
        self._admissions: SingleFlight[Repository] = SingleFlight()

    async def head(self, repository: Repository, digest: Digest) -> BlobAnswer:
        """Say how large a blob is; raises BlobUnknown, and whatever the upstream says."""
        cached = await self._cached(repository, digest)
        if cached is not None:
            return cached
        return BlobAnswer(digest, await self._look(repository, digest), None)

    async def get(self, repository: Repository, digest: Digest, client: Client) -> BlobAnswer:
        """Answer a blob, as it comes where it is not here yet; raises BlobUnknown, and whatever the upstream says."""
        for _ in range(2):
            cached = await self._cached(repository, digest)
            if cached is not None:
                PULLS.labels("cached").inc()
                self._traffic.hit(repository.project_id, cached.size or 0)
                return cached
            access = await self._access.of(repository.project_id)
            size = await self._expected_size(repository, digest, client, access)
            fill = await self._fill(repository, digest, size, access)
            if fill is not None:
                PULLS.labels("filled").inc()
                await fill.ready()
                self._keep(repository, digest, fill)
                self._traffic.miss(repository.project_id, fill.size or size)
                if fill.size is not None:
                    return BlobAnswer(digest, fill.size, fill.read)
                return BlobAnswer(digest, size, partial(fill.read_as, size))
            # The store has it by now, or had it all along for another repository.
            admit = partial(self._admit, repository, digest)
            repository = await self._admissions.join((repository.name, digest), admit)
        raise Unavailable(f"{digest} was removed from the cache while it was asked for", headers={"Retry-After": "1"})

    async def close(self) -> None:
        """Stop what is under way; the fills are closed by whoever made them."""
        await self._admissions.close()
        await self._looks.close()

    async def _cached(self, repository: Repository, digest: Digest) -> BlobAnswer | None:
        if repository.id is None:
            return None
        found = await self._stored.find(repository.id, digest)
        if found is None:
            return None
        self._pulls.blob(repository.id, digest)
        return BlobAnswer(digest, found.size, found.object_key)

    async def _look(self, repository: Repository, digest: Digest) -> int:
        async def look() -> int:
            access = await self._access.of(repository.project_id)
            lookup = access.lookup_client(public=repository.public)
            return await lookup.head_blob(repository.name.repository, digest)

        return await self._looks.join((repository.name, digest), look)

    async def _expected_size(
        self, repository: Repository, digest: Digest, client: Client, access: UpstreamAccess
    ) -> int:
        """Say how large a blob that is not cached should be, once it is clear that the client may have it fetched."""
        if not client.may_fill:
            raise Denied(
                f"{digest} of {repository.name} is not cached here yet, and only those who log in may have it fetched "
                "from outside the university: docker login, and pull again"
            )
        size = None
        if repository.id is not None:
            size = await manifests.part_size(self._database, repository.id, digest, is_manifest=False)
        if size is None or (repository.public and access.has_accounts):
            # A fill that is joined was begun for whoever asked first, of whichever repository, with our account.
            size = await self._look(repository, digest)
        return size

    async def _fill(self, repository: Repository, digest: Digest, size: int, access: UpstreamAccess) -> Fill | None:
        def fetch(offset: int) -> AbstractAsyncContextManager[BlobBody]:
            return access.pull_client.open_blob(repository.name.repository, digest, offset)

        async def commit(path: Path, length: int) -> None:
            await self._commit(repository, digest, path, length)

        async def present() -> bool:
            return await blobs.present(self._database, digest)

        return await access.fills.follow(digest, fetch, commit, present, size, repository=str(repository.name))

    async def _commit(self, repository: Repository, digest: Digest, path: Path, size: int) -> None:
        key = new_key()
        async with self._database.transaction() as transaction:
            await blobs.discard(transaction, key, _COMMIT_SECONDS)
        await self._store.adopt(key, path)

        async def record(transaction: Transaction) -> None:
            await blobs.add(transaction, digest, key, size)
            await self._add_link(transaction, repository, digest)

        await self._database.transact(record)
        self._traffic.fetched(repository.project_id, size)

    def _keep(self, repository: Repository, digest: Digest, fill: Fill) -> None:
        """Have the repository keep what a fill brings that was, perhaps, begun for another one."""

        async def keep() -> Repository:
            await fill.done()
            return await self._admit(repository, digest)

        self._admissions.begin((repository.name, digest), keep)

    async def _admit(self, repository: Repository, digest: Digest) -> Repository:
        """Link what the store has; unless that was done already, the upstream is asked about this repository."""
        if repository.id is None:
            path = repository.name.repository
            made = await projects.repository_id(self._database, repository.project_id, path)
            repository = replace(repository, id=made)
        if repository.id is not None and await self._stored.find(repository.id, digest) is not None:
            return repository
        await self._look(repository, digest)

        async def link(transaction: Transaction) -> int:
            return await self._add_link(transaction, repository, digest)

        return replace(repository, id=await self._database.transact(link))

    async def _add_link(self, transaction: Transaction, repository: Repository, digest: Digest) -> int:
        repository_id = await ensure(transaction, repository)
        await blobs.add_link(transaction, repository.project_id, repository_id, digest)
        return repository_id
