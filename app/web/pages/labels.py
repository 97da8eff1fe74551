"""The labels of a project."""

from __future__ import annotations

from app.access import roles
from app.access.errors import Invalid
from app.database import labels

from .base import PageHandler


class LabelsPage(PageHandler):
    """A project's labels. A form sent here creates one."""

    needs = roles.CREATE_LABEL
    section = "projects"

    async def get(self, project: str) -> None:
        listing = await self.listing(
            lambda page: self.services.database.read(labels.page, self.opened.id, page), lambda label: label.name
        )
        self.show("labels.html", tab="labels", listing=listing)

    async def post(self, project: str) -> None:
        async def create() -> None:
            label = await self.services.labels.create(
                self.opened.id,
                name=self.field("name"),
                description=self.field("description"),
                color=self.field("color") or "#6c757d",
            )
            self.note("create", "label", label.name)

        await self.settle(create(), self._("The label is created."), f"/projects/{project}/labels")


class DeleteLabelPage(PageHandler):
    needs = roles.DELETE_LABEL
    section = "projects"

    async def post(self, project: str) -> None:
        async def remove() -> None:
            label = await self.services.labels.find(self.chosen("label"))
            if label.project_id != self.opened.id:
                raise Invalid("Choose one from the list.")
            await self.services.labels.remove(label.id)
            self.note("delete", "label", label.name)

        await self.settle(remove(), self._("The label is deleted."), f"/projects/{project}/labels")
