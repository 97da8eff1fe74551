"""Short-lived notes on an upstream's answers, shared by all workers. If Redis is down, the upstream is asked again."""

from __future__ import annotations

from app.cache import AWAY, Cache, keys
from app.oci.digest import Digest
from app.oci.reference import Name, Tag

_MISSING_SECONDS = 60
# A client that asks for a tag by HEAD asks for the digest right after. This allows for a slow client, or a person.
_NAMED_SECONDS = 300

# KEYS[1] a set, ARGV: what to add, its life in seconds.
_ADD = "redis.call('SADD', KEYS[1], ARGV[1]) return redis.call('EXPIRE', KEYS[1], ARGV[2])"
_MEMBERS = "return redis.call('SMEMBERS', KEYS[1])"


class NegativeCache:
    """References that lately had no usable manifest; unusable ones are fetched again after ``unusable_for`` seconds."""

    def __init__(self, cache: Cache, unusable_for: int) -> None:
        self._cache = cache
        self._unusable_for = unusable_for

    async def is_missing(self, name: Name, reference: str) -> bool:
        """Return whether the upstream answered 404 within the last minute."""
        return await self._cache.get(keys.missing(name, reference)) is not None

    async def note_missing(self, name: Name, reference: str) -> None:
        """Note a 404."""
        await self._cache.set(keys.missing(name, reference), b"1", _MISSING_SECONDS)

    async def is_unusable(self, name: Name, reference: str) -> bool:
        """Return whether a counted GET lately brought a manifest that could not be used."""
        return await self._cache.get(keys.unusable(name, reference)) is not None

    async def note_unusable(self, name: Name, reference: str) -> None:
        """Note a manifest that could not be used, because the next counted GET would be wasted, too."""
        await self._cache.set(keys.unusable(name, reference), b"1", self._unusable_for)


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
