"""Numbers over time as bars."""

from __future__ import annotations

from app.web.pages.plot import draw_bars

DAY, HOUR = 86400, 3600


def test_bars_add_up_the_hours_of_a_span() -> None:
    now = 20_000 * DAY + 5 * HOUR
    drawn = draw_bars(
        {20_000 * DAY: 2, 20_000 * DAY + 4 * HOUR: 3, 19_999 * DAY: 10, 19_000 * DAY: 99}, now, DAY, 30, "%Y-%m-%d"
    )
    assert [bar.count for bar in drawn.bars] == [0] * 28 + [10, 5]
    assert (drawn.total, drawn.most, drawn.first, drawn.last) == (15, 10, "2024-09-05", "2024-10-04")
    highest, last = drawn.bars[-2:]
    assert highest.height == 2 * last.height == drawn.height - 2
    assert highest.y + highest.height == last.y + last.height == drawn.height
    assert last.x + last.width <= drawn.width


def test_nothing_is_drawn_of_nothing() -> None:
    drawn = draw_bars({}, 20_000 * DAY + 1, HOUR, 24, "%H:%M UTC")
    assert (drawn.total, drawn.most, drawn.first, drawn.last) == (0, 0, "01:00 UTC", "00:00 UTC")
    assert {bar.height for bar in drawn.bars} == {0.0}
