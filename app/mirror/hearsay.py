"""What an upstream said a moment ago, shared by all workers; while Redis is away it is simply asked again."""

from __future__ import annotations

from app.cache import AWAY, Cache, keys
from app.oci.digest import Digest
from app.oci.reference import Name, Tag

_MISSING_SECONDS = 60
# Whoever asks for a tag by HEAD asks for what it stands for right after; this is a slow client, or a person.
_NAMED_SECONDS = 300

# KEYS[1] a set, ARGV: what to add, its life in seconds.
_ADD = "redis.call('SADD', KEYS[1], ARGV[1]) return redis.call('EXPIRE', KEYS[1], ARGV[2])"
_MEMBERS = "return redis.call('SMEMBERS', KEYS[1])"


class Hearsay:
    """Notes on references of one upstream's repositories; ``unusable_for`` seconds a manifest is not tried again."""

    def __init__(self, cache: Cache, unusable_for: int) -> None:
        self._cache = cache
        self._unusable_for = unusable_for

    async def is_missing(self, name: Name, reference: str) -> bool:
        """Say whether the upstream answered 404 within the last minute."""
        return await self._cache.get(keys.missing(name, reference)) is not None

    async def note_missing(self, name: Name, reference: str) -> None:
        await self._cache.set(keys.missing(name, reference), b"1", _MISSING_SECONDS)

    async def is_unusable(self, name: Name, reference: str) -> bool:
        """Say whether what the upstream sent for this, at the price of a counted GET, could not be used lately."""
        return await self._cache.get(keys.unusable(name, reference)) is not None

    async def note_unusable(self, name: Name, reference: str) -> None:
        await self._cache.set(keys.unusable(name, reference), b"1", self._unusable_for)

    async def tags_of(self, name: Name, digest: Digest) -> list[Tag]:
        """List the tags that a HEAD lately found to stand for the digest."""
        tags = await self._cache.script(_MEMBERS, [keys.named(name, digest)], list)
        return [] if tags is AWAY else [Tag(tag.decode()) for tag in tags]

    async def note_tag(self, name: Name, tag: Tag, digest: Digest) -> None:
        """Keep a tag for when the manifest comes that it stands for: clients that HEAD a tag GET its digest."""
        await self._cache.script(_ADD, [keys.named(name, digest)], lambda: [tag, _NAMED_SECONDS])
