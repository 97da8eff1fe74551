"""Check the ids of rows."""

from __future__ import annotations

MOST_ID = (1 << 63) - 1


def is_id(number: int) -> bool:
    """Return whether a row can have this id. The databases refuse to look for a number of more than 64 bits."""
    return 0 < number <= MOST_ID
