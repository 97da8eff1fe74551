"""Who works in a project: its members; and the labels and the log of one."""

from __future__ import annotations

from app.access import roles
from app.access.errors import Invalid
from app.access.roles import Role
from app.database import audit, labels, members
from app.database.audit import Filter
from app.database.keyset import Page

from . import words
from .base import PAGE_SIZE, Listing, PageHandler
from .repositories import number_of


class MembersPage(PageHandler):
    """People and groups with a role in the project."""

    needs = roles.LIST_MEMBERS
    section = "projects"

    async def get(self, project: str) -> None:
        page = Page(PAGE_SIZE + 1, self.number("after"), search=self.query("q"))
        found = await self.services.database.read(members.page, self.opened.id, page)
        self.show(
            "members.html",
            tab="members",
            listing=Listing.cut(found, lambda member: member.id),
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
                self.opened.id, number_of(self, "member"), role_of(self), force=self.principal.administers
            )
            self.note("update", "member", member.name)

        await self.settle(change(), self._("The role is changed."), f"/projects/{project}/members")


class RemoveMemberPage(PageHandler):
    needs = roles.DELETE_MEMBER
    section = "projects"

    async def post(self, project: str) -> None:
        async def remove() -> None:
            member = await self.services.members.remove(
                self.opened.id, number_of(self, "member"), force=self.principal.administers
            )
            self.note("delete", "member", member.name)

        await self.settle(remove(), self._("The member is removed."), f"/projects/{project}/members")


class LeavePage(PageHandler):
    """Somebody takes themselves out of a project."""

    needs = roles.READ_PROJECT
    section = "projects"

    async def post(self, project: str) -> None:
        async def leave() -> None:
            own = await self.or_missing(self.services.members.own(self.opened.id, self.principal))
            await self.services.members.remove(self.opened.id, own.id, force=self.principal.administers)
            self.note("delete", "member", own.name)

        await self.settle(leave(), self._("You have left the project."), "/projects")


class LabelsPage(PageHandler):
    """A project's labels; a form sent here makes one."""

    needs = roles.CREATE_LABEL
    section = "projects"

    async def get(self, project: str) -> None:
        page = Page(PAGE_SIZE + 1, self.query("after") or None)
        found = await self.services.database.read(labels.page, self.opened.id, page)
        self.show("labels.html", tab="labels", listing=Listing.cut(found, lambda label: label.name))

    async def post(self, project: str) -> None:
        async def create() -> None:
            label = await self.services.labels.create(
                self.opened.id,
                name=self.field("name"),
                description=self.field("description"),
                color=self.field("color") or "#6c757d",
            )
            self.note("create", "label", label.name)

        await self.settle(create(), self._("The label is made."), f"/projects/{project}/labels")


class DeleteLabelPage(PageHandler):
    needs = roles.DELETE_LABEL
    section = "projects"

    async def post(self, project: str) -> None:
        async def remove() -> None:
            label = await self.services.labels.find(number_of(self, "label"))
            if label.project_id != self.opened.id:
                raise Invalid("Choose one from the list.")
            await self.services.labels.remove(label.id)
            self.note("delete", "label", label.name)

        await self.settle(remove(), self._("The label is deleted."), f"/projects/{project}/labels")


class LogsPage(PageHandler):
    """Who did what in the project."""

    needs = roles.READ_LOG
    section = "projects"

    async def get(self, project: str) -> None:
        search = self.query("q")
        # The newest stand first: what comes after an entry is what was noted before it.
        page = Page(PAGE_SIZE + 1, self.number("before"))
        found = await self.services.database.read(audit.page, page, Filter(project_id=self.opened.id, text=search))
        self.show(
            "logs.html",
            tab="logs",
            listing=Listing.cut(found, lambda entry: entry.id),
            search=search,
            actor_names=words.ACTORS,
            operation_names=words.OPERATIONS,
            resource_names=words.RESOURCES,
        )


def role_of(page: PageHandler) -> Role:
    """Read a form's role; raises Invalid."""
    try:
        return Role(page.field("role"))
    except ValueError:
        raise Invalid("Choose one from the list.") from None
