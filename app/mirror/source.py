"""An upstream as a mirror uses it: looked at for nothing, pulled from within its budget.

What a public project may show is what the upstream shows to anybody: it is looked at without an account, even
where pulls are made with one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from cachetools import TTLCache
from prometheus_client import Counter

from app.cache import Cache, keys
from app.oci.digest import Digest
from app.oci.errors import ManifestUnknown, NameUnknown, TooManyRequests
from app.oci.manifest import INDEX_TYPES

from .budget import Budget, BudgetView
from .challenge import Credential
from .errors import UpstreamAway, UpstreamLimited, UpstreamRefused
from .ratelimit import RateLimit
from .transport import Answer
from .upstream import FetchedManifest, ManifestHead, Upstream

REQUESTS = Counter(
    "registry_upstream_requests_total",
    "Requests sent to an upstream and where it points.",
    ["upstream", "kind", "status"],
)

# Of so many images seen lately, one will still be there.
_MOST_LOOKS = 4
# An upstream that has answered 429 to a look is left alone for so long, whatever the others want to see.
_SPARE_SECONDS = 10.0

_probed: ContextVar[list[RateLimit | None] | None] = ContextVar("probed", default=None)


@dataclass(frozen=True, slots=True)
class _Account:
    client: Upstream
    budget: Budget


class Source:
    """One upstream with some accounts, in their order; `start` it and `close` it.

    ``owner`` says in words whose accounts they are, nothing for the configured ones; ``tokens`` keeps theirs apart.
    """

    def __init__(
        self,
        name: str,
        url: str,
        credentials: Sequence[Credential],
        cache: Cache,
        locks: Path,
        *,
        owner: str = "",
        tokens: str = "",
    ) -> None:
        self.name = name
        self._owner = owner
        kept = _Tokens(cache, tokens)
        self._looked_at: deque[tuple[str, str]] = deque(maxlen=_MOST_LOOKS)
        self._limited: TTLCache[Upstream, UpstreamLimited, float] = TTLCache(2, _SPARE_SECONDS, time.monotonic)
        self._anonymous = Upstream(name, url, None, kept, on_answer=self._counted)
        self._accounts: list[_Account] = []
        for credential in credentials:
            self._accounts.append(self._account(url, credential, kept, cache, locks))
        if not credentials:
            self._accounts.append(self._account(url, None, kept, cache, locks))
            self._anonymous = self._accounts[0].client

    def _account(self, url: str, credential: Credential | None, tokens: _Tokens, cache: Cache, locks: Path) -> _Account:
        name = self.name
        account = credential.username if credential else ""
        if self._owner:
            # A ledger of its own: a wrong password under somebody else's user name must not spend from theirs.
            account = f"{account} ({self._owner})"

        async def heard(answer: Answer) -> None:
            await self._counted(answer)
            await budget.heard(answer)

        async def probe() -> RateLimit | None:
            return await self._probe(client)

        client = Upstream(name, url, credential, tokens, on_answer=heard)
        # A file of its own for each budget; a user name could hold what no file name may.
        budget = Budget(
            cache, name, account, locks / f"budget-{Digest.of(f'{name} {account}'.encode()).hex[:16]}", probe
        )
        return _Account(client, budget)

    @property
    def has_accounts(self) -> bool:
        return self._accounts[0].client is not self._anonymous

    async def start(self) -> None:
        """Make ready; connects to nothing yet."""
        for client in self._clients():
            await client.start()

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients():
            await client.close()

    async def look(self, repository: str, reference: str, *, public: bool) -> ManifestHead:
        """Ask what a reference stands for, which no upstream counts; raises as `Upstream.head_manifest` does."""
        eye = self.eye(public=public)
        limited = self._limited.get(eye)
        if limited is not None:
            raise UpstreamLimited(self.name, limited.retry_after)
        try:
            head = await eye.head_manifest(repository, reference)
        except UpstreamLimited as error:
            self._limited[eye] = error
            raise
        self._looked_at.append((repository, reference))
        return head

    def eye(self, *, public: bool) -> Upstream:
        """Give the client that sees what a project of this publicity may show."""
        return self._anonymous if public else self._accounts[0].client

    def hand(self) -> Upstream:
        """Give the client that fetches blobs, which no upstream counts."""
        return self._accounts[0].client

    async def pull(self, repository: str, reference: str, client: str, media_type: str | None) -> FetchedManifest:
        """Fetch a manifest within the budget, with whichever account has any left.

        ``media_type`` is what a look has shown: an index is followed by one of its children, for which one more is
        kept. Raises TooManyRequests, and as `Upstream.get_manifest` does.
        """
        if not self._looked_at:
            self._looked_at.append((repository, reference))
        refusal: TooManyRequests | None = None
        for account in self._accounts:
            try:
                hold = 1 if media_type in INDEX_TYPES else 0
                async with account.budget.spend(client, repository, also_hold=hold) as spend:
                    fetched = await account.client.get_manifest(repository, reference)
                    if hold and not fetched.manifest.is_index:
                        await spend.release_hold()
                    return fetched
            except TooManyRequests as error:
                refusal = error
        assert refusal is not None  # noqa: S101  # there is always an account, be it nobody's
        raise refusal

    async def ping(self) -> None:
        """Ask whether the upstream answers; raises as `Upstream.ping` does."""
        await self.hand().ping()

    async def budgets(self) -> list[BudgetView]:
        """Say how each account's budget stands."""
        return [await account.budget.view() for account in self._accounts]

    def _clients(self) -> list[Upstream]:
        clients = [account.client for account in self._accounts]
        return clients if self._anonymous in clients else [*clients, self._anonymous]

    async def _counted(self, answer: Answer) -> None:
        REQUESTS.labels(self.name, answer.kind, str(answer.status or "none")).inc()
        box = _probed.get()
        if box is not None and answer.kind == "head_manifest" and answer.status != 401:
            box.append(answer.rate)

    async def _probe(self, client: Upstream) -> RateLimit | None:
        """Look again at what was looked at lately: every upstream has that, whatever its name."""
        box: list[RateLimit | None] = []
        token = _probed.set(box)
        try:
            await self._look_again(client, list(self._looked_at))
        finally:
            _probed.reset(token)
        if not box:
            # No answer is not the answer "no limit".
            raise UpstreamAway(self.name, "did not say what it still allows")
        return box[-1]

    async def _look_again(self, client: Upstream, looked_at: list[tuple[str, str]]) -> None:
        """Find one of them that is still there; raises what the upstream says where none is."""
        while True:
            try:
                await client.head_manifest(*looked_at.pop())
            except (ManifestUnknown, NameUnknown, UpstreamRefused):
                # Gone since, or private: that is no answer for the one who waits for another image.
                if not looked_at:
                    raise
            else:
                return


class _Tokens:
    """Keeps upstream tokens where all workers find them, under ``prefix``."""

    def __init__(self, cache: Cache, prefix: str) -> None:
        self._cache = cache
        self._prefix = prefix

    async def get(self, key: str) -> str | None:
        value = await self._cache.get(keys.token(self._prefix + key))
        return value.decode() if value else None

    async def set(self, key: str, value: str, ttl: int) -> None:
        await self._cache.set(keys.token(self._prefix + key), value, ttl)
