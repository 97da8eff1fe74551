"""Keep recent answers of point reads, for the moments when PostgreSQL is down.

A snapshot is used only if the database does not answer, is at most a minute old, and serves reads only. So an image
that was pulled a moment ago can be pulled during a restart of PostgreSQL. While PostgreSQL runs, a deletion shows at
once.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

from cachetools import TTLCache

_TTL_SECONDS = 60
# The same answer is written again after this time. A Redis that lost everything lacks it for at most that long.
_REWRITE_SECONDS = 5.0
_MOST_KEYS = 10_000
# Larger rows, such as a manifest of a megabyte, are not worth the memory of a shared cache.
_MOST_BYTES = 256 * 1024


class Memory(Protocol):
    """A cache that never raises: if it is down or full, it forgets."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: str | bytes, ttl: float) -> bool: ...


class Snapshots:
    """Rows by the SQL of their query and its parameters."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._written: TTLCache[tuple[object, ...], int] = TTLCache(_MOST_KEYS, _REWRITE_SECONDS)

    async def remember(self, text: str, parameters: tuple[object, ...], row: Sequence[Any] | None) -> None:
        """Keep a row for a minute; the absence of a row is not kept."""
        key = (text, *parameters)
        if row is None:
            return
        answer = hash(tuple(row))
        if self._written.get(key) == answer:
            return
        self._written[key] = answer
        line = _encode(row)
        if len(line) <= _MOST_BYTES and not await self._memory.set(_key(key), line, _TTL_SECONDS):
            self._written.pop(key, None)

    async def recall(self, text: str, parameters: tuple[object, ...]) -> Sequence[Any] | None:
        """Return the row of the last minute, None if none is known."""
        line = await self._memory.get(_key((text, *parameters)))
        return None if line is None else _decode(line)


def _key(parts: tuple[object, ...]) -> str:
    return f"row:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def _encode(row: Sequence[Any]) -> str:
    return json.dumps([{"bytes": base64.b64encode(item).decode()} if isinstance(item, bytes) else item for item in row])


def _decode(line: bytes) -> list[Any]:
    return [base64.b64decode(item["bytes"]) if isinstance(item, dict) else item for item in json.loads(line)]
