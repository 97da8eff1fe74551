"""``/service/token``: authenticate a client and issue a token for the allowed part of the requested scopes.

Source: Docker registry token specification ("Token authentication") and its OAuth2 form (POST); no refresh tokens.
"""

from __future__ import annotations

import json
import time

from app.access.authorization import Basic, parse_authorization
from app.access.credentials import Credentials
from app.access.principal import ANONYMOUS, Principal
from app.access.scopes import parse_scopes
from app.access.service import TokenService
from app.oci.errors import Unauthorized, Unsupported

from .address import Addresses
from .base import Handler
from .observe import Observer

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="registry"'}


class TokenHandler(Handler):
    needs = "nothing"

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
        await self._grant(await self._principal(), self.get_query_arguments("scope"))

    async def post(self) -> None:
        grant_type = self.get_body_argument("grant_type", "")
        if grant_type != "password":
            raise Unsupported("grant_type must be password; there are no refresh tokens here", status=400)
        claimed = Basic(self.get_body_argument("username", ""), self.get_body_argument("password", ""))
        await self._grant(await self._authenticate(claimed), self.get_body_arguments("scope"))

    async def _principal(self) -> Principal:
        header = self.request.headers.get("Authorization")
        try:
            claimed = parse_authorization(header)
        except Unauthorized as error:
            error.headers.update(_CHALLENGE)
            raise
        if header is None:
            return ANONYMOUS
        if not isinstance(claimed, Basic):
            raise Unauthorized("send a user name and password (Basic), or no Authorization header", headers=_CHALLENGE)
        return await self._authenticate(claimed)

    async def _authenticate(self, claimed: Basic) -> Principal:
        address = self.request.remote_ip or ""
        try:
            return await self._credentials.authenticate(claimed.username, claimed.password, address)
        except Unauthorized as error:
            error.headers.update(_CHALLENGE)
            raise

    async def _grant(self, principal: Principal, scopes: list[str]) -> None:
        self.subject = principal.subject
        address = self._addresses.read(self.request.uri or "", self.request.host)
        issued = await self._tokens.grant(principal, parse_scopes(under(address.project, scopes)))
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
    """Return the scopes that a mirror's client means: it says ``library/redis`` for ``mirror/library/redis``."""
    if project is None:
        return scopes
    spelled = []
    for scope in (scope for value in scopes for scope in value.split()):
        kind, colon, rest = scope.partition(":")
        inside = rest.startswith(f"{project}/")
        spelled.append(scope if kind != "repository" or inside else f"{kind}{colon}{project}/{rest}")
    return spelled
