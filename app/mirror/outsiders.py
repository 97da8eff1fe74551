"""Bound what an upstream is asked because of outsiders, the clients that may not start fills.

Docker Hub's abuse limit counts every request, and one outsider could spend it for all. So nothing is looked up for them
that is not cached. Only the tags that are cached here are compared with the upstream, and only so often.
"""

from __future__ import annotations

from app.cache import Cache, keys

_SECONDS = 60
_MOST = 60


class Outsiders:
    """Counts one upstream's lookups for all outsiders, on all workers."""

    def __init__(self, cache: Cache, upstream: str) -> None:
        self._cache = cache
        self._key = keys.outsiders(upstream)

    async def may_ask(self) -> bool:
        """Count a lookup, and return whether it may be sent; never if Redis is down, because nobody counts then."""
        count = await self._cache.increment(self._key, _SECONDS)
        return count is not None and count <= _MOST
