"""List, add and remove the tags of an artifact, and read what a tag named before."""

from __future__ import annotations

from typing import Any

from app.access.errors import Forbidden
from app.database import artifacts
from app.database.tag_history import Entry
from app.oci.digest import Digest
from app.oci.reference import Tag

from .artifacts import InArtifacts, tag
from .repositories import InRepository
from .shapes import moment, some


class TagsHandler(InArtifacts):
    async def get(self, repository_name: str, reference: str) -> None:
        entry = await self.repository(repository_name)
        digest = await self.resolve(entry.id, reference)
        exact = self.exactly("name")
        if exact is not None:
            found = await self.services.database.read(artifacts.tag_of, entry.id, digest, exact)
            self.answer_whole([] if found is None else [tag(found, entry.id, await self.holding(entry.name))])
            return
        page = self.page(self.text("name"))
        rows = await self.services.database.read(artifacts.tags, entry.id, page, digest)
        total = await self.services.database.read(artifacts.total_tags, entry.id, page.search, digest)
        holds = await self.holding(entry.name)
        self.answer_page([tag(row, entry.id, holds) for row in rows], total)

    async def post(self, repository_name: str, reference: str) -> None:
        if self.view.upstream is not None:
            raise Forbidden(
                "%(project)s is a pull-through cache: its tags come from %(upstream)s and cannot be changed here",
                project=self.view.name,
                upstream=self.view.upstream,
            )
        entry = await self.repository(repository_name)
        name = Tag.parse(self.body["name"])
        digest = await self.resolve(entry.id, reference)
        await self.services.artifacts.add_tag(entry.id, digest, name, self.principal.subject)
        self.note("create", "tag", f"{entry.full_name}:{name}")
        self.set_header("Location", f"{self.request.path}/{name}")
        self.set_status(201)


class TagHandler(InArtifacts):
    async def delete(self, repository_name: str, reference: str, tag_name: str) -> None:
        entry = await self.repository(repository_name)
        name = Tag.parse(tag_name)
        digest = await self.resolve(entry.id, reference)
        await self.services.artifacts.remove_tag(entry.id, digest, name, self.principal.subject)
        self.note("delete", "tag", f"{entry.full_name}:{name}")


class TagHistoryHandler(InRepository):
    async def get(self, repository_name: str, tag_name: str) -> None:
        entry = await self.repository(repository_name)
        found = await self.services.tags.history(entry.id, Tag.parse(tag_name))
        now = [] if found.current is None else [_named(found.current, until=None, present=True)]
        past = (_named(one, until=one.until, present=one.digest in found.present) for one in found.past)
        self.answer([*now, *past])

    async def post(self, repository_name: str, tag_name: str) -> None:
        entry, name = await self.repository(repository_name), Tag.parse(tag_name)
        await self.services.tags.point_back(entry.id, name, Digest.parse(self.body["digest"]), self.principal.subject)
        self.note("update", "tag", f"{entry.full_name}:{name}")


def _named(entry: Entry, *, until: float | None, present: bool) -> dict[str, Any]:
    return some(
        digest=str(entry.digest), since=moment(entry.since), until=moment(until), by=entry.by or None, present=present
    )
