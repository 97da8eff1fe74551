"""The token service behind ``/service/token``: it grants the part of a request that is allowed."""

from __future__ import annotations

import time
from collections.abc import Mapping

from app.oci.reference import Name

from .permissions import Permissions
from .principal import Principal
from .scopes import ALL_ACTIONS, PULL, Access, Scopes
from .tokens import LIFETIME, Grant, IssuedToken, Tokens


class TokenService:
    """Issues tokens for the access that `Permissions` returns at that moment."""

    def __init__(self, permissions: Permissions, tokens: Tokens) -> None:
        self._permissions = permissions
        self._tokens = tokens

    async def grant(self, principal: Principal, scopes: Scopes) -> IssuedToken:
        """Issue a token for the part of the scopes that the principal may have; raises Unavailable.

        A token without any of them is no error, because the client learns what it lacks when it uses the token.
        """
        # Everybody may list the catalogue. It shows public projects only, unless `Grant.may_list_everything`.
        allowed = await self._allowed(principal, scopes.repositories)
        return await self._tokens.issue(principal, allowed, catalogue=scopes.catalogue)

    async def is_for_anybody(self, scopes: Scopes, at_mirror: str | None) -> bool:
        """Return whether all the scopes together are no more than pull from public mirrors; raises Unavailable.

        ``at_mirror`` is the project at whose own address a client asks, None elsewhere. At a public mirror's address
        nobody can have more than that, so it need not be asked for.

        containerd asks for a repository of a mirror by two names in one request: the mirror's and the upstream's. The
        second one is no scope of its own, whether a project here has that name or not.
        """
        names = scopes.repositories
        if any(actions != PULL for actions in names.values()):
            return False
        if at_mirror is not None and await self._permissions.is_public_mirror(at_mirror):
            return True
        if scopes.catalogue:
            return False
        mirrored = {name for name in names if await self._permissions.is_public_mirror(name.project)}
        at_upstream = {name.repository for name in mirrored}
        return bool(mirrored) and all(name in mirrored or name in at_upstream for name in names)

    async def is_public_mirror(self, name: Name) -> bool:
        """Return whether a repository is in a public mirror; raises Unavailable."""
        return await self._permissions.is_public_mirror(name.project)

    async def basic_grant(self, principal: Principal, *names: Name) -> Grant:
        """Return a grant without a token, for one request: all that the principal may do in these repositories."""
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
