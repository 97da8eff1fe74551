"""What an upstream does to us, told apart: freshness may answer with something older for some of it, not for all.

`UpstreamAway` and `UpstreamLimited` say nothing about the image: what is cached may be served. `UpstreamRefused`,
the 404s and `UpstreamInvalid` (both of ``app.oci.errors``) are answers about the image, or no answer to be trusted.
"""

from __future__ import annotations

import time

from app.oci.errors import Denied, TooManyRequests, Unavailable

from .ratelimit import parse_retry_after

_AWAY_RETRY_SECONDS = 10
_LIMITED_RETRY_SECONDS = 60


class UpstreamAway(Unavailable):
    """Nothing, too late, half of it, or a 5xx: worth another attempt. ``reason`` is for logs, without any secret."""

    def __init__(self, upstream: str, reason: str) -> None:
        super().__init__(
            f"{upstream} {reason}; what is not cached here cannot be fetched now, try again in a moment",
            headers={"Retry-After": str(_AWAY_RETRY_SECONDS)},
        )
        self.reason = reason


class UpstreamLimited(TooManyRequests):
    """A 429. ``retry_after`` is the header as it came, ``seconds`` what was made of it, always within bounds."""

    def __init__(self, upstream: str, retry_after: str | None) -> None:
        self.retry_after = retry_after
        self.seconds = parse_retry_after(retry_after, time.time()) or _LIMITED_RETRY_SECONDS
        super().__init__(
            f"{upstream} limits how much may be pulled from here; what is cached can still be pulled, "
            f"anything else again in {self.seconds} s",
            headers={"Retry-After": str(self.seconds)},
        )


class UpstreamRefused(Denied):
    """A 401 or 403 although we sent the token asked for: the upstream shows this to nobody, or not to us."""

    def __init__(self, upstream: str, message: str | None = None) -> None:
        super().__init__(message or f"{upstream} has no such image, or a private one; check how the name is spelled")
