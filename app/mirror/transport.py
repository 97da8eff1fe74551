"""Send one request to an upstream and return its answer, and turn failures into errors.

No function here follows a redirect or keeps a cookie. The guard checks each hop, and each hop is counted, also those
through a proxy of the site.

A kept connection may be dead without a sign, for example if a NAT has forgotten it. So a reused connection has little
time to answer, and then the request is repeated on a new one. A counted GET is never repeated: it always has a new
connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from prometheus_client import Counter
from yarl import URL

from app.oci.errors import OCIError, UpstreamInvalid

from .address_guard import AddressGuard
from .answers import Answer, RequestKind, UpstreamDown, UpstreamLimited, carry, parse_rate_limit
from .proxy import SiteProxy, target

log = logging.getLogger(__name__)

USER_AGENT = "registry.hpc.ut.ee (pull-through mirror)"
MAX_CHUNK = 256 * 1024
_MAX_SPENT_BYTES = 64 * 1024
# One header of an answer, and the first line. nginx refuses answers of 8 KiB, Docker those of 10 MiB. Signed addresses
# and tokens are the longest ones in use.
_MAX_HEADER_BYTES = 256 * 1024
# aiohttp closes a kept connection that was idle for this long, so after this time no older one is left.
_KEEP_ALIVE_SECONDS = 15.0

REQUESTS = Counter(
    "registry_upstream_requests_total",
    "Requests sent to an upstream, and to the hosts it points to.",
    ["upstream", "kind", "status"],
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds: for the connection, for the answer's headers, and between two reads. There is no total timeout.

    ``reused``: for the answer's headers on a kept connection, before the request is repeated on a new one.
    """

    connect: float = 5
    answer: float = 15
    idle: float = 30
    reused: float = 2


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one request: the head of its answer, and its response, which the receiver closes."""

    answer: Answer
    response: aiohttp.ClientResponse


@dataclass(frozen=True, slots=True)
class _Sessions:
    """``kept`` reuses its connections; each request on ``single`` has a new one."""

    kept: aiohttp.ClientSession
    single: aiohttp.ClientSession

    async def close(self) -> None:
        await self.kept.close()
        await self.single.close()


class Transport:
    """The connections to one upstream and to the hosts it points to; the owner calls `start` and `close` once."""

    def __init__(self, name: str, guard: AddressGuard, timeouts: Timeouts, proxy: SiteProxy | None = None) -> None:
        self.name = name
        self._guard = guard
        self._timeouts = timeouts
        self._proxy = proxy or SiteProxy.from_environment()
        self._direct: _Sessions | None = None
        self._proxied: _Sessions | None = None
        # Until then (monotonic seconds) no connection is reused, because one was found dead.
        self._distrusts_until = 0.0

    async def start(self) -> None:
        """Make the sessions, without a connection yet."""
        self._direct = self._sessions(self._guard)
        # They look up the proxy's name only, which the operator chose.
        self._proxied = self._sessions(None)

    def _sessions(self, resolver: AbstractResolver | None) -> _Sessions:
        # No limit on connections, because stalled bodies must not delay a HEAD, and fills have their own bound.
        return _Sessions(
            self._session(aiohttp.TCPConnector(resolver=resolver, limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS)),
            self._session(aiohttp.TCPConnector(resolver=resolver, limit=0, force_close=True)),
        )

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(self._hurry)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            read_bufsize=MAX_CHUNK,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            timeout=aiohttp.ClientTimeout(sock_connect=self._timeouts.connect, sock_read=self._timeouts.idle),
            trace_configs=[trace],
            middlewares=(_only_once,),
        )

    async def _hurry(self, session: aiohttp.ClientSession, context: SimpleNamespace, parameters: object) -> None:
        sending: _Sending = context.trace_request_ctx
        sending.reused = True
        sending.deadline.reschedule(asyncio.get_running_loop().time() + self._timeouts.reused)

    async def close(self) -> None:
        """Close every connection."""
        if self._direct is not None and self._proxied is not None:
            await self._direct.close()
            await self._proxied.close()
            await self._guard.close()
            self._direct = self._proxied = None

    async def send(
        self, kind: RequestKind, method: str, url: URL, headers: Mapping[str, str], *, once: bool = False
    ) -> Reply:
        """Send one request, count it, and return its reply with any status; the caller closes the response.

        With ``once``, the request is sent on a new connection and never repeated. Raises UpstreamDown if no answer
        comes in time. The error carries an answer without a status, because the request may have arrived. Raises
        UpstreamInvalid if the guard refuses the address.
        """
        sessions = self._proxied if self._proxy.serves(url) else self._direct
        if sessions is None:
            raise RuntimeError("the upstream's client was used before start() or after close()")
        self._guard.check(url)
        if not once and time.monotonic() >= self._distrusts_until:
            try:
                return await self._attempt(sessions.kept, kind, method, url, headers)
            except _DeadConnection:
                # The other kept connections may have died at the same time.
                self._distrusts_until = time.monotonic() + _KEEP_ALIVE_SECONDS
        return await self._attempt(sessions.single, kind, method, url, headers)

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, url: URL, headers: Mapping[str, str], sending: _Sending
    ) -> aiohttp.ClientResponse:
        arguments: dict[str, Any] = {"allow_redirects": False, "trace_request_ctx": sending}
        if not self._proxy.serves(url):
            return await session.request(method, url, headers=headers, **arguments)
        asked = await target(url, self._guard)
        arguments |= {"proxy": self._proxy.address, "server_hostname": asked.tls_name}
        return await session.request(method, asked.url, headers={**headers, "Host": asked.host}, **arguments)

    async def _attempt(
        self, session: aiohttp.ClientSession, kind: RequestKind, method: str, url: URL, headers: Mapping[str, str]
    ) -> Reply:
        sent_at = time.time()
        sending = _Sending(asyncio.timeout(self._timeouts.answer))
        try:
            async with sending.deadline:
                response = await self._ask(session, method, url, headers, sending)
        except aiohttp.InvalidURL:
            raise UpstreamInvalid("the upstream registry points to a URL that cannot be followed") from None
        except (aiohttp.ClientError, OSError, _Unanswered) as error:
            REQUESTS.labels(self.name, kind, "none").inc()
            # The error is not chained and not always shown, because some texts have the whole URL with signatures.
            shown = error if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
            log.warning("%s: no answer from %s to %s: %s", self.name, url.raw_host, kind, shown)
            if sending.reused:
                raise _DeadConnection from None
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


@dataclass(slots=True)
class _Sending:
    """A request that waits for its answer, and whether it went out on a kept connection."""

    deadline: asyncio.Timeout
    reused: bool = False


class _DeadConnection(Exception):
    """A kept connection brought no answer."""


class _Unanswered(Exception):
    """The upstream closed the connection; with a class of our own, aiohttp does not repeat the request."""


async def _only_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Unanswered from error
