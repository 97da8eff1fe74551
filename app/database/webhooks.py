"""Queries on webhooks of projects, and on the deliveries that are due to them.

A delivery is written in the transaction of its event. So it exists if and only if the event has happened, and a worker
that is killed loses none. An attempt is a lease: its next time is set before the request is sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, delete, func, literal_column, select, update

from . import changes, keyset
from .engine import Database, PointQuery, Transaction, insert
from .ids import retire
from .keyset import Count, Entries, Page, Walk
from .tables import delivery, project, repository, webhook
from .text import equals, has_any

_SEPARATOR = ","
# An event of a project that repeats, such as a quota that is exceeded, is sent once in this time.
_QUIET_SECONDS = 3600.0
_MOST_LOOKED_AT = 1000


class EventType(StrEnum):
    """The events that a webhook can have, in Harbor's words."""

    PUSH = "PUSH_ARTIFACT"
    PULL = "PULL_ARTIFACT"
    DELETE = "DELETE_ARTIFACT"
    QUOTA_EXCEEDED = "QUOTA_EXCEED"
    QUOTA_WARNING = "QUOTA_WARNING"
    RETENTION = "TAG_RETENTION"


class DeliveryStatus(StrEnum):
    """The state of a delivery, in Harbor's words."""

    PENDING = "Pending"
    SUCCESS = "Success"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook's row; ``auth_header`` is encrypted, times in Unix seconds."""

    id: int
    project_id: int
    name: str
    description: str
    enabled: bool
    url: str
    auth_header: str | None = field(repr=False)
    payload_format: str
    event_types: Sequence[str]
    created_by: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery's row; ``answer`` is that of the last attempt, times in Unix seconds."""

    id: int
    webhook_id: int
    event_type: str
    event: Mapping[str, Any]
    created_at: float
    status: str
    attempts: int
    next_at: float | None
    ended_at: float | None
    answer: str


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that was taken for an attempt, and its webhook."""

    delivery: Delivery
    webhook: Webhook


_COMMA: Any = literal_column("','")
# One row for all webhooks of a project, so that there is a copy of it also if there are none.
_wanted = PointQuery(
    select(func.aggregate_strings(webhook.c.event_types, _COMMA)).where(
        webhook.c.project_id == bindparam("project"), webhook.c.enabled
    ),
    scope=changes.project,
)
_SORTS: keyset.Sorts = {"name": keyset.KEY, "id": webhook.c.id, "creation_time": webhook.c.created_at}
_DELIVERY_SORTS: keyset.Sorts = {"id": keyset.KEY, "start_time": keyset.KEY}


async def wanted(database: Database, project_id: int, event_type: EventType) -> bool:
    """Return whether a webhook of the project has events of this type, mostly by a copy."""
    row = await database.point(_wanted, project_id)
    return row is not None and event_type in (row[0] or "").split(_SEPARATOR)


async def repositories_with(transaction: Transaction, repository_ids: Sequence[int], event_type: EventType) -> set[int]:
    """Return those of the repositories whose projects have a webhook with events of this type."""
    statement = (
        select(repository.c.id, webhook.c.event_types)
        .join_from(repository, webhook, webhook.c.project_id == repository.c.project_id)
        .where(repository.c.id.in_(repository_ids), webhook.c.enabled)
    )
    return {row[0] for row in await transaction.execute(statement) if event_type in row[1].split(_SEPARATOR)}


async def emit(
    transaction: Transaction,
    repository_id: int,
    event_type: EventType,
    *,
    digest: str,
    tags: Sequence[str],
    operator: str,
) -> None:
    """Write a delivery of what happens to an artifact for each webhook that has such events."""
    statement = (
        select(webhook.c.id, webhook.c.event_types, project.c.name, project.c.public, repository.c.name,
               repository.c.created_at)
        .join_from(repository, project, project.c.id == repository.c.project_id)
        .join(webhook, webhook.c.project_id == project.c.id)
        .where(repository.c.id == repository_id, webhook.c.enabled)
    )  # fmt: skip
    rows = [row for row in await transaction.execute(statement) if event_type in row[1].split(_SEPARATOR)]
    for webhook_id, _, project_name, public, name, created_at in rows:
        event = {
            "operator": operator,
            "project": project_name,
            "public": bool(public),
            "repository": name,
            "repository_created_at": created_at,
            "digest": digest,
            "tags": list(tags),
        }
        await _add(transaction, webhook_id, event_type, event)


async def emit_of_project(
    transaction: Transaction, project_id: int, event_type: EventType, details: Mapping[str, object]
) -> None:
    """Write a delivery of what happens to a project, unless there was one of the same type within the hour."""
    for webhook_id, name in await _with_events(transaction, project_id, event_type):
        newest = select(delivery.c.event_type, delivery.c.created_at).where(delivery.c.webhook_id == webhook_id)
        some = newest.order_by(delivery.c.id.desc()).limit(_MOST_LOOKED_AT).subquery()
        same = (some.c.event_type == event_type, some.c.created_at > time.time() - _QUIET_SECONDS)
        if (await transaction.execute(select(some.c.created_at).where(*same).limit(1))).first() is None:
            await _add(transaction, webhook_id, event_type, {"operator": "", "project": name, **details})


async def emit_retention(
    transaction: Transaction, project_id: int, repository: str, run: Mapping[str, object], *, operator: str
) -> None:
    """Write a delivery of what a retention run removed from a repository for each webhook that has such events."""
    for webhook_id, name in await _with_events(transaction, project_id, EventType.RETENTION):
        event = {"operator": operator, "project": name, "repository": repository, "retention": run}
        await _add(transaction, webhook_id, EventType.RETENTION, event)


async def _with_events(transaction: Transaction, project_id: int, event_type: EventType) -> list[tuple[int, str]]:
    """List the ids of a project's webhooks that have events of a type, each with the project's name."""
    statement = (
        select(webhook.c.id, webhook.c.event_types, project.c.name)
        .join_from(webhook, project, project.c.id == webhook.c.project_id)
        .where(webhook.c.project_id == project_id, webhook.c.enabled)
    )
    rows = await transaction.execute(statement)
    return [(row[0], row[2]) for row in rows if event_type in row[1].split(_SEPARATOR)]


async def _add(transaction: Transaction, webhook_id: int, event_type: EventType, event: Mapping[str, object]) -> None:
    now = time.time()
    values = {
        "webhook_id": webhook_id,
        "event_type": event_type,
        "event": dict(event),
        "created_at": now,
        "status": DeliveryStatus.PENDING,
        "attempts": 0,
        "next_at": now,
        "answer": "",
    }
    await transaction.execute(insert(transaction, delivery).values(values))


# -- webhooks


async def page(transaction: Transaction, project_id: int, page: Page[str]) -> Entries[Webhook]:
    """List a project's webhooks by name."""
    walks = _walks(project_id, page.search)
    return await keyset.fetch(transaction, select(webhook), _webhook, page, webhook.c.name, walks=walks, sorts=_SORTS)


async def total(transaction: Transaction, project_id: int, search: str = "") -> Count:
    """Count the webhooks that `page` lists."""
    return await keyset.count(transaction, select(webhook), webhook.c.name, walks=_walks(project_id, search))


async def find(transaction: Transaction, project_id: int, webhook_id: int) -> Webhook | None:
    """Read a webhook of a project."""
    here = (webhook.c.id == webhook_id, webhook.c.project_id == project_id)
    row = (await transaction.execute(select(webhook).where(*here))).first()
    return _webhook(*row) if row else None


async def create(transaction: Transaction, project_id: int, *, created_by: str, **values: object) -> int | None:
    """Make a webhook; return its id, None if the project has one of that name."""
    changes.changed(transaction, changes.project(project_id))
    now = time.time()
    given = _columns(values) | {"created_by": created_by, "created_at": now, "updated_at": now}
    statement = insert(transaction, webhook).values(project_id=project_id, **given)
    made: int | None = (await transaction.execute(statement.on_conflict_do_nothing().returning(webhook.c.id))).scalar()
    return made


async def change(transaction: Transaction, before: Webhook, **values: object) -> bool:
    """Change a webhook; return False if another one of the project has that name."""
    changes.changed(transaction, changes.project(before.project_id))
    name = values.get("name", before.name)
    taken = (webhook.c.project_id == before.project_id, webhook.c.name == name, webhook.c.id != before.id)
    if (await transaction.execute(select(webhook.c.id).where(*taken).limit(1))).first() is not None:
        return False
    given = _columns(values) | {"updated_at": time.time()}
    await transaction.execute(update(webhook).where(webhook.c.id == before.id).values(given))
    return True


async def remove(transaction: Transaction, before: Webhook) -> None:
    """Remove a webhook with its deliveries."""
    changes.changed(transaction, changes.project(before.project_id))
    await retire(transaction, webhook)
    await transaction.execute(delete(webhook).where(webhook.c.id == before.id))


async def count(transaction: Transaction, project_id: int) -> int:
    """Count a project's webhooks."""
    statement = select(func.count()).select_from(webhook).where(webhook.c.project_id == project_id)
    return await keyset.exactly(transaction, statement)


# -- deliveries


async def is_any_due(transaction: Transaction) -> bool:
    """Return whether a delivery is due for an attempt."""
    due = select(delivery.c.id).where(delivery.c.next_at <= time.time()).order_by(delivery.c.next_at).limit(1)
    return (await transaction.execute(due)).first() is not None


async def take_due(transaction: Transaction, limit: int, wait: Sequence[float]) -> list[Due]:
    """Take deliveries that are due for an attempt.

    Until the attempt is noted, the next one is due after the time (seconds) that ``wait`` has for this attempt.
    """
    statement = (
        select(delivery, webhook)
        .join_from(delivery, webhook, webhook.c.id == delivery.c.webhook_id)
        .where(delivery.c.next_at <= time.time())
        .order_by(delivery.c.next_at)
        .limit(limit)
        .with_for_update(of=delivery, skip_locked=True)
    )
    rows = (await transaction.execute(statement)).all()
    width = len(delivery.columns)
    found = [Due(Delivery(*row[:width]), _webhook(*row[width:])) for row in rows]
    now = time.time()
    leases = [{"d": due.delivery.id, "at": now + wait[min(due.delivery.attempts, len(wait) - 1)]} for due in found]
    if leases:
        values: dict[str, Any] = {"attempts": delivery.c.attempts + 1, "next_at": bindparam("at")}
        await transaction.execute(update(delivery).where(delivery.c.id == bindparam("d")).values(values), leases)
    return found


async def note_attempt(transaction: Transaction, delivery_id: int, *, answer: str, succeeded: bool, ends: bool) -> None:
    """Note the outcome of an attempt; ``ends``: there is no further one."""
    values: dict[str, object] = {"answer": answer}
    if ends:
        status = DeliveryStatus.SUCCESS if succeeded else DeliveryStatus.ERROR
        values |= {"status": status, "next_at": None, "ended_at": time.time()}
    await transaction.execute(update(delivery).where(delivery.c.id == delivery_id).values(values))


async def send_again(transaction: Transaction, webhook_id: int, delivery_id: int) -> bool:
    """Make a delivery due now, with all its attempts; return False if there is no such one."""
    here = (delivery.c.id == delivery_id, delivery.c.webhook_id == webhook_id)
    values = {"status": DeliveryStatus.PENDING, "attempts": 0, "next_at": time.time(), "ended_at": None}
    return bool((await transaction.execute(update(delivery).where(*here).values(values))).rowcount)


async def deliveries(transaction: Transaction, webhook_id: int, page: Page[int], status: str = "") -> Entries[Delivery]:
    """List the deliveries of a webhook, the newest first; with ``status`` those that have it."""
    return await keyset.fetch(
        transaction, select(delivery), Delivery, page, delivery.c.id, walks=_delivery_walks(webhook_id, status),
        descending=True, sorts=_DELIVERY_SORTS,
    )  # fmt: skip


async def deliveries_total(transaction: Transaction, webhook_id: int, status: str = "") -> Count:
    """Count the deliveries that `deliveries` lists."""
    walks = _delivery_walks(webhook_id, status)
    return await keyset.count(transaction, select(delivery), delivery.c.id, walks=walks, descending=True)


async def find_delivery(transaction: Transaction, webhook_id: int, delivery_id: int) -> Delivery | None:
    """Read a delivery of a webhook."""
    here = (delivery.c.id == delivery_id, delivery.c.webhook_id == webhook_id)
    row = (await transaction.execute(select(delivery).where(*here))).first()
    return Delivery(*row) if row else None


async def remove_ended(transaction: Transaction, before: float, limit: int) -> int:
    """Remove up to ``limit`` deliveries that ended before a time (Unix seconds); return how many were removed."""
    old = select(delivery.c.id).where(delivery.c.ended_at < before).order_by(delivery.c.ended_at).limit(limit)
    await retire(transaction, delivery)
    return (await transaction.execute(delete(delivery).where(delivery.c.id.in_(old)))).rowcount


def _walks(project_id: int, search: str) -> tuple[Walk, ...]:
    return (Walk((webhook.c.project_id == project_id,), has_any([webhook.c.name], search)),)


def _delivery_walks(webhook_id: int, status: str) -> tuple[Walk, ...]:
    return (Walk((delivery.c.webhook_id == webhook_id,), equals(delivery.c.status, status) if status else None),)


def _webhook(*row: Any) -> Webhook:
    values = dict(zip((column.name for column in webhook.columns), row, strict=True))
    return Webhook(**{**values, "event_types": tuple(values["event_types"].split(_SEPARATOR))})


def _columns(values: Mapping[str, object]) -> dict[str, object]:
    types = values.get("event_types")
    joined = {"event_types": _SEPARATOR.join(types)} if isinstance(types, list | tuple) else {}
    return {**values, **joined}
