"""What is read from the headers of a limit, however odd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from app.mirror.answers import (
    DEFAULT_WINDOW,
    MAX_RETRY_AFTER,
    RateLimit,
    UpstreamLimited,
    parse_rate_limit,
    parse_retry_after,
)

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("limit", "remaining", "expected"),
    [
        ("100;w=21600", "20;w=21600", (100, 20, 21600)),
        ("60;w=14400", "0;w=14400", (60, 0, 14400)),
        ("100", "20", (100, 20, DEFAULT_WINDOW)),
        (" 100 ; w = 3600 ", "20", (100, 20, 3600)),
        ("100;w=21600;comment=x", "20", (100, 20, 21600)),
        ("100;w=0", "20", (100, 20, DEFAULT_WINDOW)),
        ("100;w=999999999", "20", (100, 20, DEFAULT_WINDOW)),
        ("garbage", "20;w=60", (20, 20, 60)),
        (None, "20", (20, 20, DEFAULT_WINDOW)),
        ("100;w=21600", None, None),
        ("100;w=21600", "many", None),
        ("100;w=21600", "-1", None),
        ("100;w=21600", "", None),
        ("100;w=21600", "9" * 40, None),
        (None, None, None),
    ],
)
def test_a_limit_is_read(limit: str | None, remaining: str | None, expected: tuple[int, int, int] | None) -> None:
    headers = {"RateLimit-Limit": limit, "RateLimit-Remaining": remaining, "Docker-RateLimit-Source": "192.0.2.1"}
    rate = parse_rate_limit(CIMultiDict((name, value) for name, value in headers.items() if value is not None))
    assert rate == (expected and RateLimit(*expected, "192.0.2.1"))


@pytest.mark.parametrize(
    ("header", "source"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8::/64", None), ("0a6b-11", "0a6b-11"), ("x y", None), ("", None)],
)
def test_the_source_is_a_plain_word_or_nothing(header: str, source: str | None) -> None:
    rate = parse_rate_limit(CIMultiDict({"ratelimit-remaining": "1", "docker-ratelimit-source": header}))
    assert rate is not None
    assert rate.source == source


@given(st.text(), st.text(), st.text())
def test_no_header_breaks_the_readers(limit: str, remaining: str, retry_after: str) -> None:
    rate = parse_rate_limit({"ratelimit-limit": limit, "ratelimit-remaining": remaining})
    assert rate is None or (rate.remaining >= 0 and rate.window > 0)
    seconds = parse_retry_after(retry_after, NOW)
    assert seconds is None or 1 <= seconds <= MAX_RETRY_AFTER


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 30 ", 30),
        ("1.5", 1),
        ("0", 1),
        ("99999999", MAX_RETRY_AFTER),
        ("1800000090", 90),
        ("1700000000", 1),
        ("1900000000", MAX_RETRY_AFTER),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 1),
        ("Fri, 15 Jan 2055 07:00:00 GMT", MAX_RETRY_AFTER),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_a_date_or_a_unix_time(header: str | None, seconds: int | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


def test_a_429_always_tells_when_to_come_back() -> None:
    assert UpstreamLimited("docker.io", None).headers == {"Retry-After": "60"}
    error = UpstreamLimited("docker.io", "7")
    assert (error.headers["Retry-After"], error.retry_after, error.seconds) == ("7", "7", 7)
