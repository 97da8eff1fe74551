"""The bin of a project, and the projects in the bin: list, restore, and delete for good.

    maintainers            restore artifacts and repositories, and delete them for good
    its project admins     restore a project, or delete it for good; they keep their roles in it
    administrators         all of that

An artifact comes back with its tags, labels and signatures. A tag whose name is in use again stays where it is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.access.errors import Conflict, Forbidden, Missing
from app.access.permissions import Permissions
from app.access.principal import Principal, PrincipalKind
from app.access.roles import DELETE_PROJECT, Role
from app.config import Policy
from app.database import Database, Transaction, binned, members, projects, purged, removals, robots
from app.database.binned import DeletedProject, Entry
from app.database.keyset import Count, Entries, Page
from app.kit.ids import is_id
from app.kit.jobs import repeat
from app.oci.digest import Digest
from app.oci.reference import Name, spelled
from app.projects import checks, emptying
from app.projects.emptying import Ended
from app.projects.removal import empty_project

from .payloads import Payloads

_LOOK_SECONDS = 5.0
_EMPTIED_AT_ONCE = 100
# A client waits for so long, in seconds; the collection does the rest.
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Restored:
    """An artifact or repository that has come back; ``taken`` are tags that name something else by now."""

    repository: str
    digest: Digest | None
    tags: Sequence[str] = ()
    taken: Sequence[str] = ()

    @property
    def kind(self) -> str:
        """Return what it is, in the words of the audit log."""
        return "repository" if self.digest is None else "artifact"

    @property
    def name(self) -> str:
        """Return its address within the project."""
        return self.repository if self.digest is None else spelled(self.repository, self.digest)


@dataclass(frozen=True, slots=True)
class RestoredProject:
    """A project that has come back; ``taken`` are robot accounts whose names others have by now."""

    id: int
    name: str
    taken: Sequence[str] = ()


class Bin:
    """The bin; every worker has one, and `run` drops copies of what any of them has deleted for good."""

    def __init__(self, database: Database, payloads: Payloads, permissions: Permissions, policy: Policy) -> None:
        self._database = database
        self._payloads = payloads
        self._permissions = permissions
        self._policy = policy
        self._looked_at = time.time()

    @property
    def days(self) -> int:
        """Return how many days a deleted artifact, repository or project can be restored; 0 if there is no bin."""
        return self._policy.bin_days

    def ends_at(self, deleted_at: float) -> float:
        """Return when something is deleted for good (Unix seconds), unless the quota needs the room before."""
        return deleted_at + self._policy.bin_days * 24 * 3600

    async def run(self) -> None:
        """Drop copies of what was deleted for good, until cancelled."""
        await repeat("copies of what was deleted", self.drop_copies, _LOOK_SECONDS)

    # -- artifacts and repositories

    async def page(self, project_id: int, page: Page[str]) -> Entries[Entry]:
        """List what was deleted in a project, the newest first; keys are `Entry.key`. Raises Invalid."""
        return await self._database.read(binned.page, project_id, page.with_keys(_key))

    async def total(self, project_id: int, search: str = "") -> Count:
        """Count the entries that `page` lists."""
        return await self._database.read(binned.total, project_id, search)

    async def charged(self, project_id: int) -> Count:
        """Return the bytes that come free if the bin of a project is emptied; of a large bin, at least so many."""
        return await self._database.read(binned.charged, project_id)

    async def restore(self, project_id: int, entry_id: int, by: str, name: str | None = None) -> Restored:
        """Bring an entry back; ``by`` is a principal's subject.

        ``name`` is another name within the project for a repository, or another repository for an artifact. Raises
        Missing, Invalid, and Conflict for a repository whose name is in use again.
        """

        async def restore(transaction: Transaction) -> Restored:
            entry = await self._entry(transaction, project_id, entry_id)
            project = await projects.get(transaction, project_id)
            if project is None:
                raise _gone()
            # Parsed, because somebody may have typed it.
            target = Name.parse(f"{project.name}/{name or entry.repository}").repository
            if entry.digest is not None:
                return await self._restore_artifact(transaction, entry, entry.digest, target, by)
            if not await binned.return_repository(transaction, entry, target):
                raise Conflict(
                    "there is a repository %(name)s again; restore this one under another name, or delete that one "
                    "first",
                    name=target,
                )
            return Restored(target, None)

        return await self._database.transact(restore)

    async def _restore_artifact(
        self, transaction: Transaction, entry: Entry, digest: Digest, target: str, by: str
    ) -> Restored:
        repository_id = await projects.ensure_repository(transaction, entry.project_id, target, pending=True)
        kept = await projects.keep(transaction, entry.project_id, repository_id)
        if kept is None or kept.pending is None:
            raise Conflict("the repository %(name)s is being deleted; try again", name=target)
        if kept.pending:
            await projects.show_repository(transaction, repository_id)
        tags, taken = await binned.return_artifact(transaction, entry, repository_id, by)
        return Restored(target, digest, tags, taken)

    async def delete(self, project_id: int, entry_id: int) -> Entry:
        """Delete an entry for good now, with all copies of it; raises Missing.

        So does every other entry of the same thing. Blobs that other images have stay.
        """

        async def end(transaction: Transaction) -> Ended:
            ended = await emptying.end(
                transaction, await self._entry(transaction, project_id, entry_id), with_twins=True
            )
            await purged.add(transaction, [*ended.manifests, *ended.blobs])
            return ended

        ended = await self._database.transact(end)
        await emptying.remove(self._database, ended, at_once=True)
        await self._drop([*ended.manifests, *ended.blobs])
        return ended.entry

    async def empty(self, project_id: int) -> int:
        """Delete for good what is in the bin of a project now; return the number of entries.

        A client waits for the first ones only; the collection removes the rest.
        """

        async def end(transaction: Transaction) -> list[Ended]:
            found = await binned.oldest(transaction, project_id, _EMPTIED_AT_ONCE)
            return [await emptying.end(transaction, entry, with_twins=False) for entry in found]

        count, until = 0, time.monotonic() + _PATIENCE
        while ended := await self._database.transact(end):
            count += len(ended)
            for one in ended:
                if time.monotonic() < until:
                    await emptying.remove(self._database, one, at_once=False)
        return count

    async def _entry(self, transaction: Transaction, project_id: int, entry_id: int) -> Entry:
        found = await binned.find(transaction, project_id, entry_id) if is_id(entry_id) else None
        if found is None:
            raise _gone()
        return found

    # -- projects

    async def projects(self, by: Principal, page: Page[str]) -> Entries[DeletedProject]:
        """List the projects in the bin that the principal may restore, the newest first; raises Invalid.

        Keys are `DeletedProject.key`.
        """
        return await self._database.read(binned.projects_of, await self._managed(by), page.with_keys(_key))

    async def total_projects(self, by: Principal, search: str = "") -> Count:
        """Count the projects that `projects` lists."""
        return await self._database.read(binned.total_projects, await self._managed(by), search)

    async def _managed(self, by: Principal) -> Sequence[int] | None:
        """Return the projects in the bin that the principal may restore; None means all."""
        if by.administers:
            return None
        if by.kind is not PrincipalKind.PERSON or by.id is None or by.limits is not None:
            return ()
        return await self._database.read(members.deleted_projects_of, by.id, by.groups, Role.PROJECT_ADMIN)

    async def restore_project(self, by: Principal, project_id: int, name: str | None = None) -> RestoredProject:
        """Bring a project back, with its members and robot accounts; ``name`` is another name for it.

        Raises Missing for those who may not, Invalid, and Conflict for a name that is in use again. Raises Forbidden if
        its owner has as many projects as one person may have.
        """
        await self._require(by, project_id)

        async def restore(transaction: Transaction) -> RestoredProject:
            found = await binned.find_project(transaction, project_id)
            if found is None:
                raise _no_project()
            if name is not None:
                checks.project_name(name, by_admin=by.administers)
            await self._require_place(transaction, by, found)
            target = name or found.name
            if not await binned.return_project(transaction, found, target):
                raise Conflict("there is a project %(name)s again; restore this one under another name", name=target)
            taken = await robots.show_of_project(transaction, project_id)
            return RestoredProject(project_id, target, taken)

        return await self._database.transact(restore)

    async def delete_project(self, by: Principal, project_id: int) -> DeletedProject:
        """Delete a project in the bin for good; raises Missing, also for those who may not."""
        await self._require(by, project_id)

        async def end(transaction: Transaction) -> DeletedProject:
            found = await binned.find_project(transaction, project_id)
            if found is None:
                raise _no_project()
            await removals.end_project(transaction, project_id)
            return found

        found = await self._database.transact(end)
        await empty_project(self._database, project_id)
        return found

    async def _require(self, by: Principal, project_id: int) -> None:
        # A limited key or a robot account never has this right.
        rights = await self._permissions.rights(by, project_id, public=False) if is_id(project_id) else frozenset()
        if DELETE_PROJECT not in rights:
            raise _no_project()

    async def _require_place(self, transaction: Transaction, by: Principal, found: DeletedProject) -> None:
        owned = None if found.owner_id is None else await projects.owned(transaction, found.owner_id)
        if owned is not None and owned >= self._policy.projects_per_person and not by.administers:
            raise Forbidden(
                "the owner of %(name)s has %(owned)s projects, the most that one person may have; delete one, or ask "
                "an administrator",
                name=found.name,
                owned=owned,
            )

    # -- copies

    async def drop_copies(self) -> None:
        """Drop the copies that this worker keeps of what any worker has deleted for good since the last look."""
        since, self._looked_at = self._looked_at, time.time()
        # The clocks of hosts differ, and a transaction commits later than it notes its time.
        await self._drop(await self._database.read(purged.since, since - 60.0))

    async def _drop(self, digests: Sequence[Digest]) -> None:
        for digest in digests:
            await self._payloads.forget(digest)


def _key(text: str) -> tuple[float, int]:
    """Parse a key; raises Invalid."""
    deleted_at, number = checks.position(text)
    if not (number.isascii() and number.isdigit() and is_id(int(number[:20]))):
        raise checks.no_position(text)
    return deleted_at, int(number)


def _gone() -> Missing:
    return Missing("this is no longer in the bin; it was restored, or deleted for good")


def _no_project() -> Missing:
    return Missing("there is no such project in the bin that you may restore")
