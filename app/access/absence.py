"""Absence: what ends if a person has not logged in for long, because they may have left.

Somebody is present who has logged in during `access.absent_days`, in a browser or through the university. A key, a
robot account or a password on the command line is no sign of a person. The account of an absent person stays.

    an access key       is refused until its person has logged in once
    a project           is marked if all its project admins are absent, disabled or gone; administrators see a list
    its robot accounts  are refused `HANDING_OVER_SECONDS` after the mark, until somebody manages the project again

A log-in of a project admin lifts the mark at once, and so does a new project admin.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from app.database import JOB_SECONDS, Database, Transaction, attendance
from app.kit.jobs import repeat

from .roles import Role

_DAY = 86400
HANDING_OVER_SECONDS = 14 * _DAY
_LOOK_EVERY = 3600.0
_AT_ONCE = 200

log = logging.getLogger(__name__)


class Absence:
    """The rule, and the job that marks projects; ``days`` is None if nobody ever counts as absent."""

    def __init__(self, days: int | None, clock: Callable[[], float] = time.time) -> None:
        self.days = days
        self._clock = clock

    def begins(self, seen_at: float | None) -> float | None:
        """Return the time from which somebody counts as absent who was last seen then, None for never."""
        return None if self.days is None or seen_at is None else seen_at + self.days * _DAY

    def is_absent(self, seen_at: float | None) -> bool:
        """Return whether somebody is absent who was last seen then (Unix seconds); None is for never counted yet."""
        begins = self.begins(seen_at)
        return begins is not None and begins <= self._clock()

    async def recheck(self, transaction: Transaction, project_id: int) -> None:
        """Lift the mark of a project that has somebody again."""
        if await attendance.marked(transaction, [project_id]) and not await self._left_alone(transaction, [project_id]):
            await attendance.mark(transaction, [project_id], None)

    async def look(self, database: Database) -> int:
        """Mark the projects that nobody manages, lift the other marks, and return how many are new; raises Unavailable.

        Any number of workers may do this at once.
        """
        number, last = 0, 0
        while True:
            async with database.reading(JOB_SECONDS) as transaction:
                ids = await attendance.batch(transaction, last, _AT_ONCE)
                changed = await self._left_alone(transaction, ids) ^ await attendance.marked(transaction, ids)
            if not ids:
                return number
            last = ids[-1]
            if changed:
                async with database.transaction(JOB_SECONDS, answers=False) as transaction:
                    # Looked at again, because somebody may have come back since.
                    alone = await self._left_alone(transaction, changed)
                    number += len(await attendance.mark(transaction, alone, self._clock()))
                    await attendance.mark(transaction, changed - alone, None)

    async def run(self, database: Database) -> None:
        """Look every hour while the worker runs."""
        await repeat("looking for projects that nobody manages", lambda: self.look(database), _LOOK_EVERY, now=True)

    async def _left_alone(self, transaction: Transaction, project_ids: Collection[int]) -> set[int]:
        after = 0.0 if self.days is None else self._clock() - self.days * _DAY
        return await attendance.left_alone(transaction, project_ids, Role.PROJECT_ADMIN, after)


async def attend(transaction: Transaction, account_id: int, groups: Collection[str]) -> None:
    """Lift the marks of the projects that a person manages who has just logged in."""
    await attendance.attend(transaction, account_id, groups, Role.PROJECT_ADMIN)
