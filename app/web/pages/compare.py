"""The page that compares two images of a repository, by tags or digests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.access import roles
from app.access.errors import Missing
from app.database.repositories import Repository
from app.oci.errors import DigestInvalid, ManifestInvalid, OCIError
from app.oci.manifest import Descriptor
from app.oci.reference import parse_reference
from app.registry.artifacts import ArtifactDetail
from app.registry.comparison import Change, compare

from .base import PageHandler
from .shapes import fitting, size

# In bytes of HTML of each list, and in layers of each of the three lists.
_ROOM = 6000
_MOST_LISTED = 60
_LONGEST = 300
_USUAL = "linux/amd64"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: how it was named, the artifact, and its image for the chosen platform, None if that lacks."""

    named: str
    detail: ArtifactDetail
    image: ArtifactDetail | None


class ComparePage(PageHandler):
    """Two tags or digests of a repository side by side. Of an index, the image of one platform is compared."""

    needs = roles.READ_ARTIFACT
    section = "projects"

    async def get(self, project: str, name: str) -> None:
        repository = await self.services.repositories.find(self.opened.id, name)
        names = [self.query(which)[:_LONGEST] for which in ("from", "to")]
        mistake, sides, platforms = "", [], []
        if all(names):
            try:
                details = [await self._find(repository, named) for named in names]
                platforms = _common(details)
                sides = [await self._side(repository, *each, platforms) for each in zip(names, details, strict=True)]
            except OCIError as error:
                mistake = self.mistake(error)
        images = [side.image for side in sides if side.image is not None]
        found = compare(*images) if len(images) == 2 else None
        self.show(
            "compare.html",
            tab="repositories",
            repository=repository,
            base=f"/projects/{project}",
            names=names,
            mistake=mistake,
            sides=sides,
            platforms=platforms,
            platform=self._platform(platforms),
            found=found,
            layers=_layers,
            most=_MOST_LISTED,
            changes=_shown,
            steps=_steps,
        )

    async def _find(self, repository: Repository, named: str) -> ArtifactDetail:
        try:
            return await self.services.artifacts.detail(repository.id, parse_reference(named))
        except (Missing, DigestInvalid, ManifestInvalid):
            raise Missing("There is no tag %(tag)s here.", tag=named[:140]) from None

    async def _side(self, repository: Repository, named: str, detail: ArtifactDetail, platforms: Sequence[str]) -> Side:
        if not detail.children:
            return Side(named, detail, detail)
        wanted = self._platform(platforms)
        chosen = next((child for child in detail.children if child.present and str(child.platform) == wanted), None)
        if chosen is None:
            return Side(named, detail, None)
        return Side(named, detail, await self.services.artifacts.detail(repository.id, chosen.digest))

    def _platform(self, platforms: Sequence[str]) -> str:
        wanted = self.query("platform")
        if wanted in platforms:
            return wanted
        return _USUAL if _USUAL in platforms else next(iter(platforms), "")


def _common(details: Sequence[ArtifactDetail]) -> list[str]:
    """List the platforms for which the two have images that are here, in the order of the second one."""
    each = [
        [str(child.platform) for child in detail.children if child.present and child.platform is not None]
        if detail.children
        else [str(platform) for platform in detail.artifact.platforms]
        for detail in details
    ]
    return [platform for platform in dict.fromkeys(each[1]) if platform in each[0]]


def _layers(layers: Sequence[Descriptor]) -> str:
    """Return the size of layers together, in words."""
    return size(sum(layer.size or 0 for layer in layers))


def _shown(changes: Iterable[Change]) -> list[tuple[str, ...]]:
    """Return the first changes that a page has room for: the name and both values, and a mark for one that lacks."""
    return fitting(
        (
            (change.name, change.before or "", change.after or "", _MARKS[change.before is None, change.after is None])
            for change in changes
        ),
        _ROOM,
    )


# By whether the first image lacks a value, and the second one.
_MARKS = {(True, False): "added", (False, True): "removed", (False, False): "changed"}


def _steps(steps: Iterable[str]) -> list[str]:
    return [step for (step,) in fitting(((step,) for step in steps), _ROOM, 1000)]
