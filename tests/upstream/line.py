"""The line to the upstream: a latency per request, and one bandwidth for all connections together."""

from __future__ import annotations

import asyncio
import time

# How far the line may catch up after a late wake-up, so that a busy machine still gets the bandwidth asked for.
_SLACK = 0.05


class Line:
    def __init__(self) -> None:
        self.bandwidth: float | None = None
        self.latency = 0.0
        self._free_at = 0.0

    async def travel(self) -> None:
        """Wait as long as a request is under way; `latency` in seconds."""
        if self.latency:
            await asyncio.sleep(self.latency)

    async def carry(self, size: int) -> None:
        """Wait until ``size`` more bytes have fitted; first come, first served. `bandwidth` in bytes a second."""
        if self.bandwidth is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - _SLACK) + size / self.bandwidth
        if (delay := self._free_at - now) > 0:
            await asyncio.sleep(delay)
