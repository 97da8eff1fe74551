"""The rules of a project for its tags: which are immutable, what is kept, and what the runs removed."""

from __future__ import annotations

import time
from functools import partial

from app.access import roles
from app.access.errors import Invalid, Missing
from app.database.keyset import Page
from app.database.retention import Policy, Task
from app.oci.retention import Rule, Template
from app.oci.selectors import EVERY, Selector

from . import words
from .base import PageHandler

_DAY = 86400.0
_MOST_DAYS = 3650
_RUNS_SHOWN = 20
# The artifacts of a repository that the page of a run names.
_NAMED = 50


class PolicyPage(PageHandler):
    """A project's rules for tags."""

    needs = roles.READ_RETENTION
    section = "projects"

    async def get(self, project: str) -> None:
        rules = await self.services.immutability.rules(self.opened.id) if self.may(roles.LIST_IMMUTABILITY) else []
        policy = await self.services.retentions.of_project(self.opened.id)
        runs = await self.services.retentions.executions(policy.id) if policy is not None else []
        self.show(
            "policy.html",
            tab="policy",
            rules=rules,
            policy=policy,
            runs=runs[:_RUNS_SHOWN],
            templates=words.TEMPLATES,
            statuses=words.STATUSES,
            base=f"/projects/{project}",
        )


class RunPage(PageHandler):
    """A run of a project's retention rules: what it removed, by repository."""

    needs = roles.READ_RETENTION
    section = "projects"

    async def get(self, project: str, run: str) -> None:
        policy = await self.or_missing(self.services.retentions.of_project(self.opened.id))
        found = await self.services.retentions.execution(policy.id, int(run))
        self.show(
            "retention-run.html",
            tab="policy",
            run=found,
            listing=await self.listing(partial(self._tasks, found.id), lambda task: str(task.id)),
            most=_NAMED,
            statuses=words.STATUSES,
            base=f"/projects/{project}",
        )

    async def _tasks(self, run_id: int, page: Page[str]) -> list[Task]:
        return await self.services.retentions.task_page(run_id, page)


class OnPolicy(PageHandler):
    """The action of a form on a project's rules."""

    section = "projects"

    def at(self, project: str) -> str:
        return f"/projects/{project}/policy"

    def selector(self, name: str) -> Selector:
        """Read a glob, and whether it takes the names that match or the others."""
        glob = self.field(name)
        return Selector(glob, self.ticked(f"{name}_excluded")) if glob else EVERY

    def days(self, name: str) -> int:
        """Read a number of days. Raise Invalid if it is not one."""
        text = self.field(name)
        if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= _MOST_DAYS):
            raise Invalid("Give a number of days, from 1 to %(most)s.", most=_MOST_DAYS)
        return int(text)


class AddImmutabilityPage(OnPolicy):
    needs = roles.CREATE_IMMUTABILITY

    async def post(self, project: str) -> None:
        async def add() -> None:
            ends_at = time.time() + self.days("days") * _DAY if self.field("days") else None
            made = await self.services.immutability.create(
                self.opened.id,
                tags=self.selector("tags"),
                repositories=self.selector("repositories"),
                ends_at=ends_at,
                by=self.principal.subject,
            )
            self.note("create", "immutability rule", f"{project}: {made.name}")

        await self.settle(add(), self._("The rule is added."), self.at(project))


class SwitchImmutabilityPage(OnPolicy):
    needs = roles.UPDATE_IMMUTABILITY

    async def post(self, project: str) -> None:
        async def switch() -> None:
            off = self.field("disabled") == "yes"
            changed = await self.services.immutability.change(self.opened.id, self.chosen("rule"), disabled=off)
            self.note("update", "immutability rule", f"{project}: {changed.name}")

        await self.settle(switch(), self._("The rule is changed."), self.at(project))


class DeleteImmutabilityPage(OnPolicy):
    needs = roles.DELETE_IMMUTABILITY

    async def post(self, project: str) -> None:
        async def remove() -> None:
            removed = await self.services.immutability.remove(self.opened.id, self.chosen("rule"))
            self.note("delete", "immutability rule", f"{project}: {removed.name}")

        await self.settle(remove(), self._("The rule is removed."), self.at(project))


class OnRetention(OnPolicy):
    """The action of a form on a project's retention rules."""

    async def policy(self) -> Policy:
        found = await self.services.retentions.of_project(self.opened.id)
        if found is None:
            raise Missing("there is no such retention policy")
        return found


class AddRetentionPage(OnPolicy):
    needs = roles.CREATE_RETENTION

    async def post(self, project: str) -> None:
        async def add() -> None:
            rule = self._rule()
            made = await self.services.retentions.add_rule(self.opened.id, rule)
            self.note("create" if made else "update", "retention policy", f"{project}: {rule}")

        await self.settle(add(), self._("The rule is added."), self.at(project))

    def _rule(self) -> Rule:
        chosen = self.field("template")
        if chosen not in list(Template):
            raise Invalid("Choose one from the list.")
        count = 0 if chosen == Template.ALWAYS else self.days("count")
        return Rule(
            Template(chosen), count, self.selector("tags"), self.selector("repositories"), self.ticked("untagged")
        )


class RemoveRetentionPage(OnPolicy):
    needs = roles.UPDATE_RETENTION

    async def post(self, project: str) -> None:
        async def remove() -> None:
            spelled = self.field("spelled")
            await self.services.retentions.remove_rule(self.opened.id, self.chosen("rule") - 1, spelled)
            self.note("update", "retention policy", f"{project}: without {spelled}")

        await self.settle(remove(), self._("The rule is removed."), self.at(project))


class SchedulePage(OnPolicy):
    needs = roles.UPDATE_RETENTION

    async def post(self, project: str) -> None:
        async def save() -> None:
            await self.services.retentions.set_schedule(self.opened.id, self.field("schedule"))
            self.note("update", "retention policy", f"{project}: schedule {self.field('schedule')}".rstrip())

        await self.settle(save(), self._("The schedule is saved."), self.at(project))


class RunRetentionPage(OnRetention):
    needs = roles.UPDATE_RETENTION

    async def post(self, project: str) -> None:
        async def begin() -> None:
            dry_run = self.field("dry_run") == "yes"
            await self.services.retentions.begin((await self.policy()).id, dry_run=dry_run)
            if not dry_run:
                self.note("run", "retention policy", project)

        await self.settle(begin(), self._("The run begins within seconds."), self.at(project))


class StopRunPage(OnRetention):
    needs = roles.UPDATE_RETENTION

    async def post(self, project: str) -> None:
        async def stop() -> None:
            await self.services.retentions.stop((await self.policy()).id, self.chosen("run"))
            self.note("stop", "retention policy", project)

        await self.settle(stop(), self._("The run is stopped."), self.at(project))
