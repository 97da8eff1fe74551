"""Choose repositories and tags by a glob, as the rules of a project do, in Harbor's words: matches or excludes."""

from __future__ import annotations

from dataclasses import dataclass

from .globs import glob


@dataclass(frozen=True, slots=True)
class Selector:
    """A glob over names; with ``excludes`` it takes the names that do not match."""

    glob: str = "**"
    excludes: bool = False

    def takes(self, name: str) -> bool:
        """Return whether it takes a name."""
        return glob(self.glob).matches(name) is not self.excludes

    def __str__(self) -> str:
        return f"not {self.glob}" if self.excludes else self.glob


EVERY = Selector()
