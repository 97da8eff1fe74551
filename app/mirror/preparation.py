"""Bring images to a mirror before anybody asks for them, and say what of an image is here already.

Nothing here decides when: `app.plans` does. Fetching is that of every pull, so an image that clients ask for meanwhile
is fetched once. Its GETs are spent in the name of `PLANS`, for which the ledger holds a reservation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from app.database import Database, manifests, plans, projects
from app.database.manifests import StoredManifest
from app.oci.digest import Digest
from app.oci.errors import ManifestInvalid, ManifestUnknown, NameUnknown
from app.oci.manifest import INDEX_TYPES, parse_manifest
from app.oci.reference import Name, Reference, Tag
from app.projects.allowed_names import require_served
from app.projects.service import Repository
from app.registry.content import Client
from app.registry.image_details import children_of
from app.registry.manifests import Manifests

from .answers import RateLimit
from .blobs import MirrorBlobs
from .ledger import PLANS
from .manifests import MirrorManifests, Resolved
from .statistics import BudgetView
from .stored_blobs import StoredBlobs
from .upstream_access import AccessByProject

_CLIENT = Client(PLANS, may_fill=True)
# A refreshed tag is paid for from the GETs that nobody has reserved, as a client's pull is.
_REFRESHER = Client("refresh", may_fill=True)
# The GETs of an index and of an image in it.
REFRESH_GETS = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """The upstream's description of a reference, which costs nothing; ``digest`` is None if it does not say.

    ``rate`` is None for an image that it does not count.
    """

    digest: Digest | None
    is_index: bool
    rate: RateLimit | None


@dataclass(frozen=True, slots=True)
class Survey:
    """The parts of an image that are here and that are missing, for some platforms.

    ``gets`` manifests are missing, or are expected to be. ``size`` and ``missing_size`` (bytes of blobs) are None until
    all manifests are here. ``children`` and ``blobs`` are those that are missing; ``manifests`` and ``links`` are here.
    """

    gets: int
    size: int | None = None
    missing_size: int | None = None
    children: Sequence[Digest] = ()
    blobs: Sequence[Digest] = ()
    manifests: Sequence[Digest] = ()
    links: Sequence[Digest] = ()

    @property
    def is_whole(self) -> bool:
        """Return whether all of it is here."""
        return self.size is not None and not self.gets and not self.blobs


class NoPlatform(ManifestUnknown):
    """The image is there, and it has other platforms only."""


class Preparation:
    """Prepares images in the mirrors of one upstream."""

    def __init__(
        self,
        database: Database,
        access: AccessByProject,
        found: MirrorManifests,
        blobs: MirrorBlobs,
        stored: Manifests,
        stored_blobs: StoredBlobs,
    ) -> None:
        self._database = database
        self._access = access
        self._found = found
        self._blobs = blobs
        self._stored = stored
        self._stored_blobs = stored_blobs

    async def open(self, project: str, repository: str) -> Repository:
        """Return a repository of a mirror by its names; raises NameInvalid, NameUnknown, and Denied by a rule."""
        name = Name.parse(f"{project}/{repository}")
        found = await projects.resolve(self._database, project, repository)
        if found is None:
            raise NameUnknown("there is no project %(name)r", name=project)
        project_id, public, upstream, repository_id, _, settings, _ = found
        require_served(settings, name)
        return Repository(name, project_id, public, upstream, repository_id, settings)

    async def budget(self, project_id: int) -> BudgetView:
        """Return the budget that plans of a project spend from, which is that of its first account."""
        return (await self._access.budgets(project_id))[0]

    async def reserve(self, project_id: int, gets: int, seconds: float) -> None:
        """Reserve GETs of that budget for plans, instead of those that are reserved now."""
        await (await self._access.of(project_id)).reserve(gets, seconds)

    async def look(self, repository: Repository, reference: Reference) -> Seen:
        """Ask the upstream by a HEAD, which costs nothing; a pinned tag that is here keeps its digest.

        Raises ManifestUnknown, and any failure of the upstream.
        """
        access = await self._access.of(repository.project_id)
        head = await access.look_up(repository.name.repository, reference, public=repository.public)
        digest = reference if isinstance(reference, Digest) else head.digest
        if not isinstance(reference, Digest):
            pinned = await self._found.pinned(repository, reference)
            if pinned is not None:
                await self._found.note_pinned(repository, reference, pinned, digest)
                digest = pinned
        return Seen(digest, head.media_type in INDEX_TYPES, head.answer.rate)

    async def survey(self, repository: Repository, seen: Seen, platforms: Sequence[str]) -> Survey:
        """Find out what of an image is here; raises NoPlatform."""
        price = 0 if seen.rate is None else 1
        first = await self._read(repository, seen.digest)
        if first is None or seen.digest is None:
            return Survey(price * (1 + len(platforms) * seen.is_index))
        images, missing = [first], []
        if first.media_type in INDEX_TYPES:
            wanted = _chosen(first, platforms)
            read = [(digest, await self._read(repository, digest)) for digest in wanted]
            images = [image for _, image in read if image is not None]
            missing = [digest for digest, image in read if image is None]
        present = [first.digest, *(image.digest for image in images)]
        if missing:
            return Survey(price * len(missing), children=missing, manifests=present)
        sizes = _blobs(images)
        here = {digest for digest in sizes if await self._stored_blobs.find(repository, digest) is not None}
        return Survey(
            gets=0,
            size=sum(sizes.values()),
            missing_size=sum(size for digest, size in sizes.items() if digest not in here),
            blobs=[digest for digest in sizes if digest not in here],
            manifests=present,
            links=sorted(here),
        )

    async def bring_manifests(
        self, repository: Repository, reference: Reference, seen: Seen, platforms: Sequence[str]
    ) -> Survey:
        """Fetch the manifests of an image that are missing; return what is missing then.

        Raises TooManyRequests beyond the reservation, and any failure of the upstream.
        """
        resolved = await self._found.resolve(repository, reference, _CLIENT)
        if not isinstance(resolved, Resolved):
            return await self.survey(repository, seen, platforms)
        repository = repository._replace(id=resolved.repository_id)
        seen = seen if seen.digest is not None else replace(seen, digest=resolved.digest)
        survey = await self.survey(repository, seen, platforms)
        for child in survey.children:
            await self._found.resolve(repository, child, _CLIENT)
        return await self.survey(repository, seen, platforms) if survey.children else survey

    async def refresh(self, project: str, repository: str, tag: Tag) -> None:
        """Compare a tag with the upstream; if it moved, fetch its manifest, and those for the platforms that were here.

        Raises any failure of the upstream, and TooManyRequests.
        """
        here = await self.open(project, repository)
        known = await self.known(here, tag)
        resolved = await self._found.resolve(here, tag, _REFRESHER)
        old = await self._read(here, known)
        if (
            not isinstance(resolved, Resolved)
            or not resolved.fetched
            or old is None
            or old.media_type not in INDEX_TYPES
        ):
            return
        platforms = [
            str(child.platform)
            for child in children_of(old.payload)
            if child.platform is not None and not child.attests and await self._read(here, child.digest) is not None
        ]
        survey = await self.survey(here, Seen(resolved.digest, is_index=True, rate=None), platforms)
        for child in survey.children:
            await self._found.resolve(here, child, _REFRESHER)

    async def follow(self, project: str, repository: str, tag: Tag, client: Client) -> None:
        """Point a pinned tag at what the upstream has now; raises any failure of the upstream, and TooManyRequests."""
        await self._found.follow(await self.open(project, repository), tag, client)

    async def bring_blob(self, repository: Repository, digest: Digest) -> None:
        """Fetch a blob, and return when the repository has it; raises any failure of the upstream."""
        await self._blobs.bring(repository, digest, _CLIENT)

    async def known(self, repository: Repository, reference: Reference) -> Digest | None:
        """Return the digest that a reference has here, None if it is not here."""
        if isinstance(reference, Digest) or repository.id is None:
            return reference if isinstance(reference, Digest) else None
        tagged = await manifests.tagged(self._database, repository.id, Tag(reference), leased=True)
        return tagged.digest if tagged is not None else None

    async def keep(self, repository: Repository, survey: Survey, until: float) -> None:
        """Keep what is here of an image from eviction until a time (Unix seconds)."""
        if repository.id is not None:
            kept = partial(
                plans.keep,
                repository_id=repository.id,
                manifests=survey.manifests,
                blobs=survey.links,
                until=until,
            )
            await self._database.transact(kept, answers=False)

    async def _read(self, repository: Repository, digest: Digest | None) -> StoredManifest | None:
        if repository.id is None or digest is None:
            return None
        return await self._stored.read(repository.id, digest)


def _chosen(index: StoredManifest, platforms: Sequence[str]) -> list[Digest]:
    """List the images of an index for some platforms: linux/arm64 also means linux/arm64/v8. Raises NoPlatform."""
    children = [child for child in children_of(index.payload) if child.platform is not None and not child.attests]
    chosen = [
        child.digest
        for child in children
        if any(f"{child.platform}/".startswith(f"{platform}/") for platform in platforms)
    ]
    if not chosen:
        raise NoPlatform("the image has nothing for %(platforms)s", platforms=", ".join(platforms))
    return list(dict.fromkeys(chosen))


def _blobs(images: Sequence[StoredManifest]) -> dict[Digest, int]:
    """Return the blobs of images, with the sizes in bytes that their manifests state."""
    found: dict[Digest, int] = {}
    for image in images:
        try:
            parsed = parse_manifest(image.payload, image.media_type)
        except ManifestInvalid:
            continue
        found.update({blob.digest: blob.size or 0 for blob in parsed.blobs if blob.distributable})
    return found
