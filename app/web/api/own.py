"""Serve the caller's own account, rights, access keys and browser sessions."""

from __future__ import annotations

import re
from typing import Any

from app.access.errors import Invalid, Missing
from app.access.principal import PrincipalKind
from app.access.roles import READ_PROJECT
from app.database import access_keys, accounts
from app.oci.errors import Unauthorized

from .handler import ApiHandler
from .permissions import access, read_permissions, spell_permissions
from .shapes import expiry, moment, some
from .users import user

_SCOPE = re.compile(r"/project/([1-9][0-9]{0,14})\Z")


class Own(ApiHandler):
    """The base of handlers of the caller's own things."""

    @property
    def account_id(self) -> int:
        """The id of the caller's account; `AccessControl` admits no caller without one."""
        if self.principal.id is None:
            raise Unauthorized
        return self.principal.id


class CurrentUserHandler(Own):
    async def get(self) -> None:
        if self.principal.kind is PrincipalKind.ROBOT:
            self.answer({"username": self.principal.name, "sysadmin_flag": False})
            return
        person = await self.services.database.read(accounts.person, self.account_id)
        if person is None:
            raise Unauthorized("your account has just been deleted; ask an administrator")
        self.answer(user(person))


class CurrentPermissionsHandler(ApiHandler):
    async def get(self) -> None:
        scope = self.query["scope"]
        if scope is None:
            self.answer([])
            return
        match = _SCOPE.match(scope)
        if match is None:
            raise Invalid("scope must be /project/NUMBER")
        view = await self.services.access_control.open(self.principal, int(match[1]), READ_PROJECT)
        front = "" if self.query["relative"] else f"{scope}/"
        spelled = [access(right) for right in sorted(view.rights)]
        self.answer([{"resource": front + one["resource"], "action": one["action"]} for one in spelled])


class AccessKeysHandler(Own):
    async def get(self) -> None:
        rows = await self.services.database.read(access_keys.of_account, self.account_id)
        spelled: list[dict[str, Any]] = [
            some(
                id=row.id,
                name=row.name,
                permissions=await spell_permissions(row.permissions, self.services.projects, {}),
                creation_time=moment(row.created_at),
                expires_at=expiry(row.expires_at),
                last_used_time=moment(row.last_used_at),
                last_used_from=row.last_used_from,
            )
            for row in rows
        ]
        self.answer(spelled)

    async def post(self) -> None:
        permissions = await read_permissions(self.body["permissions"], self.services.access_control, self.principal)
        row, secret = await self.services.access_keys.create(
            self.account_id, name=self.body["name"], permissions=permissions, days=self.body["duration"]
        )
        self.note("create", "access key", row.name)
        body = {"id": row.id, "name": row.name, "secret": secret, "expires_at": expiry(row.expires_at)}
        self.created(f"/users/current/access-keys/{row.id}", body)


class AccessKeyHandler(Own):
    async def delete(self, key_id: int) -> None:
        removed = await self.services.access_keys.remove(self.account_id, key_id)
        self.note("delete", "access key", removed.name)


class SessionsHandler(Own):
    async def get(self) -> None:
        rows = await self.services.sessions.list_of(self.account_id, self.principal.generation)
        self.answer(
            [
                {
                    "id": row.id,
                    "creation_time": moment(row.created_at),
                    "last_seen_time": moment(row.seen_at),
                    "client_address": row.address,
                    "user_agent": row.agent,
                    "current": self.session is not None and row.id == self.session.id,
                }
                for row in rows
            ]
        )


class SessionHandler(Own):
    async def delete(self, session_id: str) -> None:
        if not await self.services.sessions.revoke(self.account_id, session_id):
            raise Missing("you have no such session")
        self.note("delete", "session", session_id[:8])
