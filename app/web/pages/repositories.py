"""The pages of repositories and their artifacts, with tags, layers, history and attachments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from app.access import roles
from app.access.errors import Missing
from app.database import artifacts, labels, repositories
from app.database.keyset import Page
from app.database.labels import Label
from app.database.repositories import Repository
from app.oci.digest import Digest
from app.oci.errors import OCIError
from app.oci.manifest import Descriptor
from app.oci.reference import Tag
from app.registry.artifacts import Artifact

from .base import PageHandler
from .shapes import in_path

_COLOURS = 8
# Units of the drawn bar. Each layer gets at least a sliver, so that all of them can be seen.
_BAR = 1000.0
_SLIVER = 6.0
_MOST_DRAWN = 120
_MOST_LABELS = 100


class RepositoriesPage(PageHandler):
    """A project's repositories, and the commands to push one."""

    needs = roles.LIST_REPOSITORIES
    section = "projects"

    async def get(self, project: str) -> None:
        search = self.query("q")
        self.show(
            "repositories.html",
            tab="repositories",
            listing=await self.listing(
                lambda page: self.services.database.read(repositories.page, self.opened.id, page),
                lambda entry: entry.name,
                search,
            ),
            search=search,
            commands=push_commands(self.services.host, self.opened.name),
        )


class RepositoryPage(PageHandler):
    """A repository's artifacts, the last pushed first."""

    needs = roles.LIST_REPOSITORIES
    section = "projects"

    async def get(self, project: str, name: str) -> None:
        repository = await self.services.repositories.entry(self.opened.id, name)
        tag = self.query("q")
        ask = partial(self.services.artifacts.page, repository.id)
        self.show(
            "repository.html",
            tab="repositories",
            repository=repository,
            listing=await self.listing(ask, lambda artifact: artifact.key, tag),
            search=tag,
            at=f"{self.services.host}/{self.opened.name}/{name}",
            base=f"/projects/{project}",
        )


class ArtifactPage(PageHandler):
    """All details of one artifact."""

    needs = roles.READ_ARTIFACT
    section = "projects"

    async def get(self, project: str, name: str, digest: str) -> None:
        repository = await self.services.repositories.find(self.opened.id, name)
        detail = await self.services.artifacts.detail(repository.id, Digest.parse(digest))
        search = self.query("q")
        at = f"{self.services.host}/{self.opened.name}/{name}"
        newest = detail.artifact.tags[0].name if detail.artifact.tags else None
        self.show(
            "artifact.html",
            tab="repositories",
            repository=repository,
            detail=detail,
            artifact=detail.artifact,
            listing=await self.listing(
                lambda page: self.services.database.read(artifacts.tags, repository.id, page, detail.artifact.digest),
                lambda entry: entry.name,
                search,
            ),
            search=search,
            labels=await self._other_labels(detail.artifact) if self.may(roles.ATTACH_LABEL) else (),
            bar=draw(detail.layers),
            pulls=pull_commands(at, f":{newest}" if newest else f"@{digest}", detail.artifact.kind),
            path=f"{in_path(name)}@{digest}",
            base=f"/projects/{project}",
            payload=detail.payload.decode(errors="replace")[:100_000],
        )

    async def _other_labels(self, artifact: Artifact) -> list[Label]:
        """List the labels that can be added to an artifact: those of the project and the system that it lacks."""
        on_it = {label.id for label in artifact.labels}
        of_project = await self.services.database.read(labels.page, self.opened.id, Page(_MOST_LABELS))
        of_system = await self.services.database.read(labels.page, None, Page(_MOST_LABELS))
        return [label for label in (*of_project, *of_system) if label.id not in on_it]


class OnRepository(PageHandler):
    """The action of a form on a repository."""

    section = "projects"

    async def repository(self, name: str) -> Repository:
        return await self.services.repositories.find(self.opened.id, name)

    def at(self, project: str, name: str, digest: str = "") -> str:
        """Return the address of a repository's page, or of the page of an artifact in it."""
        return f"/projects/{project}/repositories/{in_path(name)}" + (f"@{digest}" if digest else "")

    def full(self, name: str, rest: str = "") -> str:
        """Return a repository's full name for the audit log, with ``rest`` after it."""
        return f"{self.opened.name}/{name}{rest}"


class DescribeRepositoryPage(OnRepository):
    needs = roles.UPDATE_REPOSITORY

    async def post(self, project: str, name: str) -> None:
        async def describe() -> None:
            repository = await self.repository(name)
            await self.services.repositories.describe(repository.id, self.field("description"))
            self.note("update", "repository", self.full(name))

        await self.settle(describe(), self._("The description is saved."), self.at(project, name))


class DeleteRepositoryPage(OnRepository):
    needs = roles.DELETE_REPOSITORY

    async def post(self, project: str, name: str) -> None:
        repository = await self.repository(name)
        if self.field("name") != repository.name:
            self.flash("danger", self._("The name that you typed is not the repository's name. Nothing was deleted."))
            self.redirect(self.at(project, name), status=303)
            return
        await self.services.repositories.remove(repository.id)
        self.note("delete", "repository", self.full(name))
        self.flash("success", self._("The repository %(name)s is deleted.") % {"name": name})
        self.redirect(f"/projects/{project}/repositories", status=303)


class DeleteArtifactPage(OnRepository):
    needs = roles.DELETE_ARTIFACT

    async def post(self, project: str, name: str, digest: str) -> None:
        async def remove() -> None:
            repository = await self.repository(name)
            await self.services.artifacts.remove(repository.id, Digest.parse(digest))
            self.note("delete", "artifact", self.full(name, f"@{digest}"))

        await self.settle(remove(), self._("The artifact is deleted with its tags."), self.at(project, name))


class AddTagPage(OnRepository):
    needs = roles.CREATE_TAG

    async def post(self, project: str, name: str, digest: str) -> None:
        tag = self.field("tag")

        async def add() -> None:
            repository = await self.repository(name)
            await self.services.artifacts.add_tag(repository.id, Digest.parse(digest), Tag.parse(tag))
            self.note("create", "tag", self.full(name, f":{tag}"))

        await self.settle(add(), self._("The tag %(tag)s is added.") % {"tag": tag}, self.at(project, name, digest))


class RemoveTagPage(OnRepository):
    needs = roles.DELETE_TAG

    async def post(self, project: str, name: str, digest: str) -> None:
        tag = self.field("tag")

        async def remove() -> None:
            repository = await self.repository(name)
            await self.services.artifacts.remove_tag(repository.id, Digest.parse(digest), Tag.parse(tag))
            self.note("delete", "tag", self.full(name, f":{tag}"))

        done = self._("The tag %(tag)s is removed.") % {"tag": tag}
        await self.settle(remove(), done, self.at(project, name, digest))


class AttachLabelPage(OnRepository):
    needs = roles.ATTACH_LABEL

    async def post(self, project: str, name: str, digest: str) -> None:
        async def attach() -> None:
            repository, label = await self.repository(name), self.chosen("label")
            await self.services.labels.attach(self.opened.id, repository.id, Digest.parse(digest), label)
            self.note("attach", "artifact", self.full(name, f"@{digest}"))

        await self.settle(attach(), self._("The label is added."), self.at(project, name, digest))


class DetachLabelPage(OnRepository):
    needs = roles.DETACH_LABEL

    async def post(self, project: str, name: str, digest: str) -> None:
        async def detach() -> None:
            repository, label = await self.repository(name), self.chosen("label")
            await self.services.labels.detach(repository.id, Digest.parse(digest), label)
            self.note("detach", "artifact", self.full(name, f"@{digest}"))

        await self.settle(detach(), self._("The label is removed."), self.at(project, name, digest))


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


@dataclass(frozen=True, slots=True)
class Block:
    """One layer of the drawn bar: its start and width (of 1000), and the number of its colour."""

    x: float
    width: float
    colour: int
    layer: Descriptor


def draw(layers: Sequence[Descriptor]) -> list[Block]:
    """Place layers side by side by their sizes, the first on the left, each wide enough to be seen."""
    drawn = layers[:_MOST_DRAWN]
    total = sum(layer.size or 0 for layer in drawn) or 1
    widths = [max(_SLIVER, (layer.size or 0) / total * _BAR) for layer in drawn]
    scale = _BAR / (sum(widths) or 1)
    blocks, x = [], 0.0
    for number, (layer, width) in enumerate(zip(drawn, widths, strict=True)):
        blocks.append(Block(round(x, 2), round(width * scale, 2), number % _COLOURS, layer))
        x += width * scale
    return blocks


def push_commands(host: str, project: str) -> list[tuple[str, list[str]]]:
    """List the commands that push into a project, by program."""
    image = f"{host}/{project}/REPOSITORY:TAG"
    return [
        ("Docker", [f"docker login {host}", f"docker tag SOURCE_IMAGE:TAG {image}", f"docker push {image}"]),
        ("podman", [f"podman login {host}", f"podman push IMAGE_ID {image}"]),
        ("Helm", ["helm package CHART_FOLDER", f"helm push CHART-VERSION.tgz oci://{host}/{project}"]),
        ("ORAS", [f"oras login {host}", f"oras push {image} FILE:text/plain"]),
    ]


def pull_commands(at: str, reference: str, kind: str) -> list[tuple[str, str]]:
    """List the commands that pull an artifact of this kind, by program."""
    if kind == "chart":
        version = f" --version {reference[1:]}" if reference[0] == ":" else reference
        return [("Helm", f"helm pull oci://{at}{version}"), ("ORAS", f"oras pull {at}{reference}")]
    if kind not in ("image", "index"):
        return [("ORAS", f"oras pull {at}{reference}")]
    return [
        ("Docker", f"docker pull {at}{reference}"),
        ("podman", f"podman pull {at}{reference}"),
        ("Apptainer", f"apptainer pull docker://{at}{reference}"),
    ]
