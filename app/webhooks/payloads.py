"""Make the bodies of deliveries, as Harbor sends them or as CloudEvents 1.0.

Source: Harbor, "Configure Webhook Notifications"; CloudEvents 1.0.2, JSON event format.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from app.database.webhooks import Due, EventType

_NAMES: Mapping[str, str] = {
    EventType.PUSH: "harbor.artifact.pushed",
    EventType.PULL: "harbor.artifact.pulled",
    EventType.DELETE: "harbor.artifact.deleted",
    EventType.QUOTA_EXCEEDED: "harbor.quota.exceeded",
    EventType.QUOTA_WARNING: "harbor.quota.warned",
    EventType.RETENTION: "harbor.tag_retention.finished",
}
# A receiver tells repeats of one event by its id, which has to be the same in each attempt and on each host.
_EVENTS = uuid.UUID("6f7ce9f2-6a43-4f0c-9d0f-6d0a1f6f3c55")


_SUCCESS = "SUCCESS"


class PayloadFormat(StrEnum):
    """The form of a body."""

    DEFAULT = "Default"
    CLOUD_EVENTS = "CloudEvents"


def body(due: Due, host: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of a delivery; ``host`` is what names of images begin with."""
    event, at = due.delivery.event, due.delivery.created_at
    data = _data(event, host)
    operator = str(event.get("operator", ""))
    if due.webhook.payload_format == PayloadFormat.DEFAULT:
        plain = {"type": due.delivery.event_type, "occur_at": int(at), "operator": operator, "event_data": data}
        return "application/json", json.dumps(plain).encode()
    document = {
        "specversion": "1.0",
        "id": event_id(due.delivery.id),
        "source": f"/projects/{due.webhook.project_id}/webhook/policies/{due.webhook.id}",
        "type": _NAMES[due.delivery.event_type],
        "datacontenttype": "application/json",
        "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "data": data,
        "operator": operator,
    }
    return "application/cloudevents+json", json.dumps(document).encode()


def event_id(delivery_id: int) -> str:
    """Return the id of an event, the same in each attempt."""
    return str(uuid.uuid5(_EVENTS, str(delivery_id)))


def _data(event: Mapping[str, Any], host: str) -> dict[str, Any]:
    if "retention" in event:
        return {"retention": _retention(event, host)}
    if "repository" not in event:
        return {
            "repository": {"namespace": event["project"], "repo_full_name": event["project"]},
            "custom_attributes": {"Details": event.get("details", "")},
        }
    full, digest = f"{event['project']}/{event['repository']}", event["digest"]
    resources = [{"digest": digest, "tag": tag, "resource_url": f"{host}/{full}:{tag}"} for tag in event["tags"]] or [
        {"digest": digest, "tag": digest, "resource_url": f"{host}/{full}@{digest}"}
    ]
    return {
        "resources": resources,
        "repository": {
            "date_created": int(event["repository_created_at"]),
            "name": event["repository"],
            "namespace": event["project"],
            "repo_full_name": full,
            "repo_type": "public" if event["public"] else "private",
        },
    }


def _retention(event: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return what a run removed from a repository; an artifact without a tag is named by its digest."""
    run, name = event["retention"], event["repository"]
    return {
        "total": run["total"],
        "retained": run["retained"],
        "harbor_hostname": host,
        "project_name": event["project"],
        "retention_policy_id": run["policy_id"],
        "retention_rule": run["rules"],
        "result": _SUCCESS,
        "deleted_artifact": [
            {
                "type": "image",
                "status": _SUCCESS,
                "name_tag": f"{name}:{one['tags'][0]}" if one["tags"] else f"{name}@{one['digest']}",
            }
            for one in run["removed"]
        ],
    }
