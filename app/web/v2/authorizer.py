"""Check the permission of a request of the distribution API, or send the client to the token service."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qs

from app.access.authorization import Basic, Bearer, parse_authorization
from app.access.challenge import challenge, service_name
from app.access.credentials import Credentials
from app.access.service import TokenService
from app.access.tokens import Grant, TokenOutdated, Tokens
from app.oci.errors import NameInvalid, OCIError, Unauthorized
from app.oci.reference import Name
from app.web.address import DOCKER_HUB, Address, fold

from .call import Call
from .needs import ANY_TOKEN, CATALOGUE, DELETE, PULL, PUSH
from .routes import Endpoint

# The actions that a challenge names for each need; without a repository, the whole scope. A push needs pull as well,
# because clients first check which blobs are there.
_ASKED_FOR = {PULL: "pull", PUSH: "pull,push", DELETE: "delete", CATALOGUE: "registry:catalog:*"}


class Authorizer:
    """Tests every call's permission by the repository's name; `Projects.open` completes the test. It fails closed."""

    def __init__(self, tokens: Tokens, service: TokenService, credentials: Credentials) -> None:
        self._tokens = tokens
        self._service = service
        self._credentials = credentials

    async def admit(self, call: Call, name: Name | None, endpoint: Endpoint) -> tuple[Grant, Name | None]:
        """Return the client's grant and the repository that it means, or raise Unauthorized with its challenge.

        The repository is ``name``, unless the address has a second meaning (`Address.other`). An outsider gets the
        same answer for a private repository and for one that does not exist.
        """
        name = _meant(call, name, None)
        try:
            grant = await self._grant(call, name, endpoint)
        except Unauthorized as error:
            _add_challenge(error, call.address, name, endpoint, "invalid_token")
            raise
        if grant is None:
            raise _add_challenge(Unauthorized(), call.address, name, endpoint, None)
        name = _meant(call, name, grant)
        if not _suffices(grant, name, endpoint.needs):
            raise _add_challenge(_lacking(name, endpoint.needs), call.address, name, endpoint, "insufficient_scope")
        return grant, name

    def outdated(self, error: TokenOutdated, call: Call, name: Name | None, endpoint: Endpoint) -> None:
        """Add the challenge for a new token to the error of a call whose grant is for another project.

        `admit` compares names only, and a name can change hands.
        """
        _add_challenge(error, call.address, name, endpoint, "invalid_token")

    def challenged(self, error: OCIError, address: Address) -> OCIError:
        """Add the required WWW-Authenticate header to a 401 raised by a handler (RFC 9110, 15.5.2).

        It names no scope and no error: a token would not help, and Docker would show its own text instead of ours.
        """
        if isinstance(error, Unauthorized):
            base = address.base_url
            error.headers.setdefault("WWW-Authenticate", challenge(f"{base}/service/token", service_name(base)))
        return error

    async def _grant(self, call: Call, name: Name | None, endpoint: Endpoint) -> Grant | None:
        authorization = call.headers.get("Authorization")
        if authorization is not None and authorization.startswith("Bearer "):
            grant = self._tokens.cached(authorization[7:])
            if grant is not None:
                return grant
        claimed = parse_authorization(authorization)
        if isinstance(claimed, Bearer):
            return await self._tokens.verify(claimed.token)
        if isinstance(claimed, Basic):
            authenticate = self._credentials.authenticate
            if endpoint.needs == PULL and name is not None and await self._service.is_public_mirror(name):
                authenticate = self._credentials.authenticate_or_anonymous
            principal = await authenticate(claimed.username, claimed.password, call.client_address)
            return await self._service.basic_grant(principal, *_named(call.address, name))
        return None


def _meant(call: Call, name: Name | None, grant: Grant | None) -> Name | None:
    """Return the repository that a client means, and give its call the address with that meaning.

    ``/v2/mirror/a/b?ns=…`` comes from a client that is set up with the path of a mirror, and means ``a/b`` upstream. Or
    it comes from a client that means ``mirror/a/b`` upstream. Docker Hub's names have two parts, which decides there.
    Elsewhere a token for the second meaning decides: containerd asks for the scope of the name that it was given.
    """
    other = call.address.other
    if name is None or other is None:
        return name
    inside = Name.parse(f"{other.project}/{name}")
    if fold(other.namespace or "") == DOCKER_HUB:
        chosen = name.count("/") == 1
    else:
        chosen = grant is not None and grant.allows(inside, PULL)
    if not chosen:
        return name
    call.address = other
    return inside


def _suffices(grant: Grant, name: Name | None, needs: str) -> bool:
    if needs == ANY_TOKEN:
        return True
    if needs == CATALOGUE:
        return grant.catalogue
    return name is not None and grant.allows(name, needs)


def _add_challenge(
    refused: Unauthorized, address: Address, name: Name | None, endpoint: Endpoint, error: str | None
) -> Unauthorized:
    """Add to a refusal the challenge that names the token the client needs; ``error`` is the challenge's error code."""
    base, scope = address.base_url, _ASKED_FOR.get(endpoint.needs, "")
    if address.project is None:
        # Nobody can push to a mirror.
        scope = endpoint.asks or scope
    if name is not None:
        # A mount needs both scopes, and a client asks only for the scopes that the challenge names.
        others = [f"repository:{other}:pull" for other in _named(address, None)]
        spelled = name.removeprefix(f"{address.project}/")
        scope = " ".join([f"repository:{spelled}:{scope}", *others])
    refused.headers["WWW-Authenticate"] = challenge(f"{base}/service/token", service_name(base), scope or None, error)
    return refused


def _named(address: Address, name: Name | None) -> list[Name]:
    """List the repositories that a request names: a mount has a second one in its query."""
    names = [name] if name is not None else []
    with suppress(NameInvalid):
        names += [Name.parse(source) for source in parse_qs(address.query).get("from", [])[:1]]
    return names


def _lacking(name: Name | None, needs: str) -> Unauthorized:
    if name is None:
        return Unauthorized("this token does not allow that; log in as somebody who may")
    return Unauthorized(
        "you may not %(needs)s %(name)s, or there is no such project; if you are a member of it, run docker login",
        needs=needs,
        name=name,
    )
