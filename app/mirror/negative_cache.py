"""Short-lived notes on an upstream's answers, shared by all workers. If Redis is down, the upstream is asked again."""

from __future__ import annotations

import json

from app.cache import AWAY, Cache, keys
from app.oci.digest import Digest
from app.oci.errors import ManifestOutdated, OCIError, UpstreamInvalid
from app.oci.reference import Name, Tag

from .answers import ManifestUnusable
from .spool import describe, revive

_MISSING_SECONDS = 60
# A digest that cannot be used will never be, so it costs one GET in a window of Docker Hub. A manifest that came spoilt
# may come right the next time, and a tag may move.
_UNUSABLE_SECONDS = 6 * 3600
_SPOILT_SECONDS = 300
# A client that asks for a tag by HEAD asks for the digest right after. This allows for a slow client, or a person.
_NAMED_SECONDS = 300

# KEYS[1] a set, ARGV: what to add, its life in seconds.
_ADD = "redis.call('SADD', KEYS[1], ARGV[1]) return redis.call('EXPIRE', KEYS[1], ARGV[2])"
_MEMBERS = "return redis.call('SMEMBERS', KEYS[1])"


class NegativeCache:
    """References that lately had no usable manifest."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def is_missing(self, name: Name, reference: str) -> bool:
        """Return whether the upstream answered 404 within the last minute."""
        return await self._cache.get(keys.missing(name, reference)) is not None

    async def note_missing(self, name: Name, reference: str) -> None:
        """Note a 404."""
        await self._cache.set(keys.missing(name, reference), b"1", _MISSING_SECONDS)

    async def unusable(self, name: Name, reference: str) -> OCIError | None:
        """Return why a counted GET brought a manifest that cannot be used; None if none did lately."""
        kept = await self._cache.get(keys.unusable(name, reference))
        note = None if kept is None else json.loads(kept)
        if note is None or isinstance(note, dict):
            return None if note is None else revive(note)
        return UpstreamInvalid()  # The workers of an older release note no reason.

    async def note_unusable(self, name: Name, reference: Tag | Digest, reason: UpstreamInvalid) -> None:
        """Note that a manifest could not be used, because the next counted GET would be wasted, too."""
        lasting = isinstance(reason, ManifestUnusable | ManifestOutdated) and isinstance(reference, Digest)
        note = json.dumps(describe(reason)).encode()
        seconds = _UNUSABLE_SECONDS if lasting else _SPOILT_SECONDS
        await self._cache.set(keys.unusable(name, reference), note, seconds)


class TagNotes:
    """Tags that a HEAD found for a manifest that is not here yet; a client that HEADs a tag GETs its digest next."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def add(self, name: Name, tag: Tag, digest: Digest) -> None:
        """Note that the tag stands for the digest now."""
        await self._cache.script(_ADD, [keys.named(name, digest)], lambda: [tag, _NAMED_SECONDS])

    async def tags_of(self, name: Name, digest: Digest) -> list[Tag]:
        """List the tags that were noted for the digest within the last minutes."""
        tags = await self._cache.script(_MEMBERS, [keys.named(name, digest)], list)
        return [] if tags is AWAY else [Tag(tag.decode()) for tag in tags]
