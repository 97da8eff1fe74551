"""What point reads answered lately, for the moments in which PostgreSQL is away.

A snapshot is never preferred to the database, is at most a minute old, and answers reads only: a pull of what was
pulled a moment ago goes on through a restart of PostgreSQL, and a deletion shows at once while it runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

from cachetools import TTLCache

_TTL_SECONDS = 60
# How often the same answer is written again: for so long a Redis that has just lost everything misses it.
_REWRITE_SECONDS = 5.0
_MOST_KEYS = 10_000
# Larger rows (a manifest of a megabyte) are not worth the memory of a cache everybody shares.
_MOST_BYTES = 256 * 1024


class Memory(Protocol):
    """A cache that never raises: what is away or full forgets."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: str | bytes, ttl: float) -> bool: ...


class Snapshots:
    """Rows by the text of their question and its parameters."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._written: TTLCache[tuple[object, ...], int] = TTLCache(_MOST_KEYS, _REWRITE_SECONDS)

    async def remember(self, text: str, parameters: tuple[object, ...], row: Sequence[Any] | None) -> None:
        """Keep an answer for a minute; that there is no row is not kept."""
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
        """Give what was answered within the last minute; None where that is not known."""
        line = await self._memory.get(_key((text, *parameters)))
        return None if line is None else _decode(line)


def _key(parts: tuple[object, ...]) -> str:
    return f"row:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def _encode(row: Sequence[Any]) -> str:
    return json.dumps([{"bytes": base64.b64encode(item).decode()} if isinstance(item, bytes) else item for item in row])


def _decode(line: bytes) -> list[Any]:
    return [base64.b64decode(item["bytes"]) if isinstance(item, dict) else item for item in json.loads(line)]
