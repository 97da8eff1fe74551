"""Queries on the audit log."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, String, and_, bindparam, case, delete, func, or_, select, union, update

from . import keyset
from .engine import Transaction, insert
from .ids import retire
from .keyset import Count, Entries, Page, Walk
from .tables import OF_PEOPLE, audit
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
# How a pseudonym begins (`app.access.secrets`). It is never replaced by another one.
PSEUDONYM = "somebody-"
_OF_PEOPLE = ("user", "account", "member")
# How the subject of a person begins (`app.access.principal`).
_PERSON = "person:"
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


async def hide_names(
    transaction: Transaction, after: int, before: float, limit: int, pseudonym: Callable[[str], str]
) -> int:
    """Put pseudonyms in place of people's names, and nothing in place of addresses, in entries before a time.

    It looks at up to ``limit`` entries after an id, and returns the id of the last one that it looked at.
    """
    columns = (audit.c.id, audit.c.at, audit.c.actor, audit.c.resource_type, audit.c.resource)
    rows = await transaction.execute(select(*columns).where(audit.c.id > after).order_by(audit.c.id).limit(limit))
    old = list(itertools.takewhile(lambda row: row.at < before, rows))

    def hidden(name: str) -> str:
        return name if not name or name.startswith(PSEUDONYM) else pseudonym(name)

    changed = [
        {
            "key": row.id,
            "who": _PERSON + hidden(row.actor.removeprefix(_PERSON)) if row.actor.startswith(_PERSON) else row.actor,
            "what": hidden(row.resource) if row.resource_type in _OF_PEOPLE else row.resource,
        }
        for row in old
    ]
    if changed:
        statement = update(audit).where(audit.c.id == bindparam("key"))
        values = {"actor": bindparam("who"), "resource": bindparam("what"), "address": ""}
        await transaction.execute(statement.values(values), changed)
    return old[-1].id if old else after


async def of_person(transaction: Transaction, username: str, after: int, limit: int) -> list[Entry]:
    """List entries of what a person did, and of what was done to their account, after an id."""
    parts = (select(audit.c.id).where(one, audit.c.id > after) for one in _named(username))
    ids = union(*(part.order_by(audit.c.id).limit(limit).subquery().select() for part in parts)).subquery()
    here = select(audit).where(audit.c.id.in_(select(ids.c.id))).order_by(audit.c.id).limit(limit)
    return [_entry(*row) for row in await transaction.execute(here)]


async def hide_person(transaction: Transaction, username: str, pseudonym: str, until: float, limit: int) -> int:
    """Put a pseudonym in place of a person's name in up to twice ``limit`` entries until a time; return how many."""
    by, about = _named(username)
    number = 0
    for here, values in (
        (by, {"actor": _PERSON + pseudonym, "address": ""}),
        (about, {"resource": pseudonym, "address": case((audit.c.actor == "anonymous", ""), else_=audit.c.address)}),
    ):
        some = select(audit.c.id).where(here, audit.c.at <= until).limit(limit)
        number += (await transaction.execute(update(audit).where(audit.c.id.in_(some)).values(values))).rowcount
    return number


async def former_names(transaction: Transaction, username: str) -> list[tuple[str, float]]:
    """List the names that a person had before this one, each with the time until which they had it."""
    renamed = (audit.c.actor == _PERSON + username, audit.c.operation == "rename")
    rows = await transaction.execute(select(audit.c.resource, audit.c.at).where(*renamed).order_by(audit.c.id))
    return [(name, at) for name, at in rows]


def _named(username: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions that a person did something, and that something was done to them. Each has an index."""
    return audit.c.actor == _PERSON + username, and_(OF_PEOPLE, audit.c.resource == username)


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
