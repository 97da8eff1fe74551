"""The report of a move: how much of each kind moves, and what does not, with the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

# Of each kind and reason; the rest is counted.
_MOST_NAMED = 20
_COUNTED = ("new", "changed", "gone", "the same", "too old", "cannot move")


class CannotMoveError(Exception):
    """A row of Harbor's does not move; the text is the reason."""


@dataclass(slots=True)
class _Kind:
    counts: Counter[str] = field(default_factory=Counter)
    # Names by reason, and how many there are.
    refused: dict[str, list[str]] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)


class Report:
    """Collects what happens to rows, by kind; its size does not depend on how many rows there are."""

    def __init__(self, *, dry: bool) -> None:
        self._dry = dry
        self._kinds: dict[str, _Kind] = {}
        self._notes: dict[str, list[str]] = {}
        self._noted: Counter[str] = Counter()

    def count(self, kind: str, what: str, number: int = 1) -> None:
        """Count rows that are new, changed, gone or the same."""
        self._of(kind).counts[what] += number

    def refuse(self, kind: str, name: str, reason: str) -> None:
        """Note a row that does not move."""
        found = self._of(kind)
        found.counts["cannot move"] += 1
        found.refusals[reason] += 1
        named = found.refused.setdefault(reason, [])
        if len(named) < _MOST_NAMED:
            named.append(name)

    def remark(self, about: str, name: str) -> None:
        """Note something about a row that moves, or a part of it that does not."""
        self._noted[about] += 1
        named = self._notes.setdefault(about, [])
        if len(named) < _MOST_NAMED:
            named.append(name)

    def counted(self, kind: str, what: str) -> int:
        """Return how often something was counted."""
        return self._of(kind).counts[what]

    @property
    def changes(self) -> int:
        """Return how many rows were, or would be, written or removed."""
        return sum(kind.counts[what] for kind in self._kinds.values() for what in ("new", "changed", "gone"))

    def text(self) -> str:
        """Return the report for a person."""
        lines = ["This would move:" if self._dry else "Moved:"]
        for name, kind in self._kinds.items():
            counts = ", ".join(f"{kind.counts[what]} {what}" for what in _COUNTED if kind.counts[what])
            lines.append(f"  {name}: {counts or 'none'}")
        for name, kind in self._kinds.items():
            for reason, named in kind.refused.items():
                lines.append(f"{name} that cannot move: {reason} ({kind.refusals[reason]})")
                lines += _listed(named, kind.refusals[reason])
        for about, named in self._notes.items():
            lines.append(f"{about} ({self._noted[about]})")
            lines += _listed(named, self._noted[about])
        return "\n".join(lines)

    def _of(self, kind: str) -> _Kind:
        return self._kinds.setdefault(kind, _Kind())


def _listed(names: list[str], number: int) -> list[str]:
    more = [f"  and {number - len(names)} more"] if number > len(names) else []
    return [*(f"  {name}" for name in names), *more]
