"""The actions of forms on the tags of a repository, and the addresses that name a tag."""

from __future__ import annotations

from collections.abc import Iterable

from app.access import roles
from app.access.errors import Invalid, Missing
from app.oci.digest import Digest
from app.oci.errors import OCIError
from app.oci.reference import Tag

from . import words
from .repositories import OnRepository
from .shapes import in_path


class OnTags(OnRepository):
    """The action of a form on tags: on the selected ones of a repository's list, or on those of one artifact."""

    def selected(self) -> list[tuple[Tag, Digest]]:
        """Read the selected tags, each with the digest that it had on the page. Raise Invalid if there are none."""
        named = [one.partition("@") for one in self.get_body_arguments("tag")]
        if not named:
            raise Invalid("Select tags in the list first.")
        return [(Tag.parse(name), Digest.parse(digest)) for name, _, digest in named]

    async def add(self, name: str, tag: Tag, digest: Digest) -> None:
        """Give an artifact a tag, and note that."""
        repository = await self.repository(name)
        await self.services.artifacts.add_tag(repository.id, digest, tag, self.principal.subject)
        self.note("create", "tag", self.full(name, f":{tag}"))

    async def remove(self, name: str, tags: Iterable[tuple[Tag, Digest]]) -> None:
        """Remove tags of artifacts, and note that."""
        repository = await self.repository(name)
        for tag, digest in tags:
            await self.services.artifacts.remove_tag(repository.id, digest, tag, self.principal.subject)
            self.note("delete", "tag", self.full(name, f":{tag}"))


class RemoveTagsPage(OnTags):
    needs = roles.DELETE_TAG

    async def post(self, project: str, name: str) -> None:
        async def remove() -> None:
            await self.remove(name, self.selected())

        count = len(self.get_body_arguments("tag"))
        done = self._("%(count)d tag is removed.", "%(count)d tags are removed.", count) % {"count": count}
        await self.settle(remove(), done, self.at(project, name))


class RetagPage(OnTags):
    needs = roles.CREATE_TAG

    async def post(self, project: str, name: str) -> None:
        new = self.field("new")

        async def add() -> None:
            selected = self.selected()
            if len(selected) > 1:
                raise Invalid("Select one tag to give its artifact another one.")
            await self.add(name, Tag.parse(new), selected[0][1])

        await self.settle(add(), self._("The tag %(tag)s is added.") % {"tag": new}, self.at(project, name))


class AddTagPage(OnTags):
    needs = roles.CREATE_TAG

    async def post(self, project: str, name: str, digest: str) -> None:
        tag = self.field("tag")

        async def add() -> None:
            await self.add(name, Tag.parse(tag), Digest.parse(digest))

        await self.settle(add(), self._("The tag %(tag)s is added.") % {"tag": tag}, self.at(project, name, digest))


class RemoveTagPage(OnTags):
    needs = roles.DELETE_TAG

    async def post(self, project: str, name: str, digest: str) -> None:
        tag = self.field("tag")

        async def remove() -> None:
            await self.remove(name, [(Tag.parse(tag), Digest.parse(digest))])

        done = self._("The tag %(tag)s is removed.") % {"tag": tag}
        await self.settle(remove(), done, self.at(project, name, digest))


class TagRedirect(OnRepository):
    """Redirects an address with a tag to the page of the artifact that has the tag now."""

    needs = roles.READ_ARTIFACT

    async def get(self, project: str, name: str, tag: str) -> None:
        repository = await self.repository(name)
        try:
            digest = await self.services.artifacts.resolve(repository.id, Tag.parse(tag))
        except OCIError as error:
            if error.answer_status >= 500:
                raise
            raise Missing("There is no tag %(tag)s here.", tag=tag[:140]) from None
        self.redirect(self.at(project, name, digest), status=303)


class TagPage(OnRepository):
    """A tag: the artifacts that it names and named before, and what the project's rules do with it."""

    needs = roles.LIST_TAGS

    async def get(self, project: str, name: str, tag: str) -> None:
        repository = await self.repository(name)
        found = await self.services.tags.history(repository.id, Tag.parse(tag))
        self.show(
            "tag.html",
            tab="repositories",
            repository=repository,
            tag=tag,
            found=found,
            fate=await self.services.tags.fate(self.opened.id, repository.id, name, Tag.parse(tag)),
            templates=words.TEMPLATES,
            base=f"/projects/{project}",
        )


class PointTagPage(OnRepository):
    needs = roles.CREATE_TAG

    async def post(self, project: str, name: str, tag: str) -> None:
        async def point() -> None:
            repository, digest = await self.repository(name), Digest.parse(self.field("digest"))
            await self.services.tags.point_back(repository.id, Tag.parse(tag), digest, self.principal.subject)
            self.note("update", "tag", self.full(name, f":{tag}"))

        done = self._("The tag %(tag)s names that artifact again.") % {"tag": tag}
        await self.settle(point(), done, f"/projects/{project}/tags/{in_path(name)}:{tag}")
