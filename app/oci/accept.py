"""Decide by ``Accept`` whether a client reads indexes.

Clients from before manifest lists name the types of single images only. They would take an index for a broken image. A
client that names no type of manifest takes any: curl sends ``*/*``, and scripts send ``application/json``. An image of
OCI's type is sent to those who name only Docker's, because the two have the same form.

Source: RFC 9110, 12.5.1; distribution v3, ``registry/handlers/manifests.go``.
"""

from __future__ import annotations

from functools import lru_cache

from .manifest import CARRIED_TYPES, INDEX_TYPES, SCHEMA_1_TYPES

_WITH_INDEXES = INDEX_TYPES | {"*/*", "application/*"}


@lru_cache(maxsize=1024)
def reads_indexes(accept: str | None) -> bool:
    """Return whether a client with this header reads indexes."""
    named = {entry.partition(";")[0].strip().lower() for entry in (accept or "").split(",")}
    return not named.isdisjoint(_WITH_INDEXES) or named.isdisjoint(CARRIED_TYPES | SCHEMA_1_TYPES)
