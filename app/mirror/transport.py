"""Send one request to an upstream and return its answer, log in if needed, and turn failures into errors.

No function here follows a redirect or keeps a cookie. The guard checks each hop, and each hop is counted. A credential
is sent only to the realm of the upstream's own challenge or, for Basic, to the upstream itself. Tokens are shared with
other workers through a cache; the credential never is.

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
    UpstreamDown,
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
# Subtracted from a token's life, for the request that carries it and for clocks that differ between hosts.
_MARGIN_SECONDS = 10
_MOST_HELD = 10_000
_SECRET = re.compile(r"[!-~]{1,32768}\Z")

REQUESTS = Counter(
    "registry_upstream_requests_total",
    "Requests sent to an upstream, and to the hosts it points to.",
    ["upstream", "kind", "status"],
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds: for the connection, for the answer's headers, and between two reads. There is no total timeout."""

    connect: float = 5
    answer: float = 15
    idle: float = 30


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request: the head of its answer, and its response, which the receiver closes."""

    answer: Answer
    response: aiohttp.ClientResponse


class Transport:
    """The connections to one upstream and to the hosts it points to; the owner calls `start` and `close` once."""

    def __init__(self, name: str, guard: AddressGuard, timeouts: Timeouts) -> None:
        self.name = name
        self._guard = guard
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make the session, without a connection yet."""
        self._session = aiohttp.ClientSession(
            # No limit on connections, because stalled bodies must not delay a HEAD, and fills have their own bound.
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
        """Send one request, count it, and return its reply with any status; the caller closes the response.

        Raises UpstreamDown if no answer comes in time. The error carries an answer without a status, because the
        request may have arrived. Raises UpstreamInvalid if the guard refuses the address.
        """
        if self._session is None:
            raise RuntimeError("the upstream's client was used before start() or after close()")
        self._guard.check(url)
        # aiohttp repeats a GET if its connection is closed. A counted GET must not be sent twice without our knowledge.
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
            # The error is not chained and not always shown, because some texts have the whole URL with signatures.
            shown = error if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
            log.warning("%s: no answer from %s to %s: %s", self.name, url.raw_host, kind, shown)
            down = self._down(error)
            carry(down, Answer(kind, None, None, None, sent_at))
            raise down from None
        REQUESTS.labels(self.name, kind, str(response.status)).inc()
        # A limit of a token service or a blob host is not the budget of pulls.
        rate = None if kind in ("token", "storage") else parse_rate_limit(response.headers)
        return Reply(Answer(kind, response.status, rate, response.headers.get("Retry-After"), sent_at), response)

    async def pieces(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield a body in pieces of at most MAX_CHUNK bytes; raises UpstreamDown if it stalls or is cut."""
        try:
            async for piece in response.content.iter_chunked(MAX_CHUNK):
                yield piece
        except TimeoutError:
            raise UpstreamDown(self.name, "stalled") from None
        # aiohttp raises RuntimeError for a read after a connection broke and before aiohttp has noticed.
        except (aiohttp.ClientError, OSError, RuntimeError):
            raise UpstreamDown(self.name, "cut the connection") from None

    async def read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """Return a whole small body; raises UpstreamInvalid past ``limit`` bytes, and UpstreamDown if it is cut."""
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
        """Return the body of an unwanted answer and close it, so that its connection can be reused; never raises."""
        try:
            async with asyncio.timeout(self._timeouts.answer):
                return await self.read(response, _MAX_SPENT_BYTES)
        except (OCIError, TimeoutError):
            return b""
        finally:
            response.close()

    def failure(self, response: aiohttp.ClientResponse) -> OCIError | None:
        """Return the error for a status that says nothing about the requested content: 429, 408 and 5xx; else None."""
        if response.status == 429:
            return UpstreamLimited(self.name, response.headers.get("Retry-After"))
        if response.status == 408 or response.status >= 500:
            return UpstreamDown(self.name, f"answered with status {response.status}")
        return None

    def _down(self, error: Exception) -> UpstreamDown:
        if isinstance(error, TimeoutError):
            return UpstreamDown(self.name, "does not answer")
        if isinstance(error, aiohttp.ClientConnectorError):
            return UpstreamDown(self.name, "cannot be reached")
        return UpstreamDown(self.name, "closed the connection without an answer")


class _Unanswered(Exception):
    """The upstream closed the connection; with a class of our own, aiohttp does not repeat the request."""


async def _only_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Unanswered from error


class TokenCache(Protocol):
    """Keeps tokens for all workers. Neither method raises; if the cache is down, it seems empty."""

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
        # The valid headers, by scope.
        self._held: TLRUCache[str, _Held, float] = TLRUCache(_MOST_HELD, lambda _, held, now: held.until, time.time)
        self._renewals: SingleFlight[str] = SingleFlight()

    async def header(self, scope: str) -> str | None:
        """Return the header to try first; None if none is known before a challenge."""
        held = self._held.get(scope)
        if held is not None:
            return held.header
        until, _, token = (await self._cache.get(self._key(scope)) or "").partition(" ")
        if not until.isdecimal() or int(until) <= time.time() or not _SECRET.match(token):
            return None
        self._held[scope] = _Held(f"Bearer {token}", float(until))
        return f"Bearer {token}"

    async def renew(self, scope: str, challenges: list[Challenge], rejected: str | None) -> str:
        """Return a header for the challenges of a 401 that rejected ``rejected``; all waiters share one request.

        Raises UpstreamRefused if there is no way to log in or the login is refused, and the errors of
        `Transport.send`.
        """
        held = self._held.get(scope)
        if held is not None and held.header != rejected:
            return held.header
        return await self._renewals.join(scope, partial(self._renew, scope, challenges))

    async def close(self) -> None:
        """Cancel the requests for tokens and the callers that wait for them."""
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
