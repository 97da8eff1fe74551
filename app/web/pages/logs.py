"""The log of a project; the whole one is among the pages of `administration`."""

from __future__ import annotations

from app.access import roles
from app.database import audit
from app.database.keyset import Page

from . import words
from .base import PAGE_SIZE, Listing, PageHandler


class LogsPage(PageHandler):
    """Who did what in the project."""

    needs = roles.READ_LOG
    section = "projects"

    async def get(self, project: str) -> None:
        search = self.query("q")
        # The newest stand first: what comes after an entry is what was noted before it.
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
