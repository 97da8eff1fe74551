"""Fill columns of rows that are older than the columns, in batches, while every worker goes on working.

A step of the schema takes milliseconds: it adds a column with a default, and touches no row of a large table. It puts
the name of a back-fill into ``setting``, and the workers then bring the old rows up to date. Old and new code work with
rows that are not filled yet.

The row in ``setting`` says how far a back-fill has come, and is its lease. A batch locks that row, so one worker at a
time does a batch, and any worker resumes where another one was killed. A batch is a short transaction on a few rows.
A back-fill without ids has an index of the rows that are left, and takes the first of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

from sqlalchemy import delete, func, select, update

from app.kit.jobs import repeat

from . import uncharged
from .engine import Database, Transaction
from .tables import account, audit, project, setting
from .text import END_OF_NAMES

# Until an upgrade has ended, workers of the older release write rows that are not filled.
_FOLLOW_SECONDS = 3600.0
_LOOK_SECONDS = 60.0
_LOG_SECONDS = 10.0
_BATCH = 1000

log = logging.getLogger(__name__)


# Fills the next rows after a position; returns the new position, and the last one as far as it is known.
Backfill = Callable[[Transaction, int], Awaitable[tuple[int, int]]]


class Backfills:
    """Does the back-fills that the steps of the schema have asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopping = False
        self._logged = 0.0

    async def run(self) -> None:
        """Look for a back-fill every minute, and work on it, until cancelled."""
        job = asyncio.create_task(repeat("filling in older rows", self.work, _LOOK_SECONDS, now=True))
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:
            # A run may take hours; it ends after the batch under way.
            self._stopping = True
            job.cancel()
            await job

    async def work(self) -> None:
        """Do the back-fills as far as there are rows now; raises Unavailable."""
        for name in await self._asked():
            began = time.monotonic()
            while not self._stopping and await self._batch(name):
                # As long again, so that others get their turn on a database with one writer.
                await asyncio.sleep(time.monotonic() - began)
                began = time.monotonic()

    async def _asked(self) -> list[str]:
        here = select(setting.c.name).where(setting.c.name.in_([_key(name) for name in BACKFILLS]))
        async with self._database.reading() as transaction:
            found = set((await transaction.execute(here)).scalars())
        return [name for name in BACKFILLS if _key(name) in found]

    async def _batch(self, name: str) -> bool:
        """Fill the next few rows; return False if there are none, or another worker fills them."""
        mine = setting.c.name == _key(name)
        async with self._database.transaction() as transaction:
            lease = select(setting.c.value).where(mine).with_for_update(skip_locked=True)
            state = (await transaction.execute(lease)).scalar()
            if state is None:
                return False
            done, until = _read(state)
            end, last = await BACKFILLS[name](transaction, done)
            if end == last:
                until = until or time.time() + _FOLLOW_SECONDS
            if until is not None and time.time() >= until:
                await transaction.execute(delete(setting).where(mine))
            else:
                await transaction.execute(update(setting).where(mine).values(value=_spelled(end, until)))
        self._tell(name, end, last)
        return end < last

    def _tell(self, name: str, end: int, last: int) -> None:
        if end == last or time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            log.info("back-fill %s: %d of %d", name, end, last)


async def _fill_log(transaction: Transaction, done: int) -> tuple[int, int]:
    last = int((await transaction.execute(select(func.max(audit.c.id)))).scalar() or 0)
    end = min(done + _BATCH, last)
    if end > done:
        await _name_projects(transaction, done, end)
    return end, last


async def _charge(transaction: Transaction, done: int) -> tuple[int, int]:
    # Nobody counts the rows that are left; there is one more until there is none.
    charged = await uncharged.charge_some(transaction)
    return done + charged, done + charged + bool(charged)


async def _see_everybody(transaction: Transaction, done: int) -> tuple[int, int]:
    # So nobody loses their keys at once after an upgrade. A row without a time counts as seen (`app.access.absence`).
    last = int((await transaction.execute(select(func.max(account.c.id)))).scalar() or 0)
    end = min(done + _BATCH, last)
    here = (account.c.id > done, account.c.id <= end, account.c.seen_at.is_(None))
    await transaction.execute(update(account).where(*here).values(seen_at=time.time()))
    return end, last


async def _name_projects(transaction: Transaction, after: int, last: int) -> None:
    """Give audit entries the name of their project: its present one, or the one under which it was made or deleted."""
    # By its length, so that no database walks along the index by name, through everything that has no name yet.
    lacks = func.length(audit.c.project_name) == 0
    here = (audit.c.id > after, audit.c.id <= last, audit.c.project_id.is_not(None), lacks)
    ids = (await transaction.execute(select(audit.c.project_id).where(*here).distinct())).scalars().all()
    for project_id, name in sorted((await _names(transaction, ids)).items()):
        statement = update(audit).where(*here, audit.c.project_id == project_id)
        await transaction.execute(statement.values(project_name=name))


async def _names(transaction: Transaction, ids: Collection[int]) -> Mapping[int, str]:
    there = select(project.c.id, project.c.name).where(project.c.id.in_(ids), project.c.name < END_OF_NAMES)
    found: dict[int, str] = {row[0]: row[1] for row in await transaction.execute(there)}
    for project_id in set(ids) - found.keys():
        # Nearly always the newest entry of a project that is gone: its removal.
        told = select(audit.c.resource_type, audit.c.resource).where(audit.c.project_id == project_id)
        newest = (await transaction.execute(told.order_by(audit.c.id.desc()).limit(_BATCH))).all()
        name = next((resource for kind, resource in newest if kind == "project"), None)
        if name is not None:
            found[project_id] = name
    return found


BACKFILLS: Mapping[str, Backfill] = {
    "audit.project_name": _fill_log,
    "charged_bytes": _charge,
    "account.seen_at": _see_everybody,
}


def _key(name: str) -> str:
    return f"backfill {name}"


def _read(state: str) -> tuple[int, float | None]:
    """Return the id up to which rows are filled, and until when new rows are looked at; "" is the beginning."""
    done, until = json.loads(state) if state else (0, None)
    return int(done), until


def _spelled(done: int, until: float | None) -> str:
    return json.dumps([done, until])
