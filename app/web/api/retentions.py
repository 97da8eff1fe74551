"""Serve retention policies, their runs, and what these did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.access.errors import Invalid
from app.database.retention import Execution, Policy, Task
from app.oci.retention import Rule, Template
from app.projects.harbor_rules import REPOSITORIES, TAGS, read_policy, written_rule

from .handler import ApiHandler, Place
from .shapes import moment, some, storage

_NOT_HERE = "there is no such retention policy"


def policy(row: Policy) -> dict[str, Any]:
    """Return a policy in Harbor's form."""
    return some(
        id=row.id,
        algorithm="or",
        rules=[_rule(place, rule) for place, rule in enumerate(row.rules)],
        trigger={"kind": "Schedule", "references": {}, "settings": {"cron": row.cron}},
        scope={"level": "project", "ref": row.project_id},
        next_run=moment(row.next_at),
    )


def _rule(place: int, rule: Rule) -> dict[str, Any]:
    about = {"id": place + 1, "priority": place + 1, "disabled": rule.disabled, "action": "retain"}
    return about | written_rule(rule)


def execution(row: Execution) -> dict[str, Any]:
    """Return a run in Harbor's form."""
    return some(
        id=row.id,
        policy_id=row.retention_id,
        start_time=moment(row.started_at),
        end_time=moment(row.ended_at),
        status=row.status,
        trigger=row.trigger,
        dry_run=row.dry_run,
    )


def task(row: Task) -> dict[str, Any]:
    """Return what a run did in a repository in Harbor's form."""
    return some(
        id=row.id,
        execution_id=row.execution_id,
        repository=row.repository,
        status=row.status,
        start_time=moment(row.started_at),
        end_time=moment(row.ended_at),
        total=row.total,
        retained=row.retained,
        freed=storage(row.freed_bytes),
        removed=row.removed,
    )


class MetadataHandler(ApiHandler):
    async def get(self) -> None:
        kinds = ({"kind": "doublestar", "decorations": list(words)} for words in (REPOSITORIES, TAGS))
        scope, tags = ([one] for one in kinds)
        templates = [
            {
                "rule_template": template.value,
                "display_text": template.value,
                "action": "retain",
                "params": [] if template is Template.ALWAYS else [{"type": "int", "required": True}],
            }
            for template in Template
        ]
        self.answer({"templates": templates, "scope_selectors": scope, "tag_selectors": tags})


class RetentionsHandler(ApiHandler):
    async def place(self, path: Mapping[str, Any]) -> Place:
        number = self.body.get("scope", {}).get("ref")
        if not number:
            raise Invalid("scope must have the number of a project in ref")
        return Place(number)

    async def post(self) -> None:
        made = await self.services.retentions.create(self.view.id, *read_policy(self.body))
        self.note("create", "retention policy", self.view.name)
        self.created(f"/retentions/{made.id}")


class _OnRetention(ApiHandler):
    policy: Policy

    async def place(self, path: Mapping[str, Any]) -> Place:
        self.policy = await self.services.retentions.find(path["id"])
        return Place(self.policy.project_id, otherwise=_NOT_HERE)


class RetentionHandler(_OnRetention):
    async def get(self, id: int) -> None:  # noqa: A002  # Harbor's name
        self.answer(policy(self.policy))

    async def put(self, id: int) -> None:  # noqa: A002
        await self.services.retentions.change(self.policy.id, *read_policy(self.body))
        self.note("update", "retention policy", self.view.name)

    async def delete(self, id: int) -> None:  # noqa: A002
        await self.services.retentions.remove(self.policy.id)
        self.note("delete", "retention policy", self.view.name)


class ExecutionsHandler(_OnRetention):
    async def get(self, id: int) -> None:  # noqa: A002
        self.answer_whole([execution(row) for row in await self.services.retentions.executions(self.policy.id)])

    async def post(self, id: int) -> None:  # noqa: A002
        dry_run = self.body.get("dry_run", False)
        number = await self.services.retentions.begin(self.policy.id, dry_run=dry_run)
        if not dry_run:
            self.note("run", "retention policy", self.view.name)
        self.created(f"/retentions/{self.policy.id}/executions/{number}")


class ExecutionHandler(_OnRetention):
    async def patch(self, id: int, eid: int) -> None:  # noqa: A002
        await self.services.retentions.stop(self.policy.id, eid)
        self.note("stop", "retention policy", self.view.name)


class TasksHandler(_OnRetention):
    async def get(self, id: int, eid: int) -> None:  # noqa: A002
        found = await self.services.retentions.execution(self.policy.id, eid)
        rows, total = await self.services.retentions.tasks(found.id, offset=self.offset, limit=self.limit)
        self.answer_page([task(row) for row in rows], total)


class TaskHandler(_OnRetention):
    async def get(self, id: int, eid: int, tid: int) -> None:  # noqa: A002
        found = await self.services.retentions.execution(self.policy.id, eid)
        row = await self.services.retentions.task(found.id, tid)
        lines = [f"{row.repository}@{one['digest']} {' '.join(one['tags'])}".rstrip() for one in row.removed]
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        _ = self.finish("".join(line + "\n" for line in lines))
