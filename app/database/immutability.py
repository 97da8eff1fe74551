"""Queries on the rules that make tags immutable.

`project.immutable` says whether a rule is enabled. A write or a removal of tags reads it with a lock on the project's
row. A change of a rule takes that row alone before. So no push that began without a rule moves a tag after the rule's
change is answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, exists, func, select, update

from app.oci.digest import Digest
from app.oci.selectors import Selector

from .engine import Transaction, insert
from .ids import retire
from .tables import immutable_rule, project, repository, tag
from .text import END_OF_NAMES

_TAGS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: no tag that both selectors take is moved or deleted, until ``ends_at`` (Unix seconds; None: ever)."""

    id: int
    project_id: int
    repositories: Selector
    tags: Selector
    disabled: bool
    ends_at: float | None
    created_at: float
    created_by: str | None = None

    @property
    def name(self) -> str:
        """The rule as people read it: its number, the tags, the repositories."""
        return f"{self.id} ({self.tags} in {self.repositories})"

    def holds(self, repository_name: str, tag_name: str, now: float) -> bool:
        """Return whether it makes a tag of a repository, named within the project, immutable at ``now``."""
        in_force = not self.disabled and (self.ends_at is None or now < self.ends_at)
        return in_force and self.repositories.takes(repository_name) and self.tags.takes(tag_name)


# The rule that makes a tag of one repository immutable, None if the tag can be moved.
Holding = Callable[[str], Rule | None]

_columns = (
    immutable_rule.c.id,
    immutable_rule.c.project_id,
    immutable_rule.c.repositories,
    immutable_rule.c.excludes_repositories,
    immutable_rule.c.tags,
    immutable_rule.c.excludes_tags,
    immutable_rule.c.disabled,
    immutable_rule.c.ends_at,
    immutable_rule.c.created_at,
    immutable_rule.c.created_by,
)


def _rule(
    number: int, project_id: int, repositories: str, but: bool, tags: str, but_tags: bool, disabled: bool, *rest: Any
) -> Rule:
    chosen = Selector(repositories, bool(but)), Selector(tags, bool(but_tags))
    return Rule(number, project_id, *chosen, bool(disabled), *rest)


async def rules(transaction: Transaction, project_id: int) -> list[Rule]:
    """List a project's rules, the oldest first; the service bounds their number."""
    here = immutable_rule.c.project_id == project_id
    statement = select(*_columns).where(here).order_by(immutable_rule.c.id)
    return [_rule(*row) for row in await transaction.execute(statement)]


async def lock(transaction: Transaction, project_id: int) -> bool:
    """Take the project's row alone, before its rules are changed; return False if there is no such project."""
    here = (project.c.id == project_id) & (project.c.name < END_OF_NAMES)
    return (await transaction.execute(select(project.c.id).where(here).with_for_update())).first() is not None


async def create(
    transaction: Transaction, project_id: int, tags: Selector, repositories: Selector, **more: object
) -> int:
    """Make a rule in a project that is locked; return its number."""
    values = {"project_id": project_id, "created_at": time.time(), **_spelled(tags, repositories), **more}
    made = await transaction.execute(insert(transaction, immutable_rule).values(values).returning(immutable_rule.c.id))
    number = int(made.scalar_one())
    await _mark(transaction, project_id)
    return number


async def change(transaction: Transaction, rule: Rule, tags: Selector, repositories: Selector, **more: object) -> None:
    """Change a rule of a project that is locked."""
    here = immutable_rule.c.id == rule.id
    await transaction.execute(update(immutable_rule).where(here).values({**_spelled(tags, repositories), **more}))
    await _mark(transaction, rule.project_id)


async def remove(transaction: Transaction, rule: Rule) -> None:
    """Remove a rule of a project that is locked."""
    await retire(transaction, immutable_rule)
    await transaction.execute(delete(immutable_rule).where(immutable_rule.c.id == rule.id))
    await _mark(transaction, rule.project_id)


def _spelled(tags: Selector, repositories: Selector) -> dict[str, object]:
    return {
        "repositories": repositories.glob,
        "excludes_repositories": repositories.excludes,
        "tags": tags.glob,
        "excludes_tags": tags.excludes,
    }


async def _mark(transaction: Transaction, project_id: int) -> None:
    enabled = exists().where(immutable_rule.c.project_id == project_id, ~immutable_rule.c.disabled)
    await transaction.execute(update(project).where(project.c.id == project_id).values(immutable=enabled))


async def holding(transaction: Transaction, project_id: int, repository_name: str) -> Holding:
    """Read the rules over a repository, for a project that is marked as ``immutable``."""
    found, now = await rules(transaction, project_id), time.time()
    return lambda name: next((rule for rule in found if rule.holds(repository_name, name, now)), None)


async def holding_in(transaction: Transaction, repository_id: int) -> Holding | None:
    """Read the rules over a repository; return None if its project has none.

    The project is locked, so that nobody makes a rule before the transaction ends.
    """
    locked = _above(repository_id).with_for_update(key_share=True, read=True, of=project)
    return await _holding(transaction, locked)


async def holding_of(transaction: Transaction, repository_id: int) -> Holding | None:
    """Read the rules over a repository as `holding_in` does, without a lock, because a list only shows them."""
    return await _holding(transaction, _above(repository_id))


def _above(repository_id: int) -> Select[Any]:
    above = select(project.c.id, project.c.immutable, repository.c.name)
    joined = above.join_from(repository, project, project.c.id == repository.c.project_id)
    return joined.where(repository.c.id == repository_id)


async def _holding(transaction: Transaction, above: Select[Any]) -> Holding | None:
    row = (await transaction.execute(above)).first()
    return await holding(transaction, row[0], row[2]) if row is not None and row[1] else None


async def held_of_manifest(
    transaction: Transaction, repository_id: int, digest: Digest, holds: Holding
) -> tuple[str, Rule] | None:
    """Return an immutable tag of a manifest and its rule; the manifest is locked, so that it gets no other tag."""
    theirs = select(tag.c.name).where(tag.c.repository_id == repository_id, tag.c.digest == digest)
    return _first((await transaction.execute(theirs.order_by(tag.c.name))).scalars(), holds)


async def held_of_repository(transaction: Transaction, repository_id: int, holds: Holding) -> tuple[str, Rule] | None:
    """Return an immutable tag of a repository and its rule; its tags are read until one is found.

    The repository is locked, so that it gets no other tag.
    """
    await transaction.execute(select(repository.c.id).where(repository.c.id == repository_id).with_for_update())
    after = ""
    while True:
        some = (
            select(tag.c.name)
            .where(tag.c.repository_id == repository_id, tag.c.name > after)
            .order_by(tag.c.name)
            .limit(_TAGS_AT_ONCE)
        )
        names: Sequence[str] = (await transaction.execute(some)).scalars().all()
        found = _first(names, holds)
        if found is not None or len(names) < _TAGS_AT_ONCE:
            return found
        after = names[-1]


def _first(names: Iterable[str], holds: Holding) -> tuple[str, Rule] | None:
    return next(((name, rule) for name in names if (rule := holds(name)) is not None), None)


async def repositories_of(transaction: Transaction, project_id: int) -> list[int]:
    """List a project's repositories that people see, if the project has rules; the project is locked."""
    marked = select(project.c.immutable).where(project.c.id == project_id).with_for_update(key_share=True, read=True)
    if not (await transaction.execute(marked)).scalar():
        return []
    here = (repository.c.project_id == project_id) & (repository.c.name < END_OF_NAMES)
    return list((await transaction.execute(select(repository.c.id).where(here))).scalars())


async def remove_over(transaction: Transaction, project_id: int, now: float) -> None:
    """Remove the rules of a project that are over, which is locked."""
    over = (immutable_rule.c.project_id == project_id) & (immutable_rule.c.ends_at <= now)
    if (await transaction.execute(select(immutable_rule.c.id).where(over).limit(1))).first() is not None:
        await retire(transaction, immutable_rule)
        await transaction.execute(delete(immutable_rule).where(over))


async def count(transaction: Transaction, project_id: int) -> int:
    """Count a project's rules."""
    here = immutable_rule.c.project_id == project_id
    statement = select(func.count()).select_from(immutable_rule).where(here)
    return int((await transaction.execute(statement)).scalar_one())
