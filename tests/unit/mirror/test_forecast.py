"""When an upstream's pulls run out at the pace of the last half hour."""

from __future__ import annotations

import pytest

from app.database.budget_samples import BudgetSample
from app.mirror.forecast import empty_at


def _samples(*remaining: int, minutes: int = 5) -> list[BudgetSample]:
    return [BudgetSample(60 * minutes * number, 200, left) for number, left in enumerate(remaining)]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], None),
        (_samples(100), None),
        (_samples(100, 100, 100), None),
        # Ten in ten minutes: the other 90 last for 90 more.
        (_samples(100, 95, 90), 600 + 90 * 60),
        # The window before the last rise does not count.
        (_samples(50, 10, 200, 190, 180), 1200 + 180 * 30),
        # Neither does what was spent more than half an hour ago.
        (_samples(200, 100, 100, 100, 100, 100, 100, 100, 100), None),
        # One minute tells no pace.
        (_samples(100, 90, minutes=1), None),
        (_samples(5, 0), 300),
    ],
)
def test_the_time_at_which_nothing_is_left(samples: list[BudgetSample], expected: float | None) -> None:
    assert empty_at(samples) == expected
