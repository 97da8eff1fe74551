"""Serve the webhooks of a project and their deliveries, which are executions with one task each in Harbor's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.access.errors import Invalid, Missing
from app.database.webhooks import Delivery, EventType, Webhook
from app.webhooks.payloads import PayloadFormat
from app.webhooks.service import Content, Target

from .handler import ApiHandler
from .shapes import moment, some

_HTTP = "http"


def policy(row: Webhook, auth_header: str) -> dict[str, Any]:
    """Return a webhook in Harbor's form."""
    target = {
        "type": _HTTP,
        "address": row.url,
        "auth_header": auth_header,
        "skip_cert_verify": False,
        "payload_format": row.payload_format,
    }
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "project_id": row.project_id,
        "targets": [target],
        "event_types": list(row.event_types),
        "creator": row.created_by,
        "creation_time": moment(row.created_at),
        "update_time": moment(row.updated_at),
        "enabled": row.enabled,
    }


def execution(row: Delivery) -> dict[str, Any]:
    """Return a delivery in the form of Harbor's executions."""
    return {
        "id": row.id,
        "vendor_type": "WEBHOOK",
        "vendor_id": row.webhook_id,
        "status": row.status,
        "status_message": row.answer.partition("\n")[0],
        "trigger": "EVENT",
        "extra_attrs": {"event_type": row.event_type, "attempts": row.attempts, "next_attempt": moment(row.next_at)},
        "start_time": moment(row.created_at),
        **some(end_time=moment(row.ended_at)),
    }


class PoliciesHandler(ApiHandler):
    async def get(self) -> None:
        rows, total = await self.services.webhooks.page(self.view.id, self.page(self.text("name")))
        self.answer_page([policy(row, self.services.webhooks.auth_header(row)) for row in rows], total)

    async def post(self) -> None:
        content = Content(
            name=self.body["name"],
            description=self.body.get("description") or "",
            enabled=self.body.get("enabled", True),
            target=target(self.body["targets"]),
            event_types=self.body["event_types"],
        )
        made = await self.services.webhooks.create(self.principal, self.view.id, content)
        self.note("create", "webhook", made.name)
        self.created(f"/projects/{self.view.id}/webhook/policies/{made.id}")


class PolicyHandler(ApiHandler):
    async def get(self, webhook_policy_id: int) -> None:
        found = await self.services.webhooks.find(self.view.id, webhook_policy_id)
        self.answer(policy(found, self.services.webhooks.auth_header(found)))

    async def put(self, webhook_policy_id: int) -> None:
        before = await self.services.webhooks.find(self.view.id, webhook_policy_id)
        now = Target(before.url, None, before.payload_format)
        content = Content(
            name=self.body.get("name") or before.name,
            description=self.body.get("description", before.description) or "",
            enabled=self.body.get("enabled", before.enabled),
            target=target(self.body["targets"]) if self.body.get("targets") else now,
            event_types=self.body.get("event_types") or before.event_types,
        )
        changed = await self.services.webhooks.update(self.view.id, webhook_policy_id, content)
        self.note("update", "webhook", changed.name)

    async def delete(self, webhook_policy_id: int) -> None:
        removed = await self.services.webhooks.remove(self.view.id, webhook_policy_id)
        self.note("delete", "webhook", removed.name)


class EventsHandler(ApiHandler):
    def get(self) -> None:
        formats = [{"notify_type": _HTTP, "formats": list(PayloadFormat)}]
        self.answer({"event_type": list(EventType), "notify_type": [_HTTP], "payload_formats": formats})


class ExecutionsHandler(ApiHandler):
    async def get(self, webhook_policy_id: int) -> None:
        found = await self.services.webhooks.find(self.view.id, webhook_policy_id)
        rows, total = await self.services.webhooks.deliveries(found, self.page(), self.text("status"))
        self.answer_page([execution(row) for row in rows], total)


class SendAgainHandler(ApiHandler):
    async def post(self, webhook_policy_id: int, execution_id: int) -> None:
        found = await self.services.webhooks.find(self.view.id, webhook_policy_id)
        await self.services.webhooks.send_again(found, execution_id)
        self.note("send", "webhook", found.name)


class TasksHandler(ApiHandler):
    async def get(self, webhook_policy_id: int, execution_id: int) -> None:
        found = await self.services.webhooks.find(self.view.id, webhook_policy_id)
        row = await self.services.webhooks.delivery(found, execution_id)
        shown = execution(row)
        kept = ("id", "status", "status_message", "extra_attrs", "start_time", "end_time")
        task = {"execution_id": row.id, "run_count": row.attempts, "creation_time": moment(row.created_at)}
        self.answer_whole([task | {name: shown[name] for name in kept if name in shown}])


class TaskLogHandler(ApiHandler):
    async def get(self, webhook_policy_id: int, execution_id: int, task_id: int) -> None:
        found = await self.services.webhooks.find(self.view.id, webhook_policy_id)
        if task_id != execution_id:
            raise Missing("there is no such delivery here")
        row = await self.services.webhooks.delivery(found, execution_id)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        _ = self.finish(row.answer + "\n")


def target(targets: Sequence[Mapping[str, Any]]) -> Target:
    """Return the one target of a policy; raises Invalid for what is not done here."""
    one = targets[0]
    if one.get("type", _HTTP) != _HTTP:
        raise Invalid("a target must be of the type http")
    if one.get("skip_cert_verify"):
        raise Invalid("the certificate of a target is always verified; leave skip_cert_verify out")
    return Target(one["address"], one.get("auth_header") or "", one.get("payload_format") or PayloadFormat.DEFAULT)
