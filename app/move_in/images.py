"""Move manifests with their blobs, tags and labels. Manifests are verified and parsed as if they were pushed."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from app.database import Database, Transaction, labels, manifests, moved
from app.database.harbor import Artifact, Attached, HarborDatabase, Label, Tag
from app.database.text import storable_part
from app.oci.digest import Digest, is_digest
from app.oci.errors import BlobUnknown, ManifestInvalid, Unavailable
from app.oci.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from app.oci.reference import is_tag
from app.registry.garbage_collection import GRACE_SECONDS
from app.storage.harbor import HarborBlobs

from .naming import color
from .report import CannotMoveError, Report
from .steps import Change, Known, Step

_BATCH = 100
_AT_ONCE = 16
_MOST_LABEL = 255


@dataclass(frozen=True, slots=True)
class _Image:
    """A verified manifest, and the sizes (bytes) of the blobs that it names."""

    parsed: Manifest
    blobs: Mapping[Digest, int]


class Artifacts(Step[Artifact]):
    """Manifests of all kinds: images, indexes, signatures, charts."""

    kind = "artifacts"
    batch = _BATCH

    def __init__(self, harbor: HarborDatabase, store: HarborBlobs, database: Database, known: Known) -> None:
        self._harbor = harbor
        self._store = store
        self._database = database
        self._known = known
        self._found = False
        self._turns = asyncio.Semaphore(_AT_ONCE)
        # Of the present batch: each manifest or why it does not move, and the sizes of blobs.
        self._images: dict[int, Manifest | CannotMoveError | None] = {}
        self._sizes: dict[str, int | None] = {}

    async def read(self, after: int, limit: int) -> Sequence[Artifact]:
        """See `Step.read`."""
        return await self._harbor.artifacts(after, limit)

    def name(self, row: Artifact) -> str:
        """See `Step.name`."""
        return f"{row.repository}@{row.digest}"

    async def plan(self, changes: Sequence[Change[Artifact]], report: Report) -> Sequence[Change[Artifact]]:
        """See `Step.plan`; raises ValueError if the store has none of the manifests."""
        images = await asyncio.gather(*(self._image(change) for change in changes))
        self._images = {change.row.id: image for change, image in zip(changes, images, strict=True)}
        missing = sum(isinstance(image, _MissingError) for image in images)
        if missing == len(changes) and not self._found:
            raise ValueError("none of Harbor's manifests is in the configured place; check harbor.driver and its keys")
        self._found = self._found or missing < len(changes)
        self._sizes = await self._look_for_blobs([image for image in images if isinstance(image, Manifest)])
        return await super().plan(changes, report)

    async def check(self, change: Change[Artifact], report: Report) -> Change[Artifact] | None:
        """See `Step.check`."""
        image = self._images[change.row.id]
        if isinstance(image, CannotMoveError):
            raise image
        return replace(change, plan=None if image is None else await self._with_blobs(change.row, image, report))

    async def _image(self, change: Change[Artifact]) -> Manifest | CannotMoveError | None:
        """Return a verified manifest, None if it is here already, or why it does not move."""
        row = change.row
        if row.repository_id not in self._known.repositories:
            return CannotMoveError("the repository does not move")
        if change.was is not None and change.before["digest"] == row.digest:
            return None
        if not is_digest(row.digest):
            return CannotMoveError("it has a kind of digest that is not verified here")
        try:
            async with self._turns:
                payload = await self._payload(Digest(row.digest), row.size)
            parsed = parse_manifest(payload, row.media_type or None)
        except CannotMoveError as error:
            return error
        except ManifestInvalid as error:
            return CannotMoveError(error.message)
        if parsed.fault is not None:
            return CannotMoveError(parsed.fault.message)
        if parsed.is_index and self._is_cached(row):
            return CannotMoveError(
                "an index of a cache may be trimmed to what was pulled; it is fetched again at the next pull"
            )
        return parsed

    async def _payload(self, digest: Digest, stated: int) -> bytes:
        size = stated or await self._store.size(digest) or 0
        if size > MAX_MANIFEST_BYTES:
            raise CannotMoveError("the manifest has more than 4 MiB")
        pieces = bytearray()
        try:
            async with aclosing(self._store.read(digest, 0, size)) as reading:
                async for piece in reading:
                    pieces += piece
        except BlobUnknown:
            raise _MissingError("the manifest is missing from Harbor's store") from None
        except Unavailable as error:
            if await self._store.size(digest) == size:
                raise
            raise CannotMoveError("the manifest in Harbor's store is damaged: it has another size") from error
        if Digest.of(bytes(pieces), digest.algorithm) != digest:
            raise CannotMoveError("the manifest in Harbor's store is damaged: it has another digest")
        return bytes(pieces)

    async def _look_for_blobs(self, parsed: Sequence[Manifest]) -> dict[str, int | None]:
        """Return the sizes of all blobs that manifests name, None for those that Harbor's store does not have."""
        wanted = {part.digest for one in parsed for part in (*one.blobs, *one.others) if part.distributable}
        here: dict[str, int | None] = dict(await self._database.read(moved.known_blobs, wanted))

        async def look(digest: Digest) -> None:
            async with self._turns:
                here[digest] = await self._store.size(digest)

        await asyncio.gather(*(look(digest) for digest in wanted - here.keys()))
        return here

    async def _with_blobs(self, row: Artifact, one: Manifest, report: Report) -> _Image:
        children = {part.digest for part in (*one.manifests, *one.others)}
        here = await self._harbor.present(row.repository_id, sorted(children)) if children else set()
        if {part.digest for part in one.manifests} - {part.digest for part in one.others} - here:
            report.remark("indexes that move as they are, but name manifests that Harbor does not have", self.name(row))
        blobs = {}
        for part in (*one.blobs, *(other for other in one.others if other.digest not in here)):
            if part.distributable:
                size = self._sizes[part.digest]
                if size is None:
                    raise CannotMoveError("a blob that it names is missing from Harbor's store")
                if part.size not in (None, size):
                    raise CannotMoveError("a blob that it names has another size in Harbor's store")
                blobs[part.digest] = size
        return _Image(one, blobs)

    async def write(self, transaction: Transaction, changes: Sequence[Change[Artifact]]) -> Mapping[int, int]:
        """See `Step.write`."""
        for repository_id, theirs in _by_repository(changes):
            ours, project = self._known.repositories[repository_id]
            blobs = {digest: size for one in theirs if one.plan for digest, size in one.plan.blobs.items()}
            if blobs:
                await moved.adopt_blobs(transaction, self._known.projects[project][0], ours, blobs)
            for one in theirs:
                if one.plan is not None:
                    digest = Digest(one.row.digest)
                    await manifests.add(transaction, ours, digest, one.plan.parsed, one.plan.blobs)
        times = {
            (self._known.repositories[one.row.repository_id][0], one.row.digest): (
                one.row.pushed_at,
                max(one.row.pulled_at, one.row.pushed_at),
            )
            for one in changes
        }
        await moved.date_manifests(transaction, times)
        return {one.row.id: self._known.repositories[one.row.repository_id][0] for one in changes}

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`."""
        touched = await manifests.remove(transaction, target, Digest(row["digest"]))
        await manifests.ask_review(transaction, target, touched or (), time.time() + GRACE_SECONDS)

    def refused(self, row: Artifact) -> None:
        """See `Step.refused`."""
        self._known.refused.add(row.id)

    def _is_cached(self, row: Artifact) -> bool:
        _, project = self._known.repositories[row.repository_id]
        return self._known.projects[project][2]


class Tags(Step[Tag]):
    """Tags; one that was moved in Harbor is moved here."""

    kind = "tags"
    left_out = "its artifact does not move, or is newer than this run"

    def __init__(self, harbor: HarborDatabase, known: Known) -> None:
        self._harbor = harbor
        self._known = known

    async def read(self, after: int, limit: int) -> Sequence[Tag]:
        """See `Step.read`."""
        return await self._harbor.tags(after, limit)

    def name(self, row: Tag) -> str:
        """See `Step.name`."""
        return f"{row.repository}:{row.name}"

    async def check(self, change: Change[Tag], report: Report) -> Change[Tag] | None:
        """See `Step.check`."""
        row = change.row
        if row.repository_id not in self._known.repositories or row.artifact_id in self._known.refused:
            raise CannotMoveError(self.left_out)
        if not is_tag(row.name):
            raise CannotMoveError("our rules refuse the name")
        return change

    async def write(self, transaction: Transaction, changes: Sequence[Change[Tag]]) -> Mapping[int, int]:
        """See `Step.write`."""
        written: dict[int, int] = {}
        dates: dict[bool, dict[tuple[int, str], float]] = defaultdict(dict)
        for repository_id, theirs in _by_repository(changes):
            ours, project = self._known.repositories[repository_id]
            here = await manifests.sizes(transaction, ours, {Digest(one.row.digest) for one in theirs})
            for one in theirs:
                row = one.row
                if row.digest not in here:
                    continue
                if one.was is not None and one.before["name"] != row.name:
                    await self.remove(transaction, one.before, ours)
                await manifests.set_tags(transaction, ours, [row.name], Digest(row.digest))
                dates[self._known.projects[project][2]][ours, row.name] = row.pushed_at
                written[row.id] = ours
        for is_mirror, times in dates.items():
            await moved.date_tags(transaction, times, checked=not is_mirror)
        return written

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`; a tag that was moved here meanwhile stays."""
        here = await moved.tags_here(transaction, target, [row["name"]])
        if here.get(row["name"]) == row["digest"]:
            await manifests.remove_tag(transaction, target, row["name"])


class Labels(Step[Label]):
    """Labels of projects and of the system."""

    kind = "labels"

    def __init__(self, harbor: HarborDatabase, known: Known) -> None:
        self._harbor = harbor
        self._known = known

    async def read(self, after: int, limit: int) -> Sequence[Label]:
        """See `Step.read`."""
        return await self._harbor.labels(after, limit)

    def name(self, row: Label) -> str:
        """See `Step.name`."""
        return row.name

    async def check(self, change: Change[Label], report: Report) -> Change[Label] | None:
        """See `Step.check`."""
        if change.row.project_id and change.row.project_id not in self._known.projects:
            raise CannotMoveError("the project does not move")
        return change

    async def put(self, transaction: Transaction, change: Change[Label]) -> int | None:
        """See `Step.put`."""
        row, target = change.row, change.was.target if change.was is not None else None
        project_id = self._known.projects[row.project_id][0] if row.project_id else None
        about = {"description": storable_part(row.description, _MOST_LABEL), "color": color(row.color)}
        if target is not None and (before := await labels.find(transaction, target)) is not None:
            await labels.change(transaction, before, name=row.name, **about)
            return target
        made = await labels.create(transaction, project_id, row.name, **about)
        if made is None:
            found = await labels.named(transaction, project_id, row.name)
            made = found.id if found is not None else None
        return made

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`."""
        await labels.remove(transaction, target)

    def settled(self, row: Label, target: int) -> None:
        """See `Step.settled`."""
        self._known.labels[row.id] = target


class AttachedLabels(Step[Attached]):
    """Labels on artifacts."""

    kind = "labels on artifacts"

    def __init__(self, harbor: HarborDatabase, known: Known) -> None:
        self._harbor = harbor
        self._known = known

    async def read(self, after: int, limit: int) -> Sequence[Attached]:
        """See `Step.read`."""
        return await self._harbor.attached(after, limit)

    def name(self, row: Attached) -> str:
        """See `Step.name`."""
        return f"label {row.label_id} on {row.digest}"

    async def check(self, change: Change[Attached], report: Report) -> Change[Attached] | None:
        """See `Step.check`."""
        if change.row.label_id not in self._known.labels or change.row.repository_id not in self._known.repositories:
            raise CannotMoveError("the label or the repository does not move")
        return change

    async def put(self, transaction: Transaction, change: Change[Attached]) -> int | None:
        """See `Step.put`."""
        row = change.row
        ours, label_id = self._known.repositories[row.repository_id][0], self._known.labels[row.label_id]
        attached = await labels.attach(transaction, ours, Digest(row.digest), label_id)
        return None if attached is None else label_id

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`."""
        found = self._known.repositories.get(row["repository_id"])
        if found is not None:
            await labels.detach(transaction, found[0], Digest(row["digest"]), target)


class _MissingError(CannotMoveError):
    """The store has no such manifest."""


def _by_repository(changes: Sequence[Change[Any]]) -> list[tuple[int, list[Change[Any]]]]:
    ordered = sorted(changes, key=lambda one: (one.row.repository_id, one.row.id))
    return [(key, list(some)) for key, some in groupby(ordered, key=lambda one: one.row.repository_id)]
