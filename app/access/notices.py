"""Tells, a week ahead, which robot accounts and access keys end: in the audit log and in the service's log.

Each is told of once on all workers, and again where its last day was moved. Whoever looks after one sees it marked on
its page as well (`NOTICE_SECONDS`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from app.database import Database, Transaction, access_keys, audit, robots, settings
from app.oci.errors import OCIError

from .principal import Kind, Principal

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
        while True:
            try:
                await self.give()
            except OCIError as error:
                log.warning("notice of what expires put off: %s", error)
            await asyncio.sleep(_NOTICE_EVERY)


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
            audit.Note(
                time.time(),
                _subject(Kind.ROBOT, one.name),
                "",
                "expiring",
                "robot",
                one.name,
                one.project_id,
                names.get(one.project_id or 0, ""),
            ),
            f"the robot account {one.name} expires on {_day(one.expires_at)}; its project can prolong it",
        )
        for one in ending
    ]


async def _keys(transaction: Transaction, after: float, until: float) -> list[tuple[audit.Note, str]]:
    return [
        (
            audit.Note(time.time(), _subject(Kind.PERSON, username), "", "expiring", "access key", key.name, None),
            f"the access key {key.name!r} of {username} expires on {_day(key.expires_at)}; they can make another",
        )
        for key, username in await access_keys.expiring(transaction, after, until)
    ]


_KINDS: Mapping[str, _Find] = {"robots_noticed_until": _robots, "access_keys_noticed_until": _keys}


def _subject(kind: Kind, name: str) -> str:
    return Principal(kind, name).subject


def _day(expires_at: float | None) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(expires_at))
