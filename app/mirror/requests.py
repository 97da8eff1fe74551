"""Follow one request to its final reply: through redirects, and through the logins that registries ask for.

A vanity address redirects to another registry, and blobs are at storage hosts. No host but the upstream itself ever
sees a credential of the upstream.
"""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp
from cachetools import LRUCache
from yarl import URL

from app.config import Credential
from app.oci.errors import OCIError, UpstreamInvalid

from . import replies
from .address_guard import next_hop, origin
from .answers import Answer, RequestKind, UpstreamDown, UpstreamRefused, carry, parse_challenges
from .login import MAX_REDIRECTS, REDIRECTS, Login, TokenCache
from .transport import Transport

# Registries to which an upstream redirects, each with a login of its own.
_MOST_OTHERS = 100
# This answer leads to a page about the requested thing and not to the thing itself (RFC 9110, 15.4.4).
SEE_OTHER = 303


@dataclass(frozen=True, slots=True)
class FinalReply:
    """The reply after all redirects. ``answer`` is the upstream's own; ``other_host``: another host replied."""

    answer: Answer
    response: aiohttp.ClientResponse
    other_host: bool


class Requests:
    """The requests of one account, or of nobody, to the upstream at ``home``; the owner calls `close`."""

    def __init__(self, transport: Transport, home: URL, credential: Credential | None, tokens: TokenCache) -> None:
        self._transport = transport
        self._home = home
        self._tokens = tokens
        self._login = Login(transport, home, credential, tokens)
        self._others: LRUCache[object, Login] = LRUCache(_MOST_OTHERS)

    async def close(self) -> None:
        """Cancel the requests for tokens and the callers that wait for them."""
        for login in (self._login, *self._others.values()):
            await login.close()

    async def send(
        self, kind: RequestKind, method: str, url: URL, repository: str, headers: dict[str, str]
    ) -> FinalReply:
        """Send a request, follow redirects, and log in once to each registry that asks for it.

        Another registry than the upstream gets an anonymous token of its own token service, and nothing else. No list
        is looked for behind a 303, which is returned. A failure carries the upstream's own last answer, if there is
        one.
        """
        scope = f"repository:{repository}:pull"
        logins: dict[object, str | None] = {origin(self._home): await self._login.header(scope)}
        renewed: set[object] = set()
        redirects, own = 0, None
        try:
            while True:
                here, other_host = origin(url), origin(url) != origin(self._home)
                if here not in logins:
                    other = self._others.get(here)
                    logins[here] = await other.header(scope) if other else None
                authorization = logins[here]
                reply = await self._transport.send(
                    "storage" if other_host else kind,
                    method,
                    url,
                    headers | ({"Authorization": authorization} if authorization else {}),
                    once=kind == "get_manifest",
                )
                response = reply.response
                own = own if other_host and own is not None else reply.answer
                if response.status in REDIRECTS and (kind, response.status) != ("list", SEE_OTHER):
                    await self._transport.spend(response)
                    url, redirects = self._next(url, response, redirects), redirects + 1
                elif here not in renewed and (login := self._asked_login(url, response)):
                    own = own if other_host else None
                    logins[here] = await self._renew(login, scope, response, authorization)
                    if logins[here] is not None:
                        renewed.add(here)
                else:
                    return FinalReply(own, response, other_host)
        except OCIError as error:
            carry(error, own)
            raise

    async def _renew(
        self, login: Login, scope: str, response: aiohttp.ClientResponse, rejected: str | None
    ) -> str | None:
        """Return a header for a 401 that rejected ``rejected``; None if the request should be sent without one.

        nvcr.io sends an expired token to a realm that serves accounts only, but a request without a token to another.
        """
        offered = parse_challenges(response.headers.getall("WWW-Authenticate"))
        await self._transport.spend(response)
        try:
            return await login.renew(scope, offered, rejected)
        except (UpstreamRefused, UpstreamDown):
            if rejected is None:
                raise
            return None

    def _next(self, url: URL, response: aiohttp.ClientResponse, redirects: int) -> URL:
        if redirects == MAX_REDIRECTS:
            raise UpstreamInvalid(
                "%(upstream)s redirects more than %(most)s times", upstream=self._transport.name, most=MAX_REDIRECTS
            )
        return next_hop(url, response.headers.get("Location"))

    def _asked_login(self, url: URL, response: aiohttp.ClientResponse) -> Login | None:
        """Return the login that a 401 asks for; None if it asks for none that may be answered."""
        offered = replies.challenges(response)
        if not offered:
            return None
        here = origin(url)
        if here == origin(self._home):
            return self._login
        if all(challenge.scheme != "bearer" for challenge in offered):
            return None
        if here not in self._others:
            self._others[here] = Login(self._transport, url.origin(), None, self._tokens)
        return self._others[here]
