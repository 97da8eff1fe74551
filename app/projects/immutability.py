"""The rules of a project that make tags immutable, and the refusals of what they forbid.

A tag is made once under a rule. A push that would move it is refused in the transaction that writes it, so that of two
pushes at once only one has made it. The same digest may be pushed again. Nobody deletes the tag, its manifest, its
repository or its project, until the rule is changed, removed, or over.

In a mirror a rule is a pin: it names one tag of one repository, and has an end. The mirror serves the tag as it is, and
does not follow the upstream (`app.mirror.manifests`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from app.access.errors import Conflict, Invalid, Missing, PreconditionFailed
from app.database import Database, Transaction, immutability, projects, retention
from app.database.immutability import Holding, Rule
from app.database.projects import Project
from app.kit.ids import is_id
from app.oci.digest import Digest
from app.oci.errors import Denied, Term
from app.oci.globs import MAX_GLOB, is_glob, is_pattern
from app.oci.selectors import EVERY, Selector

# A push that moves a tag tries all rules of its project.
MOST_RULES = 100
# The images of a university's classes. A comparison of a tag with the upstream tries all of them.
_MOST_PINS = 300
_LONGEST_PIN_SECONDS = 366 * 86400.0


class Immutability:
    """The rules of projects for their tags; it holds no state of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rules(self, project_id: int) -> list[Rule]:
        """List a project's rules, the oldest first."""
        return await self._database.read(immutability.rules, project_id)

    async def create(
        self,
        project_id: int,
        *,
        tags: Selector = EVERY,
        repositories: Selector = EVERY,
        disabled: bool = False,
        ends_at: float | None = None,
        by: str | None = None,
    ) -> Rule:
        """Make a rule; raises Invalid, Missing, and Conflict for too many rules. ``by`` is the principal's subject.

        It holds for every push, and every comparison with an upstream, that ends after the answer.
        """

        async def create(transaction: Transaction) -> Rule:
            project = await _locked(transaction, project_id)
            made = await _create(
                transaction, project, tags, repositories, disabled=disabled, ends_at=ends_at, created_by=by
            )
            return _found(await immutability.rules(transaction, project_id), made)

        return await self._database.transact(create)

    async def change(
        self,
        project_id: int,
        rule_id: int,
        *,
        tags: Selector | None = None,
        repositories: Selector | None = None,
        disabled: bool | None = None,
        ends_at: float | None = math.nan,
    ) -> Rule:
        """Change what is given of a rule; ``ends_at`` None means that it has no end. Raises Missing and Invalid."""

        async def change(transaction: Transaction) -> Rule:
            project = await _locked(transaction, project_id)
            rule = _found(await immutability.rules(transaction, project_id), rule_id)
            end = rule.ends_at if ends_at is not None and math.isnan(ends_at) else ends_at
            chosen = tags or rule.tags, repositories or rule.repositories
            check_rule(*chosen, end)
            if project.upstream is not None:
                _check_pin(*chosen, end)
            turned_off = rule.disabled if disabled is None else disabled
            await immutability.change(transaction, rule, *chosen, disabled=turned_off, ends_at=end)
            await retention.look_at_all(transaction, project_id)
            return _found(await immutability.rules(transaction, project_id), rule_id)

        return await self._database.transact(change)

    async def remove(self, project_id: int, rule_id: int) -> Rule:
        """Remove a rule and return it; raises Missing."""

        async def remove(transaction: Transaction) -> Rule:
            await _locked(transaction, project_id)
            rule = _found(await immutability.rules(transaction, project_id), rule_id)
            await immutability.remove(transaction, rule)
            await retention.look_at_all(transaction, project_id)
            return rule

        return await self._database.transact(remove)

    async def holding(self, project_id: int, repository_name: str) -> Holding:
        """Return the rules over a repository as a function of a tag's name, for lists."""
        found, now = await self.rules(project_id), time.time()
        return lambda name: next((rule for rule in found if rule.holds(repository_name, name, now)), None)


async def pin(
    transaction: Transaction, project_id: int, repository_name: str, tag: str, ends_at: float, by: str
) -> None:
    """Pin a tag of a mirror until a time (Unix seconds), or longer if it is; ``by`` is the principal's subject.

    Raises Missing, Invalid, and Conflict for too many pins.
    """
    project = await _locked(transaction, project_id)
    tags, repositories = Selector(tag), Selector(repository_name)
    rules = await immutability.rules(transaction, project_id)
    same = next((rule for rule in rules if (rule.tags, rule.repositories) == (tags, repositories)), None)
    if same is None:
        await _create(transaction, project, tags, repositories, disabled=False, ends_at=ends_at, created_by=by)
    else:
        end = max(ends_at, same.ends_at or 0.0)
        await immutability.change(transaction, same, tags, repositories, disabled=False, ends_at=end)


async def _create(
    transaction: Transaction,
    project: Project,
    tags: Selector,
    repositories: Selector,
    *,
    disabled: bool,
    ends_at: float | None,
    created_by: str | None,
) -> int:
    """Make a rule in a project that is locked; return its number. Raises Invalid and Conflict."""
    check_rule(tags, repositories, ends_at)
    most = MOST_RULES
    if project.upstream is not None:
        _check_pin(tags, repositories, ends_at)
        most = _MOST_PINS
        # Each term brings new ones.
        await immutability.remove_over(transaction, project.id, time.time())
    if await immutability.count(transaction, project.id) >= most:
        raise Conflict("a project can have %(most)s immutability rules; remove one first", most=most)
    return await immutability.create(
        transaction, project.id, tags, repositories, disabled=disabled, ends_at=ends_at, created_by=created_by
    )


async def require_hosting(transaction: Transaction, project_id: int) -> None:
    """Lock a project, whose retention is about to change; raises Missing, and Conflict for a cache."""
    if (await _locked(transaction, project_id)).upstream is not None:
        raise Conflict("a pull-through cache has no retention rules; it removes what was pulled least recently")


async def _locked(transaction: Transaction, project_id: int) -> Project:
    found = await projects.get(transaction, project_id) if await immutability.lock(transaction, project_id) else None
    if found is None:
        raise Missing("the project has been deleted")
    return found


def _check_pin(tags: Selector, repositories: Selector, ends_at: float | None) -> None:
    """Raise Invalid for a rule that no mirror can have."""
    if any(chosen.excludes or is_pattern(chosen.glob) for chosen in (tags, repositories)):
        raise Invalid("in a pull-through cache a rule names one tag of one repository, without a pattern")
    if ends_at is None or not 0 < ends_at - time.time() < _LONGEST_PIN_SECONDS:
        raise Invalid("in a pull-through cache a rule ends within a year, because the upstream moves on")


def checked_selector(selector: Selector, *, of_tags: bool) -> Selector:
    """Return a selector if its glob can match a name; raises Invalid."""
    if not is_glob(selector.glob, of_tags=of_tags):
        raise Invalid(
            "%(what)s: %(glob)r is no name or glob; use what a name has, *, **, ? and {a,b}, and at most %(most)s "
            "characters",
            what=Term("tags") if of_tags else Term("repositories"),
            glob=selector.glob[:80],
            most=MAX_GLOB,
        )
    return selector


def check_rule(tags: Selector, repositories: Selector, ends_at: float | None) -> None:
    """Raise Invalid for a rule that nobody can make."""
    checked_selector(tags, of_tags=True)
    checked_selector(repositories, of_tags=False)
    if ends_at is not None and not 0 < ends_at < 1e11:
        raise Invalid("the end of a rule must be a time")


def _found(rules: Iterable[Rule], rule_id: int) -> Rule:
    found = next((rule for rule in rules if rule.id == rule_id), None) if is_id(rule_id) else None
    if found is None:
        raise Missing("there is no such immutability rule in this project")
    return found


async def require_movable(
    transaction: Transaction, project_id: int, repository_name: str, moved: Iterable[str]
) -> None:
    """Raise Denied (412) with the rule's name if one of the tags that a push has moved is immutable.

    The project is marked as ``immutable`` and locked by `app.projects.service.ensure_for_tags`.
    """
    _require_movable(await immutability.holding(transaction, project_id, repository_name), moved)


async def require_movable_in(transaction: Transaction, repository_id: int, moved: Iterable[str]) -> None:
    """Raise Denied (412) with the rule's name if one of the tags that somebody has moved is immutable."""
    holds = await immutability.holding_in(transaction, repository_id)
    if holds is not None:
        _require_movable(holds, moved)


def _require_movable(holds: Holding, moved: Iterable[str]) -> None:
    for name in moved:
        rule = holds(name)
        if rule is not None:
            raise Denied(
                "the tag %(tag)s is immutable by the rule %(rule)s; push under another tag",
                tag=name,
                rule=rule.name,
                status=PreconditionFailed.status,
            )


async def require_deletable_tag(transaction: Transaction, repository_id: int, name: str) -> None:
    """Raise Denied (412) with the rule's name if a tag is immutable."""
    holds = await immutability.holding_in(transaction, repository_id)
    rule = holds(name) if holds is not None else None
    if rule is not None:
        raise _kept(name, rule)


async def require_deletable_manifest(transaction: Transaction, repository_id: int, digest: Digest) -> None:
    """Raise Denied (412) with the rule's name if a manifest, which is locked, has an immutable tag."""
    holds = await immutability.holding_in(transaction, repository_id)
    found = (
        await immutability.held_of_manifest(transaction, repository_id, digest, holds) if holds is not None else None
    )
    if found is not None:
        raise _kept(*found)


async def require_deletable_repository(transaction: Transaction, repository_id: int) -> None:
    """Raise Denied (412) with the rule's name if a repository has an immutable tag."""
    holds = await immutability.holding_in(transaction, repository_id)
    found = await immutability.held_of_repository(transaction, repository_id, holds) if holds is not None else None
    if found is not None:
        raise _kept(*found)


async def require_deletable_project(transaction: Transaction, project_id: int) -> None:
    """Raise Denied (412) with the rule's name if a project has an immutable tag; the project is locked."""
    await immutability.lock(transaction, project_id)
    for repository_id in await immutability.repositories_of(transaction, project_id):
        await require_deletable_repository(transaction, repository_id)


def _kept(name: str, rule: Rule) -> Denied:
    return Denied(
        "the tag %(tag)s is immutable by the rule %(rule)s; change or remove the rule first",
        tag=name,
        rule=rule.name,
        status=PreconditionFailed.status,
    )
