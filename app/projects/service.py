"""Projects: finds what a request names, and makes, changes, lists and removes projects.

Nothing here asks for rights: the callers have done so (`app.web.access_control`, `app.web.v2.gate`). Only `open` looks
at a grant, because the gate knows a project by its name alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, TypedDict, get_args

from app.access.errors import Conflict, Forbidden, Invalid, Missing
from app.access.principal import Principal, PrincipalKind
from app.access.roles import UPDATE_PROJECT, Role
from app.access.scopes import NO_PROJECT
from app.access.tokens import Grant
from app.config import Policy
from app.database import Database, Transaction, members, projects
from app.database.keyset import Page
from app.database.projects import EVERYTHING, Filter, Project, ProjectEntry, Statistics, Summary
from app.database.quotas import in_words
from app.kit.ids import is_id
from app.oci.errors import Denied, NameUnknown, Term
from app.oci.reference import Name

from . import checks
from .removal import remove_project
from .viewers import highest, viewer_of

OfficialImages = Literal["explain", "alias"]


class Unset(Enum):
    """For arguments of which None means something: the value as it is, or by default."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository a request names. ``id`` is None where nothing has been put there yet."""

    name: Name
    project_id: int
    public: bool
    upstream: str | None
    id: int | None


class Settings(TypedDict, total=False):
    """What a mirror can be told; None for ``cache_bytes``: no bound."""

    official_images: OfficialImages
    cache_bytes: int | None


class Projects:
    """Holds no state of its own."""

    def __init__(
        self,
        database: Database,
        policy: Policy,
        upstreams: Collection[str],
        encrypt: Callable[[str], str],
    ) -> None:
        """``upstreams`` are the configured ones by name; ``encrypt`` hides an upstream's password in the database."""
        self._database = database
        self._policy = policy
        self._upstreams = frozenset(upstreams)
        self._encrypt = encrypt

    async def open(self, name: Name, grant: Grant) -> Repository:
        """Find what a name names, if the grant is for the project that has the name now.

        Raises TokenOutdated if it is for another one, and NameUnknown if there is no such project.
        """
        found = await projects.resolve(self._database, name.project, name.repository)
        if found is None:
            grant.require(name, NO_PROJECT, made_at=0.0)
            raise NameUnknown("there is no project %(name)r", name=name.project)
        project_id, public, upstream, repository_id, made_at = found
        grant.require(name, project_id, made_at)
        return Repository(name, project_id, public, upstream, repository_id)

    async def open_to_write(self, name: Name, grant: Grant) -> Repository:
        """Find a repository that may be pushed to, as `open` does; raises Denied for a mirror as well."""
        repository = await self.open(name, grant)
        if repository.upstream is not None:
            raise Denied(
                "%(name)s/ is a pull-through cache of %(upstream)s, nothing can be pushed there; push "
                "to a project of your own",
                name=name.project,
                upstream=repository.upstream,
            )
        if not name.repository:
            raise NameUnknown("push to %(name)s/NAME: an image needs a name within the project", name=name.project)
        return repository

    async def find(self, name: str) -> Project:
        """Read a project by its name; raises Missing."""
        found = None
        if checks.is_project_name(name):
            found = await self._database.read(projects.find, name)
        if found is None:
            raise Missing("there is no project %(name)r that you may see", name=name[:100])
        return found

    async def get(self, project_id: int) -> Project:
        """Read a project by its id; raises Missing."""
        found = None
        if is_id(project_id):
            found = await self._database.read(projects.get, project_id)
        if found is None:
            raise _no_project(project_id)
        return found

    async def page(self, principal: Principal, page: Page[str], wanted: Filter = EVERYTHING) -> list[ProjectEntry]:
        """List the projects that the principal may see (has project:read in), by name."""
        viewer = viewer_of(principal)
        async with self._database.reading() as transaction:
            rows = await projects.page(transaction, viewer, page, wanted)
            roles = await projects.roles(transaction, viewer, [row[0].id for row in rows])
        return [
            ProjectEntry(project, owner, highest(roles.get(project.id, ())), repositories)
            for project, owner, repositories in rows
        ]

    async def total(self, principal: Principal, search: str = "", wanted: Filter = EVERYTHING) -> int:
        """Count what `page` lists in all."""
        return await self._database.read(projects.total, viewer_of(principal), wanted, search)

    async def entry(self, principal: Principal, project_id: int) -> ProjectEntry:
        """Read one project as `page` would list it; raises Missing."""
        project = await self.get(project_id)
        found = await self.page(principal, Page(1), Filter(name=project.name))
        if not found:
            raise _no_project(project_id)
        return found[0]

    async def summary(self, project_id: int) -> Summary:
        """Count what is in a project, and its members by role; raises Missing."""
        found = await self._database.read(projects.summary, project_id)
        if found is None:
            raise _no_project(project_id)
        return found

    async def statistics(self, principal: Principal) -> Statistics:
        """Count the projects and repositories the principal may see; bytes for administrators only, else None."""
        found = await self._database.read(projects.statistics, viewer_of(principal))
        return found if principal.administers else replace(found, used_bytes=None)

    def may_cache(self, principal: Principal) -> bool:
        """Say whether the principal may make pull-through caches: administrators, and whom the configuration names."""
        in_person = principal.kind is PrincipalKind.PERSON and principal.limits is None
        return principal.administers or (in_person and not principal.groups.isdisjoint(self._policy.cache_groups))

    @property
    def upstreams(self) -> list[str]:
        """Name the configured upstreams."""
        return sorted(self._upstreams)

    async def create(
        self,
        by: Principal,
        *,
        name: str,
        public: bool,
        description: str = "",
        quota_bytes: int | Unset | None = UNSET,
        upstream: str | None = None,
        credential: tuple[str, str] | None = None,
        settings: Settings | None = None,
    ) -> Project:
        """Make a project; its maker becomes its project admin (an access key's owner as well).

        ``quota_bytes``: None is no end, for administrators only; unset is the configured default. ``upstream`` makes
        a pull-through cache, with ``credential`` (user name, password) for it. Raises Invalid, Conflict for a name
        that is taken or reserved, Forbidden for robots, too many projects, a quota beyond the most, and caches.
        """
        owner_id = _maker(by)
        checks.project_name(name, by_admin=by.administers)
        values: dict[str, Any] = {
            "public": public,
            "description": checks.text(description, Term("description")),
            "quota_bytes": self._quota(by, quota_bytes, upstream),
            "upstream": upstream,
            "settings": _settings(settings or {}, upstream),
        }
        if upstream is not None or credential is not None:
            self._check_upstream(by, upstream)
            values["upstream_credential"] = self._hidden(credential)

        async def make(transaction: Transaction) -> Project:
            owned = await projects.owned(transaction, owner_id)
            if owned is None:
                raise Forbidden("your account is gone; log in again")
            if owned >= self._policy.projects_per_person and not by.administers:
                raise Forbidden(
                    "you have %(owned)s projects, and nobody may have more; remove one, or ask for help", owned=owned
                )
            if not await projects.create(transaction, name, owner_id=owner_id, **values):
                raise Conflict("there is a project %(name)r already; choose another name", name=name)
            made = await projects.find(transaction, name)
            assert made is not None  # noqa: S101  # of this transaction
            await members.add(transaction, made.id, Role.PROJECT_ADMIN, account_id=owner_id)
            return made

        return await self._database.transact(make)

    async def update(
        self,
        by: Principal,
        project_id: int,
        *,
        public: bool | Unset = UNSET,
        description: str | Unset = UNSET,
        upstream: str | Unset = UNSET,
        credential: tuple[str, str] | Unset | None = UNSET,
        settings: Settings | None = None,
    ) -> Project:
        """Change a project; what is unset, and settings that are not among ``settings``, stay. Keeps a cache's content.

        Raises Missing, Invalid, Conflict where a project that hosts would become a cache or the other way round, or a
        private cache public, and Forbidden for upstream and credential where `may_cache` says no. A quota is changed
        by `Quotas.set`.
        """
        values: dict[str, Any] = {}
        if public is not UNSET:
            values["public"] = public
        if not isinstance(description, Unset):
            values["description"] = checks.text(description, Term("description"))
        if not isinstance(upstream, Unset):
            self._check_upstream(by, upstream)
            values["upstream"] = upstream
        if not isinstance(credential, Unset):
            if not self.may_cache(by):
                raise _no_caches()
            values["upstream_credential"] = self._hidden(credential)

        async def change(transaction: Transaction) -> Project:
            project = await projects.get(transaction, project_id)
            if project is None:
                raise _no_project(project_id)
            if project.upstream is None and ("upstream" in values or "upstream_credential" in values):
                raise Conflict(
                    "%(name)s hosts images and cannot become a cache; make another project for that", name=project.name
                )
            if public is True:
                require_publishable(project)
            if settings is not None:
                values["settings"] = {**project.settings, **_settings(settings, project.upstream)}
            if values:
                await projects.change(transaction, project.name, **values)
            changed = await projects.get(transaction, project_id)
            assert changed is not None  # noqa: S101  # of this transaction
            return changed

        return await self._database.transact(change)

    async def remove(self, project_id: int) -> None:
        """Remove a project with all it has; gone for everybody at once, its blobs within the call, in batches.

        Killed on the way, the rest is done by `finish_removals`. Raises Missing.
        """
        if not await remove_project(self._database, project_id):
            raise _no_project(project_id)

    def _quota(self, by: Principal, quota_bytes: int | Unset | None, upstream: str | None) -> int | None:
        if upstream is not None:
            if isinstance(quota_bytes, int):
                raise Invalid("a cache has a cache size, not a quota")
            return None
        if isinstance(quota_bytes, Unset):
            return self._policy.default_quota
        check_quota(quota_bytes, by, self._policy)
        return quota_bytes

    def _check_upstream(self, by: Principal, upstream: str | None) -> None:
        if not self.may_cache(by):
            raise _no_caches()
        if upstream is None:
            raise Invalid("a credential goes with an upstream: say which")
        if upstream not in self._upstreams:
            raise Invalid(
                "no upstream %(upstream)r is configured; known: %(known)s",
                upstream=upstream[:80],
                known=", ".join(self.upstreams) or Term("none"),
            )

    def _hidden(self, credential: tuple[str, str] | None) -> str | None:
        if credential is None:
            return None
        username, password = credential
        if not username or not password:
            raise Invalid("a credential has a user name and a password")
        return self._encrypt(json.dumps([username, password]))


def require_publishable(project: Project) -> None:
    """Raise Conflict for a private cache: what it holds may have been fetched with an account, for its members only."""
    if project.upstream is not None and not project.public:
        raise Conflict(
            "%(name)s is a private cache, and what is in it may have been fetched with an account; "
            "make a new public cache instead",
            name=project.name,
        )


def check_quota(quota_bytes: int | None, by: Principal, policy: Policy) -> None:
    """Check a quota that somebody asks for; raises Invalid, and Forbidden where it is more than they may give."""
    if quota_bytes is not None:
        checks.size(quota_bytes, Term("storage quota"))
    if not by.administers and (quota_bytes is None or quota_bytes > policy.most_quota):
        raise Forbidden("a quota has %(most)s at most; ask an administrator for more", most=in_words(policy.most_quota))


def _maker(by: Principal) -> int:
    """Say whose project it is going to be; raises Forbidden for who is nobody, or may not."""
    everywhere = by.limits is None or UPDATE_PROJECT in by.limits.get("*", ())
    if by.kind is not PrincipalKind.PERSON or by.id is None or not everywhere:
        raise Forbidden("people make projects: log in with your own account, not with a robot's or a limited key")
    return by.id


def _settings(settings: Settings, upstream: str | None) -> dict[str, Any]:
    """Check a mirror's settings; raises Invalid."""
    if settings and upstream is None:
        raise Invalid("%(settings)s goes with a cache, and this project hosts images", settings=" and ".join(settings))
    unknown = settings.keys() - Settings.__annotations__.keys()
    if unknown:
        raise Invalid("no such setting: %(settings)s", settings=", ".join(sorted(unknown))[:200])
    if settings.get("official_images", "explain") not in get_args(OfficialImages):
        raise Invalid("official_images: one of %(choices)s", choices=", ".join(get_args(OfficialImages)))
    bound = settings.get("cache_bytes")
    if bound is not None:
        checks.size(bound, Term("cache_bytes"), least=1)
    return dict(settings)


def _no_project(project_id: int) -> Missing:
    return Missing("there is no project of the id %(number)s that you may see", number=project_id)


def _no_caches() -> Forbidden:
    return Forbidden("pull-through caches are made by administrators; ask one")


async def ensure(transaction: Transaction, repository: Repository) -> int:
    """Answer the repository's id, making it where this is the first thing put there, or where it was just removed.

    It stays until the transaction ends. Raises NameUnknown where the project is gone.
    """
    project, there = await projects.keep(transaction, repository.project_id, repository.id)
    if not project:
        raise NameUnknown("there is no project %(name)r", name=repository.name.project)
    if there and repository.id is not None:
        return repository.id
    return await projects.ensure_repository(transaction, repository.project_id, repository.name.repository)
