"""Everything that is kept of a person: all of it in one document, or the account removed and the name gone.

The audit log outlives a person, because it also tells of others' projects. A pseudonym takes the name's place there.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from app.access.absence import Absence
from app.access.people import hand_over
from app.access.principal import Principal, PrincipalKind
from app.access.roles import Role
from app.database import (
    JOB_SECONDS,
    Database,
    Transaction,
    access_keys,
    accounts,
    audit,
    identities,
    members,
    personal_data,
    projects,
)
from app.database.accounts import Person

_AT_ONCE = 1000
# In seconds: when all workers have written notes of now, to the audit log and on requests.
_LATE_SECONDS = 7.0


class PersonalData:
    """Exports and erases what is kept of one person at a time."""

    def __init__(self, database: Database, absence: Absence, pseudonym: Callable[[str], str]) -> None:
        self._database = database
        self._absence = absence
        self._pseudonym = pseudonym

    async def export(self, username: str) -> dict[str, Any]:
        """Return all of a person's data as values of JSON; raises ValueError if there is no such account."""
        person = await self._find(username)
        subject, database = _subject(person.username), self._database
        keys = await database.read(access_keys.of_account, person.id)
        return {
            "account": asdict(person),
            "lasting_ids": sorted(await database.read(identities.of_account, person.id)),
            "memberships": await database.read(personal_data.memberships, person.id),
            "projects_owned": await database.read(personal_data.owned, person.id),
            "access_keys": [asdict(key) for key in keys],
            **await self._traces(person.username),
            "letters": await database.read(personal_data.letters_to, person.email),
            "requests": await database.read(personal_data.requests_of, subject),
            "audit_log": await self._audit_log(person.username),
        }

    async def erase(self, username: str, heir: str | None) -> str:
        """Remove an account with all that is kept of its person, and return the pseudonym in the audit log.

        ``heir`` is the user name of somebody who gets the projects that nobody else manages. Raises ValueError if there
        is no such account, if this is the last administrator, or if there are such projects and no heir.
        """
        person = await self._find(username)
        pseudonym = self._pseudonym(person.username)
        await self._database.transact(lambda transaction: self._require_removable(transaction, person, heir))
        # The names come first, so that a command that was stopped can be repeated. The present name tells the others.
        await self._hide(person, pseudonym)
        await self._database.transact(lambda transaction: self._remove(transaction, person, heir))
        # By now every worker has written what it noted of this person before.
        await asyncio.sleep(_LATE_SECONDS)
        await self._hide(person, pseudonym)
        return pseudonym

    async def _hide(self, person: Person, pseudonym: str) -> None:
        for name, until in await self._names(person.username):
            number = _AT_ONCE
            while number:
                async with self._database.transaction(JOB_SECONDS) as transaction:
                    number = await audit.hide_person(transaction, name, pseudonym, until, _AT_ONCE)
            for trace in personal_data.TRACES.values():
                told = str if trace.only_name else _subject
                async with self._database.transaction(JOB_SECONDS) as transaction:
                    await personal_data.hide(transaction, trace, told(name), told(pseudonym), until)
        async with self._database.transaction(JOB_SECONDS) as transaction:
            await personal_data.erase(transaction, _subject(person.username), person.email)

    async def _names(self, username: str) -> list[tuple[str, float]]:
        """Return a person's names, the present one last, each with when it was given up, in Unix seconds.

        The former ones come from the audit log's entries of the present one.
        """
        return [*await self._database.read(audit.former_names, username), (username, math.inf)]

    async def _traces(self, username: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {key: [] for key in personal_data.TRACES}
        for name, until in await self._names(username):
            traces = await self._database.read(personal_data.traces, _subject(name), name, until)
            for key, rows in traces.items():
                found[key] += rows
        return found

    async def _find(self, username: str) -> Person:
        person = await self._database.read(accounts.person_by_name, username)
        if person is None:
            raise ValueError(f"there is no account {username!r}")
        return person

    async def _audit_log(self, username: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for name, until in await self._names(username):
            last = 0
            while entries := await self._database.read(audit.of_person, name, last, _AT_ONCE):
                found += [asdict(one) for one in entries if one.at < until]
                last = entries[-1].id
        return sorted(found, key=lambda entry: entry["id"])

    async def _require_removable(
        self, transaction: Transaction, person: Person, heir: str | None
    ) -> tuple[Person | None, list[int]]:
        """Return who gets which projects; raises ValueError as `erase` does."""
        if person.is_admin and not await accounts.other_admins(transaction, person.id):
            raise ValueError(f"{person.username} is the last administrator; make another one first")
        left = await members.left_without(transaction, person.id, Role.PROJECT_ADMIN)
        following = await accounts.person_by_name(transaction, heir) if heir is not None else None
        if left and (following is None or following.id == person.id):
            names = ", ".join(await projects.names(transaction, left))
            raise ValueError(f"nobody else manages {names}; name somebody with an account who gets this: --to USERNAME")
        return following, left

    async def _remove(self, transaction: Transaction, person: Person, heir: str | None) -> None:
        following, left = await self._require_removable(transaction, person, heir)
        await accounts.remove(transaction, person.id)
        if following is not None:
            for project_id in left:
                await hand_over(transaction, project_id, following.id)
                await self._absence.recheck(transaction, project_id)


def _subject(name: str) -> str:
    return Principal(PrincipalKind.PERSON, name).subject
