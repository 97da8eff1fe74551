"""Notices, 14 and 2 days ahead, of what ends: in the audit log, in the service's log, and by mail if there is a server.

    an access key       expires                                its person
    a person's keys     stop, because the person is absent     the person
    a robot account     expires                                the project admins; the administrators for the system's
    a project's robots  stop, because nobody manages it        the project admins and the administrators

All workers together give each notice once for each end and term, and a restart gives none again. The row of a notice,
its audit entry and its letters are one transaction. If an end is moved, the new one gets notices of its own. Pages mark
what expires soon as well (`NOTICE_SECONDS`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from app.database import JOB_SECONDS, Database, Transaction, audit, letters, notices, robots
from app.database.notices import Ending
from app.kit.jobs import repeat

from .absence import HANDING_OVER_SECONDS, Absence
from .letters import Draft, Letters, day, is_address
from .principal import SERVICE, Principal, PrincipalKind
from .roles import Role

_DAY = 86400
# In days; the longest first.
TERMS = (14, 2)
NOTICE_SECONDS = TERMS[0] * _DAY
_NOTICE_EVERY = 3600.0
_AT_ONCE = 200
_MOST_READERS = 20

log = logging.getLogger(__name__)

# Finds what ends after one time and until another, and has no notice of so many days: up to a number.
_Find = Callable[[Transaction, float, float, int, int], Awaitable[list[Ending]]]


@dataclass(frozen=True, slots=True)
class _Told:
    """A notice: the entry for the audit log, the line for the service's log, and who gets which letter."""

    note: audit.Note
    line: str
    readers: list[str]
    draft: Draft


_Tell = Callable[[Transaction, Ending], Awaitable[_Told]]


class Notices:
    """Gives notices; the database keeps which were given, so this has no state."""

    def __init__(
        self,
        database: Database,
        absence: Absence,
        letters: Letters | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Write letters as well, if ``letters`` are given."""
        self._database = database
        self._absence = absence
        self._letters = letters
        self._drafts = letters or Letters("")
        self._clock = clock

    async def give(self) -> list[audit.Note]:
        """Give all notices that are due. Return the new entries of the audit log; raises Unavailable."""
        given: list[audit.Note] = []
        for kind, find, tell in self._kinds():
            for days, (least, most) in zip(TERMS, _windows(), strict=True):
                found = _AT_ONCE
                while found == _AT_ONCE:
                    async with self._database.transaction(JOB_SECONDS, answers=False) as transaction:
                        now = self._clock()
                        endings = await find(transaction, now + least, now + most, days, _AT_ONCE)
                        ours = [one for one in endings if await notices.give(transaction, kind, one, days)]
                        given += [await self._give(transaction, await tell(transaction, one)) for one in ours]
                    found = len(endings)
        async with self._database.transaction(JOB_SECONDS, answers=False) as transaction:
            await notices.forget(transaction, self._clock() - _DAY)
        return given

    async def run(self) -> None:
        """Give notice every hour while the worker runs."""
        await repeat("notice of what expires", self.give, _NOTICE_EVERY, now=True)

    def _kinds(self) -> Iterator[tuple[str, _Find, _Tell]]:
        yield "key", notices.keys, self._of_key
        yield "robot", notices.robot_accounts, self._of_robot
        yield "project", partial(notices.projects, robots_after=HANDING_OVER_SECONDS), self._of_project
        if self._absence.days is not None:
            yield "person", partial(notices.people, absent_after=self._absence.days * _DAY), self._of_person

    async def _give(self, transaction: Transaction, told: _Told) -> audit.Note:
        await audit.add(transaction, [told.note])
        log.warning(told.line)
        if self._letters is not None:
            for address in filter(is_address, told.readers):
                await letters.add(transaction, address, told.draft.subject, told.draft.text, self._clock())
        return told.note

    async def _of_key(self, _: Transaction, key: Ending) -> _Told:
        line = f"the access key {key.name!r} of {key.username} expires on {day(key.ends_at)}; they can make another one"
        note = self._note(Principal(PrincipalKind.PERSON, key.username), "access key", key.name)
        return _Told(note, line, [key.email], self._drafts.key(key))

    async def _of_person(self, _: Transaction, person: Ending) -> _Told:
        ends = day(person.ends_at)
        line = f"the access keys of {person.username} stop on {ends}, because they have not logged in for long"
        note = self._note(Principal(PrincipalKind.PERSON, person.username), "account", person.username)
        return _Told(note, line, [person.email], self._drafts.person(person))

    async def _of_robot(self, transaction: Transaction, robot: Ending) -> _Told:
        number = robot.project_id or 0
        project = (await robots.project_names(transaction, [number])).get(number, "")
        note = self._note(Principal(PrincipalKind.ROBOT, robot.name), "robot", robot.name, robot.project_id, project)
        line = f"the robot account {robot.name} expires on {day(robot.ends_at)}; extend it if it is still needed"
        readers = await notices.addresses(transaction, robot.project_id, Role.PROJECT_ADMIN, _MOST_READERS)
        return _Told(note, line, readers, self._drafts.robot(robot, project))

    async def _of_project(self, transaction: Transaction, project: Ending) -> _Told:
        note = self._note(SERVICE, "project", project.name, project.project_id, project.name)
        ends = day(project.ends_at)
        line = f"the robot accounts of {project.name} stop on {ends}, because nobody manages it; hand it over"
        readers = {
            address
            for of in (project.id, None)
            for address in await notices.addresses(transaction, of, Role.PROJECT_ADMIN, _MOST_READERS)
        }
        return _Told(note, line, sorted(readers), self._drafts.project(project))

    def _note(
        self, actor: Principal, resource_type: str, resource: str, project_id: int | None = None, project: str = ""
    ) -> audit.Note:
        return audit.Note(self._clock(), actor.subject, "", "expiring", resource_type, resource, project_id, project)


def _windows() -> list[tuple[int, int]]:
    """Return for each term how many seconds ahead its notices are due: at least, and at most."""
    return [(least * _DAY, most * _DAY) for most, least in zip(TERMS, (*TERMS[1:], 0), strict=True)]
