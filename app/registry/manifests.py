"""Read, push and delete the manifests and tags in the database."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from app.access.computations import Computations
from app.access.principal import name_of
from app.database import Database, Transaction, blobs, manifests, tag_history, webhooks
from app.database.manifests import StoredManifest
from app.database.quotas import QuotaExceeded
from app.database.webhooks import EventType
from app.oci.digest import Digest
from app.oci.errors import (
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
)
from app.oci.manifest import Descriptor, Manifest, parse_manifest
from app.oci.reference import Name, Reference, Tag, spelled
from app.projects import unfinished
from app.projects.immutability import require_deletable_manifest, require_deletable_tag, require_movable
from app.projects.service import Repository, ensure_for_tags

from .deletion import delete_manifest, delete_tags
from .garbage_collection import GRACE_SECONDS
from .payloads import Payloads

# Reading a longer manifest takes more than a few milliseconds. Images of a hundred layers are shorter.
_LONG = 128 * 1024


class Manifests:
    """The manifests in the database."""

    def __init__(
        self, database: Database, payloads: Payloads, computations: Computations, *, has_bin: bool = False
    ) -> None:
        """``has_bin``: what is deleted goes to the bin."""
        self._has_bin = has_bin
        self._database = database
        self._payloads = payloads
        self._computations = computations

    async def read(self, repository_id: int, digest: Digest) -> StoredManifest | None:
        """Return a manifest of the repository, else None."""
        payload = self._payloads.remembered(digest) or await self._payloads.find(digest)
        if payload is not None:
            found = await manifests.present(self._database, repository_id, digest)
            return StoredManifest(digest, found[0], payload) if found else None
        stored = await manifests.payload(self._database, repository_id, digest)
        if stored is not None:
            await self._payloads.keep(digest, stored.payload)
        return stored

    async def read_tag(
        self, repository_id: int, tag: Tag, *, leased: bool = False
    ) -> tuple[StoredManifest, float] | None:
        """Return a tag's manifest, and when it was last compared with the upstream (Unix seconds); None if unknown.

        ``leased`` is as for `app.database.manifests.tagged`.
        """
        tagged = await manifests.tagged(self._database, repository_id, tag, leased=leased)
        if tagged is None:
            return None
        payload = self._payloads.remembered(tagged.digest)
        if payload is not None:
            return StoredManifest(tagged.digest, tagged.media_type, payload), tagged.checked_at
        stored = await self.read(repository_id, tagged.digest)
        return (stored, tagged.checked_at) if stored else None

    async def put(
        self,
        repository: Repository,
        reference: Reference,
        tags: Sequence[Tag],
        content_type: str | None,
        payload: bytes,
        pushed_by: str = "",
    ) -> tuple[Digest, Manifest]:
        """Verify a manifest and write it with its tags in one transaction; return its digest and the parsed manifest.

        Raises ManifestInvalid, DigestInvalid, ManifestBlobUnknown if a part is not linked in this repository, and
        Denied (412) if a tag that names another manifest is immutable.
        Raises QuotaExceeded, and then frees the blobs that ``pushed_by``, a principal's subject, has sent for it.
        """
        # Projects take turns.
        parsed = await parse(self._computations, f"project {repository.project_id}", payload, content_type)
        if parsed.fault is not None:
            raise parsed.fault
        digest = Digest.of(payload, reference.algorithm if isinstance(reference, Digest) else "sha256")
        if isinstance(reference, Digest) and digest != reference:
            raise DigestInvalid(
                "the manifest's digest is %(digest)s, not %(reference)s", digest=digest, reference=reference
            )
        names = [*tags, reference] if isinstance(reference, Tag) else list(tags)
        told = await webhooks.wanted(self._database, repository.project_id, EventType.PUSH)

        async def put(transaction: Transaction) -> None:
            repository_id, immutable = await ensure_for_tags(transaction, repository, shown=True)
            if not names:
                # Before the manifest is locked, because the collection locks them in this order, too.
                await manifests.put_off_review(transaction, repository_id, digest, time.time() + GRACE_SECONDS)
            sizes = await _require_parts(transaction, repository_id, parsed)
            moved = await record(transaction, repository_id, digest, parsed, names, sizes, pushed_by)
            if immutable and moved:
                await require_movable(transaction, repository.project_id, repository.name.repository, moved)
            if told:
                operator = name_of(pushed_by)
                await webhooks.emit(
                    transaction, repository_id, EventType.PUSH, digest=digest, tags=names, operator=operator
                )

        try:
            await unfinished.transact(self._database, put)
        except QuotaExceeded:
            if repository.id is not None:
                await unfinished.free_failed(self._database, repository.project_id, repository.id, pushed_by)
            raise
        await self._payloads.keep(digest, payload)
        return digest, parsed

    async def keep(self, repository_id: int, digest: Digest) -> None:
        """Delay a pending collection of a manifest by a day, because a client was told that it need not send it."""
        if await manifests.under_review(self._database, repository_id, digest):
            async with self._database.transaction() as transaction:
                await manifests.put_off_review(transaction, repository_id, digest, time.time() + GRACE_SECONDS)

    async def delete(self, repository: Repository, reference: Reference, deleted_by: str = "") -> None:
        """Remove a tag, or a manifest with all its tags; ``deleted_by`` is a principal's subject.

        Both go to the bin, if there is one.

        Raises NameUnknown, ManifestUnknown, and Denied for a manifest that an index names or an immutable tag.
        """
        if repository.id is None:
            raise NameUnknown("there is no repository %(repository)r", repository=repository.name)
        repository_id = repository.id

        into_bin = deleted_by if self._has_bin else None

        async def delete(transaction: Transaction) -> bool:
            if isinstance(reference, Digest):
                index = await manifests.index_of(transaction, repository_id, reference)
                if index is not None:
                    raise _needed(reference, index)
                await require_deletable_manifest(transaction, repository_id, reference)
                await tag_history.end_tags_of(transaction, repository_id, [reference])
                await emit_deletion(transaction, repository_id, reference, deleted_by)
                return await delete_manifest(transaction, repository_id, reference, into_bin)
            await require_deletable_tag(transaction, repository_id, reference)
            await tag_history.end_tag(transaction, repository_id, reference)
            named = await manifests.named_by(transaction, repository_id, reference)
            if named is not None:
                leased = repository.upstream is not None
                await delete_tags(transaction, repository_id, named, [reference], into_bin, leased=leased)
            return named is not None

        if not await self._database.transact(delete):
            raise unknown_manifest(repository.name, reference)


async def parse(computations: Computations, whose: str, payload: bytes, content_type: str | None) -> Manifest:
    """Return a parsed manifest; a long one is parsed beside the event loop, where those of ``whose`` take turns.

    Raises as `parse_manifest` does, and TooManyRequests.
    """
    if len(payload) <= _LONG:
        return parse_manifest(payload, content_type)
    return await computations.run(whose, parse_manifest, payload, content_type)


async def emit_deletion(transaction: Transaction, repository_id: int, digest: Digest, deleted_by: str) -> None:
    """Tell the webhooks of a manifest that is about to be deleted, with its tags."""
    if await manifests.sizes(transaction, repository_id, [digest]):
        tags = await manifests.tags_of(transaction, repository_id, digest)
        await webhooks.emit(
            transaction, repository_id, EventType.DELETE, digest=digest, tags=tags, operator=name_of(deleted_by)
        )


async def record(
    transaction: Transaction,
    repository_id: int,
    digest: Digest,
    parsed: Manifest,
    tags: Iterable[str],
    sizes: Mapping[str, int] | None = None,
    pushed_by: str | None = None,
) -> Collection[str]:
    """Write a verified manifest and point tags at it; manifests that lost a tag are reviewed in a day.

    ``sizes``: the sizes (bytes) of parts that are here, because a manifest need not state them. ``pushed_by`` is as for
    `app.database.manifests.set_tags`. Return the tags that named another manifest.
    """
    await manifests.add(transaction, repository_id, digest, parsed, sizes)
    moved = await manifests.set_tags(transaction, repository_id, tags, digest, pushed_by)
    await manifests.ask_review(transaction, repository_id, moved.values(), time.time() + GRACE_SECONDS)
    return moved


async def _require_parts(transaction: Transaction, repository_id: int, parsed: Manifest) -> dict[str, int]:
    """Return the sizes of a manifest's parts in bytes, by digest; raises ManifestBlobUnknown and ManifestInvalid."""
    needed = [part for part in (*parsed.blobs, *parsed.others) if part.distributable]
    linked = await blobs.linked_sizes(transaction, repository_id, {part.digest for part in needed})
    children = {part.digest for part in (*parsed.manifests, *parsed.others)}
    here = await manifests.sizes(transaction, repository_id, children)
    others = {part.digest for part in parsed.others}
    _require(parsed.blobs, linked, "blob")
    _require([part for part in parsed.manifests if part.digest not in others], here, "manifest")
    _require(parsed.others, here | linked, "blob")
    return here | linked


def _require(parts: Sequence[Descriptor], sizes: Mapping[str, int], kind: str) -> None:
    parts = [part for part in parts if part.distributable]
    missing = sorted({part.digest for part in parts if part.digest not in sizes})
    if missing:
        raise ManifestBlobUnknown(
            "push the %(kind)s first: %(digest)s is not in this repository"
            if len(missing) == 1
            else "push the %(kind)s first: %(digest)s is not in this repository, nor are %(more)s more",
            kind=kind,
            digest=missing[0],
            more=len(missing) - 1,
            detail=[{"digest": digest} for digest in missing[:100]],
        )
    for part in parts:
        if part.size not in (None, sizes[part.digest]):
            raise ManifestInvalid(
                "%(digest)s has %(size)s bytes, but the manifest says %(stated)s; push a manifest with the right size",
                digest=part.digest,
                size=sizes[part.digest],
                stated=part.size,
            )


def _needed(digest: Digest, index: str) -> Denied:
    """Return the error for the deletion of a manifest that an index names."""
    return Denied(
        "the index %(index)s names %(digest)s; delete the index first",
        index=index,
        digest=digest,
        status=405,
        headers={"Allow": "GET, HEAD, PUT"},
    )


def unknown_manifest(name: Name, reference: Reference) -> ManifestUnknown:
    """Return the error for a manifest that the repository does not have."""
    return ManifestUnknown("there is no %(image)s", image=spelled(name, reference))
