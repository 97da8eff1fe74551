"""One request, one answer: the connections to an upstream, and how their failures are named.

Nothing here follows a redirect or keeps a cookie; each hop is checked by the guard and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
from prometheus_client import Counter
from yarl import URL

from app.oci.errors import OCIError, UpstreamInvalid

from .answers import Answer, RequestKind, UpstreamAway, UpstreamLimited, carry, parse_rate_limit
from .guard import Guard

log = logging.getLogger(__name__)

USER_AGENT = "registry.hpc.ut.ee (pull-through mirror)"
MAX_CHUNK = 256 * 1024
_MAX_SPENT_BYTES = 64 * 1024

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
    """What came back for one request: the answer's head as it was read, and its response, for whoever closes it."""

    answer: Answer
    response: aiohttp.ClientResponse


class Transport:
    """The connections to one upstream and to where it points; started and closed once."""

    def __init__(self, name: str, guard: Guard, timeouts: Timeouts) -> None:
        self.name = name
        self._guard = guard
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make the session; connects to nothing yet."""
        self._session = aiohttp.ClientSession(
            # No limit on connections: stalled bodies must not keep a HEAD waiting; fills are bounded where they start.
            connector=aiohttp.TCPConnector(resolver=self._guard, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            read_bufsize=MAX_CHUNK,
            timeout=aiohttp.ClientTimeout(sock_connect=self._timeouts.connect, sock_read=self._timeouts.idle),
        )

    async def close(self) -> None:
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
        """Give a body as it comes, at most MAX_CHUNK bytes at once; raises UpstreamAway where it stalls or is cut."""
        try:
            async for piece in response.content.iter_chunked(MAX_CHUNK):
                yield piece
        except TimeoutError:
            raise UpstreamAway(self.name, "stalled") from None
        # RuntimeError is aiohttp's for a read between the moment a connection breaks and the moment it is told so.
        except (aiohttp.ClientError, OSError, RuntimeError):
            raise UpstreamAway(self.name, "cut the connection") from None

    async def read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """Read a small body whole; raises UpstreamInvalid past ``limit`` bytes, UpstreamAway where it is cut."""
        body = bytearray()
        async for piece in self.pieces(response):
            body += piece
            if len(body) > limit:
                raise UpstreamInvalid(f"{self.name} answered with more than the {limit} bytes that are taken here")
        return bytes(body)

    async def spend(self, response: aiohttp.ClientResponse) -> bytes:
        """Read and close an answer that was not hoped for, so that its connection serves again; never raises."""
        try:
            async with asyncio.timeout(self._timeouts.answer):
                return await self.read(response, _MAX_SPENT_BYTES)
        except (OCIError, TimeoutError):
            return b""
        finally:
            response.close()

    def failure(self, response: aiohttp.ClientResponse) -> OCIError | None:
        """Give the error for the statuses that say nothing about what was asked for: 429, 408 and 5xx."""
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
