"""What a project answers to those who pull, whichever kind it is.

Hosting and mirroring are two implementations of one interface. `app.web.v2.contents` chooses one for each pull, by the
project's kind; the implementations do not ask again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol, Self

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

Read = Callable[[int, int | None], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class Client:
    """Who is asking: ``name`` is the person, the robot or the address block that fairness counts.

    ``may_fill``: may spend what the upstream still allows on something that is not cached yet.
    """

    name: str
    may_fill: bool


class ClientGone(Exception):
    """The client closed its connection before it had sent, or been sent, everything."""


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    """A manifest as it goes out; ``size`` in bytes. ``payload`` is None where a HEAD was answered without having it.

    ``warning`` says in words where it may not be the newest.
    """

    digest: Digest
    media_type: str
    size: int
    payload: bytes | None
    warning: str | None = None

    @classmethod
    def of(cls, stored: StoredManifest, warning: str | None = None) -> Self:
        """Answer what is stored."""
        return cls(stored.digest, stored.media_type, len(stored.payload), stored.payload, warning)


@dataclass(frozen=True, slots=True)
class BlobAnswer:
    """A blob as it goes out; ``size`` in bytes is None only where an upstream would not say.

    ``source`` is the key of its object where the store has it, a function that gives its bytes where they are on
    their way (whoever calls it closes what it gives), and None where only its size was asked for.
    """

    digest: Digest
    size: int | None
    source: str | Read | None


class Content(Protocol):
    """What can be pulled from a project. Every method raises NameUnknown where there is no such repository."""

    async def manifest(
        self, repository: Repository, reference: Reference, client: Client, *, head: bool
    ) -> ManifestAnswer:
        """Answer a manifest, or with ``head`` what is known of it; raises ManifestUnknown."""

    async def blob(self, repository: Repository, digest: Digest, client: Client, *, head: bool) -> BlobAnswer:
        """Answer a blob, or with ``head`` what is known of it; raises BlobUnknown."""

    async def tags(self, repository: Repository, after: str, limit: int) -> list[str]:
        """List tags by key, past ``after``, in ASCII order."""

    async def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str | None, after: str, limit: int
    ) -> tuple[list[Referrer], bool]:
        """List what names ``subject``, by digest, past ``after``: ``limit`` at most; and say whether there are more."""


class HostedContent:
    """What people have pushed."""

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
        return ManifestAnswer.of(found)

    async def blob(self, repository: Repository, digest: Digest, client: Client, *, head: bool) -> BlobAnswer:
        repository_id = known(repository)
        found = await self._blobs.find(repository_id, digest)
        if found is None:
            raise BlobUnknown("%(repository)s has no blob %(digest)s", repository=repository.name, digest=digest)
        self._pulls.blob(repository_id, digest)
        return BlobAnswer(digest, found.size, found.object_key)

    async def tags(self, repository: Repository, after: str, limit: int) -> list[str]:
        repository_id = known(repository)
        return await self._database.read(manifests.tags, repository_id, after, limit)

    async def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str | None, after: str, limit: int
    ) -> tuple[list[Referrer], bool]:
        repository_id = known(repository)
        return await self._database.read(manifests.referrers, repository_id, subject, artifact_type, after, limit)


def known(repository: Repository) -> int:
    """Answer the repository's id; raises NameUnknown where nothing was ever put there."""
    if repository.id is None:
        raise NameUnknown("there is no repository %(repository)r", repository=repository.name)
    return repository.id
