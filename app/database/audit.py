"""Queries on the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, String, and_, delete, func, or_, select

from . import keyset
from .engine import Transaction, insert
from .ids import retire
from .keyset import Count, Entries, Page, Walk
from .tables import audit
from .text import equals, has


@dataclass(frozen=True, slots=True)
class Note:
    """One action that is not written yet; ``actor`` is a principal's subject, ``at`` is in Unix seconds.

    ``project_name`` is "" if the action belongs to no project. ``times`` is the number of times, beginning at ``at``.
    """

    at: float
    actor: str
    address: str
    operation: str
    resource_type: str
    resource: str
    project_id: int | None = None
    project_name: str = ""
    times: int = 1


@dataclass(frozen=True, slots=True)
class Entry(Note):
    """A note as it is in the log; ids grow with time."""

    id: int = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Filter:
    """The choice of entries; a field that is None or empty restricts nothing.

    ``text`` is a part of the actor, the resource or the project's name. ``project_name`` is the exact name, which also
    finds entries of a project that is gone. ``since`` (inclusive) and ``until`` (exclusive) are in Unix seconds.
    ``exact`` and ``parts`` hold the whole or a part of other fields: username, operation, resource, resource_type.
    """

    project_id: int | None = None
    project_name: str = ""
    text: str = ""
    operation: str = ""
    resource_type: str = ""
    since: float | None = None
    until: float | None = None
    exact: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)


EVERYTHING = Filter()
# Ids grow with time. People come before robots.
_SORTS: keyset.Sorts = {
    "op_time": keyset.KEY,
    "id": keyset.KEY,
    "username": audit.c.actor,
    "operation": audit.c.operation,
    "resource": audit.c.resource,
    "resource_type": audit.c.resource_type,
    "project_name": func.nullif(audit.c.project_name, ""),
    "client_address": audit.c.address,
}
# An actor is "KIND:NAME".
_username: ColumnElement[str] = audit.c.actor
for _kind in ("person:", "robot:", "system:"):
    _username = func.replace(_username, _kind, "", type_=String)
# The fields that `Filter.exact` and `Filter.parts` may name.
_FIELDS: Mapping[str, ColumnElement[str]] = {
    "username": _username,
    "operation": audit.c.operation,
    "resource": audit.c.resource,
    "resource_type": audit.c.resource_type,
    "project_name": audit.c.project_name,
}
# A note is in the log within an hour, so that times, with an hour around them, are a range of ids.
_WRITTEN_WITHIN = 3600.0
_NO_END = 2**63 - 1


async def add(transaction: Transaction, notes: Sequence[Note]) -> None:
    """Write notes in their order."""
    if notes:
        await transaction.execute(insert(transaction, audit), [asdict(note) for note in notes])


async def page(transaction: Transaction, page: Page[int], chosen: Filter = EVERYTHING) -> Entries[Entry]:
    """List the chosen entries by id, the newest first."""
    walks = _walks(chosen)
    columns = audit.c.id
    return await keyset.fetch(
        transaction, select(audit), _entry, page, columns, walks=walks, descending=True, sorts=_SORTS
    )


async def total(transaction: Transaction, chosen: Filter = EVERYTHING) -> Count:
    """Count the entries that `page` lists."""
    return await keyset.count(transaction, select(audit), audit.c.id, walks=_walks(chosen), descending=True)


async def remove_older(transaction: Transaction, before: float, limit: int) -> int:
    """Remove up to ``limit`` entries before a time (Unix seconds); return how many were removed."""
    old = select(audit.c.id).where(audit.c.at < before).order_by(audit.c.at).limit(limit)
    await retire(transaction, audit)
    return (await transaction.execute(delete(audit).where(audit.c.id.in_(old)))).rowcount


def _entry(number: int, *note: Any) -> Entry:
    return Entry(*note, id=number)


def _walks(chosen: Filter) -> tuple[Walk, ...]:
    """Return the walk from the newest entry back: along an index, and the rest as what is searched for.

    An index has one of the project, its name and the operation. The times are a range of ids.
    """
    walked: list[ColumnElement[bool]] = []
    rest: list[ColumnElement[bool]] = []
    for wanted, condition in (
        (chosen.project_id is not None, audit.c.project_id == chosen.project_id),
        (chosen.project_name, equals(audit.c.project_name, chosen.project_name)),
        (chosen.operation, audit.c.operation == chosen.operation),
    ):
        if wanted:
            (rest if walked else walked).append(condition)
    if chosen.text:
        searched = (audit.c.actor, audit.c.resource, audit.c.project_name)
        rest.append(or_(*(has(column, chosen.text) for column in searched)))
    rest += [equals(_FIELDS[name], text) for name, text in chosen.exact.items()]
    rest += [has(_FIELDS[name], text) for name, text in chosen.parts.items()]
    if chosen.resource_type:
        rest.append(audit.c.resource_type == chosen.resource_type)
    if chosen.since is not None:
        before = select(audit.c.id).where(audit.c.at < chosen.since - _WRITTEN_WITHIN).order_by(audit.c.at.desc())
        walked.append(audit.c.id > func.coalesce(before.limit(1).scalar_subquery(), 0))
        rest.append(audit.c.at >= chosen.since)
    if chosen.until is not None:
        after = select(audit.c.id).where(audit.c.at >= chosen.until + _WRITTEN_WITHIN).order_by(audit.c.at)
        walked.append(audit.c.id < func.coalesce(after.limit(1).scalar_subquery(), _NO_END))
        rest.append(audit.c.at < chosen.until)
    return (Walk(tuple(walked), and_(*rest) if rest else None),)
