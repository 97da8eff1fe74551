"""The retention policies of projects: their rules, their schedules, and what their runs did.

`app.registry.retention_runs` does the runs. A policy belongs to a project that hosts images, and each has one at most.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from app.access.errors import Conflict, Invalid, Missing
from app.database import Database, Transaction, retention
from app.database.keyset import Count, Page
from app.database.retention import Execution, Policy, Status, Task
from app.kit import cron
from app.kit.ids import is_id
from app.oci.errors import Term
from app.oci.retention import Rule, Template

from .immutability import checked_selector, require_hosting

# As in Harbor.
MOST_RULES = 15
_MOST_COUNT = 1000
_MOST_TASKS = 100


class Retentions:
    """Retention policies; it holds no state of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_project(self, project_id: int) -> Policy | None:
        """Return the policy of a project, None if it has none."""
        return await self._database.read(retention.of_project, project_id)

    async def find(self, retention_id: int) -> Policy:
        """Read a policy; raises Missing. The caller checks to which project it belongs."""
        found = await self._database.read(retention.find, retention_id) if is_id(retention_id) else None
        if found is None:
            raise _missing()
        return found

    async def create(self, project_id: int, rules: Sequence[Rule], schedule: str = "") -> Policy:
        """Make the policy of a project; raises Invalid, Missing, and Conflict for a cache or a second policy."""
        next_at = check_policy(rules, schedule)

        async def create(transaction: Transaction) -> Policy:
            await require_hosting(transaction, project_id)
            made = await retention.create(transaction, project_id, rules, schedule, next_at)
            found = None if made is None else await retention.find(transaction, made)
            if found is None:
                raise Conflict("the project has a retention policy already; change that one")
            return found

        return await self._database.transact(create)

    async def change(self, retention_id: int, rules: Sequence[Rule], schedule: str) -> None:
        """Replace the rules and the schedule of a policy; raises Invalid and Missing."""
        next_at = check_policy(rules, schedule)

        async def change(transaction: Transaction) -> None:
            policy = await retention.find(transaction, retention_id)
            if policy is None:
                raise _missing()
            await require_hosting(transaction, policy.project_id)
            await retention.change(transaction, policy, rules, schedule, next_at)

        await self._database.transact(change)

    async def add_rule(self, project_id: int, rule: Rule) -> bool:
        """Add a rule to the policy of a project; return whether this made the policy. Raises as `create` does.

        Of two people who add rules at once neither loses one, because artifacts that no rule keeps are removed.
        """

        async def add(transaction: Transaction) -> bool:
            await require_hosting(transaction, project_id)
            policy = await retention.of_project(transaction, project_id)
            rules, schedule = ([*policy.rules, rule], policy.cron) if policy is not None else ([rule], "")
            next_at = check_policy(rules, schedule)
            if policy is not None:
                await retention.change(transaction, policy, rules, schedule, next_at)
            else:
                await retention.create(transaction, project_id, rules, schedule, next_at)
            return policy is None

        return await self._database.transact(add)

    async def remove_rule(self, project_id: int, place: int, spelled: str) -> None:
        """Remove a rule of a project by its place; raises Missing, and Conflict if another one is there by now."""

        async def remove(transaction: Transaction) -> None:
            policy = await _locked(transaction, project_id)
            if not 0 <= place < len(policy.rules) or str(policy.rules[place]) != spelled:
                raise Conflict("somebody has changed these rules; look at the list again")
            left = [rule for number, rule in enumerate(policy.rules) if number != place]
            await retention.change(transaction, policy, left, policy.cron, check_policy(left, policy.cron))

        await self._database.transact(remove)

    async def set_schedule(self, project_id: int, schedule: str) -> None:
        """Replace the schedule of a project's policy, "" for none; raises Invalid and Missing."""

        async def change(transaction: Transaction) -> None:
            policy = await _locked(transaction, project_id)
            next_at = check_policy(policy.rules, schedule)
            await retention.change(transaction, policy, policy.rules, schedule, next_at)

        await self._database.transact(change)

    async def remove(self, retention_id: int) -> None:
        """Remove a policy with what its runs did; raises Missing."""

        async def remove(transaction: Transaction) -> None:
            policy = await retention.find(transaction, retention_id)
            if policy is None:
                raise _missing()
            await retention.remove(transaction, policy)

        await self._database.transact(remove)

    async def begin(self, retention_id: int, *, dry_run: bool) -> int:
        """Have a worker run a policy now, or find out what a run would do; return the run's number.

        Raises Missing, and Conflict if a run has not ended.
        """

        async def begin(transaction: Transaction) -> int | None:
            if await retention.find(transaction, retention_id) is None:
                raise _missing()
            return await retention.begin(transaction, retention_id, "Manual", dry_run=dry_run)

        number = await self._database.transact(begin)
        if number is None:
            raise Conflict("a run of these rules has not ended; wait for it, or stop it")
        return number

    async def stop(self, retention_id: int, execution_id: int) -> None:
        """Stop a run after what it is doing now; raises Missing. A run that has ended stays as it is."""
        await self.execution(retention_id, execution_id)

        async def stop(transaction: Transaction) -> None:
            await retention.end(transaction, execution_id, Status.STOPPED)

        await self._database.transact(stop)

    async def executions(self, retention_id: int) -> list[Execution]:
        """List the runs of a policy, the newest first."""
        return await self._database.read(retention.executions, retention_id)

    async def execution(self, retention_id: int, execution_id: int) -> Execution:
        """Read a run of a policy; raises Missing."""
        found = None
        if is_id(execution_id):
            found = await self._database.read(retention.execution, retention_id, execution_id)
        if found is None:
            raise Missing("there is no such run of these rules")
        return found

    async def tasks(self, execution_id: int, *, offset: int = 0, limit: int = _MOST_TASKS) -> tuple[list[Task], Count]:
        """List what a run did, by repository; return also how many repositories there are."""
        found = await self._database.read(retention.tasks, execution_id, offset, limit)
        return found, await self._database.read(retention.total_tasks, execution_id)

    async def task_page(self, execution_id: int, page: Page[str]) -> list[Task]:
        """List what a run did, by repository; the keys are the numbers of tasks."""
        return await self._database.read(retention.task_page, execution_id, page)

    async def task(self, execution_id: int, task_id: int) -> Task:
        """Read what a run did in one repository; raises Missing."""
        found = await self._database.read(retention.task, execution_id, task_id) if is_id(task_id) else None
        if found is None:
            raise Missing("there is no such part of this run")
        return found


async def _locked(transaction: Transaction, project_id: int) -> Policy:
    """Read the policy of a project, which nobody else can change until the transaction ends; raises Missing."""
    await require_hosting(transaction, project_id)
    policy = await retention.of_project(transaction, project_id)
    if policy is None:
        raise _missing()
    return policy


def check_policy(rules: Sequence[Rule], schedule: str) -> float | None:
    """Return when the schedule is due next, None for no schedule; raises Invalid."""
    if len(rules) > MOST_RULES:
        raise Invalid("a policy can have %(most)s rules", most=MOST_RULES)
    for rule in rules:
        checked_selector(rule.tags, of_tags=True)
        checked_selector(rule.repositories, of_tags=False)
        if rule.template is not Template.ALWAYS and not 0 < rule.count <= _MOST_COUNT:
            raise Invalid("%(what)s: a number from 1 to %(most)s", what=Term("retention rule"), most=_MOST_COUNT)
    if not schedule:
        return None
    parsed = cron.parse(schedule)
    next_at = parsed.after(time.time()) if parsed is not None else None
    if parsed is None or next_at is None or len(parsed.seconds) > 1:
        raise Invalid(
            "%(schedule)r is no schedule; give six fields: one second, minute, hour, day, month, day of the week",
            schedule=schedule[:80],
        )
    return next_at


def _missing() -> Missing:
    return Missing("there is no such retention policy")
