"""Count the connections of each client's address, so that no client can take all that a worker has.

A client that connects directly is counted from the start. Of a trusted proxy's connection, the client is known with the
head of a request only. Such a connection counts for that client until its request has been answered.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from app.access.principal import address_block
from app.oci.errors import TooManyRequests

from .connection import Connection

# In one worker. A lab of 64 engines behind one address has sixteen for each of them.
MOST_CONNECTIONS = 1024
_RETRY_SECONDS = 5
_block = lru_cache(4096)(address_block)


class Crowd(TooManyRequests):
    text = "too many connections from your address at once; try again in a few seconds"

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": str(_RETRY_SECONDS)})


class Crowds:
    """The connections of one worker by address block."""

    def __init__(self) -> None:
        self._connections: Counter[str] = Counter()

    def enter(self, connection: Connection, address: str) -> None:
        """Count a connection for the client at an address; raises Crowd if that one has too many."""
        block = _block(address)
        if self._connections[block] >= MOST_CONNECTIONS:
            raise Crowd
        self._connections[block] += 1
        connection.block = block

    def leave(self, connection: Connection) -> None:
        """Stop counting a connection; does nothing if it is not counted."""
        block, connection.block = connection.block, None
        if block is None:
            return
        self._connections[block] -= 1
        if not self._connections[block]:
            del self._connections[block]
