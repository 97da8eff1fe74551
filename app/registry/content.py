"""The interface for pulls from a project of either kind, and its implementation for hosting.

Hosting and mirroring are two implementations of one interface. `app.web.v2.contents` chooses one for each pull, by the
project's kind. The implementations do not check the kind again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from app.database import Database, manifests
from app.database.manifests import Referrer, StoredManifest
from app.oci.digest import Digest
from app.oci.errors import BlobUnknown, NameUnknown
from app.oci.manifest import INDEX_TYPES
from app.oci.reference import Reference
from app.projects.service import Repository

from .blobs import Blobs
from .manifests import Manifests, unknown_manifest
from .pulls import Pulls

T = TypeVar("T")
# As a list of referrers shows it, a JSON object (image-spec, descriptor.md).
Descriptor = Mapping[str, object]
Read = Callable[[int, int | None], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a pull; ``name`` is the person, robot or address block that fair sharing counts.

    ``may_fill``: it may spend the upstream's budget on content that is not cached yet. ``address``: where it asks from.
    """

    name: str
    may_fill: bool
    address: str = ""


class ClientGone(Exception):
    """The client closed its connection before the request or its answer was complete, or was too slow."""


class ManifestAnswer(NamedTuple):
    """A manifest to be sent; ``size`` in bytes. ``payload`` is None if a HEAD was answered without fetching it.

    ``warning`` is set if the manifest may not be the newest, and gives the reason.
    """

    digest: Digest
    media_type: str
    size: int
    payload: bytes | None
    warning: str | None = None

    @classmethod
    def of(cls, stored: StoredManifest, warning: str | None = None) -> Self:
        """Make the answer for a stored manifest."""
        return cls(stored.digest, stored.media_type, len(stored.payload), stored.payload, warning)


@dataclass(frozen=True, slots=True)
class BlobAnswer:
    """A blob to be sent; ``size`` in bytes is None only if an upstream does not state it.

    ``source`` is the key of its object if the store has the blob. If the bytes are still coming, ``source`` is a
    function that returns a generator of them, which its caller closes. It is None if only the size was asked for.
    """

    digest: Digest
    size: int | None
    source: str | Read | None


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page of a list, and whether the list goes on. ``warning`` gives the reason if it may not be up to date."""

    entries: Sequence[T]
    more: bool
    warning: str | None = None


class Content(Protocol):
    """The content that can be pulled from a project. Methods raise NameUnknown for an unknown repository."""

    async def manifest(
        self, repository: Repository, reference: Reference, client: Client, *, head: bool
    ) -> ManifestAnswer:
        """Return a manifest; with ``head``, the payload may be left out. Raises ManifestUnknown."""

    async def blob(self, repository: Repository, digest: Digest, client: Client, *, head: bool) -> BlobAnswer:
        """Return a blob; with ``head``, the source may be left out. Raises BlobUnknown."""

    async def tags(self, repository: Repository, after: str, limit: int, client: Client) -> Listed[str]:
        """List at most ``limit`` tags in ASCII order, past ``after``."""

    async def referrers(
        self,
        repository: Repository,
        subject: Digest,
        artifact_type: str | None,
        after: str,
        limit: int,
        client: Client,
    ) -> Listed[Descriptor]:
        """List at most ``limit`` referrers of ``subject`` by digest, past ``after``; none of an unknown repository."""


class HostedContent:
    """The content that people have pushed; implements `Content`."""

    def __init__(self, database: Database, payloads: Manifests, blobs: Blobs, pulls: Pulls) -> None:
        self._database = database
        self._manifests = payloads
        self._blobs = blobs
        self._pulls = pulls

    async def manifest(
        self, repository: Repository, reference: Reference, client: Client, *, head: bool
    ) -> ManifestAnswer:
        repository_id = known(repository)
        if isinstance(reference, Digest):
            found = await self._manifests.read(repository_id, reference)
        else:
            tagged = await self._manifests.read_tag(repository_id, reference)
            found = tagged[0] if tagged else None
        if found is None:
            raise unknown_manifest(repository.name, reference)
        self._pulls.manifest(repository_id, found.digest, counts=not head and found.media_type not in INDEX_TYPES)
        if repository.pulls_noted_until is not None and repository.pulls_noted_until > time.time():
            await self._pulls.flush()
        return ManifestAnswer.of(found)

    async def blob(self, repository: Repository, digest: Digest, client: Client, *, head: bool) -> BlobAnswer:
        repository_id = known(repository)
        found = await self._blobs.find(repository_id, digest)
        if found is None:
            raise BlobUnknown("%(repository)s has no blob %(digest)s", repository=repository.name, digest=digest)
        self._pulls.blob(repository_id, digest)
        return BlobAnswer(digest, found.size, found.object_key)

    async def tags(self, repository: Repository, after: str, limit: int, client: Client) -> Listed[str]:
        # One tag more than the page has, to learn whether there is a next page.
        found = await self._database.read(manifests.tags, known(repository), after, limit + 1)
        return Listed(found[:limit], len(found) > limit)

    async def referrers(
        self,
        repository: Repository,
        subject: Digest,
        artifact_type: str | None,
        after: str,
        limit: int,
        client: Client,
    ) -> Listed[Descriptor]:
        if repository.id is None:
            return Listed((), more=False)
        found, more = await self._database.read(
            manifests.referrers, repository.id, subject, artifact_type, after, limit
        )
        return Listed([_descriptor(referrer) for referrer in found], more)


def _descriptor(referrer: Referrer) -> Descriptor:
    descriptor: dict[str, object] = {
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size,
    }
    if referrer.artifact_type:
        descriptor["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        descriptor["annotations"] = referrer.annotations
    return descriptor


def known(repository: Repository) -> int:
    """Return the repository's id; raises NameUnknown if nothing was ever stored there."""
    if repository.id is None:
        raise NameUnknown("there is no repository %(repository)r", repository=repository.name)
    return repository.id
