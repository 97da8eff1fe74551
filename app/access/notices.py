"""Tells, a week ahead, which robot accounts and access keys end: in the audit log and in the service's log.

Each is told of once on all workers, and again where its last day was moved. Whoever looks after one sees it marked on
its page as well (`NOTICE_SECONDS`).
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
    """Holds no state of its own: up to which last day notice was given stands in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(self) -> list[audit.Note]:
        """Give notice of all that ends within a week; answers what was put in the audit log. Raises Unavailable."""
        given = []
        for noticed, find in _KINDS.items():
            async with self._database.transaction() as transaction:
                given += await _give(transaction, noticed, find)
        return given

    async def run(self) -> None:
        """Give notice every hour, for as long as the worker lives."""
        await repeat("notice of what expires", self.give, _NOTICE_EVERY, now=True)


# What ends, past one time and up to another: the audit log's entry of it and the line for the service's log.
_Find = Callable[[Transaction, float, float], Awaitable[Sequence[tuple[audit.Note, str]]]]


async def _give(transaction: Transaction, noticed: str, find: _Find) -> list[audit.Note]:
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
            f"the robot account {robot.name} expires on {_day(robot.expires_at)}; its project can prolong it",
        )
        for robot in ending
    ]


async def _keys(transaction: Transaction, after: float, until: float) -> list[tuple[audit.Note, str]]:
    return [
        (
            _note(PrincipalKind.PERSON, username, "access key", key.name),
            f"the access key {key.name!r} of {username} expires on {_day(key.expires_at)}; they can make another",
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
