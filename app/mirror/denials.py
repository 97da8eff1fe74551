"""What a client is told who may not spend the budget now: why, how much is left, and when to come back."""

from __future__ import annotations

import math

from prometheus_client import Counter

from app.oci.errors import TooManyRequests, Unavailable

from .answers import RateLimit
from .ledger import ACTIVE_SECONDS, Entry

DENIED = Counter("registry_budget_denied_total", "Pulls refused for want of budget.", ["upstream", "reason"])

_STUCK_SECONDS = _BUSY_SECONDS = 5


class Denials:
    """The refusals of one upstream's budget, counted by their reason."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream

    def denied(self, entry: Entry) -> TooManyRequests:
        """Word the ledger's verdict."""
        if entry.verdict == "blocked":
            return self.blocked(entry.blocked_for)
        left = max(0, (entry.remaining or 0) - entry.reserved)
        text, seconds = self._given(entry.limit or 0, entry.window or 0, left), entry.resets_in or 0
        if entry.verdict == "share":
            # Who has not asked for that long competes no more, and leaves more to the others.
            seconds = min(seconds, ACTIVE_SECONDS)
            return self._refusal("share", f"{text}, and you have had your share of them ({entry.had})", seconds)
        if entry.verdict == "busy":
            return self._refusal("busy", f"{text}, and others are being served first", _BUSY_SECONDS)
        under_way = "a pull under way" if entry.reserved == 1 else "pulls under way"
        promised = f" and {entry.reserved} promised to {under_way}" if entry.reserved else ""
        return self._refusal("spent", text + promised, seconds)

    def spent(self, rate: RateLimit) -> TooManyRequests:
        """Word what the upstream itself said; it does not say when its window began."""
        return self._refusal("spent", self._given(rate.limit, rate.window, rate.remaining), rate.window)

    def blocked(self, seconds: float) -> TooManyRequests:
        """Word a 429 of the upstream that has ``seconds`` to go."""
        return self._refusal("blocked", f"{self._upstream} has asked this registry to wait", seconds)

    def stuck(self) -> Unavailable:
        """Word that nobody found out in time."""
        return Unavailable(
            f"this registry is still finding out what {self._upstream} allows; try again in a moment",
            headers={"Retry-After": str(_STUCK_SECONDS)},
        )

    def _given(self, limit: int, window: int, left: int) -> str:
        pulls = "1 pull" if limit == 1 else f"{limit} pulls"
        return f"{self._upstream} gives this registry {pulls} in {duration(window)}, {left} {_are(left)} left"

    def _refusal(self, reason: str, text: str, seconds: float) -> TooManyRequests:
        DENIED.labels(self._upstream, reason).inc()
        after = max(1, math.ceil(seconds))
        return TooManyRequests(
            f"{text}; what is cached here can be pulled all the time, anything else again in {duration(after)}",
            headers={"Retry-After": str(after)},
        )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def duration(seconds: float) -> str:
    """Spell a time as people do: 45 s, 3 min, 2 h 5 min."""
    whole = math.ceil(seconds)
    hours, minutes = divmod(math.ceil(whole / 60), 60)
    if whole < 120:
        return f"{whole} s"
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"
