"""``/service/token``: authenticate a client and issue a token for the allowed part of the requested scopes.

Source: Docker registry token specification ("Token authentication") and its OAuth2 form (POST); no refresh tokens.
"""

from __future__ import annotations

import json
import time

from app.access.authorization import Basic, claimed, parse_authorization
from app.access.credentials import Credentials
from app.access.principal import ANONYMOUS, Principal
from app.access.scopes import Scopes, parse_scopes
from app.access.service import TokenService
from app.oci.errors import Unauthorized, Unsupported

from .address import Address, Addresses
from .base import Handler
from .observe import Observer

# In bytes. As many scopes as a token may have, with the longest names, user name and password take less.
_MOST_TOKEN_FORM = 64 * 1024
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="registry"'}


class TokenHandler(Handler):
    needs = "nothing"
    most_body = _MOST_TOKEN_FORM

    def initialize(  # type: ignore[override]  # the route table gives each handler what it uses
        self, *, credentials: Credentials, tokens: TokenService, addresses: Addresses, observer: Observer
    ) -> None:
        super().initialize(observer=observer)
        self._credentials = credentials
        self._tokens = tokens
        self._addresses = addresses

    def check_xsrf_cookie(self) -> None:
        """Skip the check: this handler reads no cookie, so none can be abused."""

    async def get(self) -> None:
        scopes = self._scopes(self.get_query_arguments("scope"))
        try:
            given = parse_authorization(self.request.headers.get("Authorization"))
        except Unauthorized as error:
            error.headers.update(_CHALLENGE)
            raise
        if given is not None and not isinstance(given, Basic):
            raise Unauthorized("send a user name and password (Basic), or no Authorization header", headers=_CHALLENGE)
        await self._grant(await self._principal(given, scopes), scopes)

    async def post(self) -> None:
        scopes = self._scopes(self.get_body_arguments("scope"))
        given = claimed(self.get_body_argument("username", ""), self.get_body_argument("password", ""))
        grant_type = self.get_body_argument("grant_type", "")
        if grant_type == "refresh_token" and await self._is_for_anybody(scopes):
            # The token is another registry's, which an engine sends to all mirrors of that registry.
            given = None
        elif grant_type != "password":
            raise Unsupported("grant_type must be password; there are no refresh tokens here", status=400)
        await self._grant(await self._principal(given, scopes), scopes)

    @property
    def _address(self) -> Address:
        return self._addresses.read(self.request.uri or "", self.request.host)

    def _scopes(self, asked: list[str]) -> Scopes:
        self._address.require_mirrored()
        scopes = parse_scopes(under(self._address.project, asked))
        self.facts.repository = next(iter(scopes.repositories), "")
        return scopes

    async def _is_for_anybody(self, scopes: Scopes) -> bool:
        return await self._tokens.is_for_anybody(scopes, self._address.project)

    async def _principal(self, given: Basic | None, scopes: Scopes) -> Principal:
        if given is None:
            return ANONYMOUS
        address = self.request.remote_ip or ""
        if await self._is_for_anybody(scopes):
            return await self._credentials.authenticate_or_anonymous(given.username, given.password, address)
        try:
            return await self._credentials.authenticate(given.username, given.password, address)
        except Unauthorized as error:
            error.headers.update(_CHALLENGE)
            raise

    async def _grant(self, principal: Principal, scopes: Scopes) -> None:
        self.subject = principal.subject
        issued = await self._tokens.grant(principal, scopes)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        body = {
            "token": issued.token,
            "access_token": issued.token,
            "expires_in": issued.expires_in,
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(issued.issued_at)),
        }
        await self.finish(json.dumps(body))


def under(project: str | None, scopes: list[str]) -> list[str]:
    """Return the scopes that a mirror's client means: it says ``library/redis`` for ``mirror/library/redis``.

    Without exception: ``mirror/app`` is the upstream's repository of that name, in ``mirror/mirror/app``.
    """
    if project is None:
        return scopes
    spelled = []
    for scope in (scope for value in scopes for scope in value.split()):
        kind, colon, rest = scope.partition(":")
        of_repository = kind.partition("(")[0] == "repository"
        spelled.append(f"{kind}{colon}{project}/{rest}" if of_repository else scope)
    return spelled
