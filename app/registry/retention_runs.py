"""Runs of retention policies: decide which artifacts no rule keeps, and remove them.

    due by its schedule ┐                          ┌ a dry run writes down what it found
    begun by hand       ┴► a run ─► each repository: decide ─┤
                                                   └ remove in batches, each decided again under locks

**Cost.** A repository's decision reads what has changed since the last run, the artifacts that a rule by days has just
given up, and the latest ones of each rule. Only the first run after a change of the rules reads everything.

**Pulls.** Times of pulls are written some seconds late. Before the first removal the run has every pull of the project
written before its answer, and waits until earlier ones are written. An artifact that was pulled since then, or within
`SETTLE_SECONDS` before, is left for the next run.

**Never removed** are parts of an artifact that stays (`app.database.retained.units`), and artifacts with an immutable
tag. Those that changed since the decision are left. So are manifests without a tag that are younger than a day or await
their collection. Signatures by tag go with their subject.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.access.errors import Conflict
from app.access.principal import SERVICE, name_of
from app.database import (
    JOB_SECONDS,
    Database,
    Transaction,
    immutability,
    projects,
    retained,
    retention,
    tag_history,
    webhooks,
)
from app.database.retained import Unit
from app.database.retention import LEASE_SECONDS, Execution, Policy, Status, Task
from app.database.webhooks import EventType
from app.kit import cron
from app.kit.jobs import repeat
from app.oci.digest import Digest
from app.oci.errors import OCIError
from app.oci.retention import LATEST, Facts, Rule, rules_over
from app.projects.audit import Audit
from app.projects.harbor_rules import written_rule

from .deletion import delete_attached, delete_manifest, delete_tags

# Notes of pulls are written every 5 s (`app.kit.write_behind`), and that may take a while.
SETTLE_SECONDS = 10.0
_LOOK_SECONDS = 5.0
# A push notes its time before it commits, and the clocks of hosts differ.
_SLACK_SECONDS = 120.0
_READ_AT_ONCE = 400
_REMOVED_AT_ONCE = 50
# The removed artifacts that a run names for each repository.
_MOST_NAMED = 1000

log = logging.getLogger(__name__)


class Latest:
    """The artifacts with the latest times, ``count`` of them at most."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[float, str]] = []

    def add(self, at: float, digest: str) -> None:
        """Take an artifact in, and drop the earliest if there are too many."""
        (heapq.heappush if len(self._heap) < self._count else heapq.heappushpop)(self._heap, (at, digest))

    @property
    def digests(self) -> set[str]:
        """The artifacts that are among the latest."""
        return {digest for _, digest in self._heap}


@dataclass(slots=True)
class Decision:
    """The artifacts of a repository that are removed; ``looked`` counts those that were looked at.

    ``young`` are those without a tag that would go if they were a day old. ``before`` and ``latest`` have the latest
    artifacts of each rule, as of the last run and now.
    """

    removed: list[Unit] = field(default_factory=list)
    young: list[str] = field(default_factory=list)
    looked: int = 0
    changed: set[str] = field(default_factory=set)
    before: Mapping[int, set[str]] = field(default_factory=dict)
    latest: Mapping[int, set[str]] = field(default_factory=dict)


async def decide(
    database: Database,
    repository_id: int,
    rules: Mapping[int, Rule],
    *,
    since: float | None,
    now: float,
    most: int | None = None,
) -> Decision:
    """Decide on the artifacts of a repository that have changed after ``since``, on all if it is None.

    ``now`` and ``since`` are Unix seconds. Raises Conflict if more than ``most`` artifacts have to be looked at.
    """
    decision = Decision(before=await database.read(retained.latest, repository_id))
    windows = {place: Latest(rule.count) for place, rule in rules.items() if rule.template in LATEST}
    undecided = []
    async for digests in _to_look_at(database, repository_id, rules, since, now, decision):
        for unit in await database.read(retained.units, repository_id, digests):
            decision.looked += 1
            facts = unit.facts
            for place, window in windows.items():
                if (at := rules[place].measure(facts)) is not None:
                    window.add(at, facts.digest)
            if not any(rule.keeps(facts, now) for rule in rules.values()):
                undecided.append(unit)
        if most is not None and decision.looked > most:
            raise Conflict("too many artifacts have changed since the last run; see what a dry run says")
    decision.latest = {place: window.digests for place, window in windows.items()}
    kept: set[str] = set().union(*decision.latest.values())
    holds = await database.read(immutability.holding_of, repository_id)
    for unit in undecided:
        if unit.facts.digest in kept or (holds and any(holds(tag) for tag, _ in unit.facts.tags)):
            continue
        if is_young(unit.facts, now):
            decision.young.append(unit.facts.digest)
        else:
            decision.removed.append(unit)
    return decision


def is_young(facts: Facts, now: float) -> bool:
    """Return whether an artifact without a tag stays because its index may be on its way."""
    return not facts.tags and facts.created_at > now - retained.UNTAGGED_SECONDS


async def _to_look_at(
    database: Database,
    repository_id: int,
    rules: Mapping[int, Rule],
    since: float | None,
    now: float,
    decision: Decision,
) -> AsyncIterator[Sequence[str]]:
    if since is None:
        after = ""
        while digests := await database.read(retained.some_of_all, repository_id, after, _READ_AT_ONCE):
            yield digests
            after = digests[-1]
        return
    decision.changed = await database.read(retained.changed, repository_id, list(rules.values()), since, now)
    if not decision.changed:
        decision.before = {}
        return
    # With the latest ones, because one of them may be gone, or have been pulled.
    wanted = sorted(decision.changed.union(*decision.before.values()))
    for start in range(0, len(wanted), _READ_AT_ONCE):
        yield wanted[start : start + _READ_AT_ONCE]


class RetentionRuns:
    """Does the runs of all policies. Every worker may have one, because each run is leased."""

    def __init__(
        self, database: Database, audit: Audit, settle_seconds: float = SETTLE_SECONDS, *, has_bin: bool = False
    ) -> None:
        """``has_bin``: what runs remove goes to the bin."""
        self._has_bin = has_bin
        self._database = database
        self._audit = audit
        self._settle_seconds = settle_seconds

    async def run(self) -> None:
        """Look for runs every few seconds until cancelled."""
        await repeat("retention", self.work, _LOOK_SECONDS)

    async def work(self) -> None:
        """Begin what is due, and do all runs that wait for a worker."""
        # Most of the time there is nothing, and SQLite has one writer.
        if not await self._database.read(retention.is_waiting, time.time()):
            return
        while await self._database.transact(self._begin_due, JOB_SECONDS):
            pass
        while (execution := await self._database.transact(self._claim, JOB_SECONDS)) is not None:
            await _Run(self._database, self._audit, execution, self._settle_seconds, has_bin=self._has_bin).do()

    async def _begin_due(self, transaction: Transaction) -> bool:
        now = time.time()
        policy = await retention.due(transaction, now)
        if policy is None:
            return False
        schedule = cron.parse(policy.cron)
        await retention.set_next(transaction, policy, schedule.after(now) if schedule is not None else None)
        await retention.begin(transaction, policy.id, "Schedule", dry_run=False)
        return True

    async def _claim(self, transaction: Transaction) -> Execution | None:
        return await retention.claim(transaction, time.time())


@dataclass(slots=True)
class _Part:
    """The work of a run in one repository; ``removed`` names the first of ``number`` artifacts that are gone."""

    repository_id: int
    repository: str
    started_at: float
    total: int
    freed_bytes: int
    removed: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0
    is_news: bool = False

    def add(self, removed: Sequence[dict[str, Any]], number: int) -> None:
        """Take note of artifacts that were removed, or would be."""
        self.removed += removed[: _MOST_NAMED - len(self.removed)]
        self.number += number
        self.is_news = self.is_news or number > 0

    def resume(self, before: Task | None) -> None:
        """Count what the run had removed here before its worker was killed. If it was done here, that was told."""
        if before is not None:
            self.add(before.removed, before.total - before.retained)
            self.total += self.number
            self.started_at = before.started_at
            self.freed_bytes = max(self.freed_bytes, before.freed_bytes)
            self.is_news = before.ended_at is None and self.number > 0

    def values(self, more: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        """Return the row, with ``more`` removed artifacts."""
        return {
            "repository_id": self.repository_id,
            "repository": self.repository,
            "started_at": self.started_at,
            "total": self.total,
            "retained": self.total - self.number - len(more),
            "freed_bytes": self.freed_bytes,
            "removed": [*self.removed, *more][:_MOST_NAMED],
        }


class _Run:
    """One run of a policy."""

    def __init__(
        self, database: Database, audit: Audit, execution: Execution, settle_seconds: float, *, has_bin: bool
    ) -> None:
        self._has_bin = has_bin
        self._database = database
        self._audit = audit
        self._execution = execution
        self._settle_seconds = settle_seconds
        # Since when pulls are written before their answers, and until when; 0 before the first removal.
        self._noting_since = 0.0
        self._noting_until = 0.0

    async def do(self) -> None:
        """Go through the repositories; raises Unavailable, and then the run is resumed when its lease ends."""
        policy = await self._database.read(retention.find, self._execution.retention_id)
        project = await self._database.read(projects.get, policy.project_id) if policy is not None else None
        if policy is None or project is None:
            await self._end(Status.ERROR)
            return
        began = time.time()
        try:
            whole = await self._go_through(policy, (project.id, project.name), began)
            if whole and not self._execution.dry_run:
                await self._transact(retention.set_evaluated, policy, began - _SLACK_SECONDS)
            await self._end(Status.SUCCESS)
        except OCIError:
            raise
        except Exception:
            await self._end(Status.ERROR)
            raise
        finally:
            if self._noting_since:
                await self._transact(retention.note_pulls, policy.project_id, None)

    async def _go_through(self, policy: Policy, project: tuple[int, str], began: float) -> bool:
        """Do every repository; return False if somebody stopped the run."""
        since = None if await self._ended_rule(policy, began) else policy.evaluated_at
        after = ""
        while some := await self._database.read(retention.repositories, policy.project_id, after, 100):
            for repository_id, name in some:
                if not await self._transact(retention.renew, self._execution.id, time.time()):
                    return False
                if rules := rules_over(policy.rules, name):
                    await self._do_repository(project, repository_id, name, rules, since, began)
            after = some[-1][1]
        return True

    async def _ended_rule(self, policy: Policy, now: float) -> bool:
        """Return whether an immutability rule has ended since the last run."""
        rules = await self._database.read(immutability.rules, policy.project_id)
        return any(rule.ends_at is not None and (policy.evaluated_at or 0) < rule.ends_at <= now for rule in rules)

    async def _do_repository(
        self,
        project: tuple[int, str],
        repository_id: int,
        name: str,
        rules: Mapping[int, Rule],
        since: float | None,
        now: float,
    ) -> None:
        decision = await decide(self._database, repository_id, rules, since=since, now=now)
        digests = [unit.facts.digest for unit in decision.removed]
        part = _Part(
            repository_id=repository_id,
            repository=name,
            started_at=time.time(),
            total=decision.looked,
            freed_bytes=await self._database.read(retained.freed, project[0], repository_id, digests),
        )
        if self._execution.dry_run:
            part.add(await self._named(repository_id, decision.removed[:_MOST_NAMED]), len(digests))
        else:
            part.resume(await self._database.read(retention.task_in, self._execution.id, repository_id))
            await self._transact(self._note, repository_id, decision)
            await self._remove(project, part, decision.removed)
        await self._transact(self._finish, project[0], part, rules)

    async def _finish(self, transaction: Transaction, project_id: int, part: _Part, rules: Mapping[int, Rule]) -> None:
        """Write down that a repository is done, and tell the webhooks if artifacts were removed."""
        values = part.values()
        done = {"status": Status.SUCCESS.value, "ended_at": time.time()}
        await retention.add_task(transaction, self._execution.id, **values, **done)
        if part.is_news and not self._execution.dry_run:
            run = {name: values[name] for name in ("total", "retained", "removed")}
            run |= {"policy_id": self._execution.retention_id, "rules": [written_rule(rule) for rule in rules.values()]}
            operator = self._execution.trigger.upper()
            await webhooks.emit_retention(transaction, project_id, part.repository, run, operator=operator)

    async def _named(self, repository_id: int, units: Sequence[Unit]) -> list[dict[str, Any]]:
        async with self._database.reading(JOB_SECONDS) as transaction:
            return [await _spelled(transaction, repository_id, unit) for unit in units]

    async def _note(self, transaction: Transaction, repository_id: int, decision: Decision) -> None:
        """Note the artifacts that the next run looks at again: the latest, those that go now, and those too young."""
        for start in range(0, len(changed := sorted(decision.changed)), _READ_AT_ONCE):
            await retained.looked(transaction, repository_id, changed[start : start + _READ_AT_ONCE])
        await retained.set_latest(transaction, repository_id, decision.before, decision.latest)
        again = [*decision.young, *(unit.facts.digest for unit in decision.removed)]
        await retained.look_again(transaction, repository_id, again)

    async def _remove(self, project: tuple[int, str], part: _Part, units: Sequence[Unit]) -> None:
        """Remove artifacts of a repository, and write down in the same transactions that they are gone."""
        number = 0
        for start in range(0, len(units), _REMOVED_AT_ONCE):
            await self._note_pulls(project[0])
            if not await self._transact(retention.renew, self._execution.id, time.time()):
                break
            spared = self._noting_since - self._settle_seconds
            batch = units[start : start + _REMOVED_AT_ONCE]
            removed = await self._transact(self._remove_some, part, batch, spared)
            part.add(removed, len(removed))
            number += len(removed)
        if number:
            what = f"{project[1]}/{part.repository}: {number} by the retention rules, run {self._execution.id}"
            self._audit.note(SERVICE, "", "delete", "artifact", what, project)

    async def _remove_some(
        self, transaction: Transaction, part: _Part, units: Sequence[Unit], spared: float
    ) -> list[dict[str, Any]]:
        removed = await _remove_batch(transaction, part.repository_id, units, spared, self._has_bin)
        running = {"status": Status.RUNNING.value, "ended_at": None}
        await retention.add_task(transaction, self._execution.id, **part.values(removed), **running)
        return removed

    async def _note_pulls(self, project_id: int) -> None:
        """Have pulls written before their answers from now on; at first, wait for those that are not written yet."""
        now = time.time()
        if self._noting_until - now > LEASE_SECONDS / 2:
            return
        self._noting_until = now + LEASE_SECONDS

        async def note(transaction: Transaction) -> None:
            await retention.note_pulls(transaction, project_id, self._noting_until)

        # Its answer comes when every worker knows.
        await self._database.transact(note, JOB_SECONDS)
        if not self._noting_since:
            self._noting_since = time.time()
            await asyncio.sleep(self._settle_seconds)

    async def _end(self, status: Status) -> None:
        await self._transact(retention.end, self._execution.id, status)

    async def _transact(self, work: Any, *arguments: Any) -> Any:
        async def run(transaction: Transaction) -> Any:
            return await work(transaction, *arguments)

        return await self._database.transact(run, JOB_SECONDS, answers=False)


async def _spelled(transaction: Transaction, repository_id: int, unit: Unit) -> dict[str, Any]:
    tags = [tag for tag, _ in unit.facts.tags]
    if not unit.bound:
        attached = await retained.attached_by_tag(transaction, repository_id, [unit.facts.digest])
        tags += sorted(tag for _, tag, _ in attached)
    return {"digest": unit.facts.digest, "tags": tags}


async def _remove_batch(
    transaction: Transaction, repository_id: int, units: Sequence[Unit], spared: float, has_bin: bool
) -> list[dict[str, Any]]:
    """Remove artifacts, into the bin if there is one, except those that have changed or were pulled after ``spared``.

    ``spared`` is in Unix seconds. These stay on the list of what the next run looks at. Return what was removed.
    """
    holds = await immutability.holding_in(transaction, repository_id)
    digests = [unit.facts.digest for unit in units]
    here = {unit.facts.digest: unit for unit in await retained.units(transaction, repository_id, digests, locked=True)}
    told = await webhooks.repositories_with(transaction, [repository_id], EventType.DELETE)
    removed, done = [], []
    for unit in units:
        current = here.get(unit.facts.digest)
        if current is not None and (current.facts != unit.facts or current.facts.pulled_at > spared):
            continue
        done.append(unit.facts.digest)
        if current is None or (holds and any(holds(tag) for tag, _ in current.facts.tags)):
            continue
        removed.append(await _spelled(transaction, repository_id, current))
        if told and not current.bound:
            await webhooks.emit(
                transaction, repository_id, EventType.DELETE, **removed[-1], operator=name_of(SERVICE.subject)
            )
        await _remove_unit(transaction, repository_id, current, has_bin=has_bin)
    await retained.looked(transaction, repository_id, done)
    return removed


async def _remove_unit(transaction: Transaction, repository_id: int, unit: Unit, *, has_bin: bool) -> None:
    digest, deleted_by = Digest(unit.facts.digest), SERVICE.subject if has_bin else None
    tags = [tag for tag, _ in unit.facts.tags]
    if unit.bound:
        await delete_tags(transaction, repository_id, digest, tags, deleted_by, leased=False)
    else:
        await delete_manifest(transaction, repository_id, digest, deleted_by)
        await delete_attached(transaction, repository_id, digest)
    await tag_history.forget(transaction, repository_id, tags)
