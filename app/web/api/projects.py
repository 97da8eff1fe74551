"""List, make, change and delete projects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from app.access.errors import Invalid, Missing, PreconditionFailed
from app.access.roles import LIST_MEMBERS, READ_QUOTA, UPDATE_PROJECT, Role
from app.database.keyset import MOST_COUNTED
from app.database.projects import Filter, ProjectEntry, Summary
from app.projects.service import UNSET, Settings

from . import registries
from .handler import ApiHandler, Place
from .shapes import NO_END, ROLE_IDS, moment, some, storage


def project(entry: ProjectEntry, *, togglable: bool) -> dict[str, Any]:
    """Return a project in Harbor's form; ``togglable`` says whether the caller may change it."""
    row = entry.project
    role = None if entry.role is None else ROLE_IDS[Role(entry.role)]
    return some(
        project_id=row.id,
        name=row.name,
        owner_id=row.owner_id,
        owner_name=entry.owner or "",
        description=row.description,
        registry_id=None if row.upstream is None else registries.number_of(row.upstream),
        creation_time=moment(row.created_at),
        deleted=False,
        togglable=togglable,
        current_user_role_id=role,
        current_user_role_ids=[] if role is None else [role],
        repo_count=entry.repositories,
        metadata=metadata(public=row.public, retention_id=row.retention_id),
        proxy_cache=None
        if row.upstream is None
        else {
            "has_credential": row.has_credential,
            "cache_bytes": row.settings.get("cache_bytes"),
            "official_images": row.settings.get("official_images", "explain"),
            "allowed_names": row.settings.get("allowed_names", []),
            "denied_names": row.settings.get("denied_names", []),
        },
    )


class ProjectsHandler(ApiHandler):
    async def place(self, path: Mapping[str, Any]) -> Place:
        return Place(self.query["project_name"])

    async def head(self) -> None:
        """Answer 200; `place` and `AccessControl` have checked the project already."""

    async def get(self) -> None:
        exact = self.exactly("name")
        public = cast("bool", self.filters["public"].value) if "public" in self.filters else self.query["public"]
        wanted = Filter(name=exact, public=public, owner=self.query["owner"] or self.exactly("owner"))
        page = self.page((self.text("name") if exact is None else "") or self.query["name"] or "")
        entries = await self.services.projects.page(self.principal, page, wanted)
        total = await self.services.projects.total(self.principal, page.search, wanted)
        self.answer_page([project(entry, togglable=_is_admin(entry, self)) for entry in entries], total)

    async def post(self) -> None:
        name = self.body["project_name"]
        number = self.body.get("registry_id") or None
        made = await self.services.projects.create(
            self.principal,
            name=name,
            public=bool(_public(self.body)),
            description=self.body.get("description", ""),
            quota_bytes=_quota(self.body),
            upstream=None if number is None else registries.chosen(number, self.services.upstreams),
            **_proxy_cache(self.body),
        )
        self.note("create", "project", made.name, (made.id, made.name))
        by_name = self.hints["X-Resource-Name-In-Location"]
        self.created(f"/projects/{made.name if by_name else made.id}")


class ProjectHandler(ApiHandler):
    async def get(self) -> None:
        entry = await self.services.projects.entry(self.principal, self.view.id)
        self.answer(project(entry, togglable=self.view.may(UPDATE_PROJECT)))

    async def put(self) -> None:
        if self.body.get("project_name", self.view.name) != self.view.name:
            raise Invalid("a project's name cannot be changed")
        given: dict[str, Any] = _proxy_cache(self.body)
        if (public := _public(self.body)) is not None:
            given["public"] = public
        if "description" in self.body:
            given["description"] = self.body["description"]
        if number := self.body.get("registry_id"):
            given["upstream"] = registries.chosen(number, self.services.upstreams)
        quota = _quota(self.body)
        if not isinstance(quota, type(UNSET)):
            await self.services.quotas.set(self.principal, self.view.id, quota)
            self.note("update", "quota", self.view.name)
        if given:
            await self.services.projects.update(self.principal, self.view.id, **given)
            self.note("update", "project", self.view.name)

    async def delete(self) -> None:
        if reason := _in_the_way(await self.services.projects.summary(self.view.id)):
            raise PreconditionFailed(reason)
        await self.services.projects.remove(self.view.id, self.principal.subject)
        self.note("delete", "project", self.view.name)


class DeletableHandler(ApiHandler):
    async def get(self) -> None:
        reason = _in_the_way(await self.services.projects.summary(self.view.id))
        self.answer(some(deletable=reason is None, message=reason))


class SummaryHandler(ApiHandler):
    async def get(self) -> None:
        summary = await self.services.projects.summary(self.view.id)
        answer: dict[str, Any] = {"repo_count": summary.repositories}
        if self.view.may(LIST_MEMBERS):
            answer["robot_count"] = summary.robots
            for role in Role:
                answer[f"{role.value.replace(' ', '_')}_count"] = summary.members.get(role.value, 0)
        if self.view.may(READ_QUOTA):
            row = summary.project
            answer["quota"] = {
                "hard": storage(row.quota_bytes),
                "used": storage(row.used_bytes),
                "unfinished": storage(await self.services.quotas.unfinished(self.view.id)),
                "bin": storage((await self.services.bin.charged(self.view.id)).number),
            }
        upstream = summary.project.upstream
        if upstream is not None and upstream in self.services.upstreams:
            answer["registry"] = registries.registry(upstream, self.services.upstreams[upstream])
        self.answer(answer)


class MetadataHandler(ApiHandler):
    async def get(self) -> None:
        self.answer(metadata(public=self.view.public))

    async def post(self) -> None:
        public = _public({"metadata": self.body})
        if public is not None:
            await self.services.projects.update(self.principal, self.view.id, public=public)
            self.note("create", "metadata", self.view.name)


class OneMetadataHandler(ApiHandler):
    async def get(self, meta_name: str) -> None:
        _require_public(meta_name)
        self.answer(metadata(public=self.view.public))

    async def put(self, meta_name: str) -> None:
        _require_public(meta_name)
        public = _public({"metadata": self.body})
        if public is None:
            raise Invalid("the body lacks public")
        await self.services.projects.update(self.principal, self.view.id, public=public)
        self.note("update", "metadata", self.view.name)


class UnfinishedPushesHandler(ApiHandler):
    async def delete(self) -> None:
        freed = await self.services.quotas.free_unfinished(self.view.id)
        self.note("delete", "upload", self.view.name)
        self.answer(storage(freed))


def metadata(*, public: bool, retention_id: int | None = None) -> dict[str, str]:
    """Return a project's metadata in Harbor's form."""
    return some(public="true" if public else "false", retention_id=None if retention_id is None else str(retention_id))


def _require_public(name: str) -> None:
    if name != "public":
        raise Missing("a project has no metadata %(name)r here, only public", name=name[:50])


def _is_admin(entry: ProjectEntry, handler: ApiHandler) -> bool:
    return handler.principal.administers or (entry.role == Role.PROJECT_ADMIN and handler.principal.limits is None)


def _in_the_way(summary: Summary) -> str | None:
    """Return why a project cannot be deleted, None if it can; images must be deleted first, so that none is lost."""
    if not summary.repositories:
        return None
    many = f"more than {MOST_COUNTED}" if summary.repositories > MOST_COUNTED else summary.repositories
    return f"{summary.project.name} holds {many} repositories; delete them first"


def _public(body: Mapping[str, Any]) -> bool | None:
    """Return whether a project should be public, None if not given; Harbor's metadata win over its older field."""
    said = (body.get("metadata") or {}).get("public")
    return body.get("public") if said is None else bool(said == "true")


def _quota(body: Mapping[str, Any]) -> Any:
    limit = body.get("storage_limit")
    if limit is None:
        return UNSET
    return None if limit == NO_END else limit


def _proxy_cache(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body's settings of a pull-through cache as arguments for `Projects`; raises Invalid."""
    said = body.get("proxy_cache", {})
    given: dict[str, Any] = {}
    if said.get("username") is not None:
        if "password" not in said:
            raise Invalid("proxy_cache.username needs a password")
        given["credential"] = (said["username"], said["password"])
    elif "password" in said:
        raise Invalid("proxy_cache.password needs a username")
    elif "username" in said:
        given["credential"] = None
    settings = cast("Settings", {name: said[name] for name in Settings.__annotations__ if name in said})
    if settings:
        given["settings"] = settings
    return given
