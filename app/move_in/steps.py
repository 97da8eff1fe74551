"""The loop that every kind of row goes through: compare Harbor's rows with what was moved, and write the difference."""

from __future__ import annotations

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from app.database import JOB_SECONDS, Database, Transaction, moved
from app.database.harbor import Row
from app.database.moved import Moved

from .report import CannotMoveError, Report

_BATCH = 500
_END = 2**62
_LOG_SECONDS = 10.0

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Row)


@dataclass(slots=True)
class Known:
    """The rows that later steps need of earlier ones, by Harbor's ids. Ids of ours are 0 in a dry run."""

    people: dict[int, int] = field(default_factory=dict)
    usernames: dict[int, str] = field(default_factory=dict)
    # Our id, the name, and whether it is a cache.
    projects: dict[int, tuple[int, str, bool]] = field(default_factory=dict)
    # Our id, and Harbor's project.
    repositories: dict[int, tuple[int, int]] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)
    # Artifacts that did not move in this run.
    refused: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Change(Generic[R]):
    """A row that is new or was changed: ``was`` is what was moved of it before, ``plan`` what its step needs."""

    row: R
    was: Moved | None
    plan: Any = None

    @property
    def before(self) -> Mapping[str, Any]:
        """Return Harbor's row as it was moved before."""
        return json.loads(self.was.state) if self.was is not None else {}


class Step(ABC, Generic[R]):
    """One kind of row."""

    kind: str
    batch = _BATCH
    # The reason why `write` leaves a row out.
    left_out = "what it belongs to does not move, or is newer than this run"

    @abstractmethod
    async def read(self, after: int, limit: int) -> Sequence[R]:
        """Return Harbor's next rows by id."""

    @abstractmethod
    async def check(self, change: Change[R], report: Report) -> Change[R] | None:
        """Return a change that can be written, with its plan, None if nothing is to be done; raises CannotMoveError.

        It writes nothing.
        """

    async def plan(self, changes: Sequence[Change[R]], report: Report) -> Sequence[Change[R]]:
        """Return the changes of a batch that can be written, and report the others."""
        planned = []
        for change in changes:
            try:
                checked = await self.check(change, report)
            except CannotMoveError as error:
                self.refused(change.row)
                report.refuse(self.kind, self.name(change.row), str(error))
            else:
                planned += [checked] if checked is not None else []
        return planned

    async def put(self, transaction: Transaction, change: Change[R]) -> int | None:
        """Write a change; return the id of our row, None if it is left out, to be tried again by the next run."""
        raise NotImplementedError

    async def write(self, transaction: Transaction, changes: Sequence[Change[R]]) -> Mapping[int, int]:
        """Write the changes of a batch; return the ids of our rows by Harbor's ids, without those that are left out."""
        put = [(change.row.id, await self.put(transaction, change)) for change in changes]
        return {harbor_id: target for harbor_id, target in put if target is not None}

    @abstractmethod
    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """Remove what was moved of a row that Harbor does not have any more."""

    def settled(self, row: R, target: int) -> None:
        """Take note of a row that is here now."""

    def refused(self, row: R) -> None:
        """Take note of a row that does not move."""

    @abstractmethod
    def name(self, row: R) -> str:
        """Return how people call a row."""


class Runner:
    """Runs steps, with or without writing."""

    def __init__(self, database: Database, report: Report, *, dry: bool) -> None:
        self._database = database
        self._report = report
        self._dry = dry
        self._logged = time.monotonic()

    async def run(self, step: Step[R]) -> None:
        """Go through all of Harbor's rows of one kind."""
        after, seen = 0, 0
        while after < _END:
            rows = await step.read(after, step.batch)
            until = rows[-1].id if len(rows) == step.batch else _END
            async with self._database.reading() as transaction:
                before = await moved.between(transaction, step.kind, after, until)
            changes = self._compare(step, rows, before)
            planned = await step.plan(changes, self._report) if changes else ()
            written: Mapping[int, int] = {change.row.id: 0 for change in planned}
            if not self._dry and (planned or before):
                written = await self._write(step, planned, before)
            self._settle(step, planned, written)
            self._report.count(step.kind, "gone", len(before))
            after, seen = until, seen + len(rows)
            self._tell(step.kind, seen)

    def _compare(self, step: Step[R], rows: Sequence[R], before: dict[int, Moved]) -> list[Change[R]]:
        """Return the rows that are new or have changed; leave in ``before`` those that are gone."""
        changes = []
        for row in rows:
            was = before.pop(row.id, None)
            if was is not None and was.state == row.state():
                step.settled(row, was.target)
                self._report.count(step.kind, "the same")
            else:
                changes.append(Change(row, was))
        return changes

    def _settle(self, step: Step[R], planned: Sequence[Change[R]], written: Mapping[int, int]) -> None:
        for change in planned:
            if change.row.id in written:
                step.settled(change.row, written[change.row.id])
                self._report.count(step.kind, "new" if change.was is None else "changed")
            else:
                self._report.refuse(step.kind, step.name(change.row), step.left_out)

    async def _write(self, step: Step[R], planned: Sequence[Change[R]], gone: Mapping[int, Moved]) -> Mapping[int, int]:
        async def write(transaction: Transaction) -> Mapping[int, int]:
            moved.charge_unchecked(transaction)
            for was in gone.values():
                await step.remove(transaction, json.loads(was.state), was.target)
            await moved.forget(transaction, step.kind, list(gone))
            written = await step.write(transaction, planned)
            states = {change.row.id: change.row.state() for change in planned if change.row.id in written}
            await moved.note(transaction, step.kind, {key: Moved(states[key], written[key]) for key in states})
            return written

        return await self._database.transact(write, JOB_SECONDS, answers=False)

    def _tell(self, kind: str, seen: int) -> None:
        if time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            log.info("move-in: %s %d of Harbor's", kind, seen)
