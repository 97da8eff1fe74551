"""Payloads of manifests by digest: in the memory of each worker, and in Redis for all workers.

The bytes of a digest never change, so no copy of them is ever out of date. Whether a repository has the manifest is
another question, which its reader asks first or last.
"""

from __future__ import annotations

from zlib import crc32

from cachetools import LRUCache

from app.cache import Cache, keys
from app.oci.digest import Digest

# A few thousand ordinary manifests.
_CACHE_BYTES = 32 * 1024 * 1024
# In Redis, 32 MiB at most. Each digest has one slot, so a flood of manifests removes other payloads and nothing else.
_SLOTS = 2 * 1024
_SLOT_BYTES = 16 * 1024
_SECONDS = 24 * 3600


class Payloads:
    """Finds and keeps payloads; ``shared`` is None if SQL is as near as Redis."""

    def __init__(self, shared: Cache | None) -> None:
        self._memory: LRUCache[Digest, bytes] = LRUCache(_CACHE_BYTES, getsizeof=len)
        self._shared = shared

    def remembered(self, digest: Digest) -> bytes | None:
        """Return a payload from the memory of this worker."""
        payload: bytes | None = self._memory.get(digest)
        return payload

    async def find(self, digest: Digest) -> bytes | None:
        """Return a payload that another worker has kept, if its bytes are those of the digest."""
        payload = await self._shared.get(_slot(digest)) if self._shared is not None else None
        if payload is None or Digest.of(payload, digest.algorithm) != digest:
            return None
        self._memory[digest] = payload
        return payload

    async def keep(self, digest: Digest, payload: bytes) -> None:
        """Keep a verified payload for all workers."""
        self._memory[digest] = payload
        if self._shared is not None and len(payload) <= _SLOT_BYTES:
            await self._shared.set(_slot(digest), payload, _SECONDS)

    async def forget(self, digest: Digest) -> None:
        """Drop the payload of a manifest that was deleted for good, from this worker and from Redis."""
        self._memory.pop(digest, None)
        # Another payload that has the slot is kept again when it is read.
        if self._shared is not None:
            await self._shared.delete(_slot(digest))


def _slot(digest: Digest) -> str:
    return keys.payload(crc32(digest.encode()) % _SLOTS)
