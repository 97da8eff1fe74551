"""Mark texts that a service has as constants, so that pages can translate them."""

from __future__ import annotations


def mark(message: str) -> str:
    """Return the text unchanged. It marks a text of the catalogue that is translated when it is shown."""
    return message
