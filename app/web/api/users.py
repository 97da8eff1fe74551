"""Find people, and let administrators manage accounts."""

from __future__ import annotations

from typing import Any

from app.access.errors import Forbidden, Missing, PreconditionFailed
from app.access.principal import PrincipalKind
from app.database import accounts
from app.database.accounts import Person
from app.oci.errors import Unauthorized

from .handler import ApiHandler
from .shapes import moment, some

# Harbor's names of what is known about a person, and ours.
_ABOUT = {"realname": "full_name", "email": "email"}


def user(person: Person) -> dict[str, Any]:
    """Return a person in Harbor's form."""
    return some(
        user_id=person.id,
        username=person.username,
        realname=person.full_name,
        email=person.email,
        sysadmin_flag=person.is_admin,
        admin_role_in_auth=False,
        creation_time=moment(person.created_at),
        source=person.source,
        disabled=person.disabled,
        last_login_time=moment(person.last_login_at),
    )


class UsersHandler(ApiHandler):
    async def get(self) -> None:
        exact = self.exactly("username")
        if exact is not None:
            found = await self.services.database.read(accounts.person_by_name, exact)
            self.answer_whole([] if found is None else [user(found)])
            return
        page = self.page(self.text("username") or self.text("email"))
        rows = await self.services.database.read(accounts.page, page)
        self.answer_page([user(row) for row in rows], await self.services.database.read(accounts.total, page.search))

    async def post(self) -> None:
        self.services.people.check_name(self.body["username"])
        made = await self.services.accounts.create(
            self.body["username"],
            self.body["password"],
            full_name=self.body.get("realname", ""),
            email=self.body.get("email", ""),
        )
        self.note("create", "account", made.username)
        self.created(f"/users/{made.id}")


class UserSearchHandler(ApiHandler):
    async def get(self) -> None:
        page = self.page(self.query["username"])
        rows = await self.services.database.read(accounts.page, page)
        found = [{"user_id": row.id, "username": row.username} for row in rows]
        self.answer_page(found, await self.services.database.read(accounts.total, page.search))


class OnPerson(ApiHandler):
    """The base of handlers of one person."""

    async def person(self, user_id: int) -> Person:
        """Return the person of the path; raises Missing."""
        found = await self.services.database.read(accounts.person, user_id)
        if found is None:
            raise Missing("there is nobody with the number %(number)s", number=user_id)
        return found


class UserHandler(OnPerson):
    async def get(self, user_id: int) -> None:
        is_self = self.principal.kind is PrincipalKind.PERSON and self.principal.id == user_id
        if not is_self and not self.principal.administers:
            raise Forbidden("only administrators may see the accounts of others")
        self.answer(user(await self.person(user_id)))

    async def put(self, user_id: int) -> None:
        if self.principal.id != user_id and not self.principal.administers:
            raise Forbidden("only administrators may change the accounts of others")
        about = {ours: self.body[field] for field, ours in _ABOUT.items() if field in self.body}
        person = await self.services.accounts.describe(user_id, **about)
        self.note("update", "account", person.username)

    async def delete(self, user_id: int) -> None:
        person = await self.services.people.remove(self.principal, user_id)
        self.note("delete", "account", person.username)


class SysadminHandler(OnPerson):
    async def put(self, user_id: int) -> None:
        person = await self.services.people.set_admin(self.principal, user_id, is_admin=self.body["sysadmin_flag"])
        self.note("promote" if self.body["sysadmin_flag"] else "demote", "account", person.username)


class DisabledHandler(OnPerson):
    async def put(self, user_id: int) -> None:
        person = await self.services.people.set_disabled(self.principal, user_id, disabled=self.body["disabled"])
        self.note("disable" if self.body["disabled"] else "enable", "account", person.username)


class PasswordHandler(OnPerson):
    async def put(self, user_id: int) -> None:
        is_self = self.principal.id == user_id
        if not is_self and not self.principal.administers:
            raise Forbidden("only administrators may change the passwords of others")
        person = await self.person(user_id)
        if is_self:
            old = self.body.get("old_password") or ""
            try:
                await self.services.accounts.authenticate(person.username, old, self.request.remote_ip or "")
            except Unauthorized:
                raise Forbidden("old_password is not your password") from None
        if not await self.services.accounts.set_password(person.username, self.body["new_password"]):
            raise PreconditionFailed(
                "the university keeps the password of %(username)s; change it there", username=person.username
            )
        await self.services.sessions.forget(user_id)
        self.note("password", "account", person.username)
