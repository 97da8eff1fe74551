"""Reach an upstream with the right accounts and budgets, which are the configured ones or a project's own.

A lookup client sends only requests that are not counted; a pull client fetches. A public project may show only content
that the upstream shows to anybody. So lookups for a public project use no account, even if its pulls use one.

A private project that a member made, and not an operator, never uses the configured accounts. Without a credential of
its own it sees what anybody may see.

Docker Hub does not count every image: for those of verified publishers and sponsored projects it states no limit. So
each account learns by a HEAD of its own which repositories are counted for it (`UpstreamAccess.pull`).

A project with a credential of its own has its own budget, tokens and fills. No other project joins a fill that was
begun with its account. Another project with the same user name cannot use its tokens. Cached content stays when the
credential changes.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cachetools import TLRUCache, TTLCache

from app.cache import Cache, keys
from app.config import Credential, Network
from app.database import Database, projects
from app.kit.facts import current
from app.oci.digest import Digest
from app.oci.errors import ManifestUnknown, NameUnknown, OCIError, TooManyRequests, Unavailable, UpstreamInvalid
from app.oci.manifest import INDEX_TYPES

from .answers import Answer, RateLimit, UpstreamDown, UpstreamLimited, UpstreamRefused, answer_of
from .budget import Budget
from .ledger import PLANS
from .statistics import BudgetView
from .upstream import FetchedManifest, ManifestHead, Upstream

# The latest HEADs of counted images, one of which a probe may repeat. One of these images is still there.
_MOST_LOOKUPS = 4
# Whether a repository is counted is asked again after this long.
_COUNTED_SECONDS = 600
_COUNTED, _UNCOUNTED = b"1", b"0"
# After an upstream answered 429 to a lookup, it gets no other lookup for this long.
_SPARE_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Account:
    """An account, and the latest references that the upstream counts for it."""

    client: Upstream
    budget: Budget
    counted: deque[tuple[str, str]]


class UpstreamAccess:
    """One upstream with some accounts, in their order; the owner calls `start` and `close`.

    ``spool`` is the folder of the fills that use these accounts. The upstream must not lead us into the networks
    ``refused``. ``owner`` names the project of the accounts; it is empty for the configured ones. ``tokens`` is a
    prefix that keeps their tokens separate.
    """

    def __init__(
        self,
        name: str,
        url: str,
        credentials: Sequence[Credential],
        cache: Cache,
        locks: Path,
        spool: Path,
        *,
        refused: Sequence[Network],
        owner: str = "",
        tokens: str = "",
    ) -> None:
        self.name = name
        self._url = url
        self._refused = refused
        self.spool = spool
        self._cache = cache
        self.has_accounts = bool(credentials)
        self._owner = owner
        shared = _SharedTokens(cache, tokens)
        self._limited: TTLCache[Upstream, UpstreamLimited, float] = TTLCache(2, _SPARE_SECONDS, time.monotonic)
        # The limits that answers to each client stated, until their window is over.
        self._stated: TLRUCache[Upstream, RateLimit, float] = TLRUCache(
            100, lambda _, rate, now: now + rate.window, time.monotonic
        )
        used: Sequence[Credential | None] = credentials or [None]
        self._accounts = [self._account(credential, shared, cache, locks) for credential in used]
        # This client also fetches blobs, which no upstream counts.
        self.pull_client = self._accounts[0].client
        self._anonymous = self._client(None, shared) if credentials else self.pull_client

    def _client(self, credential: Credential | None, tokens: _SharedTokens) -> Upstream:
        return Upstream(self.name, self._url, credential, tokens, refused=self._refused)

    def _account(self, credential: Credential | None, tokens: _SharedTokens, cache: Cache, locks: Path) -> _Account:
        account = credential.username if credential else ""
        if self._owner:
            # Each owner has its own ledger. A wrong password under another project's user name must not spend from it.
            account = f"{account} ({self._owner})"
        client = self._client(credential, tokens)
        # Each budget has its own file. Its name is a hash, because a user name may hold characters that files cannot.
        lock = locks / f"budget-{Digest.of(f'{self.name} {account}'.encode()).hex[:16]}"
        seen: deque[tuple[str, str]] = deque(maxlen=_MOST_LOOKUPS)
        return _Account(client, Budget(cache, self.name, account, lock, partial(self._probe, client, seen)), seen)

    def lookup_client(self, *, public: bool) -> Upstream:
        """Return the client that sees only content that a public project, or a private one, may show."""
        return self._anonymous if public else self.pull_client

    @contextmanager
    def uncounted(self, *, public: bool) -> Iterator[Upstream]:
        """Lend the lookup client for requests that no upstream counts; after a 429 it gets none for a while.

        Raises UpstreamLimited then, too.
        """
        client = self.lookup_client(public=public)
        limited = self._limited.get(client)
        if limited is not None:
            raise UpstreamLimited(self.name, limited.retry_after)
        try:
            yield client
        except UpstreamLimited as error:
            self._limited[client] = error
            raise

    async def start(self) -> None:
        """Start the clients, without a connection yet."""
        for client in self._clients():
            await client.start()

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients():
            await client.close()

    async def look_up(self, repository: str, reference: str, *, public: bool) -> ManifestHead:
        """Return the HEAD of a reference, which no upstream counts; raises the errors of `Upstream.head_manifest`."""
        with self.uncounted(public=public) as client:
            return await self._head(client, repository, reference)

    async def pull(self, repository: str, reference: str, client: str, media_type: str | None) -> FetchedManifest:
        """Return a manifest, fetched for ``client`` within the budget of the first account that has pulls left.

        ``media_type`` comes from a lookup. After an index the client asks for one of its children, so one more GET is
        held for it. Raises TooManyRequests, and the errors of `Upstream.get_manifest`.
        """
        refusal: TooManyRequests | None = None
        for account in self._accounts:
            try:
                if not await self._is_counted(account, repository, reference):
                    await account.budget.require_open()
                    return await self._get(account.client, repository, reference)
                return await self._pull_counted(account, repository, reference, client, media_type)
            except TooManyRequests as error:
                refusal = error
        assert refusal is not None  # noqa: S101  # there is always an account; it may be the anonymous one
        raise refusal

    async def fetch_uncounted(self, repository: str, reference: str, *, public: bool) -> FetchedManifest | None:
        """Return a manifest by a GET outside the budget; None if none may be sent.

        None is sent if the upstream may count it: if any of its answers stated a limit in the current window. Nor is
        one sent while the upstream wants no GET (429). Raises the errors of `Upstream.get_manifest`.
        """
        client = self.lookup_client(public=public)
        views = await self.budgets()
        if client in self._stated or any(view.limit is not None or view.blocked_until is not None for view in views):
            return None
        return await self._get(client, repository, reference)

    async def _pull_counted(
        self, account: _Account, repository: str, reference: str, client: str, media_type: str | None
    ) -> FetchedManifest:
        if not account.counted:
            account.counted.append((repository, reference))
        # A plan has the GETs for the children in its reservation.
        hold = 1 if media_type in INDEX_TYPES and client != PLANS else 0
        async with account.budget.spend(client, repository, also_hold=hold) as spend:
            current().pulls += 1
            fetched = await account.client.get_manifest(repository, reference)
            if fetched.answer.rate is not None:
                self._stated[account.client] = fetched.answer.rate
            # A manifest that is not an index has no child that the client asks for next.
            await spend.answered(fetched.answer, keep_hold=fetched.manifest.is_index)
            return fetched

    async def _is_counted(self, account: _Account, repository: str, reference: str) -> bool:
        """Return whether the upstream counts pulls of a repository for this account, which a HEAD of its own tells."""
        known = await self._cache.get(keys.counted(self.name, account.budget.account, repository))
        if known is not None:
            return known == _COUNTED
        try:
            head = await self._head(account.client, repository, reference)
        except UpstreamInvalid as error:
            answer = answer_of(error)
            return answer is not None and answer.rate is not None
        # Without a HEAD, only a GET can state a limit, and it did if one is known.
        return head.answer.rate is not None or (not head.served and account.client in self._stated)

    async def reserve(self, gets: int, seconds: float) -> None:
        """Reserve GETs of the first account for plans, instead of those that are reserved now."""
        await self._accounts[0].budget.reserve(gets, seconds)

    async def budgets(self) -> list[BudgetView]:
        """Return the budget of each account."""
        return [await account.budget.view() for account in self._accounts]

    def _clients(self) -> set[Upstream]:
        return {self._anonymous, *(account.client for account in self._accounts)}

    async def _get(self, client: Upstream, repository: str, reference: str) -> FetchedManifest:
        """Return a manifest by a GET outside the budget."""
        try:
            fetched = await client.get_manifest(repository, reference)
        except OCIError as error:
            await self._learn(client, repository, reference, answer_of(error))
            raise
        await self._learn(client, repository, reference, fetched.answer)
        return fetched

    async def _head(self, client: Upstream, repository: str, reference: str) -> ManifestHead:
        try:
            head = await client.head_manifest(repository, reference)
        except OCIError as error:
            await self._learn(client, repository, reference, answer_of(error))
            raise
        await self._learn(client, repository, reference, head.answer)
        return head

    async def _learn(self, client: Upstream, repository: str, reference: str, answer: Answer | None) -> None:
        """Record what an answer to a GET outside the budget, or to a HEAD, says of limits.

        That is the stated limit, and whether the upstream counts the repository for the account of ``client``.
        """
        if answer is None or answer.kind not in ("head_manifest", "get_manifest"):
            return
        if answer.rate is not None:
            self._stated[client] = answer.rate
        for account in self._accounts:
            if account.client is not client:
                continue
            await account.budget.observe(answer)
            if answer.rate is not None and answer.status == 200:
                account.counted.append((repository, reference))
            if answer.rate is not None or answer.status == 200:
                note = keys.counted(self.name, account.budget.account, repository)
                await self._cache.set(note, _UNCOUNTED if answer.rate is None else _COUNTED, _COUNTED_SECONDS)

    async def _probe(self, client: Upstream, counted: deque[tuple[str, str]]) -> RateLimit:
        """Return the limit that the upstream states for one of the latest ``counted`` references.

        One of the last few is still there and still counted. If none is there, raises the error of the last answer. If
        the upstream serves no HEAD, the limit that it stated last still holds.
        """
        failure: OCIError | None = None
        for repository, reference in reversed(tuple(counted)):
            try:
                head = await self._head(client, repository, reference)
                rate = head.answer.rate if head.served else self._stated.get(client)
            except (ManifestUnknown, NameUnknown, UpstreamRefused) as error:
                # The image is gone or private. A client that waits for another image must not get this error.
                failure = error
                continue
            if rate is not None:
                return rate
        raise failure or UpstreamDown(self.name, "does not state how many pulls are left")


@dataclass(frozen=True, slots=True)
class _Own:
    """A project's own access, and the encrypted credential it was made for."""

    kept: str
    access: UpstreamAccess


class AccessByProject:
    """The access of all projects to one upstream; the owner calls `start` and `close`.

    ``spool`` is the folder of this upstream's fills. Projects with a credential of their own have folders beside it.
    ``decrypt`` returns a project's credential as a JSON list of user name and password, or raises ValueError. The
    upstream must not lead us into the networks ``refused``.
    """

    def __init__(
        self,
        name: str,
        url: str,
        credentials: Sequence[Credential],
        *,
        database: Database,
        cache: Cache,
        spool: Path,
        locks: Path,
        decrypt: Callable[[str], str],
        refused: Sequence[Network],
    ) -> None:
        self.name = name
        self._url = url
        self._refused = refused
        self._database = database
        self._cache = cache
        self._spool = spool
        self._locks = locks
        self._decrypt = decrypt
        self._configured = UpstreamAccess(name, url, credentials, cache, locks, spool, refused=refused)
        self._anonymous = self._configured
        # With a folder of its own, because nobody without the accounts may join a fill that was begun with one.
        if credentials:
            apart = spool.with_name(f"{spool.name}.anonymous")
            self._anonymous = UpstreamAccess(name, url, [], cache, locks, apart, refused=refused)
        self._own: dict[int, _Own] = {}
        # Requests that began with a former credential may still use it, so it is closed only with this object.
        self._former: list[UpstreamAccess] = []

    async def start(self) -> None:
        """Start the clients, without a connection yet."""
        for access in {self._configured, self._anonymous}:
            await access.start()

    async def close(self) -> None:
        """Close every connection."""
        for access in [*self._all(), *self._former]:
            await access.close()

    async def of(self, project_id: int) -> UpstreamAccess:
        """Return a project's access; called for every cache miss, so that a changed credential is used at once.

        Raises Unavailable if the project's own credential cannot be read.
        """
        async with self._database.reading() as transaction:
            kept, may_use_configured = await projects.upstream_account(transaction, project_id)
        if kept is None:
            return self._configured if may_use_configured else self._anonymous
        known = self._own.get(project_id)
        if known is not None and known.kept == kept:
            return known.access
        return await self._make(project_id, kept)

    async def ping(self) -> None:
        """Ask whether the upstream answers; raises the errors of `Upstream.ping`."""
        await self._configured.pull_client.ping()

    async def budgets(self, project_id: int | None = None) -> list[BudgetView]:
        """Return the budget of each account that a project uses; with None, of each configured account."""
        access = self._configured if project_id is None else await self.of(project_id)
        return await access.budgets()

    async def all_budgets(self) -> list[BudgetView]:
        """Return the budget of each account that this worker has used."""
        return [view for access in self._all() for view in await access.budgets()]

    async def _make(self, project_id: int, kept: str) -> UpstreamAccess:
        credential = self._read(project_id, kept)
        former = self._own.get(project_id)
        access = UpstreamAccess(
            self.name,
            self._url,
            [credential],
            self._cache,
            self._locks,
            self._spool.with_name(f"{self._spool.name}.project-{project_id}"),
            refused=self._refused,
            owner=f"project {project_id}",
            tokens=f"project {project_id} {Digest.of(kept.encode()).hex[:16]}|",
        )
        if former is not None:
            self._former.append(former.access)
        await access.start()
        self._own[project_id] = _Own(kept, access)
        return access

    def _read(self, project_id: int, kept: str) -> Credential:
        try:
            username, password = json.loads(self._decrypt(kept))
        except ValueError as error:
            raise self._unreadable(project_id, str(error)) from None
        return Credential(username, password)

    def _unreadable(self, project_id: int, reason: str) -> Unavailable:
        log.warning("the credential of project %d for %s cannot be read: %s", project_id, self.name, reason)
        return Unavailable(
            "this project's account for %(upstream)s cannot be read any more; "
            "an administrator of the project must enter it again",
            upstream=self.name,
            headers={"Retry-After": "600"},
        )

    def _all(self) -> list[UpstreamAccess]:
        shared = dict.fromkeys((self._configured, self._anonymous))
        return [*shared, *(own.access for own in self._own.values())]


class _SharedTokens:
    """Keeps upstream tokens for all workers, in Redis, under ``prefix``."""

    def __init__(self, cache: Cache, prefix: str) -> None:
        self._cache = cache
        self._prefix = prefix

    async def get(self, key: str) -> str | None:
        value = await self._cache.get(keys.token(self._prefix + key))
        return value.decode() if value else None

    async def set(self, key: str, value: str, ttl: int) -> None:
        await self._cache.set(keys.token(self._prefix + key), value, ttl)
