"""What the upstream saw, to assert on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Requests that were let in, by what they asked for; a challenged one counts in ``unauthorized`` alone.

    ``list`` are pages of tags and referrers. ``get_manifest`` are those that were counted against a limit,
    ``get_manifest_429`` those refused with 429 (by the limit or by a fault), ``get_manifest_uncounted`` those of
    repositories that are not counted. ``blob_gets`` and ``blob_bytes`` are the CDN's, by digest; ``requests`` has every
    request as "METHOD /path"; ``concurrent`` the most that were under way at once, by kind of fault. After a reset an
    answer that had begun before goes on counting where it began: not here.
    """

    ping: int = 0
    token: int = 0
    unauthorized: int = 0
    head_manifest: int = 0
    get_manifest: int = 0
    get_manifest_429: int = 0
    get_manifest_uncounted: int = 0
    head_blob: int = 0
    get_blob: int = 0
    list: int = 0
    redirects: int = 0
    faults: int = 0
    blob_gets: Counter[str] = field(default_factory=Counter)
    blob_bytes: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    concurrent: dict[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Count all bytes the CDN sent."""
        return self.blob_bytes.total()

    def under_way(self, kind: str, count: int) -> None:
        self.concurrent[kind] = max(count, self.concurrent.get(kind, 0))
