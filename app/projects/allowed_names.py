"""The operators' rule on which names of an upstream a mirror serves: ``allowed_names`` and ``denied_names``.

Both are lists of globs (`app.oci.globs`) over the repository's name within the project. A name is served if it matches
an allowed one, or if none is listed, and if it matches no denied one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.access.errors import Invalid
from app.oci.errors import Denied, Term
from app.oci.globs import MAX_GLOB, glob, is_glob
from app.oci.reference import Name

MOST_GLOBS = 100
_MOST_TOLD = 5


def checked_globs(globs: object, what: Term) -> list[str]:
    """Return a setting as it is stored; raises Invalid unless it is a list of globs."""
    if not isinstance(globs, list | tuple) or len(globs) > MOST_GLOBS:
        raise Invalid("%(what)s: give a list of at most %(most)s names or globs", what=what, most=MOST_GLOBS)
    for text in globs:
        if not isinstance(text, str) or not is_glob(text):
            raise Invalid(
                "%(what)s: %(glob)r is no name or glob; use what a name has, *, **, ? and {a,b}, and at most %(most)s "
                "characters",
                what=what,
                glob=str(text)[:80],
                most=MAX_GLOB,
            )
    return list(globs)


def is_served(settings: Mapping[str, Any], repository: str) -> bool:
    """Return whether a mirror with these settings serves a repository of this name within it."""
    allowed, denied = settings.get("allowed_names"), settings.get("denied_names")
    return (not allowed or _first(allowed, repository) is not None) and (
        not denied or _first(denied, repository) is None
    )


def require_served(settings: Mapping[str, Any], name: Name) -> None:
    """Raise Denied, with the rule in words, unless a mirror with these settings serves ``name``."""
    if is_served(settings, name.repository):
        return
    denied = _first(settings.get("denied_names") or (), name.repository)
    if denied is not None:
        raise Denied(
            "the operators of this registry do not serve %(name)s: it matches their rule %(rule)s; ask them if you "
            "need it",
            name=name,
            rule=denied,
        )
    allowed = settings["allowed_names"]
    more = ", …" if len(allowed) > _MOST_TOLD else ""
    raise Denied(
        "the operators of this registry do not serve %(name)s: in %(project)s/ they allow only %(rules)s; ask them if "
        "you need it",
        name=name,
        project=name.project,
        rules=", ".join(allowed[:_MOST_TOLD]) + more,
    )


def _first(globs: Sequence[str], repository: str) -> str | None:
    return next((text for text in globs if glob(text).matches(repository)), None)
