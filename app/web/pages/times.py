"""Read the times that people type in a form, in the time zone of their browser."""

from __future__ import annotations

from datetime import UTC, datetime

from app.access.errors import Invalid
from app.kit.zones import zone_of


def read_moment(text: str, zone: str) -> float:
    """Return a time as a browser's field writes it, in Unix seconds; raises Invalid."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=zone_of(zone) or UTC).timestamp()
    except (ValueError, OverflowError):
        raise Invalid("choose a date and a time") from None
