"""Schedules of six fields, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from app.kit.cron import parse


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("schedule", "now", "then"),
    [
        ("0 0 * * * *", "2026-11-30T10:00:00", "2026-11-30T11:00:00"),
        ("0 0 * * * *", "2026-11-30T09:59:59", "2026-11-30T10:00:00"),
        ("0 0 0 * * *", "2026-12-31T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 0 * * 0", "2026-11-30T00:00:00", "2026-12-06T00:00:00"),
        ("0 0 0 * * 7", "2026-11-30T00:00:00", "2026-12-06T00:00:00"),
        ("15 */10 * * * ?", "2026-11-30T10:50:15", "2026-11-30T11:00:15"),
        ("0 30 2 * * 1-5", "2026-12-04T02:30:00", "2026-12-07T02:30:00"),
        ("0 0 12 29 2 *", "2026-01-01T00:00:00", "2028-02-29T12:00:00"),
        ("0 0 0 1,15 * 3", "2026-12-01T00:00:00", "2026-12-02T00:00:00"),
        ("0 5/20 * * * *", "2026-11-30T10:26:00", "2026-11-30T10:45:00"),
    ],
)
def test_the_next_time(schedule: str, now: str, then: str) -> None:
    parsed = parse(schedule)
    assert parsed is not None
    assert parsed.after(at(now)) == at(then)


def test_a_day_that_never_comes() -> None:
    parsed = parse("0 0 0 31 2 *")
    assert parsed is not None
    assert parsed.after(at("2026-01-01T00:00:00")) is None


@pytest.mark.parametrize(
    "text", ["", "daily", "0 0 * * *", "0 60 * * * *", "0 0 0 0 * *", "0 5-1 * * * *", "0 */0 * * * *", "0 0 * * * mon"]
)
def test_what_is_no_schedule(text: str) -> None:
    assert parse(text) is None
