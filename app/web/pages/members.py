"""The pages with a project's members."""

from __future__ import annotations

from app.access import roles
from app.access.errors import Invalid
from app.access.roles import Role
from app.database import members

from . import words
from .base import PageHandler, whole


class MembersPage(PageHandler):
    """People and groups with a role in the project."""

    needs = roles.LIST_MEMBERS
    section = "projects"

    async def get(self, project: str) -> None:
        listing = await self.listing(
            lambda page: self.services.database.read(members.page, self.opened.id, page.with_keys(whole)),
            lambda member: str(member.id),
            self.query("q"),
        )
        self.show(
            "members.html",
            tab="members",
            listing=listing,
            search=self.query("q"),
            role_names=words.ROLES,
            roles_about=words.ROLES_ABOUT,
        )


class AddMemberPage(PageHandler):
    needs = roles.CREATE_MEMBER
    section = "projects"

    async def post(self, project: str) -> None:
        name = self.field("name")

        async def add() -> None:
            members, role = self.services.members, role_of(self)
            if self.field("kind") == "group":
                member = await members.add_group(self.opened.id, name, role)
            else:
                member = await members.add_person(self.opened.id, name, role)
            self.note("create", "member", member.name)

        await self.settle(add(), self._("%(name)s is a member now.") % {"name": name}, f"/projects/{project}/members")


class SetRolePage(PageHandler):
    needs = roles.UPDATE_MEMBER
    section = "projects"

    async def post(self, project: str) -> None:
        async def change() -> None:
            member = await self.services.members.set_role(
                self.opened.id, self.chosen("member"), role_of(self), by=self.principal
            )
            self.note("update", "member", member.name)

        await self.settle(change(), self._("The role is changed."), f"/projects/{project}/members")


class RemoveMemberPage(PageHandler):
    needs = roles.DELETE_MEMBER
    section = "projects"

    async def post(self, project: str) -> None:
        async def remove() -> None:
            member = await self.services.members.remove(self.opened.id, self.chosen("member"), by=self.principal)
            self.note("delete", "member", member.name)

        await self.settle(remove(), self._("The member is removed."), f"/projects/{project}/members")


class LeavePage(PageHandler):
    """Removes the visitor's own membership of a project."""

    needs = roles.READ_PROJECT
    section = "projects"

    async def post(self, project: str) -> None:
        async def leave() -> None:
            own = await self.or_missing(self.services.members.own(self.opened.id, self.principal))
            await self.services.members.remove(self.opened.id, own.id, by=self.principal)
            self.note("delete", "member", own.name)

        await self.settle(leave(), self._("You have left the project."), "/projects")


def role_of(page: PageHandler) -> Role:
    """Read a form's role. Raise Invalid if there is no such role."""
    try:
        return Role(page.field("role"))
    except ValueError:
        raise Invalid("Choose one from the list.") from None
