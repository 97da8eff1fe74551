"""Text that people type: whether a database can store it, and conditions that search for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, false, literal_column

# This sorts after every name that a project or a repository can have. A row that is being removed is renamed to this
# and its id: nobody finds it any more, and its name is free.
REMOVED = "~"
END_OF_NAMES: ColumnElement[str] = literal_column(f"'{REMOVED}'")


def encodable(text: str) -> bool:
    """Return whether UTF-8 can encode the text, which then has no half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def storable(text: str) -> bool:
    """Return whether both databases can store a text; PostgreSQL cannot store NUL."""
    return "\0" not in text and encodable(text)


def has(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Return the condition that a column contains ``text``, upper or lower case; false if no column can store it."""
    return column.icontains(text, autoescape=True) if storable(text) else false()


def equals(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Return the condition that a column is exactly ``text``; false if no column can store it."""
    return column == text if storable(text) else false()
