"""Move the rules for tags: those that make tags immutable, and retention policies.

A rule that somebody has changed or removed here stays as they left it. A retention policy moves whole or not at all,
because an artifact that no rule keeps is removed. Its schedule starts when the move is declared final. Before, pulls
from Harbor are not known here.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from app.access.errors import Invalid
from app.database import Database, Transaction, immutability, retention
from app.database.harbor import HarborDatabase, ImmutableRule, RetentionPolicy
from app.oci.retention import Rule, Template
from app.oci.selectors import Selector
from app.projects.harbor_rules import read_policy, read_selectors
from app.projects.immutability import MOST_RULES, check_rule
from app.projects.retention import check_policy

from .report import CannotMoveError, Report
from .steps import Change, Known, Step

_IMMUTABLE = "immutable_template"
_GLOB = "doublestar"

R = TypeVar("R", ImmutableRule, RetentionPolicy)
# The content of a rule, and our row of it.
P = TypeVar("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Immutable:
    """The content of a rule; one of Harbor's has no end."""

    tags: Selector
    repositories: Selector
    disabled: bool
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Policy:
    """The content of a retention policy."""

    rules: tuple[Rule, ...]
    cron: str


class _Rules(Step[R], Generic[R, P, T]):
    """Rules of one kind, of projects that host images."""

    def __init__(self, harbor: HarborDatabase, database: Database, known: Known) -> None:
        self._harbor = harbor
        self._database = database
        self._known = known

    def name(self, row: R) -> str:
        """See `Step.name`."""
        project = self._known.projects.get(row.project_id)
        return project[1] if project else f"project {row.project_id}"

    async def check(self, change: Change[R], report: Report) -> Change[R] | None:
        """See `Step.check`."""
        project = self._known.projects.get(change.row.project_id)
        if project is None:
            raise CannotMoveError("the project does not move")
        if project[2]:
            raise CannotMoveError("a mirror has the tags of its upstream, and no rules for them")
        checked = replace(change, plan=self._understood(json.loads(change.row.state())))
        was = change.was
        if was is not None and await self._database.read(self._ours, was.target, change.before, checked.plan) is None:
            raise CannotMoveError("it was changed here as well and stays so; make it the same on both sides")
        return checked

    async def put(self, transaction: Transaction, change: Change[R]) -> int | None:
        """See `Step.put`."""
        project_id = self._known.projects[change.row.project_id][0]
        if not await immutability.lock(transaction, project_id):
            return None
        if change.was is None:
            return await self._create(transaction, project_id, change.plan)
        ours = await self._ours(transaction, change.was.target, change.before, change.plan)
        if ours is None:
            return None
        await self._change(transaction, ours, change.plan)
        return change.was.target

    async def remove(self, transaction: Transaction, row: Mapping[str, Any], target: int) -> None:
        """See `Step.remove`; a rule that was changed here meanwhile stays."""
        project = self._known.projects.get(row["project_id"])
        if project is None or not await immutability.lock(transaction, project[0]):
            return
        ours = await self._ours(transaction, target, row)
        if ours is not None:
            await self._remove(transaction, ours)

    async def _ours(self, transaction: Transaction, target: int, row: Mapping[str, Any], *plans: P) -> T | None:
        """Return our row of a rule that was moved, None if somebody has changed or removed it here.

        It says the same as Harbor's ``row`` did, or what is planned.
        """
        ours = await self._find(transaction, self._known.projects[row["project_id"]][0], target)
        return ours if ours is not None and self._said(ours) in (self._understood(row), *plans) else None

    def _understood(self, row: Mapping[str, Any]) -> P:
        """Return what a row of Harbor's says, as `Row.state` spells it; raises CannotMoveError."""
        try:
            return self._read(row)
        except Invalid as error:
            raise CannotMoveError(error.message) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CannotMoveError("its form is not known here") from error

    @abstractmethod
    def _read(self, row: Mapping[str, Any]) -> P: ...

    @abstractmethod
    def _said(self, ours: T) -> P: ...

    @abstractmethod
    async def _find(self, transaction: Transaction, project_id: int, target: int) -> T | None: ...

    @abstractmethod
    async def _create(self, transaction: Transaction, project_id: int, plan: P) -> int | None: ...

    @abstractmethod
    async def _change(self, transaction: Transaction, ours: T, plan: P) -> None: ...

    @abstractmethod
    async def _remove(self, transaction: Transaction, ours: T) -> None: ...


class ImmutableRules(_Rules[ImmutableRule, _Immutable, immutability.Rule]):
    """The rules that make tags immutable."""

    kind = "immutability rules"
    left_out = "the project has as many rules as it can have, or somebody changed the rule just now"

    async def read(self, after: int, limit: int) -> Sequence[ImmutableRule]:
        """See `Step.read`."""
        return await self._harbor.immutable_rules(after, limit)

    def _read(self, row: Mapping[str, Any]) -> _Immutable:
        _require_known(row["rule"], [_IMMUTABLE])
        tags, repositories = read_selectors(row["rule"])
        check_rule(tags, repositories, None)
        return _Immutable(tags, repositories, row["disabled"])

    def _said(self, ours: immutability.Rule) -> _Immutable:
        return _Immutable(ours.tags, ours.repositories, ours.disabled, ours.ends_at)

    async def _find(self, transaction: Transaction, project_id: int, target: int) -> immutability.Rule | None:
        return next((rule for rule in await immutability.rules(transaction, project_id) if rule.id == target), None)

    async def _create(self, transaction: Transaction, project_id: int, plan: _Immutable) -> int | None:
        if await immutability.count(transaction, project_id) >= MOST_RULES:
            return None
        return await immutability.create(
            transaction, project_id, plan.tags, plan.repositories, disabled=plan.disabled, ends_at=plan.ends_at
        )

    async def _change(self, transaction: Transaction, ours: immutability.Rule, plan: _Immutable) -> None:
        chosen = plan.tags, plan.repositories
        await immutability.change(transaction, ours, *chosen, disabled=plan.disabled, ends_at=plan.ends_at)
        await retention.look_at_all(transaction, ours.project_id)

    async def _remove(self, transaction: Transaction, ours: immutability.Rule) -> None:
        await immutability.remove(transaction, ours)
        await retention.look_at_all(transaction, ours.project_id)


class RetentionPolicies(_Rules[RetentionPolicy, _Policy, retention.Policy]):
    """The retention policies of projects."""

    kind = "retention policies"
    left_out = "the project has another retention policy here, or somebody changed it just now"

    async def read(self, after: int, limit: int) -> Sequence[RetentionPolicy]:
        """See `Step.read`."""
        return await self._harbor.retention_policies(after, limit)

    async def check(self, change: Change[RetentionPolicy], report: Report) -> Change[RetentionPolicy] | None:
        """See `Step.check`."""
        checked = await super().check(change, report)
        if checked is not None and checked.plan.cron:
            report.remark("retention policies whose schedule starts when the move is final", self.name(change.row))
        return checked

    def _read(self, row: Mapping[str, Any]) -> _Policy:
        for rule in row["policy"]["rules"] or []:
            _require_known(rule, [template.value for template in Template])
        rules, cron = read_policy(row["policy"])
        check_policy(rules, cron)
        return _Policy(tuple(rules), cron)

    def _said(self, ours: retention.Policy) -> _Policy:
        return _Policy(ours.rules, ours.cron)

    async def _find(self, transaction: Transaction, project_id: int, target: int) -> retention.Policy | None:
        found = await retention.find(transaction, target)
        return found if found is not None and found.project_id == project_id else None

    async def _create(self, transaction: Transaction, project_id: int, plan: _Policy) -> int | None:
        return await retention.create(transaction, project_id, plan.rules, plan.cron, None)

    async def _change(self, transaction: Transaction, ours: retention.Policy, plan: _Policy) -> None:
        await retention.change(transaction, ours, plan.rules, plan.cron, None)

    async def _remove(self, transaction: Transaction, ours: retention.Policy) -> None:
        await retention.remove(transaction, ours)


async def start_schedules(transaction: Transaction) -> None:
    """Let the retention policies that were moved run by their schedules."""
    for policy in await retention.held(transaction):
        await retention.set_next(transaction, policy, check_policy(policy.rules, policy.cron))


def _require_known(rule: Mapping[str, Any], templates: Sequence[str]) -> None:
    """Raise CannotMoveError for a rule of which `harbor_rules` would read only a part."""
    if rule["template"] not in templates:
        raise CannotMoveError(f"there is no template {rule['template']} here")
    scopes = rule.get("scope_selectors") or {}
    for selectors in (rule.get("tag_selectors") or [], *(some or [] for some in scopes.values())):
        if len(selectors) > 1:
            raise CannotMoveError("it has several selectors in the place of one")
        if any((one.get("kind") or _GLOB) != _GLOB for one in selectors):
            raise CannotMoveError(f"its selector is no {_GLOB}")
    if set(scopes) - {"repository"}:
        raise CannotMoveError("it selects something else than repositories and tags")
