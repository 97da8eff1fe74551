"""The actions of forms on the pins of a mirror's tags."""

from __future__ import annotations

from app.access import roles
from app.access.errors import Missing
from app.oci.reference import Tag
from app.oci.selectors import Selector
from app.registry.content import Client

from .repositories import OnRepository
from .times import read_moment


class PinTagPage(OnRepository):
    needs = roles.CREATE_IMMUTABILITY

    async def post(self, project: str, name: str) -> None:
        async def pin() -> None:
            tag, until = Tag.parse(self.field("tag")), read_moment(self.field("until"), self.field("zone"))
            made = await self.services.immutability.create(
                self.opened.id,
                tags=Selector(tag),
                repositories=Selector(name),
                ends_at=until,
                by=self.principal.subject,
            )
            self.note("create", "immutability rule", f"{project}: {made.name}")

        await self.settle(pin(), self._("The tag is pinned."), self.at(project, name))


class UnpinTagPage(OnRepository):
    needs = roles.DELETE_IMMUTABILITY

    async def post(self, project: str, name: str) -> None:
        async def unpin() -> None:
            removed = await self.services.immutability.remove(self.opened.id, self.chosen("rule"))
            self.note("delete", "immutability rule", f"{project}: {removed.name}")

        await self.settle(unpin(), self._("The tag follows the upstream again."), self.at(project, name))


class UseNewerPage(OnRepository):
    needs = roles.UPDATE_IMMUTABILITY

    async def post(self, project: str, name: str) -> None:
        async def follow() -> None:
            if self.opened.upstream is None:
                raise Missing
            tag, client = Tag.parse(self.field("tag")), Client(self.principal.subject, may_fill=True)
            await self.services.pins.use_newer(self.opened.upstream, self.opened.name, name, tag, client)
            self.note("update", "tag", self.full(name, f":{tag}"))

        await self.settle(follow(), self._("The tag names the newer artifact now."), self.at(project, name))
