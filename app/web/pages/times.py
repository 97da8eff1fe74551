"""Read the times that people type in a form, in the time zone of their browser."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.access.errors import Invalid


def zone_of(name: str) -> ZoneInfo | None:
    """Return a browser's time zone; None if it does not say or is not known here, which means UTC."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def read_moment(text: str, zone: str) -> float:
    """Return a time as a browser's field writes it, in Unix seconds; raises Invalid."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=zone_of(zone) or UTC).timestamp()
    except (ValueError, OverflowError):
        raise Invalid("choose a date and a time") from None
