"""Resolve references of a mirror: find the digest of a tag, and fetch manifests that are not here yet.

    fresh ───────────────────────────────► served, the upstream is not asked
    older ── HEAD ── unchanged ──────────► served
              │  ├── changed, or new ────► GET, counted ─► recorded, served
              │  ├── pinned by a rule ───► served as it is; what the upstream has instead is noted
              │  └── not described ──────► the same GET: no digest, or no HEAD of manifests at all (400, 405, 501)
              ├── down, slow, 429, wrong ► the tag as last known, with a Warning
              ├── 401, 403 in words ─────► refused, even if the manifest is cached
              ├── 404 in words ──────────► not there, remembered for a minute
              └── the same, no words ────► GET if it is not counted; else, or if that says no more, as if down

Only a registry's words count as a refusal (`replies.is_registrys_word`). If nothing older is here, a GET's 404 without
words is a 404 for the client, too, which nobody remembers.

A manifest that came and cannot be used is remembered with the reason. So it costs one GET, not one for each client.

A client's HEAD of a manifest that is not cached costs only a HEAD of the upstream. Clients send one for a tag and then
a GET for the digest. So the tag is noted, and recorded with the manifest when that comes.

If the database cannot be asked or written, a tag is served with a Warning: as last known, or as the upstream has it if
that manifest is at hand. A later request asks the upstream again, and records the answer.

Three mechanisms keep a manifest from being fetched twice at once. Requests of one worker join one task
(single-flight). The tasks of all workers take the manifest lock one after the other. A task with the lock reads SQL
first, because the task before it may have recorded the manifest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prometheus_client import Counter

from app.access.errors import PreconditionFailed
from app.cache import Cache
from app.database import Database, DatabaseUnavailable, Transaction, immutability, manifests, projects
from app.database.manifests import StoredManifest
from app.database.traffic import Counts
from app.kit.facts import current
from app.kit.single_flight import SingleFlight
from app.oci.digest import Digest
from app.oci.errors import Denied, ManifestUnknown, NameUnknown, TooManyRequests, UpstreamInvalid
from app.oci.reference import Name, Reference, Tag
from app.projects.immutability import require_movable, require_movable_in
from app.projects.service import Repository, ensure_for_tags
from app.registry.content import Client, ManifestAnswer
from app.registry.garbage_collection import GRACE_SECONDS, UNPULLED_SECONDS
from app.registry.manifests import record, unknown_manifest

from .answers import NotCached, UpstreamDown, UpstreamLimited, WordlessRefusal, answer_of
from .locks import ManifestLock
from .negative_cache import NegativeCache, TagNotes
from .outsiders import Outsiders
from .statistics import Traffic
from .upstream import FetchedManifest, ManifestHead
from .upstream_access import AccessByProject

PULLS = Counter("registry_mirror_manifests_total", "Manifests requested from a mirror, by outcome.", ["outcome"])

# If an older manifest is here, no client waits longer than this for a newer one.
_HURRY_SECONDS = 3.0
# After the upstream failed a request that had an older manifest, other such requests do not wait for it for this long.
_SPARE_SECONDS = 10.0
# Completes a sentence that begins with the upstream's name.
_NOT_NOTED = "cannot be asked while the registry's database is down"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A manifest that is in the database now; ``warning`` gives the reason if it may not be the newest.

    ``fetched``: it was not there before.
    """

    repository_id: int
    digest: Digest
    warning: str | None = None
    fetched: bool = False


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A manifest that was fetched just now, while the database could not be written."""

    manifest: StoredManifest
    warning: str


@dataclass(slots=True)
class _Request:
    """A reference that is being resolved, and the clients that wait for it, in the order in which they came.

    The budget is spent in the name of one of them, and all get the manifest. Clients may join while it is resolved.
    ``moves_pins``: the tag follows the upstream, even if a rule pins it.
    """

    repository: Repository
    reference: Tag | Digest
    may_fill: bool
    clients: list[str] = field(default_factory=list)
    moves_pins: bool = False


class MirrorManifests:
    """Resolves references of one upstream's mirrors; ``locks`` is a folder shared by the workers of this host."""

    def __init__(
        self, database: Database, access: AccessByProject, cache: Cache, locks: Path, fresh_for: int, traffic: Traffic
    ) -> None:
        self._database = database
        self._access = access
        self._lock = ManifestLock(cache, locks)
        self._fresh_for = fresh_for
        self._traffic = traffic
        self._negative = NegativeCache(cache)
        self._tag_notes = TagNotes(cache)
        self._outsiders = Outsiders(cache, access.name)
        self._requests: dict[tuple[Name, Tag | Digest, bool], _Request] = {}
        self._resolving: SingleFlight[Resolved | Unrecorded] = SingleFlight()
        self._lookups: SingleFlight[ManifestAnswer | None] = SingleFlight()
        self._spare_until = 0.0
        self._spare_reason = ""

    def is_fresh(self, checked_at: float) -> bool:
        """Return whether a tag is still fresh that was compared with the upstream at ``checked_at`` (Unix seconds)."""
        return time.time() - checked_at < self._fresh_for

    async def look_up(self, repository: Repository, reference: Reference) -> ManifestAnswer | None:
        """Return the upstream's HEAD of a manifest that is not cached; None if `resolve` is needed.

        `resolve` is needed for a tag known here, because it may be served although the upstream fails. It is also
        needed if the HEAD does not describe the manifest fully. Raises ManifestUnknown, and any upstream failure.
        """
        await self._refuse_missing(repository, reference)
        if isinstance(reference, Tag) and await self._known(repository, reference) is not None:
            return None
        return await self._lookups.join((repository.name, reference), partial(self._look_up, repository, reference))

    async def resolve(self, repository: Repository, reference: Reference, client: Client) -> Resolved | Unrecorded:
        """Return the manifest of a reference that is not fresh here, after asking the upstream and fetching it.

        Raises ManifestUnknown, NotCached, and any failure of the upstream if no older manifest is cached.
        """
        await self._refuse_missing(repository, reference)
        if not client.may_fill and (isinstance(reference, Digest) or await self._known(repository, reference) is None):
            raise _not_cached(repository)
        key = (repository.name, reference, client.may_fill)
        request = self._requests.get(key)
        if request is None:
            request = self._requests[key] = _Request(repository, reference, client.may_fill)
        if client.name not in request.clients:
            request.clients.append(client.name)
        return await self._resolving.join(key, partial(self._resolve, request))

    async def follow(self, repository: Repository, tag: Tag, client: Client) -> None:
        """Point a tag at what the upstream has now, even if a rule pins it; raises any failure of the upstream."""
        request = _Request(repository, tag, may_fill=True, clients=[client.name], moves_pins=True)
        async with self._lock.hold(repository.name, tag):
            known = await self._known(repository, tag, renew=True)
            answer = await self._ask(request, tag, known[0] if known else None)
        if isinstance(answer, Unrecorded) or answer.warning is not None:
            raise DatabaseUnavailable

    async def pinned(self, repository: Repository, tag: Tag) -> Digest | None:
        """Return the digest at which a rule keeps a tag that is here, None if none does."""
        known = await self._known(repository, tag)
        return known[0][1] if known is not None and await self._is_pinned(known[0][0], tag) else None

    async def note_pinned(self, repository: Repository, tag: Tag, digest: Digest, upstream: Digest | None) -> None:
        """Write what the upstream has in place of a pinned tag, None if it did not say; raises DatabaseUnavailable."""
        repository_id = await self._repository_id(repository)
        noted = {} if upstream is None else {"newer": upstream if upstream != digest else None}
        if repository_id is not None:
            async with self._database.transaction(answers=False) as transaction:
                await manifests.set_checked(transaction, repository_id, tag, digest, **noted)

    async def close(self) -> None:
        """Stop the tasks under way."""
        await self._resolving.close()
        await self._lookups.close()

    async def _refuse_missing(self, repository: Repository, reference: Tag | Digest) -> None:
        """Raise ManifestUnknown if the upstream said so a moment ago."""
        if await self._negative.is_missing(repository.name, reference):
            PULLS.labels("missing").inc()
            raise unknown_manifest(repository.name, reference)

    async def _look_up(self, repository: Repository, reference: Tag | Digest) -> ManifestAnswer | None:
        try:
            async with self._forgetting(repository, reference):
                head = await self._head(repository, reference, hurry=False)
        except WordlessRefusal:
            return None
        digest = reference if isinstance(reference, Digest) else head.digest
        if digest is None or not head.media_type:
            return None
        size = head.size or await self._described_size(repository, digest)
        if size is None:
            return None
        await self._refuse_unusable(repository, digest)
        if isinstance(reference, Tag):
            # Before SQL is read, so that a task that records the manifest meanwhile finds the note.
            await self._tag_notes.add(repository.name, reference, digest)
            if await self._present(await self._repository_id(repository), digest):
                return None
        PULLS.labels("looked").inc()
        return ManifestAnswer(digest, head.media_type, size, None)

    async def _refuse_unusable(self, repository: Repository, reference: str) -> None:
        """Raise UpstreamInvalid if a GET lately brought a manifest that cannot be used."""
        reason = await self._negative.unusable(repository.name, reference)
        if reason is not None:
            raise reason

    async def _resolve(self, request: _Request) -> Resolved | Unrecorded:
        try:
            if isinstance(request.reference, Digest):
                return await self._fetch_digest(request, request.reference)
            return await self._refresh(request, request.reference)
        except WordlessRefusal as error:
            answer = answer_of(error)
            if error.refused_with == 404 and answer is not None and answer.kind == "get_manifest":
                raise unknown_manifest(request.repository.name, request.reference) from error
            raise
        finally:
            del self._requests[request.repository.name, request.reference, request.may_fill]

    # tags

    async def _refresh(self, request: _Request, tag: Tag) -> Resolved | Unrecorded:
        repository = request.repository
        async with self._lock.hold(repository.name, tag):
            # The previous holder of the lock may have found out that there is no such tag.
            await self._refuse_missing(repository, tag)
            known = await self._known(repository, tag, renew=True)
            if known is not None and self.is_fresh(known[1]):
                PULLS.labels("waited").inc()
                current().outcome = "followed"
                return Resolved(*known[0])
            stale = known[0] if known else None
            if stale is not None and time.monotonic() < self._spare_until:
                return self._serve_stale(repository, tag, stale, self._spare_reason)
            if stale is not None and not request.may_fill and not await self._outsiders.may_ask():
                return self._serve_stale(repository, tag, stale, "is asked only so often without a login")
            try:
                return await self._compare(request, tag, stale)
            except (DatabaseUnavailable, UpstreamDown, UpstreamInvalid, TooManyRequests) as error:
                if stale is None:
                    raise
                if isinstance(error, UpstreamInvalid):
                    return self._serve_stale(repository, tag, stale, "answers with a manifest that cannot be used")
                if isinstance(error, WordlessRefusal):
                    return self._serve_stale(repository, tag, stale, "answers as no registry does")
                if isinstance(error, TooManyRequests) and not isinstance(error, UpstreamLimited):
                    return self._serve_stale(repository, tag, stale, "allows no more pulls now")
                if isinstance(error, DatabaseUnavailable):
                    self._spare(_NOT_NOTED)
                    return self._serve_stale(repository, tag, stale, _NOT_NOTED)
                self._spare("failed a moment ago")
                return self._serve_stale(repository, tag, stale, "cannot be asked now")

    async def _compare(self, request: _Request, tag: Tag, stale: tuple[int, Digest] | None) -> Resolved | Unrecorded:
        """Ask the upstream for a tag; a pinned one stays as it is."""
        if stale is None:
            return await self._ask(request, tag, stale)
        if await self._is_pinned(stale[0], tag):
            return await self._serve_pinned(request.repository, tag, stale)
        try:
            return await self._ask(request, tag, stale)
        except Denied as error:
            # A rule was made while the upstream was asked.
            if error.answer_status != PreconditionFailed.status:
                raise
            return Resolved(*stale)

    async def _ask(self, request: _Request, tag: Tag, stale: tuple[int, Digest] | None) -> Resolved | Unrecorded:
        repository = request.repository
        async with self._forgetting(repository, tag):
            try:
                head = await self._head(repository, tag, hurry=stale is not None)
            except WordlessRefusal as refusal:
                return await self._record(request, await self._ask_by_get(request, refusal), [tag])
        if stale is not None and head.digest == stale[1]:
            async with self._database.transaction(answers=False) as transaction:
                await manifests.set_checked(transaction, stale[0], tag, stale[1])
            PULLS.labels("unchanged").inc()
            return Resolved(*stale)
        if head.digest is None:
            return await self._bring(request, tag, head, stale)
        # Other tags may stand for the same digest, and be resolved at this very moment.
        async with self._lock.hold(repository.name, head.digest):
            repository_id = await self._repository_id(repository)
            if await self._present(repository_id, head.digest):
                assert repository_id is not None  # noqa: S101  # `_present` has seen it
                return await self._move_tag(request, repository_id, tag, head.digest)
            return await self._bring(request, tag, head, stale)

    async def _is_pinned(self, repository_id: int, tag: Tag) -> bool:
        holds = await self._database.read(immutability.holding_of, repository_id)
        return holds is not None and holds(tag) is not None

    async def _serve_pinned(self, repository: Repository, tag: Tag, stale: tuple[int, Digest]) -> Resolved:
        """Serve a pinned tag, and note what the upstream has; it may fail, but not refuse: raises UpstreamRefused."""
        PULLS.labels("pinned").inc()
        upstream: Digest | None = None
        with suppress(UpstreamDown, UpstreamInvalid, TooManyRequests, ManifestUnknown, NameUnknown):
            upstream = (await self._head(repository, tag, hurry=True)).digest
        await self.note_pinned(repository, tag, stale[1], upstream)
        return Resolved(*stale)

    async def _bring(
        self, request: _Request, tag: Tag, head: ManifestHead, stale: tuple[int, Digest] | None
    ) -> Resolved | Unrecorded:
        repository = request.repository
        if stale is not None and not request.may_fill:
            return self._serve_stale(repository, tag, stale, "has a newer one, which is fetched only after a login")
        wanted = head.digest or tag
        await self._refuse_unusable(repository, wanted)
        async with self._forgetting(repository, wanted):
            fetched = await self._pull(request, wanted, head.media_type)
        return await self._record(request, fetched, [tag])

    async def _head(self, repository: Repository, reference: str, *, hurry: bool) -> ManifestHead:
        path, access = repository.name.repository, await self._access.of(repository.project_id)
        try:
            async with asyncio.timeout(_HURRY_SECONDS if hurry else None):
                return await access.look_up(path, reference, public=repository.public)
        except TimeoutError as error:
            raise UpstreamDown(self._access.name, "is slow to answer") from error

    def _spare(self, reason: str) -> None:
        """Serve tags as last known for a while, so that no client waits for a part that has just failed."""
        self._spare_until, self._spare_reason = time.monotonic() + _SPARE_SECONDS, reason

    def _serve_stale(self, repository: Repository, tag: Tag, stale: tuple[int, Digest], reason: str) -> Resolved:
        PULLS.labels("stale").inc()
        return Resolved(*stale, warning=f"{repository.name}:{tag} may be out of date: {self._access.name} {reason}")

    @asynccontextmanager
    async def _forgetting(self, repository: Repository, reference: Tag | Digest) -> AsyncIterator[None]:
        """Forget a reference if the upstream says in a registry's words that it has no such manifest."""
        try:
            yield
        except (ManifestUnknown, NameUnknown):
            await self._forget(repository, reference)
            raise

    async def _forget(self, repository: Repository, reference: Tag | Digest) -> None:
        """Note a 404 for a minute; a tag that is gone upstream is removed here, and its manifest a day later."""
        PULLS.labels("unknown").inc()
        await self._negative.note_missing(repository.name, reference)
        if repository.id is None or isinstance(reference, Digest):
            return
        repository_id = repository.id

        async def forget(transaction: Transaction) -> None:
            was = await manifests.remove_tag(transaction, repository_id, reference)
            if was is not None:
                await manifests.ask_review(transaction, repository_id, [was], time.time() + GRACE_SECONDS)

        # If it cannot be written, a later request is told the same by the upstream.
        with suppress(DatabaseUnavailable):
            await self._database.transact(forget, answers=False)

    # digests

    async def _fetch_digest(self, request: _Request, digest: Digest) -> Resolved | Unrecorded:
        repository = request.repository
        async with self._lock.hold(repository.name, digest):
            await self._refuse_missing(repository, digest)
            repository_id = await self._repository_id(repository)
            if await self._present(repository_id, digest):
                assert repository_id is not None  # noqa: S101  # `_present` has seen it
                PULLS.labels("waited").inc()
                current().outcome = "followed"
                return Resolved(repository_id, digest)
            await self._refuse_unusable(repository, digest)
            async with self._forgetting(repository, digest):
                fetched = await self._fetch_absent(request, digest)
            return await self._record(request, fetched, [])

    async def _fetch_absent(self, request: _Request, digest: Digest) -> FetchedManifest:
        if await self._described_size(request.repository, digest) is not None:
            return await self._pull(request, digest, None)  # An index names it, so its type need not be asked for.
        try:
            head = await self._head(request.repository, digest, hurry=False)
        except WordlessRefusal as refusal:
            return await self._ask_by_get(request, refusal)
        return await self._pull(request, digest, head.media_type)

    async def _described_size(self, repository: Repository, digest: Digest) -> int | None:
        """Return the size in bytes that an index that is here gives for the manifest; None if no index names it."""
        repository_id = await self._repository_id(repository)
        if repository_id is None:
            return None
        return await manifests.part_size(self._database, repository_id, digest, is_manifest=True)

    # both

    async def _ask_by_get(self, request: _Request, refusal: WordlessRefusal) -> FetchedManifest:
        """Return a manifest whose HEAD was refused without words; raises the refusal if no GET may be sent."""
        repository, reference = request.repository, request.reference
        if not request.may_fill:
            raise refusal
        await self._refuse_unusable(repository, reference)
        access = await self._access.of(repository.project_id)
        async with self._noting_unusable(repository, reference):
            fetched = await access.fetch_uncounted(repository.name.repository, reference, public=repository.public)
        if fetched is None:
            raise refusal
        PULLS.labels("fetched").inc()
        current().outcome = "filled"
        return fetched

    @asynccontextmanager
    async def _noting_unusable(self, repository: Repository, reference: Tag | Digest) -> AsyncIterator[None]:
        """Remember that a GET, which may have been counted, brought nothing that can be used."""
        try:
            yield
        except UpstreamInvalid as error:
            answer = answer_of(error)
            if answer is not None and answer.kind == "get_manifest" and answer.status is not None:
                await self._negative.note_unusable(repository.name, reference, error)
            raise

    async def _pull(self, request: _Request, reference: Tag | Digest, media_type: str | None) -> FetchedManifest:
        repository = request.repository
        if not request.may_fill:
            raise _not_cached(repository)
        PULLS.labels("fetched").inc()
        current().outcome = "filled"
        access = await self._access.of(repository.project_id)
        tried: set[str] = set()
        while True:
            client = next(client for client in request.clients if client not in tried)
            tried.add(client)
            try:
                async with self._noting_unusable(repository, reference):
                    return await access.pull(repository.name.repository, reference, client, media_type)
            except TooManyRequests as error:
                # If one client has had its share, the next one may pay. The upstream's own limit holds for all.
                if isinstance(error, UpstreamLimited) or tried.issuperset(request.clients):
                    raise

    async def _record(self, request: _Request, fetched: FetchedManifest, tags: list[Tag]) -> Resolved | Unrecorded:
        repository = request.repository
        self._traffic.count(repository.project_id, Counts(fetched_bytes=len(fetched.manifest.payload)))
        noted = await self._tag_notes.tags_of(repository.name, fetched.digest)

        async def write(transaction: Transaction) -> int:
            repository_id, has_rules = await ensure_for_tags(transaction, repository, shown=True)
            moved = await record(transaction, repository_id, fetched.digest, fetched.manifest, tags)
            if has_rules and not request.moves_pins:
                await require_movable(transaction, repository.project_id, repository.name.repository, moved)
            if not tags:
                # A manifest without a tag never loses one, so no other event would put it up for review.
                look_at = time.time() + UNPULLED_SECONDS
                await manifests.ask_review(transaction, repository_id, [fetched.digest], look_at)
            return repository_id

        try:
            # A tag that is known by now was compared with the upstream at or after the time of its note.
            tags = tags + [tag for tag in noted if await self._known(repository, tag) is None]
            repository_id = await self._database.transact(write, answers=False)
            return Resolved(repository_id, fetched.digest, fetched=True)
        except DatabaseUnavailable:
            # The pull is spent, and this client should have it. A later request fetches the manifest again.
            PULLS.labels("unrecorded").inc()
            stored = StoredManifest(fetched.digest, fetched.manifest.media_type, fetched.manifest.payload)
            return Unrecorded(stored, f"{repository.name}@{fetched.digest} cannot be kept here now")

    async def _move_tag(self, request: _Request, repository_id: int, tag: Tag, digest: Digest) -> Resolved:
        async def move(transaction: Transaction) -> None:
            moved = await manifests.set_tags(transaction, repository_id, [tag], digest)
            if not request.moves_pins:
                await require_movable_in(transaction, repository_id, moved)
            await manifests.ask_review(transaction, repository_id, moved.values(), time.time() + GRACE_SECONDS)

        try:
            await self._database.transact(move, answers=False)
        except DatabaseUnavailable:
            return self._serve_stale(request.repository, tag, (repository_id, digest), _NOT_NOTED)
        PULLS.labels("moved").inc()
        return Resolved(repository_id, digest)

    async def _known(
        self, repository: Repository, tag: Tag, *, renew: bool = False
    ) -> tuple[tuple[int, Digest], float] | None:
        repository_id = await self._repository_id(repository)
        if repository_id is None:
            return None
        tagged = await manifests.tagged(self._database, repository_id, tag, leased=True, renew=renew)
        return ((repository_id, tagged[0]), tagged[1]) if tagged else None

    async def _repository_id(self, repository: Repository) -> int | None:
        """Return the repository's id; it may have been made since the request came."""
        if repository.id is not None:
            return repository.id
        return await projects.repository_id(self._database, repository.project_id, repository.name.repository)

    async def _present(self, repository_id: int | None, digest: Digest) -> bool:
        return repository_id is not None and await manifests.present(self._database, repository_id, digest) is not None


def _not_cached(repository: Repository) -> NotCached:
    return NotCached(
        "%(repository)s is not cached here yet, and only those who log in may have it fetched from "
        "outside the university; run docker login, and pull again",
        repository=repository.name,
    )
