"""Queries on the requests that were refused, failed, were slow or filled the cache."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, or_, select

from .engine import Transaction, insert
from .ids import retire
from .tables import request
from .text import equals

MOST_LOOKED = 1000


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """A request; the columns of the table `request` say what its fields are."""

    at: float
    request_id: str
    host: str
    method: str
    path: str
    route: str
    status: int
    outcome: str
    code: str
    cause: str
    why: str
    who: str
    client: str
    repository: str
    reference: str
    digest: str
    pulls: int
    bytes: int
    seconds: float
    phases: Mapping[str, float] = field(default_factory=dict)
    times: int = 1


@dataclass(frozen=True, slots=True)
class RequestEntry(KeptRequest):
    """A request as it is in the table; ids grow with time."""

    id: int = field(kw_only=True)


async def add(transaction: Transaction, requests: Sequence[KeptRequest]) -> None:
    """Write requests in their order."""
    if requests:
        await transaction.execute(insert(transaction, request), [asdict(each) for each in requests])


async def newest(
    transaction: Transaction,
    *,
    request_id: str | None = None,
    repository: str | None = None,
    client: str | None = None,
    outcomes: Collection[str] = (),
    who: Collection[str] = (),
    after: int | None = None,
    limit: int,
) -> list[RequestEntry]:
    """List requests, the newest first: all, or those with an id, in a repository or from a client's address.

    ``outcomes``: only those that ended so. ``who``: only those of these principals. Both are looked for among the
    newest thousand. ``after``: only those older than the entry with this id.
    """
    given = ((request.c.request_id, request_id), (request.c.repository, repository), (request.c.client, client))
    chosen: list[ColumnElement[bool]] = [equals(column, text) for column, text in given if text is not None]
    if after is not None:
        chosen.append(request.c.id < after)
    statement: Select[Any] = select(request).where(*chosen).order_by(request.c.id.desc())
    if outcomes or who:
        looked = statement.limit(MOST_LOOKED).subquery()
        statement = select(looked).order_by(looked.c.id.desc())
        if outcomes:
            statement = statement.where(looked.c.outcome.in_(sorted(outcomes)))
        if who:
            statement = statement.where(or_(*(equals(looked.c.who, subject) for subject in who)))
    return [RequestEntry(*row[1:], id=row[0]) for row in await transaction.execute(statement.limit(limit))]


async def remove_older(transaction: Transaction, before: float, most: int, limit: int) -> int:
    """Remove up to ``limit`` requests from before a time (Unix seconds), or beyond the newest ``most`` ones.

    Returns how many were removed.
    """
    newest_id = select(func.max(request.c.id)).scalar_subquery()
    by_age = select(request.c.id).where(request.c.at < before).order_by(request.c.at).limit(limit)
    by_number = select(request.c.id).where(request.c.id <= newest_id - most).order_by(request.c.id).limit(limit)
    await retire(transaction, request)
    removed = 0
    for old in (by_age, by_number):
        removed = max(removed, (await transaction.execute(delete(request).where(request.c.id.in_(old)))).rowcount)
    return removed
