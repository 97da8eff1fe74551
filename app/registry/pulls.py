"""Notes when things were last pulled, and how often, many at a time: what eviction and people go by.

A note that is lost with a killed worker costs nothing but a little order among the least recently pulled.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

from app.database import Database, blobs, manifests, repositories
from app.jobs import repeat
from app.oci.digest import Digest
from app.oci.errors import Unavailable

_FLUSH_SECONDS = 5.0
# Where the database is away for long, notes beyond this many are dropped rather than kept in memory.
_MOST_NOTES = 100_000

log = logging.getLogger(__name__)


class Pulls:
    """Collects notes in memory; `run` writes them every few seconds until cancelled."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._blobs: dict[tuple[int, str], float] = {}
        self._manifests: dict[tuple[int, str], float] = {}
        self._counts: Counter[int] = Counter()

    def blob(self, repository_id: int, digest: Digest) -> None:
        """Note that a blob is being pulled now."""
        if len(self._blobs) < _MOST_NOTES:
            self._blobs[repository_id, digest] = time.time()

    def manifest(self, repository_id: int, digest: Digest, *, counts: bool = False) -> None:
        """Note that a manifest was pulled now; ``counts``: it is what people call a pull, of one image and not a look.

        A client that pulls asks for several manifests: by HEAD first, then the index, then the image for its platform.
        """
        if counts:
            self._counts[repository_id] += 1
        if len(self._manifests) < _MOST_NOTES:
            self._manifests[repository_id, digest] = time.time()

    async def flush(self) -> None:
        """Write what was noted; kept for the next time where the database is away."""
        pulled_blobs, self._blobs = self._blobs, {}
        pulled_manifests, self._manifests = self._manifests, {}
        counts, self._counts = self._counts, Counter()
        if not pulled_blobs and not pulled_manifests:
            return
        try:
            async with self._database.transaction() as transaction:
                await blobs.touch(transaction, pulled_blobs)
                await manifests.touch(transaction, pulled_manifests)
                await repositories.add_pulls(transaction, counts)
        except Unavailable as error:
            log.warning("pull times not written yet: %s", error)
            self._blobs = pulled_blobs | self._blobs
            self._manifests = pulled_manifests | self._manifests
            self._counts += counts

    async def run(self) -> None:
        """Write every few seconds, for as long as the worker lives."""
        await repeat("writing pull times", self.flush, _FLUSH_SECONDS)
