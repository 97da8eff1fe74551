"""Text that people type: whether a database can store it, and conditions that search for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, false, func, literal_column, or_

# This sorts after every name that a project or a repository can have. A row that is being removed is renamed to this
# and its id: nobody finds it any more, and its name is free.
REMOVED = "~"
_FIRST: ColumnElement[int] = literal_column("1")
END_OF_NAMES: ColumnElement[str] = literal_column(f"'{REMOVED}'")


def is_kept(column: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that a row is not being removed.

    It is spelled so that SQLite does not walk along the names because of it, if the list has another order.
    """
    begins: ColumnElement[bool] = func.substr(column, _FIRST, _FIRST) != END_OF_NAMES
    return begins


def folded(username: str) -> str:
    """Return a user name as accounts have it, because people write theirs with capitals and without."""
    return username.lower()


def encodable(text: str) -> bool:
    """Return whether UTF-8 can encode the text, which then has no half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def storable(text: str) -> bool:
    """Return whether both databases can store a text; PostgreSQL cannot store NUL."""
    return "\0" not in text and encodable(text)


def storable_part(text: str, most: int = 1000) -> str:
    """Return the first ``most`` characters of a text, with a replacement for what a database cannot store."""
    return text[:most].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def has(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Return the condition that a column contains ``text``, upper or lower case; false if no column can store it."""
    return column.icontains(text, autoescape=True) if storable(text) else false()


def has_any(columns: Iterable[ColumnElement[Any]], text: str) -> ColumnElement[bool] | None:
    """Return the condition that one of the columns contains ``text``; None if there is no text to look for."""
    return or_(*(has(column, text) for column in columns)) if text else None


def equals(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Return the condition that a column is exactly ``text``; false if no column can store it."""
    return column == text if storable(text) else false()
