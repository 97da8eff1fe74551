"""Read retention and immutability of Harbor's projects, and write them by one function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from app.database.harbor import Rules

from .report import Report
from .steps import Known

_BATCH = 500
_LATER = "moves as soon as this registry has such rules"


async def move_rules(
    read: Callable[[int, int], Awaitable[Sequence[Rules]]], known: Known, report: Report, *, dry: bool
) -> None:
    """Move the rules of every project that has some."""
    after = 0
    while rows := await read(after, _BATCH):
        after = rows[-1].id
        for row in rows:
            if row.id in known.projects and (row.retention or row.immutable):
                _report(row, report)
                if not dry:
                    await write_rules(known.projects[row.id][0], row)


async def write_rules(project_id: int, rules: Rules) -> None:
    """Write a project's rules. This registry has none yet, so there is nothing to write."""


def _report(row: Rules, report: Report) -> None:
    for kind, found in (
        ("retention policies", row.retention),
        ("immutability rules", row.immutable),
    ):
        for _ in found:
            report.refuse(kind, row.name, _LATER)
