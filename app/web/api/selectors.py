"""Harbor's selectors: a glob, and a word for whether it takes the names that match or the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.access.errors import Invalid
from app.oci.selectors import EVERY, Selector

# The words for taking what matches, and the rest.
REPOSITORIES = ("repoMatches", "repoExcludes")
TAGS = ("matches", "excludes")


def read(given: Sequence[dict[str, Any]], words: tuple[str, str]) -> Selector:
    """Return the selector of a body; raises Invalid. The service checks its glob."""
    if not given:
        return EVERY
    word = given[0].get("decoration") or words[0]
    if word not in words:
        raise Invalid("decoration must be one of %(choices)s", choices=", ".join(words))
    return Selector(given[0]["pattern"], word == words[1])


def written(selector: Selector, words: tuple[str, str], extras: str = "") -> list[dict[str, str]]:
    """Return a selector in Harbor's form."""
    spelled = {"kind": "doublestar", "decoration": words[selector.excludes], "pattern": selector.glob}
    return [spelled | ({"extras": extras} if extras else {})]
