"""Artifacts as people see them: manifests with their tags, sizes, platforms, history and referrers.

A list shows a manifest if it has a tag or belongs to no other manifest. The children of an index are shown with the
index, and a referrer is shown with its subject, if that is in the repository.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from app.access.computations import Computations
from app.access.errors import Conflict, Missing, PreconditionFailed
from app.database import Database, Transaction, artifacts, labels, manifests, tag_history
from app.database.artifacts import (
    DETAILED_BYTES,
    EVERYTHING,
    LISTED_BYTES,
    Accessory,
    ArtifactFilter,
    ArtifactRow,
    Part,
    TagEntry,
    kind_of,
)
from app.database.keyset import Count, Entries, Page
from app.database.labels import Label
from app.database.text import storable
from app.oci.digest import Digest
from app.oci.errors import DigestInvalid
from app.oci.manifest import MAX_MANIFEST_BYTES, Descriptor
from app.oci.reference import Reference, Tag
from app.projects import checks, unfinished
from app.projects.immutability import require_deletable_manifest, require_deletable_tag
from app.storage import BlobStore

from .attachments import Attachment, attachments
from .deletion import delete_manifest, delete_tags
from .image_configs import ImageConfigs
from .image_details import (
    Child,
    ImageConfig,
    Platform,
    annotations_of,
    children_of,
    default_child,
    platforms_of,
)
from .manifests import emit_deletion, parse

# The tags of an artifact that are shown with it. They have a list of their own.
_TAGS_SHOWN = 10
_REFERRERS_SHOWN = 100
_CHILDREN_SHOWN = 1000
# The children whose whole size is added up. Images have a dozen platforms.
_CHILDREN_SIZED = 100
# The layers of one image of which it is looked up whether they are here.
_PARTS_LOOKED = 1000
# A list shows so much of one artifact. The artifact itself has all labels and annotations.
_LABELS_LISTED = 10
_ANNOTATION_BYTES_LISTED = 4096


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact as lists show it; sizes in bytes, times in Unix seconds.

    ``kind`` is "image", "index", "chart" (Helm), "wasm", else the artifact type itself. ``size`` counts the manifest
    and each of its parts once. For an index, that includes the parts of the children that are here. Of tens of
    thousands of parts it counts some. ``tags`` are the newest few of ``tag_count``. In a list, ``labels`` are the first
    few, and ``annotations`` those that fit into 4 KiB. A list shows neither annotations nor platforms of manifests of
    more than 32 KiB.
    """

    repository_id: int
    digest: Digest
    media_type: str
    artifact_type: str | None
    kind: str
    size: int
    annotations: Mapping[str, str]
    subject: str | None
    pushed_at: float
    pulled_at: float
    tags: Sequence[TagEntry]
    tag_count: int
    platforms: Sequence[Platform]
    labels: Sequence[Label]
    referrer_count: int

    @property
    def key(self) -> str:
        """Return the artifact's key in `Artifacts.page`."""
        return f"{self.pushed_at!r},{self.digest}"


@dataclass(frozen=True, slots=True)
class ArtifactDetail:
    """An artifact with its details, and the first ``children`` of an index.

    ``config`` is None if it is not an image, or not here (in a mirror). ``said`` is as in `Artifacts.described`.
    """

    artifact: Artifact
    payload: bytes
    layers: Sequence[Descriptor]
    config_type: str | None
    config_digests: frozenset[Digest]
    config: ImageConfig | None
    children: Sequence[Child]
    referrers: Sequence[Accessory]
    attachments: Sequence[Attachment]
    said: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cached:
    """How much of an artifact a mirror has: of so many parts, so many are ``here``.

    The parts of an image are its config and layers, those of an index its images. ``compared_at`` is the time at which
    its newest tag was last compared with the upstream (Unix seconds), None if it has no tag.
    """

    parts: int
    here: int
    compared_at: float | None


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag of a repository as its page lists it, with the artifact that it names and what is attached to that."""

    tag: TagEntry
    artifact: Artifact
    attachments: Sequence[Attachment]

    @property
    def key(self) -> str:
        """Return the tag's key in `Artifacts.tag_page`."""
        return f"{self.tag.pushed_at!r},{self.tag.name}"


class Artifacts:
    """Reads and changes artifacts of hosting projects and of mirrors alike."""

    def __init__(
        self, database: Database, store: BlobStore, computations: Computations, *, has_bin: bool = False
    ) -> None:
        """``has_bin``: what is deleted goes to the bin."""
        self._has_bin = has_bin
        self._computations = computations
        self._database = database
        self._configs = ImageConfigs(database, store)

    async def page(self, repository_id: int, page: Page[str], wanted: ArtifactFilter = EVERYTHING) -> Entries[Artifact]:
        """List artifacts, newest push first; their keys are `Artifact.key`, and a search matches their tags.

        Raises Invalid for a wrong key.
        """
        async with self._database.reading() as transaction:
            rows = await artifacts.page(transaction, repository_id, page.with_keys(_key), wanted)
            found = await _gather(transaction, repository_id, rows, LISTED_BYTES)
        reached = None if rows.reached is None else f"{rows.reached[0]!r},{rows.reached[1]}"
        listed = await asyncio.gather(*(self._artifact(repository_id, row, found) for row in rows))
        return Entries([_shortened(artifact) for artifact in listed], reached)

    async def total(self, repository_id: int, search: str = "", wanted: ArtifactFilter = EVERYTHING) -> Count:
        """Count the artifacts that `page` lists."""
        return await self._database.read(artifacts.total, repository_id, wanted, search)

    async def tag_page(
        self, repository_id: int, page: Page[str], *, by_name: bool = False, backwards: bool = False
    ) -> Entries[TagRow]:
        """List a repository's tags with their artifacts, the newest first or by name; keys are `TagRow.key`.

        ``backwards``: the other way round. Tags that only attach something to a manifest are left out. Raises Invalid
        for a wrong key.
        """
        async with self._database.reading() as transaction:
            tags = await artifacts.shown_tags(
                transaction, repository_id, page.with_keys(checks.position), by_name=by_name, backwards=backwards
            )
            rows = {
                row.digest: row for row in await artifacts.some(transaction, repository_id, {t.digest for t in tags})
            }
            found = await _gather(transaction, repository_id, list(rows.values()), LISTED_BYTES)
            attached = await attachments(transaction, repository_id, found.payloads)
        listed = await asyncio.gather(*(self._artifact(repository_id, row, found) for row in rows.values()))
        shown = {artifact.digest: _shortened(artifact) for artifact in listed}
        entries = [TagRow(tag, shown[tag.digest], attached.get(tag.digest, ())) for tag in tags if tag.digest in shown]
        return Entries(entries, None if tags.reached is None else f"{tags.reached[0]!r},{tags.reached[1]}")

    async def total_tags(self, repository_id: int, search: str = "") -> Count:
        """Count the tags that `tag_page` lists."""
        return await self._database.read(artifacts.total_shown_tags, repository_id, search)

    async def described(self, repository_id: int, digest: Digest) -> Mapping[str, str]:
        """Return what an image says about itself: its labels, and over them its annotations.

        Of an index, the image for linux/amd64 says it too. Raises Unavailable.
        """
        found = await self._database.read(artifacts.payloads, repository_id, [digest], DETAILED_BYTES)
        return await self._about(repository_id, digest, found.get(digest, b""))

    async def _about(self, repository_id: int, digest: Digest, payload: bytes) -> dict[str, str]:
        child, said = default_child(payload), {}
        if child is not None:
            more = await self._database.read(artifacts.payloads, repository_id, [child], LISTED_BYTES)
            said = await self._said(repository_id, child, more.get(child, b""))
        return said | await self._said(repository_id, digest, payload)

    async def _said(self, repository_id: int, digest: Digest, payload: bytes) -> dict[str, str]:
        config = await self._configs.read_soft(repository_id, digest, payload)
        labels = config.labels if config is not None else None
        return {**(labels or {}), **annotations_of(payload)}

    async def resolve(self, repository_id: int, reference: Reference) -> Digest:
        """Return the digest of the manifest that a tag or a digest names; raises Missing."""
        if isinstance(reference, Digest):
            found = reference if await manifests.present(self._database, repository_id, reference) else None
        else:
            tagged = await manifests.tagged(self._database, repository_id, reference)
            found = tagged.digest if tagged else None
        if found is None:
            raise Missing("there is no artifact %(reference)s in this repository", reference=reference)
        return found

    async def find(self, repository_id: int, reference: Reference) -> Artifact:
        """Return one artifact, also one that `page` shows with another; raises Missing."""
        row, found = await self._read(repository_id, reference)
        return await self._artifact(repository_id, row, found)

    async def detail(self, repository_id: int, reference: Reference) -> ArtifactDetail:
        """Return all details of an artifact; raises Missing, TooManyRequests, and Unavailable if the store is down."""
        row, found = await self._read(repository_id, reference)
        # Empty if it is too large: then it is parsed once, and nothing more is read of it.
        shown = found.payloads.get(row.digest, b"")
        payload = shown or await self._payload(repository_id, row.digest)
        parsed = await parse(self._computations, f"repository {repository_id}", payload, row.media_type)
        children = children_of(shown)[:_CHILDREN_SHOWN] if parsed.is_index else []
        digests = [child.digest for child in children]
        async with self._database.reading() as transaction:
            here = await artifacts.present(transaction, repository_id, digests)
            stored = await artifacts.linked(transaction, repository_id, set(digests) - here)
            referrers = await artifacts.accessories(transaction, repository_id, row.digest, "", _REFERRERS_SHOWN)
            attached = await attachments(transaction, repository_id, {row.digest: shown})
            sizes = await _sizes(transaction, repository_id, sorted(here)[:_CHILDREN_SIZED])
        return ArtifactDetail(
            artifact=await self._artifact(repository_id, row, found),
            payload=payload,
            layers=parsed.layers,
            config_type=parsed.config.media_type or None if parsed.config else None,
            config_digests=frozenset({parsed.config.digest} if parsed.config else ()),
            config=await self._configs.read(repository_id, row.digest, shown),
            children=[
                replace(
                    child,
                    present=child.digest in here,
                    stored=child.digest in stored,
                    total=child.size + sizes[child.digest] if child.digest in sizes else None,
                )
                for child in children
            ],
            referrers=referrers,
            attachments=attached[row.digest],
            said=await self._about(repository_id, row.digest, shown),
        )

    async def cached(self, repository_id: int, detail: ArtifactDetail) -> Cached:
        """Say how much of an artifact is here, for a mirror; raises Unavailable."""
        children = {child.digest: child for child in detail.children}
        here = sum(child.present or child.stored for child in children.values())
        blobs = {layer.digest for layer in detail.layers[:_PARTS_LOOKED]} | detail.config_digests
        async with self._database.reading() as transaction:
            here += len(await artifacts.linked(transaction, repository_id, blobs))
            compared_at = await artifacts.compared_at(transaction, repository_id, detail.artifact.digest)
        return Cached(len(children) + len(blobs), here, compared_at)

    async def referrers(
        self, repository_id: int, digest: Digest, *, after: str = "", limit: int = 50
    ) -> list[Accessory]:
        """List the manifests that name this one as their subject (signatures, SBOMs), by digest, past ``after``."""
        if not storable(after):
            return []
        return await self._database.read(artifacts.accessories, repository_id, digest, after, limit)

    async def add_tag(self, repository_id: int, digest: Digest, tag: Tag, by: str = "") -> None:
        """Add a tag to a manifest; raises Missing, and Conflict if the repository has that tag already.

        ``by`` is the principal's subject, for the tag's history.
        """

        async def add(transaction: Transaction) -> bool | None:
            if not await manifests.sizes(transaction, repository_id, [digest]):
                return None
            return await artifacts.add_tag(transaction, repository_id, digest, tag, time.time(), by)

        added = await unfinished.transact(self._database, add)
        if added is None:
            raise _missing(digest)
        if not added:
            raise Conflict(
                "the repository has a tag %(tag)s already; remove it first, or push it again to move it", tag=tag
            )

    async def remove_tag(self, repository_id: int, digest: Digest, tag: Tag, deleted_by: str = "") -> None:
        """Remove a tag from a manifest, which is collected a day later if nothing else keeps it.

        ``deleted_by`` is a principal's subject.

        Raises Missing, and Denied (412) if the tag is immutable.
        """

        async def remove(transaction: Transaction) -> None:
            await require_deletable_tag(transaction, repository_id, tag)
            named = await manifests.named_by(transaction, repository_id, tag)
            if named != digest:
                raise Missing("%(digest)s has no tag %(tag)s in this repository", digest=digest, tag=tag)
            await tag_history.end_tag(transaction, repository_id, tag)
            await delete_tags(transaction, repository_id, digest, [tag], self._into_bin(deleted_by), leased=True)

        await self._database.transact(remove)

    async def remove(self, repository_id: int, digest: Digest, deleted_by: str = "") -> None:
        """Delete a manifest with its tags and referrers; ``deleted_by`` is a principal's subject.

        Raises Missing, PreconditionFailed for a manifest that an index names, which would break on that platform, and
        Denied (412) if a tag of it is immutable.
        """

        async def remove(transaction: Transaction) -> bool:
            index = await manifests.index_of(transaction, repository_id, digest)
            if index is not None:
                raise PreconditionFailed(
                    "the index %(index)s names %(digest)s; delete the index first", index=index, digest=digest
                )
            await require_deletable_manifest(transaction, repository_id, digest)
            await tag_history.end_tags_of(transaction, repository_id, [digest])
            await emit_deletion(transaction, repository_id, digest, deleted_by)
            return await delete_manifest(transaction, repository_id, digest, self._into_bin(deleted_by))

        if not await self._database.transact(remove):
            raise _missing(digest)

    def _into_bin(self, deleted_by: str) -> str | None:
        return deleted_by if self._has_bin else None

    async def _read(self, repository_id: int, reference: Reference) -> tuple[ArtifactRow, _Found]:
        digest = await self.resolve(repository_id, reference)
        async with self._database.reading() as transaction:
            row = await artifacts.find(transaction, repository_id, digest)
            if row is None:
                raise _missing(digest)
            return row, await _gather(transaction, repository_id, [row], DETAILED_BYTES)

    async def _payload(self, repository_id: int, digest: Digest) -> bytes:
        found = await self._database.read(artifacts.payloads, repository_id, [digest], MAX_MANIFEST_BYTES)
        if digest not in found:
            raise _missing(digest)
        return found[digest]

    async def _artifact(self, repository_id: int, row: ArtifactRow, found: _Found) -> Artifact:
        tag_count, tags = found.tags.get(row.digest, (0, []))
        payload = found.payloads.get(row.digest)
        platforms: Sequence[Platform] = ()
        if payload is not None:
            platforms = platforms_of(payload)
            config = None if platforms else await self._configs.read_soft(repository_id, row.digest, payload)
            if config is not None and config.platform is not None:
                platforms = (config.platform,)
        return Artifact(
            repository_id=repository_id,
            digest=row.digest,
            media_type=row.media_type,
            artifact_type=row.artifact_type,
            kind=kind_of(row.media_type, row.artifact_type),
            size=row.size + found.sizes[row.digest],
            annotations=row.annotations,
            subject=row.subject,
            pushed_at=row.pushed_at,
            pulled_at=row.pulled_at,
            tags=tags,
            tag_count=tag_count,
            platforms=platforms,
            labels=found.labels.get(row.digest, ()),
            referrer_count=row.referrers,
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """The tags, labels, payloads and sizes of the artifacts of one page, by their digests."""

    tags: Mapping[str, tuple[int, Sequence[TagEntry]]]
    labels: Mapping[str, Sequence[Label]]
    payloads: Mapping[str, bytes]
    sizes: Mapping[str, int]


async def _gather(transaction: Transaction, repository_id: int, rows: Sequence[ArtifactRow], most_bytes: int) -> _Found:
    digests = [row.digest for row in rows]
    return _Found(
        await artifacts.newest_tags(transaction, repository_id, digests, _TAGS_SHOWN),
        await labels.of_manifests(transaction, repository_id, digests),
        await artifacts.payloads(transaction, repository_id, digests, most_bytes),
        await _sizes(transaction, repository_id, digests),
    )


def _shortened(artifact: Artifact) -> Artifact:
    """Return an artifact as a list shows it."""
    room, kept = _ANNOTATION_BYTES_LISTED, {}
    for name, value in artifact.annotations.items():
        size = len(json.dumps({name: value}))
        if size <= room:
            room -= size
            kept[name] = value
    return replace(artifact, annotations=kept, labels=artifact.labels[:_LABELS_LISTED])


async def _sizes(transaction: Transaction, repository_id: int, digests: Collection[str]) -> dict[str, int]:
    """Return the size of each manifest's parts in bytes, two levels deep: an index, its images, their blobs."""
    parts: dict[str, list[Part]] = {digest: [] for digest in digests}
    for part in await artifacts.parts(transaction, repository_id, digests):
        parts[part.manifest].append(part)
    children = {part.digest for found in parts.values() for part in found if part.is_manifest}
    beneath: dict[str, dict[str, int]] = {
        child: {} for child in await artifacts.present(transaction, repository_id, children)
    }
    for part in await artifacts.parts(transaction, repository_id, beneath):
        if not part.is_manifest:
            beneath[part.manifest][part.digest] = part.size
    return {digest: _size(found, beneath) for digest, found in parts.items()}


def _size(parts: Sequence[Part], beneath: Mapping[str, Mapping[str, int]]) -> int:
    """Add up a manifest's parts in bytes; ``beneath`` has the parts of the children that are here, with their sizes."""
    sizes: dict[str, int] = {}
    for part in parts:
        if not part.is_manifest:
            sizes[part.digest] = part.size
        elif part.digest in beneath:
            sizes[part.digest] = part.size
            sizes.update(beneath[part.digest])
    return sum(sizes.values())


def _key(text: str) -> tuple[float, str]:
    """Parse an `Artifact.key`; raises Invalid."""
    pushed_at, digest = checks.position(text)
    try:
        return pushed_at, Digest.parse(digest)
    except DigestInvalid:
        raise checks.no_position(text) from None


def _missing(digest: Digest) -> Missing:
    return Missing("there is no artifact %(reference)s in this repository", reference=digest)
