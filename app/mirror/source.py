"""An upstream as a mirror uses it: looked at for nothing, pulled from within its budget.

What a public project may show is what the upstream shows to anybody: it is looked at without an account, even
where pulls are made with one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cachetools import TTLCache

from app.cache import Cache, keys
from app.oci.digest import Digest
from app.oci.errors import ManifestUnknown, NameUnknown, OCIError, TooManyRequests
from app.oci.manifest import INDEX_TYPES

from .answers import Answer, RateLimit, UpstreamLimited, UpstreamRefused, answer_of
from .budget import Budget, BudgetView
from .challenge import Credential
from .upstream import FetchedManifest, ManifestHead, Upstream

# Of so many images seen lately, one will still be there.
_MOST_LOOKS = 4
# An upstream that has answered 429 to a look is left alone for so long, whatever the others want to see.
_SPARE_SECONDS = 10.0


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
        self._anonymous = Upstream(name, url, None, kept)
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

        client = Upstream(name, url, credential, tokens)
        # A file of its own for each budget; a user name could hold what no file name may.
        lock = locks / f"budget-{Digest.of(f'{name} {account}'.encode()).hex[:16]}"
        return _Account(client, Budget(cache, name, account, lock, partial(self._probe, client)))

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
            head = await self._head(eye, repository, reference)
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
                    # What is no index has no child that is asked for next.
                    await spend.answered(fetched.answer, keep_hold=fetched.manifest.is_index)
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

    async def _head(self, client: Upstream, repository: str, reference: str) -> ManifestHead:
        """Ask by HEAD; the budget of the account, if it has one, takes in what the answer says of the limit."""
        try:
            head = await client.head_manifest(repository, reference)
        except OCIError as error:
            await self._observe(client, answer_of(error))
            raise
        await self._observe(client, head.answer)
        return head

    async def _observe(self, client: Upstream, answer: Answer | None) -> None:
        for account in self._accounts:
            if account.client is client:
                await account.budget.observe(answer)

    async def _probe(self, client: Upstream) -> RateLimit | None:
        """Return the limit that the upstream states for what was looked at lately: it has that, whatever its name.

        Of the last few references one is still there. Raises what the upstream answers if none is.
        """
        looked_at = list(self._looked_at)
        while True:
            try:
                return (await self._head(client, *looked_at.pop())).answer.rate
            except (ManifestUnknown, NameUnknown, UpstreamRefused):
                # Gone since, or private: that is no answer for the one who waits for another image.
                if not looked_at:
                    raise


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
