"""An upstream's answers: the status, the stated limit, the offered logins, and the kinds of failure.

`UpstreamDown` and `UpstreamLimited` say nothing about the image, so a cached copy may be served. `UpstreamRefused` and
the 404s of ``app.oci.errors`` are answers about the image. `UpstreamInvalid` is an answer that cannot be used. A 401,
403 or 404 is an answer about the image only in a registry's words (`replies.is_registrys_word`).

Source of the limit: Docker Hub, "Pull usage and limits": ``ratelimit-limit: 100;w=21600``,
``ratelimit-remaining: 20;w=21600``, ``docker-ratelimit-source: 192.0.2.1``. Without these headers there is no limit.
Source of the logins: RFC 9110, 11 (challenges).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

from app.oci.errors import Denied, TooManyRequests, Unavailable, UpstreamInvalid

DEFAULT_WINDOW = 6 * 3600
_MAX_WINDOW = 31 * 86400
MAX_RETRY_AFTER = 6 * 3600
_DOWN_RETRY_SECONDS = 10
_LIMITED_RETRY_SECONDS = 60

_QUOTA = re.compile(r"\s*(\d{1,9})\s*(?:;\s*w\s*=\s*(\d{1,9})\s*)?(?:;.*)?\Z", re.IGNORECASE)
_NUMBER = re.compile(r"(\d{1,15})(?:\.\d*)?\Z")
_SOURCE = re.compile(r"[0-9A-Za-z.:_-]{1,100}\Z")

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# A value without quotes may be any URL, although RFC 9110 asks for quotes there.
_PARAMETER = re.compile(rf'[ \t,]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^ \t,"]+))')
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?=[ \t,]|\Z)")

# A number this large is a Unix time (September 2001 or later) and not a number of seconds to wait (31 years).
_FIRST_MOMENT = 10**9

RequestKind = Literal["head_manifest", "get_manifest", "head_blob", "get_blob", "list", "token", "storage", "ping"]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """``remaining`` of ``limit`` pulls in a window of ``window`` seconds; the upstream counts ``source``."""

    limit: int
    remaining: int
    window: int
    source: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of the answer to one request; ``status`` is None if no answer came to a request that may have arrived.

    ``kind`` is "storage" for hosts that the upstream redirected to. ``sent_at`` is a Unix time. ``retry_after`` is
    the header as it came.
    """

    kind: RequestKind
    status: int | None
    rate: RateLimit | None
    retry_after: str | None
    sent_at: float


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a 401 offers; ``scheme`` and the names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


class UpstreamDown(Unavailable):
    """The upstream did not answer, was late, cut its answer or sent a 5xx; another attempt may succeed.

    ``reason`` completes the sentence that begins with the upstream's name; it holds no secret.
    """

    cause = "upstream down"

    def __init__(self, upstream: str, reason: str) -> None:
        super().__init__(
            "%(upstream)s %(reason)s, so content that is not cached here cannot be fetched now; try again in a moment",
            upstream=upstream,
            reason=reason,
            headers={"Retry-After": str(_DOWN_RETRY_SECONDS)},
        )
        self.reason = reason


class WordlessRefusal(UpstreamDown):
    """A 401, 403 or 404 that is no registry's word: the page of a firewall, a proxy, a portal or a storage host."""

    cause = "upstream page"

    def __init__(self, upstream: str, status: int) -> None:
        super().__init__(upstream, f"answered with status {status}, but not as a registry does")
        self.refused_with = status


class ManifestUnusable(UpstreamInvalid):
    """A manifest that cannot be used because of what it is; another GET of its digest would bring the same."""


class UpstreamLimited(TooManyRequests):
    """A 429. ``retry_after`` is the header as it came; ``seconds`` is its value, always within bounds."""

    cause = "upstream limit"

    def __init__(self, upstream: str, retry_after: str | None) -> None:
        self.retry_after = retry_after
        self.seconds = parse_retry_after(retry_after, time.time()) or _LIMITED_RETRY_SECONDS
        super().__init__(
            "%(upstream)s limits how much this registry may pull; cached content can still be pulled, "
            "try again for anything else in %(seconds)s s",
            upstream=upstream,
            seconds=self.seconds,
            headers={"Retry-After": str(self.seconds)},
        )


class UpstreamRefused(Denied):
    """A 401 or 403 although we sent the requested token: the upstream shows this to nobody, or not to us."""

    cause = "upstream refusal"

    def __init__(self, upstream: str, template: str | None = None) -> None:
        super().__init__(
            template or "%(upstream)s has no such image, or a private one; check how the name is spelled",
            upstream=upstream,
        )


class NotCached(Denied):
    """The content is not here, and this client may not cause requests to the upstream."""

    cause = "not cached"


def carry(error: BaseException, answer: Answer | None) -> None:
    """Attach to an error the answer it was raised for; does nothing for None."""
    if answer is not None:
        vars(error)["answer"] = answer


def answer_of(error: BaseException) -> Answer | None:
    """Return the answer that an error carries; None if no request was sent for it."""
    answer = vars(error).get("answer")
    return answer if isinstance(answer, Answer) else None


def parse_rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Return the limit that an answer states; None if ``ratelimit-remaining`` is missing or malformed.

    ``headers`` must ignore the case of names. If the limit is missing, the remaining pulls are taken as the limit.
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
    """Return the seconds to wait, from 1 to MAX_RETRY_AFTER; None if the header is missing or malformed.

    The header may be in seconds or a date (RFC 9110, 10.2.3), or a Unix time, as Docker Hub sends it.
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


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges in all ``WWW-Authenticate`` headers of an answer; skips the ones it cannot read."""
    challenges: list[Challenge] = []
    for header in headers:
        parameters: dict[str, str] | None = None
        position = 0
        while position < len(header):
            match = _PARAMETER.match(header, position) if parameters is not None else None
            if match is not None and parameters is not None:
                value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
                parameters.setdefault(match[1].lower(), value)
            elif match := _SCHEME.match(header, position):
                parameters = {}
                challenges.append(Challenge(match[1].lower(), parameters))
            else:
                break
            position = match.end()
    return challenges
