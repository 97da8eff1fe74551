"""Queries on the storage and the quotas of projects: the one place where bytes are charged to a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Float, bindparam, cast, func, or_, select, update

from app.oci.errors import Denied

from . import changes, keyset
from .engine import Database, PointQuery, Transaction
from .keyset import Count, Entries, Page, Walk
from .tables import account, project, repository
from .text import END_OF_NAMES, has_any, is_kept

# The bytes charged for a row besides its texts, for its ids, its digests and its entries in indexes.
ROW_BYTES = 512
# The share of a quota from which on people are warned.
WARN_FROM = 0.85


@dataclass(frozen=True, slots=True)
class Usage:
    """A project's usage, including the bytes reserved for running uploads; ``quota_bytes`` is None for no limit."""

    project_id: int
    project: str
    used_bytes: int
    quota_bytes: int | None
    owner: str | None
    created_at: float

    @property
    def share(self) -> float:
        """The used part of the quota, from 0 to 1; more if the quota was made smaller, 0 without a quota."""
        if self.quota_bytes is None:
            return 0.0
        return self.used_bytes / self.quota_bytes if self.quota_bytes else 1.0

    @property
    def warning(self) -> str | None:
        """The warning that little is left, from 85 % on; otherwise None."""
        if self.quota_bytes is None or self.share < WARN_FROM:
            return None
        return f"quota of {self.project}: {in_words(self.used_bytes)} of {in_words(self.quota_bytes)} used"


@dataclass(frozen=True, slots=True)
class Fullness:
    """All quotas together: the fullest project's share, and the numbers of projects ``above`` each given share."""

    used_bytes: int
    allowed_bytes: int
    fullest: float
    above: tuple[int, ...]


class QuotaExceeded(Denied):
    """A quota, that of the project with this id, has no room for ``needed`` more bytes; it lacks ``short`` of them."""

    project_id = 0
    needed = 0
    short = 0

    cause = "quota"


def in_words(size: int) -> str:
    """Return a number of bytes as people read it: ``0 B``, ``1.2 GiB``."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1023.95 or unit == "PiB":
            break
    return f"{value:.1f} {unit}"


# owner_id is no foreign key, so a project whose owner is gone has none.
_usage = (
    select(
        project.c.id,
        project.c.name,
        project.c.used_bytes,
        project.c.quota_bytes,
        account.c.username,
        project.c.created_at,
    )
    .join_from(project, account, account.c.id == project.c.owner_id, isouter=True)
    .where(is_kept(project.c.name))
)
_SORTS: keyset.Sorts = {
    "id": keyset.KEY,
    "used.storage": (project.c.used_bytes, project.c.id),
    "hard.storage": project.c.quota_bytes,
    "ref.name": project.c.name,
    "creation_time": project.c.created_at,
}
_usage_by_id = PointQuery(_usage.where(project.c.id == bindparam("project")))


async def usage(database: Database, project_id: int) -> Usage | None:
    """Read what a project uses and may use; None if there is no such project."""
    row = await database.point(_usage_by_id, project_id)
    return Usage(*row) if row else None


async def page(transaction: Transaction, page: Page[int]) -> Entries[Usage]:
    """List the usage of every project, by project id or by used bytes, the largest first."""
    walks = _walks(page.search)
    return await keyset.fetch(transaction, _usage, Usage, page, project.c.id, walks=walks, sorts=_SORTS)


async def total(transaction: Transaction, search: str = "") -> Count:
    """Count the projects that `page` lists."""
    return await keyset.count(transaction, _usage, project.c.id, walks=_walks(search))


async def fullness(transaction: Transaction, shares: Sequence[float]) -> Fullness:
    """Add up the projects that have a quota; a quota of 0 bytes admits nothing and is never full."""
    share = cast(project.c.used_bytes, Float) / func.nullif(project.c.quota_bytes, 0)
    statement = select(
        func.coalesce(func.sum(project.c.used_bytes), 0),
        func.coalesce(func.sum(project.c.quota_bytes), 0),
        func.coalesce(func.max(share), 0.0),
        *(func.count().filter(share > least) for least in shares),
    ).where(project.c.quota_bytes.is_not(None), project.c.name < END_OF_NAMES)
    used, allowed, fullest, *above = (await transaction.execute(statement)).one()
    return Fullness(int(used), int(allowed), float(fullest), tuple(above))


async def set_quota(transaction: Transaction, project_id: int, quota_bytes: int | None) -> None:
    """Set a project's quota in bytes, None for no limit."""
    await transaction.execute(update(project).where(project.c.id == project_id).values(quota_bytes=quota_bytes))


async def charge(transaction: Transaction, project_id: int, size: int, *, checked: bool = True) -> None:
    """Add ``size`` bytes to a project's usage, or subtract them if negative; raises QuotaExceeded if ``checked``.

    One statement checks and adds. If two charges come at once, the second one sees what the first one has taken.
    """
    if not size:
        return
    used = project.c.used_bytes + size
    statement = update(project).where(project.c.id == project_id).values(used_bytes=used)
    if size > 0 and checked:
        statement = statement.where(or_(project.c.quota_bytes.is_(None), used <= project.c.quota_bytes))
    if (await transaction.execute(statement)).rowcount or size < 0:
        return
    stands = select(project.c.name, project.c.used_bytes, project.c.quota_bytes).where(project.c.id == project_id)
    row = (await transaction.execute(stands)).first()
    if row is not None:
        error = QuotaExceeded(
            "quota of %(project)s: %(used)s of %(quota)s used, this needs %(needed)s more; "
            "delete what is not needed, or ask for a larger quota",
            project=row[0],
            used=in_words(row[1]),
            quota=in_words(row[2]),
            needed=in_words(size),
            detail={"project": row[0], "used": row[1], "quota": row[2], "needed": size},
        )
        error.project_id, error.needed, error.short = project_id, size, row[1] + size - row[2]
        raise error


def owe(transaction: Transaction, repository_id: int, size: int) -> None:
    """Charge ``size`` bytes to the repository's project at the end of the transaction, which raises QuotaExceeded.

    The project's row is locked last, so that no transaction holds it while it waits for another row.
    """
    noted = changes.noted(transaction)
    if noted is None:
        raise ValueError("bytes are charged in a transaction that writes")
    noted.owed[repository_id] = noted.owed.get(repository_id, 0) + size
    noted.settle = noted.settle or settle


def let_pass(transaction: Transaction) -> None:
    """Charge what the transaction owes even if the quota has no room for it."""
    noted = changes.noted(transaction)
    if noted is not None:
        noted.settle = partial(settle, checked=False)


async def settle(transaction: Transaction, owed: Mapping[int, int], *, checked: bool = True) -> None:
    """Charge bytes by repository; raises QuotaExceeded if ``checked``."""
    owed = {repository_id: size for repository_id, size in owed.items() if size}
    if not owed:
        return
    # In the order of projects, so that no two transactions wait for each other.
    of = select(repository.c.id, repository.c.project_id).where(repository.c.id.in_(owed))
    sizes: dict[int, int] = {}
    for repository_id, project_id in await transaction.execute(of):
        sizes[project_id] = sizes.get(project_id, 0) + owed[repository_id]
    for project_id in sorted(sizes):
        await charge(transaction, project_id, sizes[project_id], checked=checked)


async def room(transaction: Transaction, project_id: int) -> int | None:
    """Return how many bytes a project has left, None for no limit.

    The row is locked, so that the number holds until the transaction ends.
    """
    statement = select(project.c.quota_bytes - project.c.used_bytes).where(project.c.id == project_id)
    left = (await transaction.execute(statement.with_for_update(key_share=True))).scalar()
    return None if left is None else int(left)


def _walks(search: str) -> tuple[Walk, ...]:
    return (Walk(matches=has_any([project.c.name], search)),)
