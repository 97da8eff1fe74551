"""The page with a project's log. The log of all projects is a page of `administration`."""

from __future__ import annotations

from app.access import roles
from app.database import audit
from app.database.keyset import Page

from . import words
from .base import PAGE_SIZE, Listing, PageHandler


class LogsPage(PageHandler):
    """The audit log of the project."""

    needs = roles.READ_LOG
    section = "projects"

    async def get(self, project: str) -> None:
        search = self.query("q")
        # The newest entries come first, so the next page holds the entries before this one.
        page = Page(PAGE_SIZE + 1, self.number("before"))
        found = await self.services.database.read(
            audit.page, page, audit.Filter(project_id=self.opened.id, text=search)
        )
        self.show(
            "logs.html",
            tab="logs",
            listing=Listing.cut(found, lambda entry: entry.id),
            search=search,
            actor_names=words.ACTORS,
            operation_names=words.OPERATIONS,
            resource_names=words.RESOURCES,
        )
