"""The pages of repositories and their artifacts, with tags, layers, history and attachments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from urllib.parse import urlencode

from app.access import roles
from app.access.principal import address_block
from app.database import artifacts, labels, pulls, repositories
from app.database.keyset import MOST_COUNTED, Count, Page
from app.database.labels import Label
from app.database.repositories import Repository
from app.oci.digest import Digest
from app.oci.errors import OCIError
from app.oci.manifest import Descriptor
from app.registry.artifacts import Artifact, ArtifactDetail, TagRow
from app.registry.attachments import Attachment, Purpose
from app.registry.charts import Chart, ChartFiles
from app.registry.image_details import ImageConfig

from . import plot, words
from .base import PAGE_SIZE, Listing, PageHandler
from .commands import pull_commands, push_commands
from .readme import about, beginning_html, link, readme_html
from .shapes import beginning, fitting, in_path, size

_COLOURS = 8
# Units of the drawn bar. Each layer gets at least a sliver, so that all of them can be seen.
_BAR = 1000.0
_SLIVER = 6.0
_MOST_DRAWN = 120
_MOST_LABELS = 100
# In bytes of HTML. Each list of texts that an image brings gets so much room, and each table about its parts so many
# rows. So no page is large.
_ROOM = 6000
_MOST_LISTED = 40
# The same of a chart's files.
_README_ROOM, _VALUES_ROOM = 36_000, 18_000
_DAY = 86400
_MONTH = 30 * _DAY
# The orders of the list of tags, as the address names them. The newest come first if it names none.
_BY_NAME = ("name", "-name")
_BACKWARDS = ("oldest", "-name")


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
    """A repository: its tags, or its artifacts; what it is, and the commands to pull from it."""

    needs = roles.LIST_REPOSITORIES
    section = "projects"

    async def get(self, project: str, name: str) -> None:
        repository = await self.services.repositories.entry(self.opened.id, name)
        search, at = self.query("q"), f"{self.services.host}/{self.opened.name}/{name}"
        total = await self.services.artifacts.total_tags(repository.id, search)
        newest = next(iter(await self.services.artifacts.tag_page(repository.id, Page(1))), None)
        tagged = self.query("show") != "artifacts" and (newest is not None or search != "")
        said = {} if newest is None else await self.services.artifacts.described(repository.id, newest.artifact.digest)
        listing: Listing[TagRow] | Listing[Artifact] = await (
            self._tags(repository.id, total) if tagged else self._artifacts(repository.id)
        )
        self.show(
            "repository.html",
            tab="repositories",
            repository=repository,
            shows="tags" if tagged else "artifacts",
            listing=listing,
            compared=_compared(listing.items) if tagged else "",
            sort=self.query("sort"),
            by_name=self.query("sort") in _BY_NAME,
            search=search,
            tag_total=total,
            newest=newest,
            pins=await self.services.pins.of_repository(self.opened.id, name) if self.opened.upstream else (),
            pulled=await self._pulled(repository.id),
            about=about(said),
            readme_html=readme_html(repository.description) if repository.description else "",
            pulls=pull_commands(at, f":{newest.tag.name}", newest.artifact.kind) if newest is not None else (),
            at=at,
            base=f"/projects/{project}",
            purposes=words.PURPOSES,
            purposes_about=words.PURPOSES_ABOUT,
            purposes_of=purposes_of,
        )

    async def _pulled(self, repository_id: int) -> Sequence[plot.Bars]:
        """Draw the pulls of the last 30 days, and of the last 24 hours."""
        by_hour = await self.services.database.read(pulls.by_hour, repository_id, self.now - _MONTH)
        days = plot.draw_bars(by_hour, self.now, _DAY, _MONTH // _DAY, "%Y-%m-%d")
        return days, plot.draw_bars(by_hour, self.now, pulls.HOUR, _DAY // pulls.HOUR, "%H:%M UTC")

    async def _tags(self, repository_id: int, total: Count) -> Listing[TagRow]:
        sort = self.query("sort")
        ask = partial(
            self.services.artifacts.tag_page, repository_id, by_name=sort in _BY_NAME, backwards=sort in _BACKWARDS
        )
        listing = await self.listing(ask, lambda row: row.key, self.query("q"), jumps=True)
        return replace(
            listing, pages=f"{math.ceil(min(total.number, MOST_COUNTED) / PAGE_SIZE)}{'' if total.exact else '+'}"
        )

    async def _artifacts(self, repository_id: int) -> Listing[Artifact]:
        ask = partial(self.services.artifacts.page, repository_id)
        return await self.listing(ask, lambda artifact: artifact.key, self.query("q"))


def _compared(rows: Sequence[TagRow | Artifact]) -> str:
    """Return the query that compares the first two tags of a list, the older one first."""
    first = sorted((row.tag for row in rows[:2] if isinstance(row, TagRow)), key=lambda tag: tag.pushed_at)
    return urlencode(dict(zip(("from", "to"), (tag.name for tag in first), strict=False)))


def purposes_of(attachments: Sequence[Attachment]) -> list[Purpose]:
    """List what is attached, each purpose once and in their usual order."""
    found = {purpose for one in attachments for purpose in one.purposes}
    return [purpose for purpose in Purpose if purpose in found]


@dataclass(frozen=True, slots=True)
class ChartView:
    """A chart as its page shows it; ``files`` is None unless somebody asked for them, and they could be read."""

    chart: Chart | None
    dependencies: Sequence[tuple[str, ...]]
    files: ChartFiles | None = None
    values: str = ""
    readme_html: str = ""
    mistake: str = ""


class ArtifactPage(PageHandler):
    """All details of one artifact."""

    needs = roles.READ_ARTIFACT
    section = "projects"

    async def get(self, project: str, name: str, digest: str) -> None:
        repository = await self.services.repositories.find(self.opened.id, name)
        detail = await self.services.artifacts.detail(repository.id, Digest.parse(digest))
        search, config, whole = self.query("q"), detail.config, detail.payload.decode(errors="replace")
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
            chart=await self._chart(repository.id, detail),
            cached=await self.services.artifacts.cached(repository.id, detail) if self.opened.upstream else None,
            fresh_for=self._fresh_for(),
            labels=await self._other_labels(detail.artifact) if self.may(roles.ATTACH_LABEL) else (),
            bar=draw(detail.layers),
            pulls=pull_commands(at, f":{newest}" if newest else f"@{digest}", detail.artifact.kind),
            platforms=[child for child in detail.children if not child.attests],
            history=fitting(history_of(config), _ROOM, 1000) if config else (),
            environment=fitting((one.partition("=")[::2] for one in config.env), _ROOM) if config else (),
            image_labels=fitting(sorted((config.labels or {}).items()), _ROOM) if config else (),
            annotations=fitting(sorted(detail.artifact.annotations.items()), _ROOM),
            most=_MOST_LISTED,
            about=about(detail.said),
            link=link,
            purposes=words.PURPOSES,
            path=f"{in_path(name)}@{digest}",
            base=f"/projects/{project}",
            payload=beginning(whole, 2 * _ROOM),
            whole=whole,
        )

    async def _chart(self, repository_id: int, detail: ArtifactDetail) -> ChartView | None:
        """Read a chart's config, and its archive if somebody asks for its files."""
        if detail.artifact.kind != "chart":
            return None
        chart = await self.services.charts.about(repository_id, detail)
        needs = fitting((astuple(one) for one in chart.dependencies), _ROOM) if chart else []
        view = ChartView(chart, needs)
        if self.query("show") != "files":
            return view
        whose = address_block(self.client_address)
        try:
            files = await self.services.charts.files(repository_id, detail, whose)
            readme = await self.services.computations.run(whose, beginning_html, files.readme, _README_ROOM)
        except OCIError as error:
            return replace(view, mistake=self.mistake(error))
        return replace(view, files=files, values=beginning(files.values, _VALUES_ROOM), readme_html=readme)

    def _fresh_for(self) -> float:
        """Return the seconds in which a pull of a tag does not ask the upstream."""
        upstream = self.services.upstreams.get(self.opened.upstream or "")
        return upstream.fresh_for if upstream is not None else 0.0

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
        await self.services.repositories.remove(repository.id, self.principal.subject)
        self.note("delete", "repository", self.full(name))
        self.flash("success", self._("The repository %(name)s is deleted.") % {"name": name})
        self.redirect(f"/projects/{project}/repositories", status=303)


class DeleteArtifactPage(OnRepository):
    needs = roles.DELETE_ARTIFACT

    async def post(self, project: str, name: str, digest: str) -> None:
        async def remove() -> None:
            repository = await self.repository(name)
            await self.services.artifacts.remove(repository.id, Digest.parse(digest), self.principal.subject)
            self.note("delete", "artifact", self.full(name, f"@{digest}"))

        await self.settle(remove(), self._("The artifact is deleted with its tags."), self.at(project, name))


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


def history_of(config: ImageConfig) -> Iterator[tuple[str, ...]]:
    """List the steps of a build: the command or comment, the layer's size in words, and "empty" if it has no layer."""
    for step in config.history:
        yield step.created_by or step.comment, "" if step.size is None else size(step.size), "empty" * step.empty_layer


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
