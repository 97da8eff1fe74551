"""Log in to the registries of one upstream: `Authorization` headers by scope, from token services or by Basic.

A credential is sent only to the realm of the upstream's own challenge or, for Basic, to the upstream itself. Tokens are
shared with other workers through a cache; the credential never is.

Source: the "Token Authentication Specification" of the Docker registry protocol.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import aiohttp
from cachetools import TLRUCache
from yarl import URL

from app.config import Credential
from app.kit.single_flight import SingleFlight
from app.oci.errors import OCIError, UpstreamInvalid

from . import replies
from .address_guard import next_hop, origin, token_address
from .answers import Challenge, UpstreamDown, UpstreamRefused
from .transport import Transport

log = logging.getLogger(__name__)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
_MAX_TOKEN_BYTES = 64 * 1024
_DEFAULT_TOKEN_SECONDS = 60
_MAX_TOKEN_SECONDS = 3600
# Subtracted from a token's life, for the request that carries it and for clocks that differ between hosts.
_MARGIN_SECONDS = 10
_MOST_HELD = 10_000
_SECRET = re.compile(r"[!-~]{1,32768}\Z")


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
    """The ``Authorization`` headers for one registry and one account, by scope; ``home`` is the registry's address."""

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
        self._held.pop(scope, None)
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
        response = await self._ask(token_address(self._home, challenge, scope))
        try:
            if failure := self._transport.failure(response):
                raise failure
            if response.status != 200:
                raise self._no_token(response, await self._transport.spend(response))
            return self._read_token(await self._transport.read(response, _MAX_TOKEN_BYTES))
        finally:
            response.close()

    async def _ask(self, url: URL) -> aiohttp.ClientResponse:
        """Ask a token service and follow its redirects; only its own host sees the credential."""
        realm = origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"Accept": "application/json"}
            if self._credential is not None and origin(url) == realm:
                headers["Authorization"] = basic(self._credential)
            response = (await self._transport.send("token", "GET", url, headers)).response
            if response.status not in REDIRECTS:
                return response
            await self._transport.spend(response)
            url = next_hop(url, response.headers.get("Location"))
        raise UpstreamInvalid(
            "%(upstream)s redirects more than %(most)s times", upstream=self._transport.name, most=MAX_REDIRECTS
        )

    def _read_token(self, body: bytes) -> tuple[str, float]:
        document = replies.json_object(body) or {}
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not _SECRET.match(token):
            raise UpstreamDown(self._transport.name, "has a token service that answers without a token")
        seconds = document.get("expires_in")
        if not isinstance(seconds, int) or seconds <= 0:
            seconds = _DEFAULT_TOKEN_SECONDS
        return token, min(seconds, _MAX_TOKEN_SECONDS)

    def _no_token(self, response: aiohttp.ClientResponse, body: bytes) -> OCIError:
        """Return the error for a token service's answer without a token.

        Token services refuse in JSON of any form, or with a challenge. Anything else is the page of a proxy or portal.
        """
        name, host = self._transport.name, response.url.raw_host
        is_object = replies.json_object(body) is not None
        worded = is_object or replies.is_registrys_word(response, body) or replies.challenges(response)
        if response.status not in (401, 403) or not worded:
            return UpstreamDown(name, f"has a token service that answers with status {response.status}")
        if self._credential is None:
            return UpstreamRefused(name)
        log.warning("the token service of %s at %s refused to log in %s", name, host, self._credential.username)
        return UpstreamRefused(name, "%(upstream)s refused this registry's login; tell the operators")

    def _key(self, scope: str) -> str:
        #  <host and port of the upstream> | <account, empty for nobody> | <scope>
        username = self._credential.username if self._credential else ""
        return f"{self._home.authority}|{username}|{scope}"


def basic(credential: Credential) -> str:
    """Return the header of a Basic login."""
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
