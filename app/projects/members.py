"""Manage the members of projects: people and groups with a role."""

from __future__ import annotations

from app.access.absence import Absence
from app.access.errors import Conflict, Missing, PreconditionFailed
from app.access.people import hand_over
from app.access.principal import Principal, PrincipalKind
from app.access.roles import Role
from app.database import Database, Transaction, accounts, members, projects
from app.database.members import Member
from app.database.text import storable
from app.kit.ids import is_id
from app.oci.errors import Term

from . import checks
from .viewers import highest, viewer_of


class Members:
    """Members of projects; a project keeps at least one project admin."""

    def __init__(self, database: Database, absence: Absence) -> None:
        self._database = database
        self._absence = absence

    async def find(self, project_id: int, member_id: int) -> Member:
        """Read a member of this project; raises Missing."""
        return await self._database.read(_find, project_id, member_id)

    async def own(self, project_id: int, principal: Principal) -> Member | None:
        """Find a person's own membership, which they may leave; None if they belong by a group or not at all."""
        if principal.kind is not PrincipalKind.PERSON or principal.id is None:
            return None
        return await self._database.read(members.of_account, project_id, principal.id)

    async def role(self, project_id: int, principal: Principal) -> Role | None:
        """Return a person's highest role, of their own or by a group, for display; rights come from Permissions."""
        found = await self._database.read(projects.roles, viewer_of(principal), [project_id])
        return highest(found.get(project_id, ()))

    async def add_person(self, project_id: int, username: str, role: Role) -> Member:
        """Make a person a member; raises Invalid, Missing if they have no account, Conflict if they are a member."""
        username = checks.word(username, Term("user name"))

        async def add(transaction: Transaction) -> Member:
            account = await accounts.find(transaction, username) if storable(username) else None
            if account is None:
                raise _no_account(username)
            return await self._add(transaction, project_id, role, account.username, account_id=account.id)

        return await self._database.transact(add)

    async def add_group(self, project_id: int, group: str, role: Role) -> Member:
        """Make a group a member, even if none of its people has logged in yet.

        Raises Invalid, Missing, Conflict if the group is a member.
        """
        group = checks.word(group, Term("group"))

        async def add(transaction: Transaction) -> Member:
            return await self._add(transaction, project_id, role, group, group=group)

        return await self._database.transact(add)

    async def set_role(self, project_id: int, member_id: int, role: Role, *, by: Principal | None = None) -> Member:
        """Change a member's role; raises Missing, PreconditionFailed for the last project admin.

        An administrator (``by``) may do that: the project is handed over to them.
        """

        async def change(transaction: Transaction) -> Member:
            member = await _find(transaction, project_id, member_id)
            if role is not Role.PROJECT_ADMIN:
                await _replace(transaction, member, by)
            await members.set_role(transaction, member_id, role)
            await self._absence.recheck(transaction, project_id)
            return await _find(transaction, project_id, member_id)

        return await self._database.transact(change)

    async def remove(self, project_id: int, member_id: int, *, by: Principal | None = None) -> Member:
        """Remove a member; raises as `set_role` does."""

        async def remove(transaction: Transaction) -> Member:
            member = await _find(transaction, project_id, member_id)
            await _replace(transaction, member, by)
            await members.remove(transaction, member_id)
            return member

        return await self._database.transact(remove)

    async def hand_over(self, project_id: int, username: str) -> Member:
        """Make a person the owner and a project admin; raises Invalid, and Missing if they have no account."""
        username = checks.word(username, Term("user name"))

        async def give(transaction: Transaction) -> Member:
            there = await projects.keep(transaction, project_id, None)
            if not there:
                raise Missing("the project has been deleted")
            account = await accounts.find(transaction, username) if storable(username) else None
            if account is None:
                raise _no_account(username)
            await hand_over(transaction, project_id, account.id)
            await self._absence.recheck(transaction, project_id)
            given = await members.of_account(transaction, project_id, account.id)
            assert given is not None  # noqa: S101  # of this transaction
            return given

        return await self._database.transact(give)

    async def _add(
        self,
        transaction: Transaction,
        project_id: int,
        role: Role,
        name: str,
        *,
        account_id: int | None = None,
        group: str | None = None,
    ) -> Member:
        there = await projects.keep(transaction, project_id, None)
        if not there:
            raise Missing("the project has been deleted")
        member_id = await members.add(transaction, project_id, role, account_id=account_id, group=group)
        if member_id is None:
            raise Conflict("%(name)s is a member already; change the role instead", name=name)
        await self._absence.recheck(transaction, project_id)
        return await _find(transaction, project_id, member_id)


async def _find(transaction: Transaction, project_id: int, member_id: int) -> Member:
    found = await members.find(transaction, project_id, member_id) if is_id(member_id) else None
    if found is None:
        raise Missing("there is no such member in this project")
    return found


async def _replace(transaction: Transaction, member: Member, by: Principal | None) -> None:
    """Hand the project over to the administrator who takes its last project admin, or raise PreconditionFailed."""
    if member.role != Role.PROJECT_ADMIN:
        return
    if await members.others_with_role(transaction, member.project_id, Role.PROJECT_ADMIN, member.id):
        return
    if by is None or not by.administers:
        raise PreconditionFailed(
            "%(name)s is the last project admin; make somebody else one first, or ask an administrator",
            name=member.name,
        )
    # An administrator who leaves wants nothing handed over. The project is the operators' then.
    if by.id is not None and by.id != member.account_id:
        await hand_over(transaction, member.project_id, by.id)


def _no_account(username: str) -> Missing:
    return Missing("there is no account %(username)r; this person must log in once first", username=username)
