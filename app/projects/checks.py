"""Checks of input: names, descriptions, sizes; each error says which input is valid."""

from __future__ import annotations

import math

from app.access.errors import Conflict, Invalid
from app.access.typed import checked_text
from app.oci.errors import Term
from app.oci.reference import MAX_NAME, is_plain_name

# A repository's name follows the project's, and both together have at most MAX_NAME characters.
_MOST_NAME = 128
_MOST_TEXT = 4000
_MOST_WORD = 255
_MOST_BYTES = 1 << 62

# First parts of paths that belong to pages and not to projects, now or in the future. A test compares this list with
# the routes. Projects from the configuration are not checked, so that an existing project keeps its name.
_RESERVED = frozenset(
    {
        *("account", "addresses", "admin", "administration", "api", "assets", "auth", "c", "favicon.ico", "healthz"),
        *("help", "language", "locale", "login", "logout", "logs", "me", "metrics", "mine", "new", "new-project"),
        *(
            "oauth",
            "plans",
            "projects",
            "readyz",
            "robots.txt",
            "saml",
            "search",
            "secret",
            "service",
            "sessions",
            "settings",
        ),
        *("static", "system", "user", "users", "v1", "v2", "waiting"),
    }
)
# Names that people would take for Docker Hub's own images or a mirror of them.
_OFFICIAL = frozenset({"library", "docker.io", "docker", "dockerhub", "mirror"})


def project_name(name: str, *, by_admin: bool) -> str:
    """Return the name of a new project if it is valid; raises Invalid, and Conflict for a reserved name."""
    if not is_project_name(name) or len(name) > _MOST_NAME:
        raise Invalid(
            "%(name)r cannot be a project name; use lower-case letters and digits, with single . _ - between them, "
            "%(most)s characters at most",
            name=name[:80],
            most=_MOST_NAME,
        )
    if name.isdigit() and not by_admin:
        # Programs name a project by its number, too, and another person's number must not become ambiguous.
        raise Invalid("%(name)s could be a project's number; choose a name with a letter", name=name)
    if name in _RESERVED or (name in _OFFICIAL and not by_admin):
        raise Conflict("the name %(name)r is reserved; choose another", name=name)
    return name


def is_project_name(name: str) -> bool:
    """Return whether a project can have that name; projects of operators may have longer names."""
    return len(name) <= MAX_NAME and is_plain_name(name)


def text(value: str, what: Term) -> str:
    """Return a longer text if both databases can store it; raises Invalid."""
    return checked_text(value, what, _MOST_TEXT)


def word(value: str, what: Term) -> str:
    """Return a short text of one line without the spaces around it; raises Invalid, also for an empty text."""
    value = value.strip()
    if not value or len(value) > _MOST_WORD or not value.isprintable():
        raise Invalid("%(what)s must have 1 to %(most)s characters in one line", what=what, most=_MOST_WORD)
    return value


def size(value: int, what: Term, *, least: int = 0) -> int:
    """Return a number of bytes if it is at least ``least``; raises Invalid."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST_BYTES:
        raise Invalid("%(what)s must be a number of bytes, at least %(least)s", what=what, least=least)
    return value


def position(text: str) -> tuple[float, str]:
    """Parse a place in a list by time, "TIME,REST" in Unix seconds, as the lists' keys are; raises Invalid."""
    at, _, rest = text.partition(",")
    try:
        time = float(at)
    except ValueError:
        time = math.nan
    if not math.isfinite(time):
        raise no_position(text)
    return time, rest


def no_position(text: str) -> Invalid:
    """Return the error for a place that a list does not have."""
    return Invalid("%(text)r is not a position in this list; start from its beginning", text=text[:120])
