"""Serve a mirror's blobs: from the store if the blob is linked in this repository, else from a fill of the upstream.

    linked in this repository? ── yes ─► the store
       │ no
    join the fill of the blob ─────────► its bytes while they come; linked here when it ends
       │ the store has it by now, or had it for another repository
    ask the upstream about this one ───► linked here, and from the store

A digest in the store gives a repository no right to it. The upstream decides about a repository's first pull of a blob.
It sends the blob or, if the bytes are here for another repository, confirms by HEAD that it would.
"""

from __future__ import annotations

from functools import partial

from prometheus_client import Counter

from app.database.traffic import Counts
from app.kit.facts import current, spending
from app.kit.single_flight import SingleFlight
from app.oci.digest import Digest
from app.oci.errors import Unavailable
from app.projects.service import Repository
from app.registry.content import BlobAnswer, Client
from app.registry.pulls import Pulls

from .answers import NotCached
from .fill import Fill
from .fills import BlobRequest, Fills
from .statistics import Traffic
from .stored_blobs import StoredBlobs
from .upstream_access import AccessByProject, UpstreamAccess

PULLS = Counter("registry_mirror_blobs_total", "Blobs requested from a mirror, by their source.", ["outcome"])


class MirrorBlobs:
    """Serves the blobs of one upstream's mirrors."""

    def __init__(
        self, stored: StoredBlobs, access: AccessByProject, fills: Fills, pulls: Pulls, traffic: Traffic
    ) -> None:
        self._stored = stored
        self._access = access
        self._fills = fills
        self._pulls = pulls
        self._traffic = traffic
        self._lookups: SingleFlight[int] = SingleFlight()
        self._admissions: SingleFlight[Repository] = SingleFlight()

    async def head(self, repository: Repository, digest: Digest, client: Client) -> BlobAnswer:
        """Return a blob's size without its bytes; raises BlobUnknown, NotCached, and any failure of the upstream."""
        cached = await self._cached(repository, digest)
        if cached is not None:
            return cached
        _require_insider(repository, digest, client)
        with spending("upstream"):
            size = await self._look_up(repository, digest)
        current().outcome = "asked"
        return BlobAnswer(digest, size, None)

    async def get(self, repository: Repository, digest: Digest, client: Client) -> BlobAnswer:
        """Return a blob, while it still comes if it is not here yet; raises BlobUnknown, and any upstream failure."""
        for _ in range(2):
            cached = await self._cached(repository, digest)
            if cached is not None:
                PULLS.labels("cached").inc()
                self._traffic.count(repository.project_id, Counts(hits=1, served_bytes=cached.size or 0))
                return cached
            with spending("upstream"):
                access = await self._access.of(repository.project_id)
                size = await self._expected_size(repository, digest, client, access)
                request = BlobRequest(repository, digest, size, access.pull_client, access.spool)
                fill = await self._fills.join(request)
                if fill is not None:
                    await fill.ready()
            if fill is not None:
                PULLS.labels("filled").inc()
                facts = current()
                facts.outcome = facts.outcome or "followed"
                # The fill may have begun for another repository. This one gets a link to the blob, too.
                self._admissions.begin((repository.name, digest), partial(self._keep, repository, digest, fill))
                self._traffic.count(repository.project_id, Counts(misses=1, served_bytes=fill.size or size))
                if fill.size is not None:
                    return BlobAnswer(digest, fill.size, fill.read)
                return BlobAnswer(digest, size, partial(fill.read_as, size))
            # The store has the blob by now, or had it before for another repository.
            admit = partial(self._admit, repository, digest)
            repository = await self._admissions.join((repository.name, digest), admit)
        raise Unavailable(
            "%(digest)s was removed from the cache during this request; try again",
            digest=digest,
            headers={"Retry-After": "1"},
        )

    async def bring(self, repository: Repository, digest: Digest, client: Client) -> None:
        """Fetch a blob unless it is here, and return when it is linked; raises BlobUnknown, any upstream failure."""
        for _ in range(2):
            repository = await self._stored.made_meanwhile(repository)
            if await self._stored.find(repository, digest) is not None:
                return
            access = await self._access.of(repository.project_id)
            size = await self._expected_size(repository, digest, client, access)
            fill = await self._fills.join(BlobRequest(repository, digest, size, access.pull_client, access.spool))
            admit = partial(self._admit, repository, digest)
            keep = admit if fill is None else partial(self._keep, repository, digest, fill)
            await self._admissions.join((repository.name, digest), keep)

    async def close(self) -> None:
        """Stop the lookups and links under way; the owner of the fills closes them."""
        await self._admissions.close()
        await self._lookups.close()

    async def _cached(self, repository: Repository, digest: Digest) -> BlobAnswer | None:
        found = await self._stored.find(repository, digest)
        if found is None or repository.id is None:
            return None
        self._pulls.blob(repository.id, digest)
        return BlobAnswer(digest, found.size, found.object_key)

    async def _look_up(self, repository: Repository, digest: Digest) -> int:
        return await self._lookups.join((repository.name, digest), partial(self._ask_size, repository, digest))

    async def _ask_size(self, repository: Repository, digest: Digest) -> int:
        access = await self._access.of(repository.project_id)
        client = access.lookup_client(public=repository.public)
        described = await self._stored.described_size(repository, digest)
        return await client.head_blob(repository.name.repository, digest, described)

    async def _expected_size(
        self, repository: Repository, digest: Digest, client: Client, access: UpstreamAccess
    ) -> int:
        """Return the size a missing blob should have, in bytes; raises NotCached if the client may not fill."""
        _require_insider(repository, digest, client)
        size = await self._stored.described_size(repository, digest)
        if size is None or (repository.public and access.has_accounts):
            # A fill that runs for another repository, or with an account, gives this client no right to the blob.
            size = await self._look_up(repository, digest)
        return size

    async def _keep(self, repository: Repository, digest: Digest, fill: Fill) -> Repository:
        await fill.done()
        return await self._admit(repository, digest)

    async def _admit(self, repository: Repository, digest: Digest) -> Repository:
        """Link a blob of the store in the repository, after asking the upstream about it; return the repository.

        The upstream is not asked if the blob is linked already.
        """
        repository = await self._stored.made_meanwhile(repository)
        if await self._stored.find(repository, digest) is not None:
            return repository
        await self._look_up(repository, digest)
        return await self._stored.link(repository, digest)


def _require_insider(repository: Repository, digest: Digest, client: Client) -> None:
    """Raise NotCached for a client whose requests for missing blobs must not reach the upstream."""
    if not client.may_fill:
        raise NotCached(
            "%(digest)s of %(repository)s is not cached here yet, and only those who log in may have it fetched "
            "from outside the university; run docker login, and pull again",
            digest=digest,
            repository=repository.name,
        )
