"""A counter of metrics for what happens with every request."""

from __future__ import annotations

import asyncio

from prometheus_client import Counter

_FLUSH_SECONDS = 0.1


class BatchedCounter:
    """Adds to a counter a little later, for many events together.

    All workers share their counters through files, so each addition takes a lock and writes.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._count = 0

    def inc(self) -> None:
        """Count one more."""
        if not self._count:
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._flush)
        self._count += 1

    def _flush(self) -> None:
        count, self._count = self._count, 0
        self._counter.inc(count)
