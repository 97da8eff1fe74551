"""The administrators' list of projects that nobody manages any more, and their handing over."""

from __future__ import annotations

from app.access.absence import HANDING_OVER_SECONDS
from app.database import attendance

from .base import PageHandler, whole


class UnattendedPage(PageHandler):
    """A form sent here hands a project over to a person."""

    needs = "admin"
    section = "administration"

    async def get(self) -> None:
        search = self.query("q")
        listing = await self.listing(
            lambda page: self.services.database.read(attendance.page, page.with_keys(whole)),
            lambda one: str(one.id),
            search,
        )
        self.show(
            "unattended.html",
            tab="projects",
            listing=listing,
            search=search,
            days=self.services.access.absent_days,
            term=HANDING_OVER_SECONDS,
        )

    async def post(self) -> None:
        name = self.field("name")

        async def give() -> None:
            project = await self.services.projects.get(self.chosen("project"))
            member = await self.services.members.hand_over(project.id, name)
            self.note("update", "member", member.name, (project.id, project.name))

        done = self._("%(name)s manages the project now.") % {"name": name}
        await self.settle(give(), done, "/administration/unattended")
