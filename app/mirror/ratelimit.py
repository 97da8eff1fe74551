"""The headers in which an upstream says how much it still allows, read tolerantly.

Source: Docker Hub, "Pull usage and limits": ``ratelimit-limit: 100;w=21600``, ``ratelimit-remaining: 20;w=21600``,
``docker-ratelimit-source: 192.0.2.1``. Where they are missing there is no limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

DEFAULT_WINDOW = 6 * 3600
_MAX_WINDOW = 31 * 86400
MAX_RETRY_AFTER = 6 * 3600

_QUOTA = re.compile(r"\s*(\d{1,9})\s*(?:;\s*w\s*=\s*(\d{1,9})\s*)?(?:;.*)?\Z", re.IGNORECASE)
_NUMBER = re.compile(r"(\d{1,15})(?:\.\d*)?\Z")
_SOURCE = re.compile(r"[0-9A-Za-z.:_-]{1,100}\Z")

# A number this large is a moment (September 2001 or later) and not a number of seconds to wait: 31 years.
_FIRST_MOMENT = 10**9


@dataclass(frozen=True, slots=True)
class RateLimit:
    """``remaining`` of ``limit`` pulls in a window of ``window`` seconds; ``source`` is whom the upstream counts."""

    limit: int
    remaining: int
    window: int
    source: str | None


def parse_rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Read the limit of an answer; None where ``ratelimit-remaining`` is missing or nonsense.

    ``headers`` must not mind the case of names. A limit that is missing is taken to be what remains.
    """
    remaining = _QUOTA.match(headers.get("ratelimit-remaining", ""))
    if remaining is None:
        return None
    limit = _QUOTA.match(headers.get("ratelimit-limit", "")) or remaining
    window = int(limit[2] or remaining[2] or 0)
    source = headers.get("docker-ratelimit-source", "").strip()
    return RateLimit(
        limit=int(limit[1]),
        remaining=int(remaining[1]),
        window=window if 0 < window <= _MAX_WINDOW else DEFAULT_WINDOW,
        source=source if _SOURCE.match(source) else None,
    )


def parse_retry_after(header: str | None, now: float) -> int | None:
    """Seconds to wait, from 1 to MAX_RETRY_AFTER; None where the header is missing or nonsense.

    Takes seconds and dates (RFC 9110, 10.2.3) and, as Docker Hub sends it, a Unix time.
    """
    text = (header or "").strip()
    number = _NUMBER.match(text)
    if number is not None:
        seconds = float(number[1])
        if seconds >= _FIRST_MOMENT:
            seconds -= now
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return int(min(max(seconds, 1), MAX_RETRY_AFTER))
