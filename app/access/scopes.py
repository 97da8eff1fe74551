"""Scopes: the access that a client asks a token for.

    repository:NAME:pull,push       also repository(plugin):NAME:…
    registry:catalog:*

A scope that breaks the grammar is left out, as if it had not been granted. A client learns from
its requests what its token allows, and one bad scope among several must not cost it the others.

Source: Docker registry token specification, "Token Scope Documentation".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.oci.errors import NameInvalid, Unsupported
from app.oci.reference import Name

PULL = frozenset({"pull"})
ALL_ACTIONS = frozenset({"pull", "push", "delete"})

# The project id for a project that does not exist; an administrator's token may name such a project.
NO_PROJECT = 0

# A token that grants so many, with names of full length, is still short enough (`tokens.MAX_TOKEN`).
MAX_SCOPES = 32

_REPOSITORY = re.compile(r"repository(\([a-z0-9]+\))?\Z")


@dataclass(frozen=True, slots=True)
class Scopes:
    """The scopes of a request that are well formed, merged by name."""

    repositories: Mapping[Name, frozenset[str]] = field(default_factory=dict)
    catalogue: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """The granted actions in a repository, and the id of its project, or `NO_PROJECT`.

    ``project`` is None in a token of a release that did not write it yet.
    """

    actions: frozenset[str]
    project: int | None


def parse_scopes(values: Iterable[str]) -> Scopes:
    """Return the scopes of a request's ``scope`` parameters, each with one scope or several separated by spaces.

    Raises Unsupported (400) for more than `MAX_SCOPES`: a token for some of them would fail later, without a reason.
    """
    repositories: dict[Name, frozenset[str]] = {}
    catalogue = False
    asked = [scope for value in values for scope in value.split()]
    if len(asked) > MAX_SCOPES:
        raise Unsupported(
            "too many scopes: a token is for %(most)s at most; ask for several tokens", most=MAX_SCOPES, status=400
        )
    for scope in asked:
        # A host with a port would make four parts; a name with a host belongs to another registry.
        kind, name, actions = parts if len(parts := scope.split(":")) == 3 else ("", "", "")
        if kind == "registry":
            catalogue = catalogue or (name == "catalog" and "*" in actions.split(","))
        elif _REPOSITORY.match(kind) and (wanted := _actions(actions)):
            try:
                parsed = Name.parse(name)
            except NameInvalid:
                continue
            repositories[parsed] = repositories.get(parsed, frozenset()) | wanted
    return Scopes(repositories, catalogue)


def _actions(text: str) -> frozenset[str]:
    actions = frozenset(text.split(","))
    return ALL_ACTIONS if "*" in actions else actions & ALL_ACTIONS
