"""Whose turn it is to get a manifest: one at a time on a host, and while Redis can tell on any host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from app.cache import Cache, Claim, Lease, keys
from app.oci.digest import Digest
from app.oci.reference import Name

from .hostlock import host_lock

# A leader on another host that takes longer than this is waited for no more; what is done twice is done right.
_LEASE_SECONDS = 30.0
_LEASE_PAUSE = 0.05


class Turns:
    """Turns for the references of one upstream's repositories; ``locks`` is a folder of this host."""

    def __init__(self, cache: Cache, locks: Path) -> None:
        self._cache = cache
        self._locks = locks

    @asynccontextmanager
    async def of(self, name: Name, reference: str) -> AsyncIterator[None]:
        """Be the only one to get this manifest for the time of the block."""
        what = f"{name}:{reference}"
        async with AsyncExitStack() as stack:
            lock = self._locks / f"manifest-{Digest.of(what.encode()).hex[:32]}"
            await stack.enter_async_context(host_lock(lock, remove=True))
            lease = Lease(self._cache, keys.lease("manifest", what))
            stack.push_async_callback(lease.release)
            until = time.monotonic() + _LEASE_SECONDS
            # Whoever has it may be on another host: there is nothing here that an event could come from.
            while await lease.acquire() is Claim.TAKEN and time.monotonic() < until:  # noqa: ASYNC110
                await asyncio.sleep(_LEASE_PAUSE)
            yield
