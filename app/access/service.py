"""What ``/service/token`` gives out: what was asked for, cut down to what is allowed."""

from __future__ import annotations

import time
from collections.abc import Mapping

from app.oci.reference import Name

from .permissions import Permissions
from .principal import Principal
from .scopes import ALL_ACTIONS, Access, Scopes
from .tokens import LIFETIME, Grant, IssuedToken, Tokens


class TokenService:
    """Issues tokens by what `Permissions` answers at that moment."""

    def __init__(self, permissions: Permissions, tokens: Tokens) -> None:
        self._permissions = permissions
        self._tokens = tokens

    async def grant(self, principal: Principal, scopes: Scopes) -> IssuedToken:
        """Issue a token for as much of the scopes as the principal may have; raises Unavailable.

        A token without any of them is no error: the client learns what it lacks where it uses the token.
        """
        # Everybody may list the catalogue. It shows public projects only, unless `Grant.may_list_everything`.
        allowed = await self._allowed(principal, scopes.repositories)
        return await self._tokens.issue(principal, allowed, catalogue=scopes.catalogue)

    async def basic_grant(self, principal: Principal, *names: Name) -> Grant:
        """Grant without a token, for one request on these repositories, all that the principal may do there."""
        access = await self._allowed(principal, dict.fromkeys(names, ALL_ACTIONS))
        return Grant(principal, access, catalogue=True, expires_at=time.time() + LIFETIME)

    async def _allowed(self, principal: Principal, wanted: Mapping[Name, frozenset[str]]) -> dict[str, Access]:
        projects = {
            project: await self._permissions.access(principal, project)
            for project in sorted({name.project for name in wanted})
        }
        allowed = {
            str(name): Access(actions & projects[name.project].actions, projects[name.project].project)
            for name, actions in wanted.items()
        }
        return {name: access for name, access in allowed.items() if access.actions}
