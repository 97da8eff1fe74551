"""Manage the members of a project: people and groups."""

from __future__ import annotations

from typing import Any

from app.access.errors import Invalid, Missing
from app.access.roles import Role
from app.database import accounts, members
from app.database.members import Member
from app.database.text import folded

from .handler import ApiHandler
from .shapes import ROLE_IDS, ROLE_NAMES, ROLES, some


def member(row: Member) -> dict[str, Any]:
    """Return a member in Harbor's form."""
    role = Role(row.role)
    return some(
        id=row.id,
        project_id=row.project_id,
        entity_id=row.account_id,
        entity_name=row.name,
        entity_type="g" if row.is_group else "u",
        role_id=ROLE_IDS[role],
        role_name=ROLE_NAMES[role],
    )


class MembersHandler(ApiHandler):
    async def get(self) -> None:
        page = self.page(self.query["entityname"] or "")
        rows = await self.services.database.read(members.page, self.view.id, page)
        total = await self.services.database.read(members.total, self.view.id, page.search)
        self.answer_page([member(row) for row in rows], total)

    async def post(self) -> None:
        # Harbor's clients send an empty object for the one without a value.
        person, group = (_set(self.body.get(name)) for name in ("member_user", "member_group"))
        if bool(person) == bool(group):
            raise Invalid("name either a person (member_user) or a group (member_group)")
        role = ROLES[self.body["role_id"]]
        if person:
            made = await self.services.members.add_person(self.view.id, await self._username(person), role)
        else:
            made = await self.services.members.add_group(self.view.id, _group(group), role)
        self.note("create", "member", made.name)
        self.created(f"/projects/{self.view.id}/members/{made.id}")

    async def _username(self, given: dict[str, Any]) -> str:
        if "user_id" not in given:
            return str(given["username"])
        found = await self.services.database.read(accounts.person, given["user_id"])
        if found is None:
            raise Missing(
                "there is nobody with the number %(number)s; a person gets an account at the first log-in",
                number=given["user_id"],
            )
        if folded(given.get("username", found.username)) != folded(found.username):
            raise Invalid("user_id and username belong to different people; send one of them only")
        return found.username


class MemberHandler(ApiHandler):
    async def get(self, mid: int) -> None:
        self.answer(member(await self.services.members.find(self.view.id, mid)))

    async def put(self, mid: int) -> None:
        role = ROLES[self.body["role_id"]]
        changed = await self.services.members.set_role(self.view.id, mid, role, by=self.principal)
        self.note("update", "member", changed.name)

    async def delete(self, mid: int) -> None:
        removed = await self.services.members.remove(self.view.id, mid, by=self.principal)
        self.note("delete", "member", removed.name)


def _set(given: dict[str, Any] | None) -> dict[str, Any]:
    """Return the fields of an object that have a value."""
    return {name: value for name, value in (given or {}).items() if value}


def _group(given: dict[str, Any]) -> str:
    names = {given[field] for field in ("group_name", "ldap_group_dn") if field in given}
    if len(names) != 1:
        raise Invalid("send the university's name of the group as group_name")
    return str(names.pop())
