"""Serve the content of a mirror project: hosting's interface over an upstream's images."""

from __future__ import annotations

from collections.abc import Callable

from app.database import Database, projects
from app.database.manifests import StoredManifest
from app.database.traffic import Counts
from app.kit.batched_counter import BatchedCounter
from app.kit.facts import current, spending
from app.oci.digest import Digest
from app.oci.errors import NameUnknown, Unauthorized
from app.oci.manifest import INDEX_TYPES
from app.oci.reference import Name, Reference, Tag
from app.projects.allowed_names import require_served
from app.projects.service import Repository
from app.registry.content import BlobAnswer, Client, Descriptor, Listed, ManifestAnswer, known
from app.registry.manifests import Manifests, unknown_manifest
from app.registry.pulls import Pulls

from .blobs import MirrorBlobs
from .listings import Fetch, MirrorListings
from .manifests import PULLS, MirrorManifests, Resolved, Unrecorded
from .statistics import Traffic

# The one upstream whose names have a hidden first part: `docker pull redis` pulls library/redis.
_DOCKER_HUB = "docker.io"
_OFFICIAL = "library"

_WARM = BatchedCounter(PULLS.labels("warm"))


class MirrorContent:
    """Implements `app.registry.content.Content`."""

    def __init__(
        self,
        database: Database,
        stored: Manifests,
        manifests: MirrorManifests,
        blobs: MirrorBlobs,
        listings: Callable[[Fetch], MirrorListings],
        pulls: Pulls,
        traffic: Traffic,
    ) -> None:
        self._database = database
        self._stored = stored
        self._manifests = manifests
        self._blobs = blobs
        self._listings = listings(self._tagged)
        self._pulls = pulls
        self._traffic = traffic

    async def manifest(
        self, repository: Repository, reference: Reference, client: Client, *, head: bool
    ) -> ManifestAnswer:
        repository = await self.meant(repository)
        warm = await self._warm(repository, reference)
        if warm is not None:
            _WARM.inc()
            self._note(known(repository), repository.project_id, warm, head=head, fetched=False)
            return ManifestAnswer.of(warm)
        facts = current()
        with spending("upstream"):
            if head and client.may_fill:
                looked = await self._manifests.look_up(repository, reference)
                if looked is not None:
                    facts.outcome = "asked"
                    return looked
            resolved = await self._manifests.resolve(repository, reference, client)
        if isinstance(resolved, Resolved) and resolved.warning is not None:
            facts.outcome = "stale"
        elif facts.outcome != "filled" and (isinstance(resolved, Unrecorded) or resolved.fetched):
            facts.outcome = "followed"
        if isinstance(resolved, Unrecorded):
            return ManifestAnswer.of(resolved.manifest, resolved.warning)
        found = await self._stored.read(resolved.repository_id, resolved.digest)
        if found is None:
            raise unknown_manifest(repository.name, reference)
        self._note(resolved.repository_id, repository.project_id, found, head=head, fetched=resolved.fetched)
        return ManifestAnswer.of(found, resolved.warning)

    async def blob(self, repository: Repository, digest: Digest, client: Client, *, head: bool) -> BlobAnswer:
        repository = await self.meant(repository)
        if head:
            return await self._blobs.head(repository, digest, client)
        return await self._blobs.get(repository, digest, client)

    async def tags(self, repository: Repository, after: str, limit: int, client: Client) -> Listed[str]:
        return await self._listings.tags(await self.meant(repository), after, limit, client)

    async def referrers(
        self,
        repository: Repository,
        subject: Digest,
        artifact_type: str | None,
        after: str,
        limit: int,
        client: Client,
    ) -> Listed[Descriptor]:
        meant = await self.meant(repository)
        return await self._listings.referrers(meant, subject, artifact_type, after, limit, client)

    async def _tagged(self, repository: Repository, tag: Tag, client: Client) -> ManifestAnswer:
        return await self.manifest(repository, tag, client, head=False)

    def _note(self, repository_id: int, project_id: int, found: StoredManifest, *, head: bool, fetched: bool) -> None:
        self._pulls.manifest(repository_id, found.digest, counts=not head and found.media_type not in INDEX_TYPES)
        if not head:
            self._traffic.count(project_id, Counts(int(not fetched), int(fetched), len(found.payload)))

    async def _warm(self, repository: Repository, reference: Reference) -> StoredManifest | None:
        """Return a manifest that needs no question to the upstream: a cached digest or a fresh tag; else None."""
        if repository.id is None:
            return None
        if isinstance(reference, Digest):
            return await self._stored.read(repository.id, reference)
        tagged = await self._stored.read_tag(repository.id, reference, leased=True)
        return tagged[0] if tagged is not None and self._manifests.is_fresh(tagged[1]) else None

    async def meant(self, repository: Repository) -> Repository:
        """Return the repository that a name means: with ``official_images: alias``, a one-part name means library/NAME.

        There is no redirect, because the client's token is for the name it typed. If the project has no alias, raises
        Unauthorized with the name to type instead. Raises Denied if the operators do not allow the name, whether it is
        cached or not (`app.projects.allowed_names`).
        """
        name = repository.name
        if repository.upstream != _DOCKER_HUB or "/" in name.repository:
            require_served(repository.settings, name)
            return repository
        if not name.repository:
            raise NameUnknown(
                "%(project)s/ is a cache of Docker Hub; pull %(project)s/library/IMAGE", project=name.project
            )
        official = Name.parse(f"{name.project}/{_OFFICIAL}/{name.repository}")
        if repository.settings.get("official_images") != "alias":
            raise Unauthorized(
                "Docker Hub has no %(repository)r; its official images are under library/: pull %(official)s",
                repository=name.repository,
                official=official,
            )
        require_served(repository.settings, official)
        repository_id = await projects.repository_id(self._database, repository.project_id, official.repository)
        return repository._replace(name=official, id=repository_id)
