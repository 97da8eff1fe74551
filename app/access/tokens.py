"""Bearer tokens: signed, short-lived, and verified by any worker without asking the database.

Source: Docker registry token specification, "JSON Web Token"; RFC 7519, RFC 8037 (EdDSA), RFC 8725.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cachetools import FIFOCache

from app.oci.errors import Unauthorized

from .challenge import service_name
from .principal import Principal
from .scopes import Access
from .signing_keys import LoadedKey, SigningKeys

LIFETIME = 300
MAX_TOKEN = 20 * 1024

# For so many seconds, anonymous tokens of one scope are the same string on every worker. A class of 64 machines then
# costs a worker one signature and one verification. EdDSA signs the same bytes the same way each time.
_BUCKET = 10
_MAX_BUCKETED = 256
# The seconds that the clocks of two hosts may be apart, in either direction. A token counts as valid so long before it
# is issued, and clients replace it so long before it expires. So no token lives longer for it.
_LEEWAY = 30
_MAX_REMEMBERED = 4 * 1024 * 1024
_ALGORITHM = "EdDSA"
_CLAIMS = ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "access"]
_INVALID = "the token is not valid here; ask the token service for a new one"
_EXPIRED = "the token has expired; ask the token service for a new one"


class TokenOutdated(Unauthorized):
    """The grant is for a project that had this name before; a new token may allow access to the present one."""

    text = _INVALID


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token as clients get it, issued at ``issued_at`` (Unix seconds).

    It is valid for ``expires_in`` seconds, whether a client counts them from now or from ``issued_at``.
    """

    token: str = field(repr=False)
    expires_in: int
    issued_at: int


@dataclass(frozen=True, slots=True)
class Grant:
    """The access that a verified token allows, by a repository's full name; ``expires_at`` is in Unix seconds.

    A name can pass to another project while a token lives. So `allows` is half of the test, and `require` the rest.
    """

    principal: Principal
    access: Mapping[str, Access]
    catalogue: bool
    expires_at: float

    def allows(self, name: str, action: str) -> bool:
        """Return whether ``action`` (pull, push, delete) may be done in the repository ``name``."""
        held = self.access.get(name)
        return held is not None and action in held.actions

    def require(self, name: str, project_id: int, made_at: float) -> None:
        """Raise TokenOutdated unless the grant for ``name`` was given in this project (`NO_PROJECT`: in none).

        ``made_at`` is when the project was made, in Unix seconds. It decides for a token without a project, which an
        older release has issued. A project that is older than such a token is the one that the token is for.
        """
        held = self.access.get(name)
        if held is None or (held.project is not None and held.project != project_id):
            raise TokenOutdated
        if held.project is None and made_at > self.expires_at - LIFETIME - _LEEWAY:
            raise TokenOutdated

    @property
    def may_list_everything(self) -> bool:
        """Return whether the catalogue may be listed (``catalogue``) and shows private projects too."""
        return self.catalogue and self.principal.administers

    @property
    def is_anonymous(self) -> bool:
        return self.principal.is_anonymous

    @property
    def subject(self) -> str:
        return self.principal.subject


class Tokens:
    """Issues and verifies tokens; remembers verified ones in this process until they expire."""

    def __init__(self, keys: SigningKeys, external_url: str) -> None:
        self._keys = keys
        self._service = service_name(external_url)
        # By their tokens, with the tokens' sizes. All tokens live equally long, so the oldest one expires first.
        self._grants: FIFOCache[str, tuple[int, Grant]] = FIFOCache(_MAX_REMEMBERED, getsizeof=lambda held: held[0])
        self._bucket = 0
        self._bucketed: dict[str, IssuedToken] = {}

    async def issue(
        self, principal: Principal, access: Mapping[str, Access], *, catalogue: bool = False
    ) -> IssuedToken:
        """Sign a token for access by repository name, already reduced to what is allowed; raises Unavailable."""
        key = await self._keys.signing()
        now = int(time.time())
        entries = [
            # "project" is our addition. The specification has the other three, and clients may read them.
            {"type": "repository", "name": name, "actions": sorted(held.actions), "project": held.project}
            for name, held in sorted(access.items())
        ]
        if catalogue:
            entries.append({"type": "registry", "name": "catalog", "actions": ["*"]})
        if not principal.is_anonymous:
            return self._sign(key, principal, entries, now, secrets.token_hex(16))
        return self._anonymous(key, principal, entries, now - now % _BUCKET)

    def _anonymous(
        self, key: LoadedKey, principal: Principal, entries: list[dict[str, Any]], bucket: int
    ) -> IssuedToken:
        if self._bucket != bucket or len(self._bucketed) >= _MAX_BUCKETED:
            self._bucket, self._bucketed = bucket, {}
        content = json.dumps([key.id, bucket, entries])
        issued = self._bucketed.get(content)
        if issued is None:
            token_id = hashlib.sha256(content.encode()).hexdigest()[:32]
            issued = self._bucketed[content] = self._sign(key, principal, entries, bucket, token_id)
        return issued

    def _sign(
        self, key: LoadedKey, principal: Principal, entries: list[dict[str, Any]], issued_at: int, token_id: str
    ) -> IssuedToken:
        claims: dict[str, Any] = {
            "iss": self._service,
            "aud": self._service,
            "sub": principal.subject,
            "exp": issued_at + LIFETIME,
            "nbf": issued_at - _LEEWAY,
            "iat": issued_at,
            "jti": token_id,
            "access": entries,
        }
        if principal.administers:
            claims["admin"] = True
        token = jwt.encode(claims, key.private, algorithm=_ALGORITHM, headers={"kid": key.id})
        # Less than its life: the client counts from the answer's arrival, and the next worker's clock may be ahead.
        return IssuedToken(token, LIFETIME - _BUCKET - _LEEWAY, issued_at)

    def cached(self, token: str) -> Grant | None:
        """Return the grant of an earlier `verify` in this process, or None if `verify` must be called (again)."""
        held = self._grants.get(token)
        return held[1] if held is not None and held[1].expires_at > time.time() else None

    async def verify(self, token: str) -> Grant:
        """Verify a token and return its grant; raises Unauthorized with the reason in words, or Unavailable."""
        grant = self.cached(token)
        if grant is None:
            grant = await self._decode(token)
            self._grants[token] = len(token), grant
        return grant

    async def _decode(self, token: str) -> Grant:
        if len(token) > MAX_TOKEN:
            raise Unauthorized(_INVALID)
        try:
            key_id = jwt.get_unverified_header(token).get("kid", "")
            key = await self._keys.verifying(key_id)
            if key is None:
                raise Unauthorized(_INVALID)
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[_ALGORITHM],
                audience=self._service,
                issuer=self._service,
                # nbf includes the leeway; a check of iat would undo that.
                options={"require": _CLAIMS, "strict_aud": True, "verify_iat": False},
            )
            return _grant(claims)
        except jwt.ExpiredSignatureError:
            raise Unauthorized(_EXPIRED) from None
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            raise Unauthorized(_INVALID) from None


def _grant(claims: Mapping[str, Any]) -> Grant:
    access: dict[str, Access] = {}
    catalogue = False
    for entry in claims["access"]:
        if entry["type"] == "repository":
            access[entry["name"]] = Access(frozenset(entry["actions"]), entry.get("project"))
        elif entry["type"] == "registry" and entry["name"] == "catalog":
            catalogue = True
    principal = Principal.from_subject(claims["sub"], is_admin=claims.get("admin") is True)
    return Grant(principal, access, catalogue, float(claims["exp"]))
