"""List, read and delete the artifacts of a repository, with their labels and referrers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from app.access.errors import Invalid, Missing
from app.database import artifacts
from app.database.artifacts import Accessory, ArtifactFilter, TagEntry
from app.database.immutability import Holding
from app.oci.digest import Digest
from app.oci.reference import Reference, Tag, parse_reference
from app.registry.artifacts import Artifact, ArtifactDetail
from app.registry.image_details import Child, Platform
from app.web.access_control import ProjectView

from .labels import label
from .query import Form, Term
from .repositories import InRepository
from .shapes import moment, some

# Referrers can be listed only by key. They are few, so all are read and a page is cut out.
_MOST_REFERRERS = 1000
# The accessories that are shown with an artifact.
_REFERRERS_SHOWN = 10


def artifact(found: Artifact, view: ProjectView, repository_name: str) -> dict[str, Any]:
    """Return an artifact in Harbor's form for lists."""
    spelled = some(
        type=found.kind.upper() if "/" not in found.kind else found.kind,
        manifest_media_type=found.media_type,
        artifact_type=found.artifact_type,
        project_id=view.id,
        repository_id=found.repository_id,
        repository_name=repository_name,
        digest=str(found.digest),
        size=found.size,
        push_time=moment(found.pushed_at),
        pull_time=moment(found.pulled_at),
        annotations=dict(found.annotations),
    )
    if len(found.platforms) == 1:
        spelled["extra_attrs"] = platform(found.platforms[0])
    return spelled


def platform(given: Platform) -> dict[str, str]:
    """Return a platform in Harbor's form."""
    spelled = {
        "architecture": given.architecture,
        "os": given.os,
        "os.version": given.os_version,
        "variant": given.variant,
    }
    return {name: value for name, value in spelled.items() if value}


def tag(entry: TagEntry, repository_id: int, holds: Holding) -> dict[str, Any]:
    """Return a tag in Harbor's form; ``holds`` has the immutability rules of its repository."""
    return {
        "name": entry.name,
        "repository_id": repository_id,
        "push_time": moment(entry.pushed_at),
        "immutable": holds(entry.name) is not None,
    }


def accessory(referrer: Accessory, subject: Digest, repository: str) -> dict[str, Any]:
    """Return a referrer of an artifact in Harbor's form."""
    return {
        "digest": referrer.digest,
        "type": referrer.artifact_type or referrer.media_type,
        "size": referrer.size,
        "subject_artifact_digest": str(subject),
        "subject_artifact_repo": repository,
    }


class InArtifacts(InRepository):
    """The base of handlers of artifacts and their tags and labels."""

    _holds: Holding | None = None

    async def resolve(self, repository_id: int, reference: str) -> Digest:
        """Return the digest of the manifest that the path names; raises Missing."""
        return await self.services.artifacts.resolve(repository_id, parse_reference(reference))

    async def holding(self, repository_name: str) -> Holding:
        """Return the immutability rules over a repository; they are read once for a request."""
        if self._holds is None:
            self._holds = await self.services.immutability.holding(self.view.id, repository_name)
        return self._holds

    async def spell(self, found: Artifact, repository_name: str) -> dict[str, Any]:
        """Return an artifact in Harbor's form, with the tags, labels and accessories that the query asks for."""
        spelled = artifact(found, self.view, f"{self.view.name}/{repository_name}")
        if self.query["with_tag"]:
            holds = await self.holding(repository_name)
            spelled["tags"] = [tag(entry, found.repository_id, holds) for entry in found.tags]
            spelled["tag_count"] = found.tag_count
        if self.query["with_label"]:
            spelled["labels"] = [label(row) for row in found.labels]
        if self.query["with_accessory"]:
            referrers = []
            if found.referrer_count:
                referrers = await self.services.artifacts.referrers(
                    found.repository_id, found.digest, limit=_REFERRERS_SHOWN
                )
            full_name = f"{self.view.name}/{repository_name}"
            spelled["accessories"] = [accessory(referrer, found.digest, full_name) for referrer in referrers]
        return spelled


class ArtifactsHandler(InArtifacts):
    # Each has tags, labels, and referrers that are asked for one by one.
    most_at_once = 100

    async def get(self, repository_name: str) -> None:
        entry = await self.repository(repository_name)
        tagged = self.filters.get("tags")
        named = self.exactly("digest")
        if named is not None:
            await self._get_one(entry.id, entry.name, Digest.parse(named))
            return
        if tagged is not None and tagged.form is Form.IS and tagged.value not in ("*", "nil"):
            await self._get_one(entry.id, entry.name, Tag.parse(str(tagged.value)))
            return
        like = tagged is not None and tagged.form is Form.LIKE
        wanted = ArtifactFilter(
            tagged=None if tagged is None or like else tagged.value == "*",
            label_id=_only(self.filters.get("labels")),
            kind=self.text("type").lower(),
            digest=self.text("digest"),
        )
        page = self.page(self.text("tags") if like else "")
        found = await self.services.artifacts.page(entry.id, page, wanted)
        total = await self.services.artifacts.total(entry.id, page.search, wanted)
        self.answer_page([await self.spell(one, entry.name) for one in found], total)

    async def _get_one(self, repository_id: int, repository_name: str, reference: Reference) -> None:
        if len(self.filters) > 1:
            raise Invalid("q: tags=NAME and digest=DIGEST name one artifact; remove the other fields")
        try:
            found = [await self.services.artifacts.find(repository_id, reference)]
        except Missing:
            found = []
        self.answer_whole([await self.spell(one, repository_name) for one in found])


class ArtifactHandler(InArtifacts):
    async def get(self, repository_name: str, reference: str) -> None:
        entry = await self.repository(repository_name)
        detail = await self.services.artifacts.detail(entry.id, parse_reference(reference))
        spelled = await self.spell(detail.artifact, entry.name)
        spelled |= some(media_type=detail.config_type, extra_attrs=_attributes(detail))
        spelled["references"] = [_reference(child) for child in detail.children]
        if detail.config is not None:
            digest = quote(str(detail.artifact.digest))
            href = f"{self.request.path.rpartition('/')[0]}/{digest}/additions/build_history"
            spelled["addition_links"] = {"build_history": {"href": href, "absolute": False}}
        self.answer(spelled)

    async def delete(self, repository_name: str, reference: str) -> None:
        entry = await self.repository(repository_name)
        digest = await self.resolve(entry.id, reference)
        await self.services.artifacts.remove(entry.id, digest, self.principal.subject)
        self.note("delete", "artifact", f"{entry.full_name}@{digest}")


class AdditionHandler(InArtifacts):
    async def get(self, repository_name: str, reference: str, addition: str) -> None:
        entry = await self.repository(repository_name)
        detail = await self.services.artifacts.detail(entry.id, parse_reference(reference))
        if detail.config is None:
            raise Missing("this artifact has no image config here; the history of an index is in its images")
        steps = [
            some(
                # Harbor's clients need a time for each step, but some builders leave it out.
                created=step.created or detail.config.created or moment(detail.artifact.pushed_at),
                created_by=step.created_by,
                author=step.author,
                comment=step.comment,
                empty_layer=step.empty_layer,
            )
            for step in detail.config.history
        ]
        self.answer(steps)


class AccessoriesHandler(InArtifacts):
    async def get(self, repository_name: str, reference: str) -> None:
        entry = await self.repository(repository_name)
        digest = await self.resolve(entry.id, reference)
        total = await self.services.database.read(artifacts.total_referrers, entry.id, digest)
        reach = min(self.offset + self.limit, _MOST_REFERRERS)
        found = await self.services.artifacts.referrers(entry.id, digest, limit=reach) if self.offset < reach else []
        here = found[self.offset :]
        self.answer_page([accessory(referrer, digest, entry.full_name) for referrer in here], total)


class ArtifactLabelsHandler(InArtifacts):
    async def post(self, repository_name: str, reference: str) -> None:
        entry = await self.repository(repository_name)
        digest = await self.resolve(entry.id, reference)
        await self.services.labels.attach(self.view.id, entry.id, digest, self.body["id"])
        self.note("attach", "artifact", f"{entry.full_name}@{digest}")


class ArtifactLabelHandler(InArtifacts):
    async def delete(self, repository_name: str, reference: str, label_id: int) -> None:
        entry = await self.repository(repository_name)
        digest = await self.resolve(entry.id, reference)
        await self.services.labels.detach(entry.id, digest, label_id)
        self.note("detach", "artifact", f"{entry.full_name}@{digest}")


def _only(term: Term | None) -> int | None:
    if term is None:
        return None
    if len(term.values) != 1:
        raise Invalid("q: choose one label only")
    return int(term.value)


def _attributes(detail: ArtifactDetail) -> dict[str, Any] | None:
    """Return the attributes of an image's config in Harbor's form."""
    config = detail.config
    if config is None:
        return None
    spelled = {} if config.platform is None else platform(config.platform)
    return spelled | {
        "author": config.author,
        "created": config.created,
        "config": {
            "Cmd": list(config.command),
            "Entrypoint": list(config.entrypoint),
            "Env": list(config.env),
            "ExposedPorts": {port: {} for port in config.exposed_ports},
            "Labels": dict(config.labels or {}),
            "User": config.user,
            "WorkingDir": config.working_dir,
        },
    }


def _reference(child: Child) -> dict[str, Any]:
    return some(
        child_digest=str(child.digest),
        platform=None if child.platform is None else platform(child.platform),
        annotations=dict(child.annotations) or None,
    )
