"""Text that people type: what a database takes, and how it is looked for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, false, literal_column

# Comes after every name that a project or a repository can have. What is being removed is called this and its id:
# nothing finds it any more, and its name is free.
REMOVED = "~"
END_OF_NAMES: ColumnElement[str] = literal_column(f"'{REMOVED}'")


def encodable(text: str) -> bool:
    """Return whether UTF-8 has the text: it has no half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def storable(text: str) -> bool:
    """Return whether both databases can keep a text: PostgreSQL has no NUL."""
    return "\0" not in text and encodable(text)


def has(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Say whether a column has ``text`` in it, whatever the case; what nothing can have is in none."""
    return column.icontains(text, autoescape=True) if storable(text) else false()


def equals(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Say whether a column is exactly ``text``; what nothing can have, none is."""
    return column == text if storable(text) else false()
