"""Notices, a week ahead, that a robot account or an access key expires: in the audit log and in the service's log.

All workers together give one notice of each, and another one if its expiry was moved past the week that notices were
given for. Pages mark it for its manager as well (`NOTICE_SECONDS`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from app.database import Database, Transaction, access_keys, audit, robots, settings
from app.kit.jobs import repeat

from .principal import Principal, PrincipalKind

NOTICE_SECONDS = 7 * 86400
_NOTICE_EVERY = 3600.0

log = logging.getLogger(__name__)


class Notices:
    """Gives notices; the database keeps the time up to which they were given, so this has no state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(self) -> list[audit.Note]:
        """Give notice of all that expires within a week. Return the new audit log entries; raises Unavailable."""
        given = []
        for noticed, find in _KINDS.items():
            async with self._database.transaction() as transaction:
                given += await _give(transaction, noticed, find)
        return given

    async def run(self) -> None:
        """Give notice every hour while the worker runs."""
        await repeat("notice of what expires", self.give, _NOTICE_EVERY, now=True)


# Finds what expires after one time and until another: an audit log entry and a line for the service's log for each.
_Find = Callable[[Transaction, float, float], Awaitable[Sequence[tuple[audit.Note, str]]]]


async def _give(transaction: Transaction, noticed: str, find: _Find) -> list[audit.Note]:
    # Several workers do this at once. The one whose swap succeeds moves the time on and gives these notices. The
    # others find another time than they read, and give none.
    now = time.time()
    before = await settings.keep(transaction, noticed, repr(now))
    until = max(now + NOTICE_SECONDS, float(before))
    if not await settings.swap(transaction, noticed, before, repr(until)):
        return []
    ending = await find(transaction, max(now, float(before)), until)
    await audit.add(transaction, [note for note, _ in ending])
    for _, line in ending:
        log.warning(line)
    return [note for note, _ in ending]


async def _robots(transaction: Transaction, after: float, until: float) -> list[tuple[audit.Note, str]]:
    ending = await robots.expiring(transaction, after, until)
    names = await robots.project_names(transaction, ending)
    return [
        (
            _note(
                PrincipalKind.ROBOT,
                robot.name,
                "robot",
                robot.name,
                robot.project_id,
                names.get(robot.project_id or 0, ""),
            ),
            f"the robot account {robot.name} expires on {_day(robot.expires_at)}; extend it if it is still needed",
        )
        for robot in ending
    ]


async def _keys(transaction: Transaction, after: float, until: float) -> list[tuple[audit.Note, str]]:
    return [
        (
            _note(PrincipalKind.PERSON, username, "access key", key.name),
            f"the access key {key.name!r} of {username} expires on {_day(key.expires_at)}; they can make another one",
        )
        for key, username in await access_keys.expiring(transaction, after, until)
    ]


_KINDS: Mapping[str, _Find] = {"robots_noticed_until": _robots, "access_keys_noticed_until": _keys}


def _note(
    kind: PrincipalKind, actor: str, resource_type: str, resource: str, project_id: int | None = None, project: str = ""
) -> audit.Note:
    subject = Principal(kind, actor).subject
    return audit.Note(time.time(), subject, "", "expiring", resource_type, resource, project_id, project)


def _day(expires_at: float | None) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(expires_at))
