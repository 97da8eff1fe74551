"""Find, make, change, list and remove projects.

The callers (`app.web.access_control`, `app.web.v2.authorizer`) have checked the rights before. Only `open` checks a
grant, because `app.web.v2.authorizer` knows a project by its name alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict, get_args

from app.access.errors import Conflict, Forbidden, Invalid, Missing
from app.access.principal import Principal, PrincipalKind
from app.access.roles import UPDATE_PROJECT, Role
from app.access.scopes import NO_PROJECT
from app.access.tokens import Grant
from app.config import Policy
from app.database import Database, Transaction, members, projects
from app.database.keyset import Count, Entries, Page
from app.database.projects import EVERYTHING, Filter, Project, ProjectEntry, Summary
from app.database.quotas import in_words
from app.kit.ids import is_id
from app.oci.errors import Denied, NameUnknown, Term
from app.oci.reference import Name

from . import checks
from .allowed_names import checked_globs
from .emptying import end_surplus
from .removal import remove_project
from .viewers import highest, viewer_of

OfficialImages = Literal["explain", "alias"]


class Unset(Enum):
    """A default for arguments in which None has a meaning: keep the value, or use the configured default."""

    UNSET = "unset"


UNSET = Unset.UNSET


class Repository(NamedTuple):
    """A repository that a request names. ``id`` is None if nothing has been pushed to it yet."""

    name: Name
    project_id: int
    public: bool
    upstream: str | None
    id: int | None
    settings: Mapping[str, Any] = MappingProxyType({})
    # Until when pulls are written before their answers (Unix seconds), because a retention run removes artifacts.
    pulls_noted_until: float | None = None


class Settings(TypedDict, total=False):
    """The settings of a mirror; ``cache_bytes`` is None for no limit, no ``allowed_names`` means that all are."""

    official_images: OfficialImages
    cache_bytes: int | None
    allowed_names: list[str]
    denied_names: list[str]


class Projects:
    """Projects and the repositories that requests name; it holds no state of its own."""

    def __init__(
        self,
        database: Database,
        policy: Policy,
        upstreams: Collection[str],
        encrypt: Callable[[str], str],
    ) -> None:
        """``upstreams`` are the names of the configured ones; ``encrypt`` encrypts credentials for the database."""
        self._database = database
        self._policy = policy
        self._upstreams = frozenset(upstreams)
        self._encrypt = encrypt

    async def open(self, name: Name, grant: Grant) -> Repository:
        """Find the repository of a name, if the grant is for the project that has the name now.

        Raises TokenOutdated if the grant is for another project, and NameUnknown if there is no such project.
        """
        found = await projects.resolve(self._database, name.project, name.repository)
        if found is None:
            grant.require(name, NO_PROJECT, made_at=0.0)
            raise NameUnknown("there is no project %(name)r", name=name.project)
        project_id, public, upstream, repository_id, made_at, settings, noted_until = found
        grant.require(name, project_id, made_at)
        return Repository(name, project_id, public, upstream, repository_id, settings, noted_until)

    async def open_to_write(self, name: Name, grant: Grant) -> Repository:
        """Find a repository to push to, as `open` does; also raises Denied for a mirror, NameUnknown for no name."""
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

    async def number_of(self, digits: str, *, known: bool) -> int | str:
        """Return the id of the project that a text of digits means, by its name or by its id, else the text.

        Raises Conflict if these are two projects, so that no name is ever taken for another project's id. For a caller
        who is not ``known``, the text is a name then.
        """
        async with self._database.reading() as transaction:
            named = await projects.find(transaction, digits)
            numbered = await projects.get(transaction, int(digits)) if is_id(int(digits)) else None
        if named is None or numbered is None or named.id == numbered.id:
            found = named or numbered
            return digits if found is None else found.id
        if not known:
            return digits
        raise Conflict(
            "%(digits)s is the name of one project and the number of another; send the header X-Is-Resource-Name: true "
            "for the name, or false for the number",
            digits=digits,
        )

    async def page(self, principal: Principal, page: Page[str], wanted: Filter = EVERYTHING) -> Entries[ProjectEntry]:
        """List the projects in which the principal has project:read, by name."""
        viewer = viewer_of(principal)
        async with self._database.reading() as transaction:
            rows = await projects.page(transaction, viewer, page, wanted)
            roles = await projects.roles(transaction, viewer, [row[0].id for row in rows])
        return rows.with_entries(
            ProjectEntry(project, owner, highest(roles.get(project.id, ())), repositories)
            for project, owner, repositories in rows
        )

    async def total(self, principal: Principal, search: str = "", wanted: Filter = EVERYTHING) -> Count:
        """Count the projects that `page` lists."""
        return await self._database.read(projects.total, viewer_of(principal), wanted, search)

    async def entry(self, principal: Principal, project_id: int) -> ProjectEntry:
        """Read one project as `page` lists it; raises Missing."""
        project = await self.get(project_id)
        found = await self.page(principal, Page(1), Filter(name=project.name))
        if not found:
            raise _no_project(project_id)
        return found[0]

    async def summary(self, project_id: int) -> Summary:
        """Count the content of a project, and its members by role; raises Missing."""
        found = await self._database.read(projects.summary, project_id)
        if found is None:
            raise _no_project(project_id)
        return found

    def may_cache(self, principal: Principal) -> bool:
        """Return whether the principal may make pull-through caches: administrators and the configured groups may."""
        in_person = principal.kind is PrincipalKind.PERSON and principal.limits is None
        return principal.administers or (in_person and not principal.groups.isdisjoint(self._policy.cache_groups))

    @property
    def upstreams(self) -> list[str]:
        """The names of the configured upstreams, sorted."""
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
        """Make a project; the person who makes it, also with an access key, becomes its project admin.

        ``quota_bytes`` None means no limit, for administrators only; unset means the configured default. ``upstream``
        makes a pull-through cache, ``credential`` is the user name and password for it. Raises Invalid, Conflict for a
        name that is taken or reserved, and Forbidden for robots, too many projects, too large a quota, and people who
        may not make caches.
        """
        owner_id = _maker(by)
        checks.project_name(name, by_admin=by.administers)
        values: dict[str, Any] = {
            "public": public,
            "description": checks.text(description, Term("description")),
            "quota_bytes": self._quota(by, quota_bytes, upstream),
            "upstream": upstream,
            "settings": _settings(settings or {}, upstream),
            "uses_configured_account": by.administers,
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
                    "you have %(owned)s projects, the most that one person may have; delete one, or ask an "
                    "administrator",
                    owned=owned,
                )
            if not by.administers:
                await end_surplus(transaction, owner_id, self._policy.projects_per_person - 1)
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
        """Change a project; unset values, settings that are missing in ``settings`` and a cache's content stay.

        Raises Missing and Invalid. Raises Conflict if a project that hosts images would become a cache, or a private
        cache would become public. Raises Forbidden for an upstream or a credential unless `may_cache`. `Quotas.set`
        changes a quota.
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
            values.update(_account_use(by, project, values))
            if values:
                await projects.change(transaction, project.name, **values)
            changed = await projects.get(transaction, project_id)
            assert changed is not None  # noqa: S101  # of this transaction
            return changed

        return await self._database.transact(change)

    async def remove(self, project_id: int, deleted_by: str = "") -> None:
        """Remove a project with all its content; raises Missing. ``deleted_by`` is a principal's subject.

        The project is hidden at once, and stays in the bin, if there is one. Otherwise its content is removed in
        batches. `finish_removals` removes the rest of a large project, or if the worker is killed.
        """
        if not await remove_project(self._database, project_id, deleted_by if self._policy.bin_days else None):
            raise _no_project(project_id)

    def _quota(self, by: Principal, quota_bytes: int | Unset | None, upstream: str | None) -> int | None:
        if upstream is not None:
            if isinstance(quota_bytes, int):
                raise Invalid("a cache has no quota; set its cache size instead")
            return None
        if isinstance(quota_bytes, Unset):
            return self._policy.default_quota
        check_quota(quota_bytes, by, self._policy)
        return quota_bytes

    def _check_upstream(self, by: Principal, upstream: str | None) -> None:
        if not self.may_cache(by):
            raise _no_caches()
        if upstream is None:
            raise Invalid("a credential needs an upstream; choose one")
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
            raise Invalid("a credential needs a user name and a password")
        return self._encrypt(json.dumps([username, password]))


def _account_use(by: Principal, project: Project, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else changes if a member changes what decides with which account a mirror sees its upstream.

    Only operators decide which private project sees with their account.
    """
    now = {"public": project.public, "upstream": project.upstream}
    same = all(values.get(key, value) == value for key, value in now.items())
    return (
        {} if by.administers or (same and "upstream_credential" not in values) else {"uses_configured_account": False}
    )


def require_publishable(project: Project) -> None:
    """Raise Conflict for a private cache, because its images may have been fetched with its members' account."""
    if project.upstream is not None and not project.public:
        raise Conflict(
            "%(name)s is a private cache, and its images may have been fetched with an account; "
            "make a new public cache instead",
            name=project.name,
        )


def check_quota(quota_bytes: int | None, by: Principal, policy: Policy) -> None:
    """Raise Invalid for a quota that is no size, Forbidden if it is more than the principal may set."""
    if quota_bytes is not None:
        checks.size(quota_bytes, Term("storage quota"))
    if not by.administers and (quota_bytes is None or quota_bytes > policy.most_quota):
        raise Forbidden(
            "a quota can be %(most)s at most; ask an administrator for more", most=in_words(policy.most_quota)
        )


def _maker(by: Principal) -> int:
    """Return the account id of a new project's owner; raises Forbidden unless a person may make one."""
    everywhere = by.limits is None or UPDATE_PROJECT in by.limits.get("*", ())
    if by.kind is not PrincipalKind.PERSON or by.id is None or not everywhere:
        raise Forbidden(
            "only people can create projects; log in with your own account, not with a robot account or a limited key"
        )
    return by.id


def _settings(settings: Settings, upstream: str | None) -> dict[str, Any]:
    """Return a mirror's settings after checking them; raises Invalid."""
    if settings and upstream is None:
        raise Invalid(
            "only a pull-through cache can have %(settings)s; this project hosts images",
            settings=" and ".join(settings),
        )
    unknown = settings.keys() - Settings.__annotations__.keys()
    if unknown:
        raise Invalid("no such setting: %(settings)s", settings=", ".join(sorted(unknown))[:200])
    if settings.get("official_images", "explain") not in get_args(OfficialImages):
        raise Invalid("official_images must be one of %(choices)s", choices=", ".join(get_args(OfficialImages)))
    bound = settings.get("cache_bytes")
    if bound is not None:
        checks.size(bound, Term("cache_bytes"), least=1)
    checked_globs(settings.get("allowed_names", []), Term("allowed_names"))
    checked_globs(settings.get("denied_names", []), Term("denied_names"))
    return dict(settings)


def _no_project(project_id: int) -> Missing:
    return Missing("there is no project with the id %(number)s that you may see", number=project_id)


def _no_caches() -> Forbidden:
    return Forbidden("you may not create pull-through caches; ask an administrator")


async def ensure(transaction: Transaction, repository: Repository, *, shown: bool = False) -> int:
    """Return the repository's id as `ensure_for_tags` does, for a write that moves no tag of a hosted repository."""
    return (await ensure_for_tags(transaction, repository, shown=shown))[0]


async def ensure_for_tags(transaction: Transaction, repository: Repository, *, shown: bool = False) -> tuple[int, bool]:
    """Return the repository's id, and whether immutability rules are enabled in its project.

    Make the repository if it does not exist or was just removed. ``shown``: its first manifest has arrived, so that
    people see it. The repository is locked against removal until the transaction ends. Raises NameUnknown if the
    project is gone.
    """
    kept = await projects.keep(transaction, repository.project_id, repository.id)
    if kept is None:
        raise NameUnknown("there is no project %(name)r", name=repository.name.project)
    repository_id, pending = repository.id, kept.pending
    if pending is None or repository_id is None:
        name = repository.name.repository
        repository_id = await projects.ensure_repository(transaction, repository.project_id, name, pending=not shown)
        pending = True
    if pending and shown:
        await projects.show_repository(transaction, repository_id)
    return repository_id, kept.immutable
