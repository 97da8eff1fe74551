"""The table: a row for each measurement, and whether it is what the project promises."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Row:
    """One line, in words; ``holds`` is None where there is no bound."""

    what: str
    ours: str
    peer: str = ""
    v3: str = ""
    ratio: str = ""
    bound: str = ""
    holds: bool | None = None


_TITLES = ("", "ours", "docker-registry", "distribution v3", "ratio", "bound", "holds")


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Give the median of the ratios of each round: what slowed the machine down slowed both."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def medians(figures: Mapping[str, Sequence[float]], spelled: str = ".2f") -> dict[str, str]:
    """Give the median of each row of figures, in words."""
    return {label: format(statistics.median(found), spelled) for label, found in figures.items()}


def ratio_words(ratio: float, to_v3: float | None = None) -> str:
    """Spell a ratio to docker-registry, and one to distribution v3 where there is one."""
    return f"{ratio:.2f}×" + (f" (v3: {to_v3:.2f}×)" if to_v3 is not None else "")


def render(rows: Sequence[Row]) -> str:
    """Draw the rows in Markdown, in columns that line up as plain text too."""
    cells = [list(_TITLES), *(_words(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_TITLES))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def _words(row: Row) -> list[str]:
    *words, holds = astuple(row)
    return [*words, {None: "", True: "yes", False: "NO"}[holds]]
