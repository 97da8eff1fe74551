"""People's accounts: made at the first university log-in, updated at later ones, disabled, removed.

An account is either the university's or one with a local password. Neither way can ever log in to the other's accounts.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.database import Database, Transaction, accounts, identities, members, projects
from app.database.accounts import AccountSource, Person
from app.database.text import folded
from app.kit.ids import is_id
from app.oci.errors import Denied

from .absence import Absence, attend
from .errors import Forbidden, Invalid, Missing, PreconditionFailed
from .principal import Principal, PrincipalKind
from .roles import Role
from .sessions import Sessions


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as the university describes them. ``is_admin`` is None if no rule says who is an admin.

    ``lasting``: attributes with their values (`app.database.identities`) that never pass to anybody else. It is None
    if the configuration knows no such attribute.
    """

    username: str
    full_name: str
    email: str
    groups: tuple[str, ...]
    is_admin: bool | None
    lasting: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A person who has logged in. ``changes`` lists the effects on their account: create, promote, demote.

    ``former`` is the name that the account had until now, if it has another one.
    """

    person: Person
    changes: tuple[str, ...]
    former: str | None = None


class People:
    """Everybody's accounts. Every principal is read from the database again, so that a change shows at once."""

    def __init__(self, database: Database, sessions: Sessions, robot_prefix: str, absence: Absence) -> None:
        self._absence = absence
        self._database = database
        self._sessions = sessions
        self._robot_prefix = robot_prefix

    async def signed_in(self, identity: Identity) -> SignedIn:
        """Make or update the account of a person whom the university has identified.

        Raises Unavailable, and Denied with the reason for the log if the name is not theirs or the account is disabled.
        """
        if identity.username.startswith(self._robot_prefix):
            raise Denied(
                "%(name)r begins with the prefix of robot accounts (%(prefix)r)",
                name=identity.username,
                prefix=self._robot_prefix,
            )
        return await self._database.transact(lambda transaction: _follow(transaction, identity))

    def check_name(self, username: str) -> None:
        """Raise Invalid for a user name that looks like a robot account's."""
        if folded(username).startswith(self._robot_prefix):
            raise Invalid(
                "a user name must not begin with the prefix of robot accounts (%(prefix)r)", prefix=self._robot_prefix
            )

    async def noted(self, account_id: int) -> None:
        """Note that a person has logged in with a local password in a browser; raises Unavailable."""

        async def note(transaction: Transaction) -> None:
            person = await accounts.person(transaction, account_id)
            if person is not None:
                await accounts.note_login(transaction, person)
                await attend(transaction, account_id, person.groups)

        await self._database.transact(note)

    async def principal_of(self, account_id: int, generation: int) -> Principal | None:
        """Return the present principal of a person with a session of this generation; raises Unavailable.

        None if the account is disabled or gone, or if its sessions of that generation have ended.
        """
        found = await accounts.standing(self._database, account_id)
        if found is None or found.disabled or found.generation != generation:
            return None
        return Principal(
            PrincipalKind.PERSON,
            found.username,
            found.is_admin,
            account_id,
            frozenset(found.groups),
            generation=generation,
        )

    async def set_disabled(self, by: Principal, account_id: int, *, disabled: bool) -> Person:
        """Disable a person's account, and so their keys, or enable it again; either ends their sessions.

        Raises as `remove` does.
        """

        async def change(transaction: Transaction) -> Person:
            person = await _found(transaction, account_id)
            if disabled:
                await _require_another(transaction, by, person)
            await accounts.set_disabled(transaction, account_id, disabled=disabled)
            return person

        changed = await self._database.transact(change)
        await self._sessions.forget(account_id)
        return changed

    async def set_admin(self, by: Principal, account_id: int, *, is_admin: bool) -> Person:
        """Make a person an admin, or take that from them; raises as `remove` does.

        If rules say who is an admin, the next university log-in applies them again.
        """

        async def change(transaction: Transaction) -> Person:
            person = await _found(transaction, account_id)
            if not is_admin:
                await _require_another(transaction, by, person)
            await accounts.change(transaction, account_id, is_admin=is_admin)
            return person

        return await self._database.transact(change)

    async def remove(self, by: Principal, account_id: int) -> Person:
        """Remove an account with its keys and memberships, and return whose it was; its projects stay.

        A project whose last project admin this was is handed over: ``by`` becomes its owner and project admin. Raises
        Missing, Forbidden for the caller's own account, PreconditionFailed for the last administrator's, and
        Unavailable.
        """

        async def remove(transaction: Transaction) -> Person:
            person = await _found(transaction, account_id)
            await _require_another(transaction, by, person)
            left = await members.left_without(transaction, account_id, Role.PROJECT_ADMIN)
            await accounts.remove(transaction, account_id)
            for project_id in left:
                if by.id is None:
                    break
                await hand_over(transaction, project_id, by.id)
                await self._absence.recheck(transaction, project_id)
            return person

        removed = await self._database.transact(remove)
        await self._sessions.forget(account_id)
        return removed


async def _found(transaction: Transaction, account_id: int) -> Person:
    found = await accounts.person(transaction, account_id) if is_id(account_id) else None
    if found is None:
        raise Missing("there is no user with the id %(number)s", number=account_id)
    return found


async def _require_another(transaction: Transaction, by: Principal, person: Person) -> None:
    """Raise Forbidden or PreconditionFailed if nobody could undo the change."""
    if person.id == by.id:
        raise Forbidden("you cannot do this to your own account; ask another administrator")
    if person.is_admin and not person.disabled and not await accounts.other_admins(transaction, person.id):
        raise PreconditionFailed(
            "%(name)s is the last administrator; make another user an administrator first", name=person.username
        )


async def hand_over(transaction: Transaction, project_id: int, account_id: int) -> None:
    """Make a person the owner and a project admin of a project that nobody else manages."""
    own = await members.of_account(transaction, project_id, account_id)
    if own is None:
        await members.add(transaction, project_id, Role.PROJECT_ADMIN, account_id=account_id)
    else:
        await members.set_role(transaction, own.id, Role.PROJECT_ADMIN)
    await projects.set_owner(transaction, project_id, account_id)


async def _follow(transaction: Transaction, identity: Identity) -> SignedIn:
    found = await _recognise(transaction, identity)
    made = found is None and await accounts.make(
        transaction,
        identity.username,
        full_name=identity.full_name,
        email=identity.email,
        groups=identity.groups,
        is_admin=bool(identity.is_admin),
    )
    known = found or await accounts.person_by_name(transaction, identity.username)
    if known is None or known.source != AccountSource.SAML:
        raise Denied("%(name)r is a local account; log in with its password", name=identity.username)
    if known.disabled:
        raise Denied("the account %(name)r is disabled", name=identity.username)
    if identity.lasting:
        await identities.keep(transaction, known.id, identity.lasting)
    # An account of an older release keeps its capitals.
    former = known.username if folded(known.username) != identity.username else None
    if former is not None:
        await accounts.rename(transaction, known, identity.username)
    values: dict[str, object] = {
        "full_name": identity.full_name,
        "email": identity.email,
    }
    if identity.groups != known.groups:
        values["groups"] = list(identity.groups)
    if identity.is_admin not in (None, known.is_admin):
        values["is_admin"] = identity.is_admin
    await accounts.note_login(transaction, known, **values)
    await attend(transaction, known.id, identity.groups)
    changes = ["create"] if made else []
    before = known.is_admin and not made
    if (after := bool(values.get("is_admin", known.is_admin))) is not before:
        changes.append("promote" if after else "demote")
    return SignedIn(await accounts.person(transaction, known.id) or known, tuple(changes), former)


async def _recognise(transaction: Transaction, identity: Identity) -> Person | None:
    """Return the account of a person: by what lasts, and by the name if nothing that lasts is known of its account.

    Raise Denied if the name is another person's, or if that cannot be told.
    """
    owners = await identities.owners(transaction, identity.lasting or ())
    if len(owners) > 1:
        raise Denied("%(name)r has lasting ids of several accounts", name=identity.username)
    named = await accounts.person_by_name(transaction, identity.username)
    if owners:
        known = await accounts.person(transaction, owners.pop())
        if known is not None and named is not None and named.id != known.id:
            raise Denied(
                "%(former)r is called %(name)r now, and there is another account of that name; remove or erase it",
                former=known.username,
                name=identity.username,
            )
        return known
    if named is None or identity.lasting is None or not await identities.of_account(transaction, named.id):
        return named
    if identity.lasting:
        raise Denied(
            "%(name)r is the account of somebody with another lasting id; if it is the same person, run admin "
            "forget-identities",
            name=identity.username,
        )
    raise Denied(
        "the university sent no lasting id for %(name)r, whose account has one; see saml.lasting_ids",
        name=identity.username,
    )
