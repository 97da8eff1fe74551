"""The rules that keep artifacts, in Harbor's words; what no rule of its repository keeps is removed.

    always               every artifact that the rule takes
    latestPushedK        the K that were pushed last
    latestPulledN        the N that were pulled last
    nDaysSinceLastPush   those that were pushed within N days
    nDaysSinceLastPull   those that were pulled within N days

A rule takes an artifact if its selectors take the repository and one of the artifact's tags. With ``untagged`` it takes
artifacts without a tag as well. An artifact that one rule keeps stays with all its tags. A push counts as a first pull.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .selectors import EVERY, Selector

DAY = 86400.0


class Template(StrEnum):
    """How a rule chooses among the artifacts that it takes."""

    ALWAYS = "always"
    LATEST_PUSHED = "latestPushedK"
    LATEST_PULLED = "latestPulledN"
    DAYS_SINCE_PUSH = "nDaysSinceLastPush"
    DAYS_SINCE_PULL = "nDaysSinceLastPull"


LATEST = frozenset({Template.LATEST_PUSHED, Template.LATEST_PULLED})
BY_PULL = frozenset({Template.LATEST_PULLED, Template.DAYS_SINCE_PULL})


@dataclass(frozen=True, slots=True)
class Facts:
    """An artifact, its tags with the times of their last push, and when it came and was pulled last (Unix seconds)."""

    digest: str
    tags: tuple[tuple[str, float], ...]
    created_at: float
    pulled_at: float


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; ``count`` is its number of artifacts or days, 0 for `Template.ALWAYS`."""

    template: Template
    count: int = 0
    tags: Selector = EVERY
    repositories: Selector = EVERY
    untagged: bool = False
    disabled: bool = False

    def measure(self, facts: Facts) -> float | None:
        """Return the time by which the rule compares an artifact, None if it does not take it."""
        pushed = [at for name, at in facts.tags if self.tags.takes(name)]
        if not facts.tags and self.untagged:
            pushed = [facts.created_at]
        if not pushed:
            return None
        return facts.pulled_at if self.template in BY_PULL else max(pushed)

    def keeps(self, facts: Facts, now: float) -> bool:
        """Return whether it keeps an artifact whatever others there are; False for the latest ones."""
        if self.template in LATEST:
            return False
        at = self.measure(facts)
        return at is not None and (self.template is Template.ALWAYS or at > now - self.count * DAY)

    def written(self) -> dict[str, Any]:
        """Return the rule as JSON."""
        return {
            "template": self.template.value,
            "count": self.count,
            "tags": [self.tags.glob, self.tags.excludes],
            "repositories": [self.repositories.glob, self.repositories.excludes],
            "untagged": self.untagged,
            "disabled": self.disabled,
        }

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Rule:
        """Return a rule that `written` spelled."""
        return cls(
            Template(said["template"]),
            said["count"],
            Selector(*said["tags"]),
            Selector(*said["repositories"]),
            said["untagged"],
            said["disabled"],
        )

    def __str__(self) -> str:
        number = f" {self.count}" if self.count else ""
        untagged = " and untagged" if self.untagged else ""
        return f"{self.template.value}{number} ({self.tags}{untagged} in {self.repositories})"


def rules_over(rules: Sequence[Rule], repository_name: str) -> dict[int, Rule]:
    """Return the enabled rules over a repository, by their places in the policy."""
    return {
        place: rule
        for place, rule in enumerate(rules)
        if not rule.disabled and rule.repositories.takes(repository_name)
    }
