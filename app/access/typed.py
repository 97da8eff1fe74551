"""A check of the texts that people type."""

from __future__ import annotations

from app.database.text import storable
from app.oci.errors import Term

from .errors import Invalid


def checked_text(text: str, what: Term, most: int) -> str:
    """Return a text; raise Invalid if it has more than ``most`` characters or no database can keep it."""
    if len(text) > most or not storable(text):
        raise Invalid("%(what)s: at most %(most)s characters, none of them NUL", what=what, most=most)
    return text
