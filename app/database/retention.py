"""Queries on retention policies and their runs.

Invariant: each open run has a lease, or waits for a worker. One worker at a time works on a run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, or_, select, true, update

from app.oci.retention import Rule

from . import changes, keyset
from .engine import Transaction, insert
from .ids import retire
from .keyset import Count, Page, Walk
from .tables import project, repository, retention, retention_execution, retention_kept, retention_task
from .text import END_OF_NAMES

# A worker that is killed holds up its run for so long.
LEASE_SECONDS = 120.0
# The runs of a policy that are kept.
MOST_RUNS = 100


class Status(StrEnum):
    """The state of a run, or of its part in one repository, in Harbor's words."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCESS = "Success"
    STOPPED = "Stopped"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Policy:
    """The retention policy of a project; times are Unix seconds, ``cron`` is "" for no schedule.

    ``evaluated_at``: later changes are still to be looked at; None for everything.
    """

    id: int
    project_id: int
    rules: tuple[Rule, ...]
    cron: str
    next_at: float | None
    evaluated_at: float | None
    changed_at: float


@dataclass(frozen=True, slots=True)
class Execution:
    """A run of a policy; ``trigger`` is "Manual" or "Schedule"."""

    id: int
    retention_id: int
    trigger: str
    dry_run: bool
    status: str
    started_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Task:
    """The part of a run in one repository: ``total`` artifacts looked at, ``retained`` of them, bytes that come free.

    ``removed`` has the first of the removed artifacts, each with its "digest" and "tags".
    """

    id: int
    execution_id: int
    repository_id: int
    repository: str
    status: str
    started_at: float
    ended_at: float | None
    total: int
    retained: int
    freed_bytes: int
    removed: Sequence[dict[str, Any]]


_policies = select(
    retention.c.id,
    retention.c.project_id,
    retention.c.rules,
    retention.c.cron,
    retention.c.next_at,
    retention.c.evaluated_at,
    retention.c.changed_at,
)
_executions = select(
    retention_execution.c.id,
    retention_execution.c.retention_id,
    retention_execution.c.trigger,
    retention_execution.c.dry_run,
    retention_execution.c.status,
    retention_execution.c.started_at,
    retention_execution.c.ended_at,
)
_tasks = select(*(column for column in retention_task.c))


def _policy(row: Any) -> Policy:
    return Policy(row[0], row[1], tuple(Rule.read(said) for said in row[2]), *row[3:])


# -- policies


async def find(transaction: Transaction, retention_id: int) -> Policy | None:
    """Read a policy by its id."""
    row = (await transaction.execute(_policies.where(retention.c.id == retention_id))).first()
    return _policy(row) if row else None


async def of_project(transaction: Transaction, project_id: int) -> Policy | None:
    """Read the policy of a project."""
    row = (await transaction.execute(_policies.where(retention.c.project_id == project_id))).first()
    return _policy(row) if row else None


async def over(transaction: Transaction, repository_id: int) -> tuple[str, Policy] | None:
    """Read the policy over a repository, and the repository's name; None if its project has none."""
    statement = _policies.add_columns(repository.c.name).join_from(
        repository, retention, retention.c.project_id == repository.c.project_id
    )
    row = (await transaction.execute(statement.where(repository.c.id == repository_id))).first()
    return (row[-1], _policy(row[:-1])) if row else None


async def create(
    transaction: Transaction, project_id: int, rules: Sequence[Rule], cron: str, next_at: float | None
) -> int | None:
    """Make the policy of a project; return its id, None if the project has one."""
    values = {"rules": [rule.written() for rule in rules], "cron": cron, "next_at": next_at, "changed_at": time.time()}
    statement = insert(transaction, retention).values(project_id=project_id, **values).on_conflict_do_nothing()
    made: int | None = (await transaction.execute(statement.returning(retention.c.id))).scalar()
    if made is not None:
        await transaction.execute(update(project).where(project.c.id == project_id).values(retention_id=made))
    return made


async def change(
    transaction: Transaction, policy: Policy, rules: Sequence[Rule], cron: str, next_at: float | None
) -> None:
    """Change a policy; everything is looked at again if its rules differ."""
    values: dict[str, Any] = {"cron": cron, "next_at": next_at, "changed_at": time.time()}
    if tuple(rules) != policy.rules:
        values |= {"rules": [rule.written() for rule in rules], "evaluated_at": None}
        await _forget(transaction, policy.project_id)
    await transaction.execute(update(retention).where(retention.c.id == policy.id).values(values))


async def remove(transaction: Transaction, policy: Policy) -> None:
    """Remove a policy with its runs."""
    await retire(transaction, retention)
    await _forget(transaction, policy.project_id)
    await transaction.execute(update(project).where(project.c.id == policy.project_id).values(retention_id=None))
    await transaction.execute(delete(retention).where(retention.c.id == policy.id))


async def look_at_all(transaction: Transaction, project_id: int) -> None:
    """Have the next run of a project's policy look at everything, because rules of another kind have changed."""
    here = retention.c.project_id == project_id
    await transaction.execute(update(retention).where(here).values(evaluated_at=None, changed_at=time.time()))


async def _forget(transaction: Transaction, project_id: int) -> None:
    theirs = select(repository.c.id).where(repository.c.project_id == project_id)
    await transaction.execute(delete(retention_kept).where(retention_kept.c.repository_id.in_(theirs)))


async def set_evaluated(transaction: Transaction, policy: Policy, at: float) -> None:
    """Note up to when changes are looked at, unless the rules have changed meanwhile."""
    here = (retention.c.id == policy.id) & (retention.c.changed_at == policy.changed_at)
    await transaction.execute(update(retention).where(here).values(evaluated_at=at))


async def repositories(transaction: Transaction, project_id: int, after: str, limit: int) -> list[tuple[int, str]]:
    """List repositories of a project by name, past ``after``: id and name."""
    statement = (
        select(repository.c.id, repository.c.name)
        .where(repository.c.project_id == project_id, repository.c.name > after, repository.c.name < END_OF_NAMES)
        .order_by(repository.c.name)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in await transaction.execute(statement)]


# -- pulls that are written before their answer


async def note_pulls(transaction: Transaction, project_id: int, until: float | None) -> None:
    """Have every pull of a project written before its answer until a time (Unix seconds), None for not any more."""
    name = (await transaction.execute(select(project.c.name).where(project.c.id == project_id))).scalar()
    if name is not None:
        changes.changed(transaction, changes.project_named(name))
        await transaction.execute(update(project).where(project.c.id == project_id).values(pulls_noted_until=until))


# -- runs


async def begin(transaction: Transaction, retention_id: int, trigger: str, *, dry_run: bool) -> int | None:
    """Add a run for some worker to do; return its number, None if one is open. The oldest runs go."""
    locked = select(retention.c.id).where(retention.c.id == retention_id).with_for_update()
    await transaction.execute(locked)
    theirs = retention_execution.c.retention_id == retention_id
    opened = select(retention_execution.c.id).where(theirs, retention_execution.c.ended_at.is_(None)).limit(1)
    if (await transaction.execute(opened)).first() is not None:
        return None
    values = {"trigger": trigger, "dry_run": dry_run, "status": Status.PENDING.value, "started_at": time.time()}
    made = insert(transaction, retention_execution).values(retention_id=retention_id, **values)
    number = int((await transaction.execute(made.returning(retention_execution.c.id))).scalar_one())
    newest = select(retention_execution.c.id).where(theirs).order_by(retention_execution.c.id.desc())
    rest = newest.offset(MOST_RUNS).limit(1).scalar_subquery()
    await transaction.execute(delete(retention_execution).where(theirs, retention_execution.c.id <= rest))
    return number


async def is_waiting(transaction: Transaction, now: float) -> bool:
    """Return whether a schedule is due, or a run waits for a worker; it only reads."""
    due = select(retention.c.id).where(retention.c.next_at <= now).exists()
    opened = select(retention_execution.c.id).where(retention_execution.c.ended_at.is_(None), _is_free(now)).exists()
    return bool((await transaction.execute(select(or_(due, opened)))).scalar())


def _is_free(now: float) -> ColumnElement[bool]:
    return or_(retention_execution.c.leased_until.is_(None), retention_execution.c.leased_until < now)


async def due(transaction: Transaction, now: float) -> Policy | None:
    """Lock a policy whose schedule is due."""
    statement = _policies.where(retention.c.next_at <= now).order_by(retention.c.next_at).limit(1)
    row = (await transaction.execute(statement.with_for_update(skip_locked=True))).first()
    return _policy(row) if row else None


async def held(transaction: Transaction) -> list[Policy]:
    """List policies whose schedule has not started, because a move from Harbor wrote them. This reads all policies."""
    statement = _policies.where(retention.c.cron != "", retention.c.next_at.is_(None))
    return [_policy(row) for row in await transaction.execute(statement.order_by(retention.c.id))]


async def set_next(transaction: Transaction, policy: Policy, next_at: float | None) -> None:
    """Write when a policy is due next."""
    await transaction.execute(update(retention).where(retention.c.id == policy.id).values(next_at=next_at))


async def claim(transaction: Transaction, now: float) -> Execution | None:
    """Take the lease of an open run that no worker works on."""
    opened = _executions.where(retention_execution.c.ended_at.is_(None), _is_free(now))
    statement = opened.order_by(retention_execution.c.id)
    row = (await transaction.execute(statement.limit(1).with_for_update(skip_locked=True))).first()
    if row is None:
        return None
    here = retention_execution.c.id == row[0]
    values = {"status": Status.RUNNING.value, "leased_until": now + LEASE_SECONDS}
    await transaction.execute(update(retention_execution).where(here).values(values))
    return Execution(*row)


async def renew(transaction: Transaction, execution_id: int, now: float) -> bool:
    """Renew the lease of a run; return False if it was stopped or is gone."""
    here = (retention_execution.c.id == execution_id) & retention_execution.c.ended_at.is_(None)
    values = {"leased_until": now + LEASE_SECONDS}
    return bool((await transaction.execute(update(retention_execution).where(here).values(values))).rowcount)


async def end(transaction: Transaction, execution_id: int, status: Status) -> bool:
    """End a run that is open; return whether it was."""
    here = (retention_execution.c.id == execution_id) & retention_execution.c.ended_at.is_(None)
    values = {"status": status.value, "ended_at": time.time(), "leased_until": None}
    return bool((await transaction.execute(update(retention_execution).where(here).values(values))).rowcount)


async def executions(transaction: Transaction, retention_id: int) -> list[Execution]:
    """List the runs of a policy, the newest first; there are `MOST_RUNS` at most."""
    statement = _executions.where(retention_execution.c.retention_id == retention_id)
    ordered = statement.order_by(retention_execution.c.id.desc())
    return [Execution(*row) for row in await transaction.execute(ordered)]


async def execution(transaction: Transaction, retention_id: int, execution_id: int) -> Execution | None:
    """Read a run of a policy."""
    here = retention_execution.c.id == execution_id, retention_execution.c.retention_id == retention_id
    row = (await transaction.execute(_executions.where(*here))).first()
    return Execution(*row) if row else None


async def add_task(transaction: Transaction, execution_id: int, **values: Any) -> int:
    """Write what a run did in one repository; return its number. A run that was resumed has one for each."""
    theirs = (retention_task.c.execution_id == execution_id, retention_task.c.repository_id == values["repository_id"])
    await transaction.execute(delete(retention_task).where(*theirs))
    made = insert(transaction, retention_task).values(execution_id=execution_id, **values)
    return int((await transaction.execute(made.returning(retention_task.c.id))).scalar_one())


async def task_in(transaction: Transaction, execution_id: int, repository_id: int) -> Task | None:
    """Read what a run has done in a repository so far; None if it has not been there."""
    theirs = (retention_task.c.execution_id == execution_id, retention_task.c.repository_id == repository_id)
    row = (await transaction.execute(_tasks.where(*theirs))).first()
    return Task(*row) if row else None


async def tasks(transaction: Transaction, execution_id: int, offset: int, limit: int) -> list[Task]:
    """List what a run did, by repository in the order of the run."""
    here = _tasks.where(retention_task.c.execution_id == execution_id)
    statement: Select[Any] = here.order_by(retention_task.c.id).offset(offset).limit(limit)
    return [Task(*row) for row in await transaction.execute(statement)]


async def task_page(transaction: Transaction, execution_id: int, page: Page[str]) -> list[Task]:
    """List what a run did, by number; keys that are no numbers are as if they were not there."""
    here, number = retention_task.c.execution_id == execution_id, retention_task.c.id
    after, before = (int(key) if key and key.isdigit() and len(key) < 19 else None for key in (page.after, page.before))
    statement = _tasks.where(here, number > (after or 0), number < before if before is not None else true())
    if before is None:
        found = await transaction.execute(statement.order_by(number).limit(page.limit))
        return [Task(*row) for row in found]
    last = (await transaction.execute(statement.order_by(number.desc()).limit(page.limit))).all()
    return [Task(*row) for row in reversed(last)]


async def total_tasks(transaction: Transaction, execution_id: int) -> Count:
    """Count what `tasks` lists."""
    walks = (Walk((retention_task.c.execution_id == execution_id,)),)
    return await keyset.count(transaction, select(retention_task.c.id), retention_task.c.id, walks=walks)


async def task(transaction: Transaction, execution_id: int, task_id: int) -> Task | None:
    """Read what a run did in one repository."""
    here = _tasks.where(retention_task.c.id == task_id, retention_task.c.execution_id == execution_id)
    row = (await transaction.execute(here)).first()
    return Task(*row) if row else None
