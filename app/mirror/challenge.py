"""Logging in to an upstream: its challenges, and the tokens that answer them.

The credential is sent to the realm of the upstream's own challenge, or to the upstream itself for Basic, and to
nobody else. Tokens are shared with the other workers through a cache; the credential never is.

Source: RFC 9110, 11 (challenges); the "Token Authentication Specification" of the Docker registry protocol.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from cachetools import TLRUCache
from yarl import URL

from app.kit.single_flight import SingleFlight
from app.oci.errors import UpstreamInvalid

from .answers import UpstreamRefused
from .guard import read_realm
from .transport import Transport

log = logging.getLogger(__name__)

_MAX_TOKEN_BYTES = 64 * 1024
_DEFAULT_SECONDS = 60
_MAX_SECONDS = 3600
# Taken off a token's life, for the request that carries it and for clocks that differ between hosts.
_MARGIN_SECONDS = 10
_MOST_HELD = 10_000

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'[ \t,]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))')
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?=[ \t,]|\Z)")
_SECRET = re.compile(r"[!-~]{1,32768}\Z")


@dataclass(frozen=True, slots=True)
class Credential:
    """An account at an upstream."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a 401 offers; ``scheme`` and the names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


class TokenCache(Protocol):
    """Keeps tokens for all workers. Neither method raises: a cache that is away is empty."""

    async def get(self, key: str) -> str | None: ...

    async def set(self, key: str, value: str, ttl: int) -> None:
        """Keep ``value``, a secret, for ``ttl`` seconds."""


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read every ``WWW-Authenticate`` header of an answer; what cannot be read is passed over."""
    challenges: list[Challenge] = []
    for header in headers:
        parameters: dict[str, str] | None = None
        position = 0
        while position < len(header):
            match = _PARAMETER.match(header, position) if parameters is not None else None
            if match is not None and parameters is not None:
                value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
                parameters.setdefault(match[1].lower(), value)
            elif match := _SCHEME.match(header, position):
                parameters = {}
                challenges.append(Challenge(match[1].lower(), parameters))
            else:
                break
            position = match.end()
    return challenges


@dataclass(frozen=True, slots=True)
class _Held:
    header: str = field(repr=False)
    until: float


class Tokens:
    """The ``Authorization`` headers for one upstream and one account, by scope."""

    def __init__(self, transport: Transport, home: URL, credential: Credential | None, cache: TokenCache) -> None:
        self._transport = transport
        self._home = home
        self._credential = credential
        self._cache = cache
        # The headers that are good now, by scope.
        self._held: TLRUCache[str, _Held, float] = TLRUCache(_MOST_HELD, lambda _, held, now: held.until, time.time)
        self._renewals: SingleFlight[str] = SingleFlight()

    async def get(self, scope: str) -> str | None:
        """Give the header to try first; None where only a challenge can tell."""
        held = self._held.get(scope)
        if held is not None:
            return held.header
        until, _, token = (await self._cache.get(self._key(scope)) or "").partition(" ")
        if not until.isdecimal() or int(until) <= time.time() or not _SECRET.match(token):
            return None
        self._held[scope] = _Held(f"Bearer {token}", float(until))
        return f"Bearer {token}"

    async def renew(self, scope: str, challenges: list[Challenge], rejected: str | None) -> str:
        """Answer the challenges of a 401 that came for ``rejected``; one request to the realm, whoever else waits.

        Raises UpstreamRefused where there is no way to log in, or the login is refused; as `Transport.send` besides.
        """
        held = self._held.get(scope)
        if held is not None and held.header != rejected:
            return held.header
        return await self._renewals.join(scope, partial(self._renew, scope, challenges))

    async def close(self) -> None:
        """End what is under way; whoever waits for it is cancelled."""
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
            header, until = self._credential.basic, time.time() + _MAX_SECONDS
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
            headers["Authorization"] = self._credential.basic
        response = (await self._transport.send("token", "GET", url, headers)).response
        try:
            if failure := self._transport.failure(response):
                raise failure
            if response.status in (401, 403):
                raise self._login_refused(url)
            if response.status != 200:
                raise UpstreamInvalid(f"the token service of {self._transport.name} answered {response.status}")
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
            raise UpstreamInvalid(f"the token service of {self._transport.name} answered without a token")
        seconds = document.get("expires_in")
        if not isinstance(seconds, int) or seconds <= 0:
            seconds = _DEFAULT_SECONDS
        return token, min(seconds, _MAX_SECONDS)

    def _login_refused(self, url: URL) -> UpstreamRefused:
        name = self._transport.name
        account = self._credential.username if self._credential else "nobody"
        log.warning("the token service of %s at %s refused to log in %s", name, url.raw_host, account)
        return UpstreamRefused(name, f"{name} refused this registry's login; tell the operators")

    def _key(self, scope: str) -> str:
        #  <host and port of the upstream> | <account, empty for nobody> | <scope>
        username = self._credential.username if self._credential else ""
        return f"{self._home.authority}|{username}|{scope}"
