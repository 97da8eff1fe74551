"""Bound what one client's address may hold of a worker: connections, and bytes of bodies in memory.

A client that connects directly has its place from the start. Of a trusted proxy's connection, the client is known with
the head of a request only. Such a connection has a place until its request has been answered.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import lru_cache

from cachetools import TTLCache

from app.access.principal import address_block
from app.oci.errors import TooManyRequests

from .observe import ENDED

log = logging.getLogger(__name__)

# In one worker. A lab of 64 engines behind one address has sixteen connections for each of them.
MOST_CONNECTIONS = 1024
MOST_BYTES = 16 * 1024 * 1024
# Of all addresses together. An address may hold as many bytes as the others leave free. So those that ask for all of
# them get equal parts, and there is always room for one more.
MOST_BYTES_IN_ALL = 128 * 1024 * 1024
# Of each body, so many bytes do not count. So no log-in is refused because others behind its address send much.
_FREE_BYTES = 16 * 1024
_RETRY_SECONDS = 5
# A block that is refused is logged once in this time.
_LOG_SECONDS = 60
_block = lru_cache(4096)(address_block)


class Crowd(TooManyRequests):
    cause = "crowd"
    text = "too many connections or too large requests from your address at once; try again in a few seconds"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": str(_RETRY_SECONDS)})


class Crowds:
    """The places in one worker by address block."""

    def __init__(self) -> None:
        self.connections: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.bytes_in_all = 0
        self._logged: TTLCache[str, bool] = TTLCache(1024, _LOG_SECONDS)

    def enter(self, address: str) -> Place:
        """Return a place for the client at an address; raises Crowd if that one has too many."""
        block = _block(address)
        if self.connections[block] >= MOST_CONNECTIONS:
            raise self.refuse(block)
        self.connections[block] += 1
        return Place(self, block)

    def hold(self, block: str, count: int) -> None:
        """Count bytes for a block; raises Crowd if it holds too many."""
        most = min(MOST_BYTES, MOST_BYTES_IN_ALL - self.bytes_in_all - count)
        if self.bytes[block] + count > most:
            raise self.refuse(block)
        self.bytes[block] += count
        self.bytes_in_all += count

    def release(self, block: str, count: int) -> None:
        """Stop counting bytes of a block."""
        _subtract(self.bytes, block, count)
        self.bytes_in_all -= count

    def refuse(self, block: str) -> Crowd:
        """Return the error for a block that has too much, and count it."""
        ENDED.labels("crowd").inc()
        if block not in self._logged:
            self._logged[block] = True
            log.warning(
                "refusing %s: it has %d connections and %d bytes of bodies in memory",
                block,
                self.connections[block],
                self.bytes[block],
            )
        return Crowd()


class Place:
    """The place of one connection; its holder calls `leave` once."""

    def __init__(self, crowds: Crowds, block: str) -> None:
        self._crowds = crowds
        self._block = block
        self._body = self._counted = 0

    def hold(self, count: int) -> None:
        """Count bytes of a body that are kept until `release`; raises Crowd if the address holds too many."""
        self._body += count
        more = max(0, self._body - _FREE_BYTES) - self._counted
        if more:
            self._crowds.hold(self._block, more)
            self._counted += more

    def release(self) -> None:
        """Stop counting the bytes; the request has ended."""
        if self._body:
            self._crowds.release(self._block, self._counted)
            self._body = self._counted = 0

    def leave(self) -> None:
        """Give the place back."""
        self.release()
        _subtract(self._crowds.connections, self._block, 1)


def _subtract(counts: Counter[str], block: str, count: int) -> None:
    counts[block] -= count
    if not counts[block]:
        del counts[block]
