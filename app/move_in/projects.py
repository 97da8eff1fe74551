"""Move projects with visibility, quota and upstream, their members and their repositories."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.access.secrets import Secrets
from app.config import Config
from app.database import Database, Transaction, members, moved, projects, removals
from app.database.harbor import HarborDatabase, Member, Project, Repository
from app.database.text import storable_part
from app.oci.errors import OCIError
from app.oci.globs import is_glob
from app.oci.reference import Name
from app.projects import checks

from .naming import ROLES, Names, upstream_of
from .people import decrypted
from .report import CannotMoveError, Report
from .steps import Change, Known, Step

_MOST_TEXT = 4000
_TRUE = "true"
_REFUSED = "our rules refuse the name"
# Settings of Harbor's that are kept elsewhere in its database, or that we have in another form.
_TAKEN = frozenset({"public", "retention_id", "proxy_cache_filter_pattern", "proxy_cache_filter_kind"})
# Values that mean that a setting is not used. The report does not name such a setting.
_UNSET = frozenset({"", "false", "-1", "0", "low", "none"})


@dataclass(frozen=True, slots=True)
class _Plan:
    """A project as it will be; ``joined`` is the id of a cache that was here before, which stays as it is."""

    values: Mapping[str, Any]
    joined: int | None = None


class Projects(Step[Project]):
    """Projects, and proxy caches as mirrors."""

    kind = "projects"
    left_out = "a project of that name was made here meanwhile"

    def __init__(
        self, harbor: HarborDatabase, database: Database, config: Config, secrets: Secrets, known: Known
    ) -> None:
        self._harbor = harbor
        self._database = database
        self._config = config
        self._secrets = secrets
        self._known = known

    async def read(self, after: int, limit: int) -> Sequence[Project]:
        """See `Step.read`."""
        return await self._harbor.projects(after, limit)

    def name(self, row: Project) -> str:
        """See `Step.name`."""
        return row.name

    async def check(self, change: Change[Project], report: Report) -> Change[Project] | None:
        """See `Step.check`."""
        if change.was is None and change.row.deleted:
            return None
        return replace(change, plan=await self._plan(change, report))

    async def _plan(self, change: Change[Project], report: Report) -> _Plan:
        row = change.row
        if row.deleted:
            return _Plan({})
        upstream = None if row.registry is None else upstream_of(row, self._config.upstreams)
        joined = None
        if change.was is None:
            try:
                checks.project_name(row.name, by_admin=True)
            except OCIError as error:
                raise CannotMoveError("our rules refuse the name: it is reserved, or no project can have it") from error
            here = await self._database.read(projects.find, row.name)
            if here is not None and (upstream is None or here.upstream != upstream):
                raise CannotMoveError("there is another project of that name here; remove it, then run this again")
            if here is not None:
                joined = here.id
                report.remark("caches that are here already and stay as they are", row.name)
        elif await self._database.read(moved.is_joined, self.kind, row.id):
            joined = change.was.target
        _remark(row, report)
        return _Plan(self._values(row, upstream, report), joined)

    def _values(self, row: Project, upstream: str | None, report: Report) -> dict[str, Any]:
        quota = row.quota_bytes if row.quota_bytes is not None and row.quota_bytes >= 0 else None
        values: dict[str, Any] = {
            "public": row.metadata.get("public") == _TRUE,
            "owner_id": self._known.people.get(row.owner_id) or None,
            "created_at": row.created_at,
            "upstream": upstream,
            "settings": {},
            "quota_bytes": quota if upstream is None else None,
        }
        if upstream is not None:
            values["settings"] = {"official_images": "explain", "cache_bytes": quota or None, **_filter(row, report)}
            values["uses_configured_account"] = True
            if row.access_key and row.access_secret:
                secret = decrypted(row.access_secret, self._config.harbor.secret_key)
                if secret is None:
                    report.remark("caches whose account needs the right harbor.secret_key", row.name)
                else:
                    values["upstream_credential"] = self._secrets.encrypt(json.dumps([row.access_key, secret]))
        return values

    async def put(self, transaction: Transaction, change: Change[Project]) -> int | None:
        """See `Step.put`."""
        row, plan, target = change.row, change.plan, change.was.target if change.was is not None else None
        if plan.joined is not None:
            await moved.join(transaction, self.kind, row.id)
            return int(plan.joined)
        if row.deleted:
            await removals.hide_project(transaction, target or 0)
            return target
        if target is None:
            first = {name: plan.values[name] for name in ("public", "upstream", "settings")}
            if not await projects.create(transaction, row.name, **first):
                return None
        await projects.change(transaction, row.name, **plan.values)
        found = await projects.find(transaction, row.name)
        return None if found is None else found.id

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`."""
        await removals.hide_project(transaction, target)

    def settled(self, row: Project, target: int) -> None:
        """See `Step.settled`."""
        if not row.deleted:
            self._known.projects[row.id] = (target, row.name, row.registry is not None)


class Members(Step[Member]):
    """People and groups with their roles."""

    kind = "members"

    def __init__(self, harbor: HarborDatabase, names: Names, known: Known) -> None:
        self._harbor = harbor
        self._names = names
        self._known = known

    async def read(self, after: int, limit: int) -> Sequence[Member]:
        """See `Step.read`."""
        return await self._harbor.members(after, limit)

    def name(self, row: Member) -> str:
        """See `Step.name`."""
        project = self._known.projects.get(row.project_id)
        who = row.group or self._known.usernames.get(row.person_id, f"user {row.person_id}")
        return f"{who} in {project[1] if project else f'project {row.project_id}'}"

    async def check(self, change: Change[Member], report: Report) -> Change[Member] | None:
        """See `Step.check`."""
        row = change.row
        if row.project_id not in self._known.projects:
            raise CannotMoveError("the project does not move")
        if row.group is None and row.person_id not in self._known.people:
            raise CannotMoveError("the person does not move")
        if row.role not in ROLES:
            raise CannotMoveError(f"there is no role {row.role} here")
        return change

    async def put(self, transaction: Transaction, change: Change[Member]) -> int | None:
        """See `Step.put`; a member who was here before keeps the role that they have here."""
        row, role = change.row, ROLES[change.row.role]
        if change.was is not None:
            await members.set_role(transaction, change.was.target, role)
            return change.was.target
        project_id = self._known.projects[row.project_id][0]
        group = None if row.group is None else self._names.of_group(row.group)
        account_id = None if group is not None else self._known.people[row.person_id]
        return await members.add(transaction, project_id, role, account_id=account_id, group=group) or 0

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`."""
        await members.remove(transaction, target)


class Repositories(Step[Repository]):
    """Repositories with their descriptions and numbers of pulls."""

    kind = "repositories"

    def __init__(self, harbor: HarborDatabase, known: Known) -> None:
        self._harbor = harbor
        self._known = known

    async def read(self, after: int, limit: int) -> Sequence[Repository]:
        """See `Step.read`."""
        return await self._harbor.repositories(after, limit)

    def name(self, row: Repository) -> str:
        """See `Step.name`."""
        return row.name

    async def check(self, change: Change[Repository], report: Report) -> Change[Repository] | None:
        """See `Step.check`."""
        if change.row.project_id not in self._known.projects:
            raise CannotMoveError("the project does not move")
        try:
            name = Name.parse(change.row.name)
        except OCIError:
            raise CannotMoveError(_REFUSED) from None
        if not name.repository:
            raise CannotMoveError(_REFUSED)
        return change

    async def put(self, transaction: Transaction, change: Change[Repository]) -> int | None:
        """See `Step.put`."""
        row = change.row
        project_id = self._known.projects[row.project_id][0]
        target = await projects.ensure_repository(transaction, project_id, Name.parse(row.name).repository)
        await moved.describe_repository(
            transaction,
            target,
            description=storable_part(row.description, _MOST_TEXT),
            created_at=row.created_at,
            more_pulls=max(0, row.pull_count - change.before.get("pull_count", 0)),
        )
        return target

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`."""
        await removals.hide_repository(transaction, target)

    def settled(self, row: Repository, target: int) -> None:
        """See `Step.settled`."""
        self._known.repositories[row.id] = (target, row.project_id)


def _filter(row: Project, report: Report) -> dict[str, list[str]]:
    """Return the names that a cache allows."""
    pattern = row.metadata.get("proxy_cache_filter_pattern", "")
    if not pattern:
        return {}
    if row.metadata.get("proxy_cache_filter_kind", "doublestar") == "doublestar" and is_glob(pattern):
        return {"allowed_names": [pattern]}
    report.remark("caches whose filter has no form here, so that they allow every name", f"{row.name}: {pattern}")
    return {}


def _remark(row: Project, report: Report) -> None:
    """Report settings that mean nothing here."""
    for name, value in row.metadata.items():
        if name not in _TAKEN and value.lower() not in _UNSET:
            report.remark(f"projects with {name}, which is not here", row.name)
