"""What people may type: names, descriptions, sizes; each says in words what would be right."""

from __future__ import annotations

from app.access.errors import Conflict, Invalid
from app.access.typed import checked_text
from app.oci.errors import Term
from app.oci.reference import MAX_NAME, is_plain_name

# A repository's name comes after it, and both together have MAX_NAME characters at most.
_MOST_NAME = 128
_MOST_TEXT = 4000
_MOST_WORD = 255
_MOST_BYTES = 1 << 62

# First parts of paths that are not projects', now or one day; a test holds this against the routes that there are.
# What the configuration makes is not asked about: a project that is there goes on under its name.
_RESERVED = frozenset(
    {
        *("account", "addresses", "admin", "administration", "api", "assets", "auth", "c", "favicon.ico", "healthz"),
        *("help", "language", "locale", "login", "logout", "logs", "me", "metrics", "mine", "new", "new-project"),
        *("oauth", "projects", "readyz", "robots.txt", "saml", "search", "service", "sessions", "settings", "static"),
        *("system", "user", "users", "v1", "v2"),
    }
)
# What people would take for Docker Hub's own images, or for the way to them.
_OFFICIAL = frozenset({"library", "docker.io", "docker", "dockerhub", "mirror"})


def project_name(name: str, *, by_admin: bool) -> str:
    """Give the name of a project that is to be made back; raises Invalid, and Conflict for a reserved one."""
    if not is_project_name(name) or len(name) > _MOST_NAME:
        raise Invalid(
            "not a project name: %(name)r; lower-case letters and digits, with single . _ - between "
            "them, %(most)s characters at most",
            name=name[:80],
            most=_MOST_NAME,
        )
    if name in _RESERVED or (name in _OFFICIAL and not by_admin):
        raise Conflict("the name %(name)r is reserved; choose another", name=name)
    return name


def is_project_name(name: str) -> bool:
    """Say whether a project can be called that; operators give their own longer names."""
    return len(name) <= MAX_NAME and is_plain_name(name)


def text(value: str, what: Term) -> str:
    """Give a longer text back; raises Invalid where it cannot be kept."""
    return checked_text(value, what, _MOST_TEXT)


def word(value: str, what: Term) -> str:
    """Give a short text of one line back, without the spaces around it; raises Invalid where there is none."""
    value = value.strip()
    if not value or len(value) > _MOST_WORD or not value.isprintable():
        raise Invalid("%(what)s: one to %(most)s characters, in one line", what=what, most=_MOST_WORD)
    return value


def size(value: int, what: Term, *, least: int = 0) -> int:
    """Give a number of bytes back; raises Invalid."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST_BYTES:
        raise Invalid("%(what)s: a number of bytes, %(least)s at least", what=what, least=least)
    return value
