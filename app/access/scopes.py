"""What a client asks a token for.

    repository:NAME:pull,push       also repository(plugin):NAME:…
    registry:catalog:*

A scope that breaks the grammar is left out as if it had not been granted: a client learns what it holds from
what it may do, and one bad scope among several must not cost it the others.

Source: Docker registry token specification, "Token Scope Documentation".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from app.oci.errors import NameInvalid
from app.oci.reference import Name

PULL = frozenset({"pull"})
ALL_ACTIONS = frozenset({"pull", "push", "delete"})

# Stands for the id of a project where there is none: an administrator's token may name a project that is not there.
NO_PROJECT = 0

# With names of full length, a token that grants so many still fits where it has to (`tokens.MAX_TOKEN`).
MAX_SCOPES = 32

_REPOSITORY = re.compile(r"repository(\([a-z0-9]+\))?\Z")


@dataclass(frozen=True, slots=True)
class Scopes:
    """What was asked for, well formed and merged by name."""

    repositories: Mapping[Name, frozenset[str]] = field(default_factory=dict)
    catalogue: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """What is granted in a repository, and in which project: its id, or `NO_PROJECT`.

    ``project`` is None in a token of a release that did not write it yet.
    """

    actions: frozenset[str]
    project: int | None


def parse_scopes(values: Iterable[str]) -> Scopes:
    """Read the ``scope`` parameters of a request, each with one scope or several between spaces.

    Past `MAX_SCOPES` scopes the rest is left out.
    """
    repositories: dict[Name, frozenset[str]] = {}
    catalogue = False
    for scope in islice((scope for value in values for scope in value.split()), MAX_SCOPES):
        # A host with a port would give a fourth part; hosts in names are of another registry.
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
