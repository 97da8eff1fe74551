"""Queries on plans, their images, and the counted GETs that they have cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, exists, func, or_, select, update

from app.oci.reference import spelled

from .engine import Transaction, insert
from .ids import retire
from .tables import link, manifest, plan, plan_image, plan_spent, project, repository
from .traffic import HOUR


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan; the columns of the table `plan` say what its fields are."""

    id: int
    title: str
    owner_id: int | None
    owner: str
    platforms: Sequence[str]
    due_at: float
    weekly: bool
    ends_at: float
    created_at: float
    waiting: bool
    zone: str | None


@dataclass(frozen=True, slots=True)
class PlanImage:
    """An image of a plan; the columns of the table `plan_image` say what its fields are.

    ``project`` is the mirror's name, ``upstream`` its upstream's. ``pulls`` is the number of pulls of the repository.
    """

    plan_id: int
    number: int
    project_id: int
    repository: str
    reference: str
    digest: str
    gets: int | None
    bytes: int | None
    missing_bytes: int | None
    checked_at: float
    ready_at: float | None
    expected_at: float | None
    late: bool
    problem: str
    pulls_before: int | None
    project: str
    upstream: str
    pulls: int

    @property
    def name(self) -> str:
        """Return the image's address without the host."""
        return spelled(f"{self.project}/{self.repository}", self.reference)


async def create(transaction: Transaction, values: Mapping[str, Any], images: Iterable[Mapping[str, Any]]) -> int:
    """Write a plan and its images, in their order; return its id."""
    made = await transaction.execute(insert(transaction, plan).values(**values).returning(plan.c.id))
    plan_id: int = made.scalar_one()
    rows = [{"plan_id": plan_id, "number": number, **image} for number, image in enumerate(images)]
    await transaction.execute(insert(transaction, plan_image), rows)
    return plan_id


async def find(transaction: Transaction, plan_id: int) -> Plan | None:
    """Read a plan by its id."""
    row = (await transaction.execute(select(plan).where(plan.c.id == plan_id))).first()
    return Plan(*row) if row else None


async def newest(
    transaction: Transaction, *, owner_id: int | None = None, after: int | None = None, limit: int
) -> list[Plan]:
    """List plans, the newest first: all, or those of one account. ``after``: only those older than this id.

    Pulls that wait are no plans.
    """
    statement = select(plan).where(~plan.c.waiting).order_by(plan.c.id.desc()).limit(limit)
    if owner_id is not None:
        statement = statement.where(plan.c.owner_id == owner_id)
    if after is not None:
        statement = statement.where(plan.c.id < after)
    return [Plan(*row) for row in await transaction.execute(statement)]


async def unfinished(transaction: Transaction, since: float, *, waiting: bool = False) -> list[Plan]:
    """List the plans, and pulls that wait, whose last date is later than ``since``, the earliest date first.

    Times are Unix seconds. ``waiting``: only pulls that wait.
    """
    statement = select(plan).where(plan.c.ends_at > since).order_by(plan.c.due_at, plan.c.id)
    if waiting:
        statement = statement.where(plan.c.waiting)
    return [Plan(*row) for row in await transaction.execute(statement)]


async def begun(transaction: Transaction, since: float, until: float) -> list[tuple[int, float, int, str]]:
    """List the repositories of plans whose date is between two times (Unix seconds).

    Each is (plan id, date, project id, repository).
    """
    columns = plan.c.id, plan.c.due_at, plan_image.c.project_id, plan_image.c.repository
    statement = (
        select(*columns)
        .join_from(plan, plan_image, plan_image.c.plan_id == plan.c.id)
        .where(plan.c.ends_at > since, plan.c.due_at > since, plan.c.due_at < until, ~plan.c.waiting)
        .distinct()
    )
    return [(row[0], row[1], row[2], row[3]) for row in await transaction.execute(statement)]


async def is_anything_due(transaction: Transaction, since: float, spent_before: float) -> bool:
    """Return whether there is a plan whose last date is later than ``since``, or something to forget; it only reads.

    Times are Unix seconds.
    """
    exist = (
        exists().where(plan.c.ends_at > since),
        exists().where(plan.c.waiting, plan.c.ends_at < since),
        exists().where(plan_spent.c.hour < spent_before // HOUR),
    )
    return bool((await transaction.execute(select(or_(*exist)))).scalar())


async def count_unfinished(transaction: Transaction, owner_id: int, since: float) -> int:
    """Count the plans of one account whose last date is later than ``since``."""
    statement = select(func.count()).select_from(plan).where(plan.c.owner_id == owner_id, plan.c.ends_at > since)
    return int((await transaction.execute(statement)).scalar_one())


async def images(transaction: Transaction, plan_ids: Collection[int]) -> list[PlanImage]:
    """List the images of plans, in the order of their plans' ids and of their numbers."""
    statement: Select[Any] = (
        select(plan_image, project.c.name, project.c.upstream, func.coalesce(repository.c.pull_count, 0))
        .join_from(plan_image, project, project.c.id == plan_image.c.project_id)
        .outerjoin(
            repository,
            (repository.c.project_id == plan_image.c.project_id) & (repository.c.name == plan_image.c.repository),
        )
        .where(plan_image.c.plan_id.in_(sorted(plan_ids)))
        .order_by(plan_image.c.plan_id, plan_image.c.number)
    )
    return [PlanImage(*row) for row in await transaction.execute(statement)]


async def note(transaction: Transaction, plan_id: int, number: int, **values: Any) -> None:
    """Write what is known of an image now."""
    mine = (plan_image.c.plan_id == plan_id) & (plan_image.c.number == number)
    await transaction.execute(update(plan_image).where(mine).values(values))


async def advance(transaction: Transaction, plan_id: int, due_at: float) -> None:
    """Move a weekly plan to its next date; its images are compared with the upstream again."""
    await transaction.execute(update(plan).where(plan.c.id == plan_id).values(due_at=due_at))
    await transaction.execute(
        update(plan_image).where(plan_image.c.plan_id == plan_id).values(checked_at=0.0, late=False)
    )


async def forget_waiting(transaction: Transaction, before: float) -> None:
    """Remove the pulls that waited, and whose images were promised for a time before ``before`` (Unix seconds)."""
    over = select(plan.c.id).where(plan.c.waiting, plan.c.ends_at < before)
    if (await transaction.execute(over.limit(1))).first() is not None:
        await retire(transaction, plan)
        await transaction.execute(delete(plan).where(plan.c.id.in_(over)))


async def remove(transaction: Transaction, plan_id: int) -> None:
    """Remove a plan with its images; what it brought stays for as long as others pull it."""
    await retire(transaction, plan)
    await transaction.execute(delete(plan).where(plan.c.id == plan_id))


async def keep(
    transaction: Transaction, repository_id: int, manifests: Collection[str], blobs: Collection[str], until: float
) -> None:
    """Keep content of a mirror from eviction until a time (Unix seconds), unless it is kept for longer already."""
    for table, digests in ((manifest, manifests), (link, blobs)):
        wanted = sorted(digests)
        for start in range(0, len(wanted), 500):
            here = (table.c.repository_id == repository_id) & table.c.digest.in_(wanted[start : start + 500])
            await transaction.execute(update(table).where(here, table.c.kept_until < until).values(kept_until=until))


async def add_spent(transaction: Transaction, upstream: str, credential: str, at: float, gets: int) -> None:
    """Count GETs of plans in the hour of ``at`` (Unix seconds)."""
    statement = insert(transaction, plan_spent).values(
        upstream=upstream, credential=credential, hour=int(at // HOUR), gets=gets
    )
    await transaction.execute(
        statement.on_conflict_do_update(
            index_elements=["upstream", "credential", "hour"], set_={"gets": plan_spent.c.gets + gets}
        )
    )


async def spent_since(transaction: Transaction, upstream: str, credential: str, start: float) -> dict[int, int]:
    """Return the GETs of plans by the Unix time at which an hour begins, from the hour of ``start`` on."""
    statement = select(plan_spent.c.hour, plan_spent.c.gets).where(
        plan_spent.c.upstream == upstream, plan_spent.c.credential == credential, plan_spent.c.hour >= start // HOUR
    )
    return {row[0] * HOUR: row[1] for row in await transaction.execute(statement)}


async def forget_spent(transaction: Transaction, before: float) -> None:
    """Remove the counts of hours before a time (Unix seconds)."""
    await transaction.execute(delete(plan_spent).where(plan_spent.c.hour < before // HOUR))
