"""Read the lists of an upstream: the tags of a repository, and the referrers of a manifest.

    fresh ────────────────────────► returned, the upstream is not asked
    older, or not known
       ├── the client may not fill ► as last known, with a Warning; refused if never read
       ├── read ───────────────────► kept for all workers, returned
       ├── down, slow, 429, wrong ─► as last known, with a Warning; so are tags that it does not offer
       ├── 401, 403 ───────────────► refused, even if the list is known
       └── 404 ────────────────────► there is no such list; known for a minute

A list is read whole, because no upstream pages like another, and a page of ours must not depend on theirs. One task at
a time reads it, as with manifests. It is kept in Redis for all workers, and parsed in each worker for as long as it is
fresh, within a bound. If Redis is down, each worker reads it for itself.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from cachetools import LRUCache, TLRUCache

from app.cache import Cache, keys
from app.kit.single_flight import SingleFlight
from app.oci.digest import Digest
from app.oci.errors import ManifestUnknown, NameUnknown, OCIError, TooManyRequests, Unsupported, UpstreamInvalid
from app.oci.reference import is_tag
from app.projects.service import Repository
from app.registry.content import Client

from .answers import NotCached, UpstreamDown
from .locks import ManifestLock
from .upstream_access import AccessByProject

# An upstream's page is asked for by this size. Some registries refuse more than 1000.
_PAGE_ENTRIES = 1000
# A list is cut after so many pages, or bytes in memory. 8 MiB are about 100,000 tags.
_MOST_PAGES = 200
_MOST_BYTES = 8 * 1024 * 1024
_ENTRY_BYTES = 60
# Lists that a worker holds parsed.
_PARSED_BYTES = 16 * 1024 * 1024
# If the upstream fails, a list is served for so long after it was read.
_KEPT_SECONDS = 24 * 3600
_ABSENT_SECONDS = 60
# If the list is known, no client waits longer than this for a newer one.
_HURRY_SECONDS = 3.0
# After a failure the same list is not asked for again for this long, or, if it cannot be used, while it would be fresh.
_SPARE_SECONDS = 10.0
_MOST_FAILED = 1000
# A descriptor has two levels. A list is written and read again, each time by the interpreter's stack.
_MOST_LEVELS = 32


@dataclass(frozen=True, slots=True)
class UpstreamList:
    """An upstream's list as it was at ``read_at`` (Unix seconds).

    An entry is a key, and for a referrer also a blank and the descriptor in JSON. Entries are sorted by their keys.
    ``absent``: the upstream has no such list. ``cut``: it has more entries than are here.
    """

    entries: list[str]
    read_at: float
    absent: bool = False
    cut: bool = False

    def after(self, key: str) -> Iterator[str]:
        """Yield the entries past ``key``."""
        return islice(self.entries, bisect_right(self.entries, key, key=key_of), None)

    def size(self) -> int:
        """Return about how many bytes of memory it takes."""
        return sum(map(len, self.entries)) + _ENTRY_BYTES * (1 + len(self.entries))

    def packed(self) -> bytes:
        """Return it for Redis: the time it was read at, a blank, and the rest compressed."""
        rest = json.dumps([self.absent, self.cut, self.entries]).encode()
        return b"%b %b" % (repr(self.read_at).encode(), zlib.compress(rest, 1))

    @classmethod
    def unpacked(cls, packed: bytes, newer_than: float = 0.0) -> UpstreamList | None:
        """Return what `packed` made; None, without unpacking it, if it was read no later than ``newer_than``."""
        read_at, _, rest = packed.partition(b" ")
        if float(read_at) <= newer_than:
            return None
        absent, cut, entries = json.loads(zlib.decompress(rest))
        return cls(entries, float(read_at), absent, cut)


@dataclass(frozen=True, slots=True)
class Known:
    """A list, and the reason if it may not be all that the upstream has now."""

    found: UpstreamList
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A list that a client wants: ``path`` within the repository, ``key`` in Redis.

    A list of referrers must be whole, because a verifier must not miss a signature. Tags may be cut.
    """

    repository: Repository
    path: str
    key: str
    is_referrers: bool


class UpstreamLists:
    """Reads the lists of one upstream's mirrors; ``locks`` is a folder shared by the workers of this host."""

    def __init__(self, access: AccessByProject, cache: Cache, locks: Path, fresh_for: int) -> None:
        self._access = access
        self._cache = cache
        self._lock = ManifestLock(cache, locks)
        self._fresh_for = fresh_for
        self._held: LRUCache[str, UpstreamList] = LRUCache(_PARSED_BYTES, UpstreamList.size)
        self._failed: TLRUCache[str, OCIError, float] = TLRUCache(_MOST_FAILED, self._spared_until, time.monotonic)
        self._reading: SingleFlight[UpstreamList] = SingleFlight()

    async def tags(self, repository: Repository, client: Client) -> Known:
        """Return a repository's tags; raises Unsupported, NotCached, and any failure of the upstream."""
        return await self._get(self._wanted(repository, f"tags/list?n={_PAGE_ENTRIES}"), client)

    async def referrers(self, repository: Repository, subject: Digest, client: Client) -> Known:
        """Return the referrers of a manifest; absent if the upstream does not have the API for it.

        Raises NotCached, and any failure of the upstream.
        """
        return await self._get(self._wanted(repository, f"referrers/{subject}", is_referrers=True), client)

    async def close(self) -> None:
        """Stop the tasks under way."""
        await self._reading.close()

    def _wanted(self, repository: Repository, path: str, *, is_referrers: bool = False) -> _Wanted:
        # The project's id, because another project may get the name. Its upstream may be changed.
        key = keys.listing(repository.project_id, self._access.name, f"{repository.name.repository}/{path}")
        return _Wanted(repository, path, key, is_referrers)

    async def _get(self, wanted: _Wanted, client: Client) -> Known:
        known = await self._known(wanted.key)
        if known is not None and self._is_fresh(known):
            return self._current(wanted, known)
        if not client.may_fill:
            if known is None:
                raise NotCached(
                    "this list of %(repository)s is not cached here yet, and only those who log in may have it fetched "
                    "from outside the university; run docker login, and try again",
                    repository=wanted.repository.name,
                )
            return self._stale(wanted, known, "is asked again only after a login")
        try:
            if (failure := self._failed.get(wanted.key)) is not None:
                raise failure.with_traceback(None)
            async with asyncio.timeout(_HURRY_SECONDS if known is not None else None):
                found = await self._reading.join(wanted.key, partial(self._refresh, wanted))
            return self._current(wanted, found)
        except TimeoutError:
            assert known is not None  # noqa: S101  # only then is there a time limit
            self._failed[wanted.key] = UpstreamDown(self._access.name, "is slow to answer")
            return self._stale(wanted, known, "is slow to answer")
        except (UpstreamDown, UpstreamInvalid, TooManyRequests, Unsupported):
            if known is None:
                raise
            return self._stale(wanted, known, "cannot be asked now")

    def _current(self, wanted: _Wanted, found: UpstreamList) -> Known:
        return self._stale(wanted, found, "has more than this registry reads") if found.cut else Known(found)

    def _stale(self, wanted: _Wanted, known: UpstreamList, reason: str) -> Known:
        return Known(known, f"this list of {wanted.repository.name} may be out of date: {self._access.name} {reason}")

    def _is_fresh(self, known: UpstreamList) -> bool:
        seconds = min(self._fresh_for, _ABSENT_SECONDS) if known.absent else self._fresh_for
        return time.time() - known.read_at < seconds

    def _spared_until(self, key: str, error: OCIError, now: float) -> float:
        # It may have cost many requests to find out that a list cannot be used.
        seconds = float(self._fresh_for) if isinstance(error, UpstreamInvalid) else 0.0
        return now + max(seconds, _SPARE_SECONDS)

    async def _known(self, key: str) -> UpstreamList | None:
        held = self._held.get(key)
        if held is not None and self._is_fresh(held):
            return held
        packed = await self._cache.get(key)
        newer_than = held.read_at if held is not None else 0.0
        kept = UpstreamList.unpacked(packed, newer_than) if packed is not None else None
        if kept is None:
            return held
        self._hold(key, kept)
        return kept

    def _hold(self, key: str, found: UpstreamList) -> None:
        if found.size() <= _PARSED_BYTES:
            self._held[key] = found

    async def _refresh(self, wanted: _Wanted) -> UpstreamList:
        async with self._lock.hold(wanted.repository.name, wanted.path):
            known = await self._known(wanted.key)
            if known is not None and self._is_fresh(known):
                return known
            try:
                found = await self._read(wanted)
            except OCIError as error:
                self._failed[wanted.key] = error
                raise
            self._failed.pop(wanted.key, None)
            self._hold(wanted.key, found)
            await self._cache.set(wanted.key, found.packed(), _KEPT_SECONDS)
            return found

    async def _read(self, wanted: _Wanted) -> UpstreamList:
        repository, entries_of = wanted.repository, referrer_entries if wanted.is_referrers else tag_entries
        access = await self._access.of(repository.project_id)
        read_at, entries, size, more = time.time(), dict[str, str](), 0, False
        try:
            with access.uncounted(public=repository.public) as client:
                async with aclosing(client.list_pages(repository.name.repository, wanted.path)) as pages:
                    number = 0
                    async for page in pages:
                        found = entries_of(page.document)
                        if found is None:
                            raise self._unusable()
                        entries.update((key_of(entry), entry) for entry in found)
                        size += sum(map(len, found)) + _ENTRY_BYTES * len(found)
                        number, more = number + 1, page.more
                        if number >= _MOST_PAGES or size >= _MOST_BYTES:
                            break
        except (NameUnknown, ManifestUnknown, Unsupported) as error:
            if entries or (isinstance(error, Unsupported) and not wanted.is_referrers):
                raise
            return UpstreamList([], read_at, absent=True)
        if more and wanted.is_referrers:
            raise self._unusable()
        return UpstreamList([entries[key] for key in sorted(entries)], read_at, cut=more)

    def _unusable(self) -> UpstreamInvalid:
        return UpstreamInvalid("%(upstream)s answered with a list that cannot be used", upstream=self._access.name)


def key_of(entry: str) -> str:
    """Return the tag or the digest of an entry."""
    return entry.partition(" ")[0]


def descriptor_of(entry: str) -> Mapping[str, Any]:
    """Return the descriptor of a referrer's entry."""
    descriptor: Mapping[str, Any] = json.loads(entry.partition(" ")[2])
    return descriptor


def referrer_entries(document: Mapping[str, Any]) -> list[str] | None:
    """Return the entries for the descriptors of an index as they are; None if it is not one."""
    manifests = document.get("manifests", ...)
    entries = []
    for item in _items(manifests):
        digest = item.get("digest") if isinstance(item, dict) else None
        if not isinstance(digest, str) or not digest.isprintable() or " " in digest or not _is_shallow(item):
            return None
        try:
            entries.append(f"{digest} {json.dumps(item, allow_nan=False)}")
        except ValueError:
            return None
    return entries if manifests is None or isinstance(manifests, list) else None


def _is_shallow(value: object, levels: int = _MOST_LEVELS) -> bool:
    """Return whether JSON has so few levels."""
    inside = value.values() if isinstance(value, dict) else _items(value)
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inside)


def tag_entries(document: Mapping[str, Any]) -> list[str] | None:
    """Return the entries for the tags of a list, None if it is not one."""
    tags = document.get("tags", ...)
    # Nobody could pull a tag that is not one by the grammar.
    entries = [tag for tag in _items(tags) if isinstance(tag, str) and is_tag(tag)]
    return entries if tags is None or isinstance(tags, list) else None


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
