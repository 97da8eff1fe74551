"""One request, one answer: the connections to an upstream, its logins, and how their failures are named.

Nothing here follows a redirect or keeps a cookie; each hop is checked by the guard and counted. A credential is sent to
the realm of the upstream's own challenge, or to the upstream itself for Basic, and to nobody else. Tokens are shared
with the other workers through a cache; the credential never is.

Source of the logins: the "Token Authentication Specification" of the Docker registry protocol.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import aiohttp
from cachetools import TLRUCache
from prometheus_client import Counter
from yarl import URL

from app.config import Credential
from app.kit.single_flight import SingleFlight
from app.oci.errors import OCIError, UpstreamInvalid

from .address_guard import AddressGuard, read_realm
from .answers import (
    Answer,
    Challenge,
    RequestKind,
    UpstreamAway,
    UpstreamLimited,
    UpstreamRefused,
    carry,
    parse_rate_limit,
)

log = logging.getLogger(__name__)

USER_AGENT = "registry.hpc.ut.ee (pull-through mirror)"
MAX_CHUNK = 256 * 1024
_MAX_SPENT_BYTES = 64 * 1024
_MAX_TOKEN_BYTES = 64 * 1024
_DEFAULT_TOKEN_SECONDS = 60
_MAX_TOKEN_SECONDS = 3600
# Taken off a token's life, for the request that carries it and for clocks that differ between hosts.
_MARGIN_SECONDS = 10
_MOST_HELD = 10_000
_SECRET = re.compile(r"[!-~]{1,32768}\Z")

REQUESTS = Counter(
    "registry_upstream_requests_total",
    "Requests sent to an upstream and where it points.",
    ["upstream", "kind", "status"],
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds: until connected, until the answer's headers are there, between two reads. Never for the whole."""

    connect: float = 5
    answer: float = 15
    idle: float = 30


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request: the head of its answer, and its response, which the receiver closes."""

    answer: Answer
    response: aiohttp.ClientResponse


class Transport:
    """The connections to one upstream and to the hosts it points to; started and closed once."""

    def __init__(self, name: str, guard: AddressGuard, timeouts: Timeouts) -> None:
        self.name = name
        self._guard = guard
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make the session; connects to nothing yet."""
        self._session = aiohttp.ClientSession(
            # No limit on connections: stalled bodies must not keep a HEAD waiting, and fills are bounded by themselves.
            connector=aiohttp.TCPConnector(resolver=self._guard, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            read_bufsize=MAX_CHUNK,
            timeout=aiohttp.ClientTimeout(sock_connect=self._timeouts.connect, sock_read=self._timeouts.idle),
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            await self._guard.close()
            self._session = None

    async def send(self, kind: RequestKind, method: str, url: URL, headers: Mapping[str, str]) -> Reply:
        """Send one request, count it, and return its reply, whatever its status; the caller closes the response.

        Raises UpstreamAway if no answer comes in time; it carries an answer without a status, since the request may
        have arrived. Raises UpstreamInvalid if the guard refuses the address.
        """
        if self._session is None:
            raise RuntimeError("the upstream's client was used before start() or after close()")
        self._guard.check(url)
        # aiohttp repeats a GET whose connection is closed on it; one that counts must not be sent twice unseen.
        middlewares = (_only_once,) if kind == "get_manifest" else ()
        sent_at = time.time()
        try:
            async with asyncio.timeout(self._timeouts.answer):
                response = await self._session.request(
                    method, url, headers=headers, allow_redirects=False, middlewares=middlewares
                )
        except aiohttp.InvalidURL:
            raise UpstreamInvalid("the upstream registry points to a URL that cannot be followed") from None
        except (aiohttp.ClientError, OSError, _Unanswered) as error:
            REQUESTS.labels(self.name, kind, "none").inc()
            # The error is not chained and not always shown: the text of some has the whole URL, signatures and all.
            shown = error if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
            log.warning("%s: no answer from %s to %s: %s", self.name, url.raw_host, kind, shown)
            away = self._away(error)
            carry(away, Answer(kind, None, None, None, sent_at))
            raise away from None
        REQUESTS.labels(self.name, kind, str(response.status)).inc()
        # What a token service or a host of blobs limits is not the budget of pulls.
        rate = None if kind in ("token", "storage") else parse_rate_limit(response.headers)
        return Reply(Answer(kind, response.status, rate, response.headers.get("Retry-After"), sent_at), response)

    async def pieces(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Give a body as it comes, at most MAX_CHUNK bytes at once; raises UpstreamAway if it stalls or is cut."""
        try:
            async for piece in response.content.iter_chunked(MAX_CHUNK):
                yield piece
        except TimeoutError:
            raise UpstreamAway(self.name, "stalled") from None
        # RuntimeError is aiohttp's for a read between the moment a connection breaks and the moment it is told so.
        except (aiohttp.ClientError, OSError, RuntimeError):
            raise UpstreamAway(self.name, "cut the connection") from None

    async def read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """Return a small body whole; raises UpstreamInvalid past ``limit`` bytes, UpstreamAway if it is cut."""
        body = bytearray()
        async for piece in self.pieces(response):
            body += piece
            if len(body) > limit:
                raise UpstreamInvalid(
                    "%(upstream)s answered with more than %(limit)s bytes, the most that this registry takes",
                    upstream=self.name,
                    limit=limit,
                )
        return bytes(body)

    async def spend(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the body of an unwanted answer and close it, so that its connection serves again; never raises."""
        try:
            async with asyncio.timeout(self._timeouts.answer):
                return await self.read(response, _MAX_SPENT_BYTES)
        except (OCIError, TimeoutError):
            return b""
        finally:
            response.close()

    def failure(self, response: aiohttp.ClientResponse) -> OCIError | None:
        """Return the error for a status that says nothing about what was asked for: 429, 408 and 5xx."""
        if response.status == 429:
            return UpstreamLimited(self.name, response.headers.get("Retry-After"))
        if response.status == 408 or response.status >= 500:
            return UpstreamAway(self.name, f"answered with status {response.status}")
        return None

    def _away(self, error: Exception) -> UpstreamAway:
        if isinstance(error, TimeoutError):
            return UpstreamAway(self.name, "does not answer")
        if isinstance(error, aiohttp.ClientConnectorError):
            return UpstreamAway(self.name, "cannot be reached")
        return UpstreamAway(self.name, "closed the connection without an answer")


class _Unanswered(Exception):
    """A connection that was closed on us, named so that aiohttp does not try again by itself."""


async def _only_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Unanswered from error


class TokenCache(Protocol):
    """Keeps tokens for all workers. Neither method raises: a cache that is down is empty."""

    async def get(self, key: str) -> str | None:
        """Return the value, None if there is none."""

    async def set(self, key: str, value: str, ttl: int) -> None:
        """Keep ``value``, a secret, for ``ttl`` seconds."""


@dataclass(frozen=True, slots=True)
class _Held:
    header: str = field(repr=False)
    until: float


class Login:
    """The ``Authorization`` headers for one upstream and one account, by scope."""

    def __init__(self, transport: Transport, home: URL, credential: Credential | None, cache: TokenCache) -> None:
        self._transport = transport
        self._home = home
        self._credential = credential
        self._cache = cache
        # The headers that are good now, by scope.
        self._held: TLRUCache[str, _Held, float] = TLRUCache(_MOST_HELD, lambda _, held, now: held.until, time.time)
        self._renewals: SingleFlight[str] = SingleFlight()

    async def header(self, scope: str) -> str | None:
        """Return the header to try first; None if only a challenge can tell."""
        held = self._held.get(scope)
        if held is not None:
            return held.header
        until, _, token = (await self._cache.get(self._key(scope)) or "").partition(" ")
        if not until.isdecimal() or int(until) <= time.time() or not _SECRET.match(token):
            return None
        self._held[scope] = _Held(f"Bearer {token}", float(until))
        return f"Bearer {token}"

    async def renew(self, scope: str, challenges: list[Challenge], rejected: str | None) -> str:
        """Return a header for the challenges of a 401 that came for ``rejected``; all who wait share one request.

        Raises UpstreamRefused if there is no way to log in, or the login is refused; else as `Transport.send`.
        """
        held = self._held.get(scope)
        if held is not None and held.header != rejected:
            return held.header
        return await self._renewals.join(scope, partial(self._renew, scope, challenges))

    async def close(self) -> None:
        """End what is under way; callers that wait for it are cancelled."""
        await self._renewals.close()

    async def _renew(self, scope: str, challenges: list[Challenge]) -> str:
        by_scheme = {challenge.scheme: challenge.parameters for challenge in reversed(challenges)}
        if "bearer" in by_scheme:
            sent_at = time.time()
            token, seconds = await self._fetch(scope, by_scheme["bearer"])
            header, until = f"Bearer {token}", sent_at + seconds - _MARGIN_SECONDS
            if (ttl := int(until - time.time())) > 0:
                await self._cache.set(self._key(scope), f"{int(until)} {token}", ttl)
        elif "basic" in by_scheme and self._credential is not None:
            header, until = basic(self._credential), time.time() + _MAX_TOKEN_SECONDS
        else:
            raise UpstreamRefused(self._transport.name)
        self._held[scope] = _Held(header, until)
        return header

    async def _fetch(self, scope: str, challenge: Mapping[str, str]) -> tuple[str, float]:
        url = read_realm(self._home, challenge.get("realm", ""))
        query = {"service": challenge["service"]} if "service" in challenge else {}
        url = url.extend_query(query | {"scope": challenge.get("scope") or scope})
        headers = {"Accept": "application/json"}
        if self._credential is not None:
            headers["Authorization"] = basic(self._credential)
        response = (await self._transport.send("token", "GET", url, headers)).response
        try:
            if failure := self._transport.failure(response):
                raise failure
            if response.status in (401, 403):
                raise self._login_refused(url)
            if response.status != 200:
                raise UpstreamInvalid(
                    "the token service of %(upstream)s answered with status %(code)s; try again later",
                    upstream=self._transport.name,
                    code=response.status,
                )
            return self._read_token(await self._transport.read(response, _MAX_TOKEN_BYTES))
        finally:
            response.close()

    def _read_token(self, body: bytes) -> tuple[str, float]:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        document = document if isinstance(document, dict) else {}
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not _SECRET.match(token):
            raise UpstreamInvalid(
                "the token service of %(upstream)s answered without a token; try again later",
                upstream=self._transport.name,
            )
        seconds = document.get("expires_in")
        if not isinstance(seconds, int) or seconds <= 0:
            seconds = _DEFAULT_TOKEN_SECONDS
        return token, min(seconds, _MAX_TOKEN_SECONDS)

    def _login_refused(self, url: URL) -> UpstreamRefused:
        name = self._transport.name
        account = self._credential.username if self._credential else "nobody"
        log.warning("the token service of %s at %s refused to log in %s", name, url.raw_host, account)
        return UpstreamRefused(name, "%(upstream)s refused this registry's login; tell the operators")

    def _key(self, scope: str) -> str:
        #  <host and port of the upstream> | <account, empty for nobody> | <scope>
        username = self._credential.username if self._credential else ""
        return f"{self._home.authority}|{username}|{scope}"


def basic(credential: Credential) -> str:
    """Return the header of a Basic login."""
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
