"""The pull limit: how many manifest GETs a source has in a sliding window.

A source is an account, or the address of an anonymous client.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limit:
    """``count`` GETs in ``window`` seconds; None: unlimited, and no ``ratelimit-*`` header at all."""

    count: int | None = 100
    window: int = 21600


@dataclass
class Limits:
    default: Limit = field(default_factory=Limit)
    by_source: dict[str, Limit] = field(default_factory=dict)
    # Repositories of verified publishers and sponsored projects, with the source for which they are not counted.
    uncounted: set[tuple[str, str | None]] = field(default_factory=set)
    _spent: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def of(self, source: str) -> Limit:
        return self.by_source.get(source, self.default)

    def counts(self, repository: str, source: str) -> bool:
        """Say whether a GET of a manifest of ``repository`` counts, and its limit is stated."""
        return self.uncounted.isdisjoint({(repository, None), (repository, source)})

    def remaining(self, source: str) -> int:
        """Count what the source has left now; 0 where it has no limit."""
        limit, spent = self.of(source), self._spent[source]
        while spent and spent[0] <= time.monotonic() - limit.window:
            spent.popleft()
        return max(0, (limit.count or 0) - len(spent))

    def take(self, source: str) -> bool:
        """Spend one GET if one is left; False where none is."""
        if self.of(source).count is None:
            return True
        if not self.remaining(source):
            return False
        self.spend(source, 1)
        return True

    def spend(self, source: str, count: int) -> None:
        """Spend ``count`` GETs, as somebody else behind the same source would."""
        self._spent[source].extend([time.monotonic()] * count)

    def leave(self, source: str, remaining: int) -> None:
        """Make it look as if all but ``remaining`` had just been spent."""
        self._spent[source].clear()
        self.spend(source, max(0, (self.of(source).count or 0) - remaining))

    def headers(self, source: str, user: str | None) -> dict[str, str]:
        """Spell the headers of an answer; an account shows as a UUID, an anonymous client as its address."""
        limit = self.of(source)
        if limit.count is None:
            return {}
        return {
            "ratelimit-limit": f"{limit.count};w={limit.window}",
            "ratelimit-remaining": f"{self.remaining(source)};w={limit.window}",
            "docker-ratelimit-source": source if user is None else str(uuid.uuid5(uuid.NAMESPACE_DNS, user)),
        }
