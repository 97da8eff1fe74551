"""Tell what the rules of a project do with one tag, and why: immutability and retention in one list."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.access.errors import Conflict, Missing
from app.database import Database, immutability, manifests, retained, retention
from app.database.immutability import Rule as ImmutableRule
from app.database.retention import Policy
from app.oci.reference import Tag
from app.oci.retention import LATEST, Facts, Rule, rules_over

from .retention_runs import decide, is_young

# More changes than these are not looked at for a page.
_MOST_LOOKED = 10_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of a retention rule to a tag's artifact: ``takes`` it, and ``keeps`` it (None: not known yet)."""

    rule: Rule
    takes: bool
    keeps: bool | None


@dataclass(frozen=True, slots=True)
class Fate:
    """The future of a tag. ``immutable`` is the rule that makes it immutable, None if it can be moved.

    ``verdicts`` has the retention rules over its repository; ``is_part``: it belongs to another artifact, and goes with
    that. ``next_at`` is the next run (Unix seconds). ``removed`` is None if nobody knows before the next run.
    """

    immutable: ImmutableRule | None
    verdicts: Sequence[Verdict] = ()
    is_part: bool = False
    next_at: float | None = None
    removed: bool | None = False


async def fate_of(database: Database, project_id: int, repository_id: int, name: str, tag: Tag) -> Fate:
    """Return the fate of a tag; ``name`` is that of the repository within the project.

    Raises Missing if there is no such tag.
    """
    tagged = await manifests.tagged(database, repository_id, tag)
    if tagged is None:
        raise Missing("there is no tag %(tag)s in this repository", tag=tag)
    holds = await database.read(immutability.holding_of, repository_id)
    held, policy = holds(tag) if holds else None, await database.read(retention.of_project, project_id)
    rules = rules_over(policy.rules, name) if policy is not None else {}
    if policy is None or not rules:
        return Fate(held)
    found = [
        unit
        for unit in await database.read(retained.units, repository_id, [tagged.digest])
        if any(one == tag for one, _ in unit.facts.tags)
    ]
    if not found:
        return Fate(held, is_part=True, next_at=policy.next_at)
    facts, now = found[0].facts, time.time()
    latest = await _latest(database, policy, repository_id, rules, now)
    verdicts = [_verdict(place, rule, facts, latest, now) for place, rule in rules.items()]
    any_held = held or next((rule for one, _ in facts.tags if holds and (rule := holds(one))), None)
    keeps = [verdict.keeps for verdict in verdicts]
    stays = True in keeps or any_held is not None or is_young(facts, now)
    return Fate(any_held, verdicts, next_at=policy.next_at, removed=False if stays else None if None in keeps else True)


def _verdict(place: int, rule: Rule, facts: Facts, latest: Mapping[int, set[str]] | None, now: float) -> Verdict:
    if rule.measure(facts) is None:
        return Verdict(rule, takes=False, keeps=False)
    if rule.template not in LATEST:
        return Verdict(rule, takes=True, keeps=rule.keeps(facts, now))
    return Verdict(rule, takes=True, keeps=None if latest is None else facts.digest in latest.get(place, ()))


async def _latest(
    database: Database, policy: Policy, repository_id: int, rules: Mapping[int, Rule], now: float
) -> Mapping[int, set[str]] | None:
    """Return the latest artifacts by each rule, None if too much has changed to find out."""
    try:
        since = policy.evaluated_at
        decision = await decide(database, repository_id, rules, since=since, now=now, most=_MOST_LOOKED)
    except Conflict:
        return None
    return decision.latest if decision.looked else await database.read(retained.latest, repository_id)
