"""The pages that list, create, show, configure and delete projects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from app.access import roles
from app.access.errors import Invalid
from app.database import activity, repositories
from app.database.activity import Push
from app.database.keyset import MOST_COUNTED, MOST_SEARCHED, Page
from app.database.projects import Filter, Project
from app.oci.errors import OCIError
from app.projects.service import UNSET, Settings, Unset

from . import shapes, words
from .base import PageHandler

_MOST_PUSHES, _MOST_SIZES = 6, 50
_UNITS = {"MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_FILTERS = {"private": False, "public": True}


class ProjectsPage(PageHandler):
    """The list of projects that the visitor may see."""

    needs = "nothing"
    section = "projects"

    async def get(self) -> None:
        chosen, search = self.query("show"), self.query("q")
        owner = self.query("owner")
        wanted = Filter(public=_FILTERS.get(chosen), mine=chosen == "mine", owner=owner or None)
        ask = partial(self.services.projects.page, self.principal, wanted=wanted)
        listing = await self.listing(ask, lambda entry: entry.project.name, search)
        self.show(
            "projects.html",
            listing=listing,
            chosen=chosen,
            search=search,
            owner=owner,
            role_names=words.ROLES,
        )


class NewProjectPage(PageHandler):
    """Creates a project. A form with a mistake is shown again."""

    needs = "person"
    section = "projects"

    async def get(self) -> None:
        # The page of upstreams leads here.
        upstream = self.query("upstream")
        values = {"unit": "GiB", "quota": str(self.services.policy.default_quota // _UNITS["GiB"])}
        self._form({**values, "upstream": upstream, "cache": upstream}, "")

    async def post(self) -> None:
        values = {name: self.field(name) for name in _FIELDS}
        try:
            made = await self._make()
        except OCIError as error:
            self._form({**values, "password": ""}, self.mistake(error))
            return
        self.note("create", "project", made.name, (made.id, made.name))
        self.flash("success", self._("The project %(name)s is created.") % {"name": made.name})
        self.redirect(f"/projects/{made.name}" + ("" if made.upstream else "/repositories"), status=303)

    async def _make(self) -> Project:
        projects = self.services.projects
        public, about = self.field("access") == "public", self.field("description")
        if not self.ticked("cache"):
            return await projects.create(
                self.principal, name=self.field("name"), public=public, description=about, quota_bytes=quota_of(self)
            )
        return await projects.create(
            self.principal,
            name=self.field("name"),
            public=public,
            description=about,
            upstream=self.field("upstream"),
            credential=credential_of(self),
            settings=settings_of(self),
        )

    def _form(self, values: dict[str, str], error: str) -> None:
        self.show(
            "project-new.html",
            values=values,
            error=error,
            units=list(_UNITS),
            most=self.services.policy.most_quota,
            may_cache=self.services.projects.may_cache(self.principal),
            upstreams=self.services.projects.upstreams,
        )


class SummaryPage(PageHandler):
    """The summary of a project."""

    needs = roles.READ_PROJECT
    section = "projects"

    async def get(self, project: str) -> None:
        summary = await self.services.projects.summary(self.opened.id)
        self.show(
            "project-summary.html",
            tab="summary",
            summary=summary,
            warning=await self.services.quotas.warning(self.opened.id) if self.may(roles.READ_QUOTA) else None,
            recent=await self.services.database.read(repositories.page, self.opened.id, Page(6)),
            unfinished=await self.services.quotas.unfinished(self.opened.id) if self._reads_quota else 0,
            binned=await self.services.bin.charged(self.opened.id) if self._reads_quota else None,
            pushes=await self._pushes(),
            role_names=words.ROLES,
        )

    async def _pushes(self) -> Sequence[Push]:
        hosted = [] if self.opened.upstream else [self.opened.id]
        return await self.services.database.read(activity.pushed, hosted, looked=MOST_COUNTED, limit=_MOST_PUSHES)

    @property
    def _reads_quota(self) -> bool:
        """Return whether the visitor sees what unfinished pushes and the bin hold of a quota."""
        return self.opened.upstream is None and self.may(roles.READ_QUOTA)


class StoragePage(PageHandler):
    """The repositories that take the most space of a project."""

    needs = roles.READ_QUOTA
    section = "projects"

    async def get(self, project: str) -> None:
        found, complete = await self.services.database.read(activity.sizes, self.opened.id, _MOST_SIZES)
        self.show("storage.html", tab="summary", found=found, complete=complete, looked=MOST_SEARCHED)


class FreeUnfinishedPage(PageHandler):
    """Frees what unfinished pushes hold of a project's quota."""

    needs = roles.DELETE_ARTIFACT
    section = "projects"

    async def post(self, project: str) -> None:
        freed = shapes.size(await self.services.quotas.free_unfinished(self.opened.id))
        self.note("delete", "upload", self.opened.name)
        self.flash("success", self._("%(size)s of unfinished pushes are freed.") % {"size": freed})
        self.redirect(self.returning(f"/projects/{project}"), status=303)


class ConfigurationPage(PageHandler):
    """The settings of a project."""

    needs = roles.UPDATE_PROJECT
    section = "projects"

    async def get(self, project: str) -> None:
        found = await self.services.projects.get(self.opened.id)
        self.show(
            "project-configuration.html",
            tab="configuration",
            found=found,
            units=list(_UNITS),
            quota=split_size(found.quota_bytes),
            cache_size=split_size(found.settings.get("cache_bytes")),
            most=self.services.policy.most_quota,
            may_cache=self.services.projects.may_cache(self.principal),
            upstreams=self.services.projects.upstreams,
            summary=await self.services.projects.summary(self.opened.id),
        )

    async def post(self, project: str) -> None:
        await self.settle(self._change(), self._("The settings are saved."), f"/projects/{project}/configuration")

    async def _change(self) -> None:
        projects, mirror = self.services.projects, self.opened.upstream is not None
        before = await projects.get(self.opened.id)
        settings = settings_of(self) if mirror else None
        if settings is not None and self._same("cache_size", "cache_unit", before.settings.get("cache_bytes")):
            del settings["cache_bytes"]
        await projects.update(
            self.principal,
            self.opened.id,
            public=self.field("access") == "public",
            description=self.field("description"),
            settings=settings,
        )
        self.note("update", "project", self.opened.name)
        if mirror and projects.may_cache(self.principal):
            await projects.update(
                self.principal,
                self.opened.id,
                upstream=self.field("upstream") or UNSET,
                credential=None if self.ticked("forget") else credential_of(self) or UNSET,
            )
        if not mirror and not self._same("quota", "unit", before.quota_bytes):
            wanted = quota_of(self)
            if not isinstance(wanted, Unset):
                await self.services.quotas.set(self.principal, self.opened.id, wanted)
                self.note("update", "quota", self.opened.name)

    def _same(self, field: str, unit: str, count: int | None) -> bool:
        """Return whether a size is unchanged. The form may have shown it rounded."""
        return (self.field(field), self.field(unit)) == split_size(count)


class DeleteProjectPage(PageHandler):
    """Deletes a project if its name was typed."""

    needs = roles.DELETE_PROJECT
    section = "projects"

    async def post(self, project: str) -> None:
        if self.field("name") != self.opened.name:
            self.flash("danger", self._("The name that you typed is not the project's name. Nothing was deleted."))
            self.redirect(f"/projects/{project}/configuration", status=303)
            return
        await self.services.projects.remove(self.opened.id, self.principal.subject)
        self.note("delete", "project", self.opened.name)
        self.flash("success", self._("The project %(name)s is deleted.") % {"name": self.opened.name})
        self.redirect("/projects", status=303)


_FIELDS = (
    "name",
    "access",
    "quota",
    "unit",
    "description",
    "cache",
    "upstream",
    "username",
    "cache_size",
    "cache_unit",
)


def quota_of(page: PageHandler) -> int | Unset | None:
    """Read a form's quota in bytes: UNSET if there is no such field, None (no limit) if it is empty. Raise Invalid."""
    return read_size(page, "quota", "unit") if "quota" in page.request.body_arguments else UNSET


def settings_of(page: PageHandler) -> Settings:
    """Read the settings of a mirror from a form. Raise Invalid for a bad cache size."""
    settings = Settings(cache_bytes=read_size(page, "cache_size", "cache_unit"))
    if page.field("official_images"):
        settings["official_images"] = "alias" if page.field("official_images") == "alias" else "explain"
    if "allowed_names" in page.request.body_arguments:
        settings["allowed_names"] = page.field("allowed_names").split()
    if "denied_names" in page.request.body_arguments:
        settings["denied_names"] = page.field("denied_names").split()
    return settings


def credential_of(page: PageHandler) -> tuple[str, str] | None:
    """Read the user name and password for an upstream, None if there is no user name."""
    username = page.field("username")
    return (username, page.get_body_argument("password", "", strip=False)) if username else None


def read_size(page: PageHandler, field: str, unit: str) -> int | None:
    """Read a number of bytes from a number and its unit, None if it is empty. Raise Invalid if it is not a number."""
    text = page.field(field).replace(",", ".")
    if not text:
        return None
    try:
        count = float(text) * _UNITS[page.field(unit, "GiB")]
        return int(count)
    except (ValueError, KeyError, OverflowError):
        raise Invalid("%(text)s is not a size; type a number, such as 10", text=text[:40]) from None


def split_size(count: int | None) -> tuple[str, str]:
    """Return a number of bytes as a number and the largest unit that keeps it whole, else in GiB."""
    if count is None:
        return "", "GiB"
    for unit, factor in reversed(_UNITS.items()):
        if count % factor == 0 and count:
            return str(count // factor), unit
    return f"{count / _UNITS['GiB']:.3f}".rstrip("0").rstrip("."), "GiB"
