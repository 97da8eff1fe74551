"""Serve the rules that make tags immutable."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from app.database.immutability import Rule
from app.projects.harbor_rules import REPOSITORIES, TAGS, read_selector, written

from .handler import ApiHandler
from .shapes import NO_END, expiry


def rule(row: Rule) -> dict[str, Any]:
    """Return a rule in Harbor's form."""
    return {
        "id": row.id,
        "priority": 0,
        "disabled": row.disabled,
        "action": "immutable",
        "template": "immutable_template",
        "params": {},
        "tag_selectors": written(row.tags, TAGS),
        "scope_selectors": {"repository": written(row.repositories, REPOSITORIES)},
        "expires_at": expiry(row.ends_at),
    }


class _OnRules(ApiHandler):
    def given(self) -> dict[str, Any]:
        """Return the fields of the body as arguments; raises Invalid."""
        given: dict[str, Any] = {}
        if self.body.get("tag_selectors"):
            given["tags"] = read_selector(self.body["tag_selectors"], TAGS)
        if self.body.get("scope_selectors", {}).get("repository"):
            given["repositories"] = read_selector(self.body["scope_selectors"]["repository"], REPOSITORIES)
        if "disabled" in self.body:
            given["disabled"] = self.body["disabled"]
        # Clients in Go send 0 for a number without a value.
        if end := self.body.get("expires_at"):
            given["ends_at"] = None if end == NO_END else float(end)
        return given


class RulesHandler(_OnRules):
    async def get(self) -> None:
        rows = await self.services.immutability.rules(self.view.id)
        if "id" in self.filters:
            rows = [row for row in rows if row.id == self.filters["id"].value]
        for field, descending in reversed(self.sort):
            rows.sort(key=attrgetter(field), reverse=descending)
        self.answer_whole([rule(row) for row in rows])

    async def post(self) -> None:
        made = await self.services.immutability.create(self.view.id, **self.given(), by=self.principal.subject)
        self.note("create", "immutability rule", f"{self.view.name}: {made.name}")
        self.created(f"/projects/{self.view.id}/immutabletagrules/{made.id}")


class RuleHandler(_OnRules):
    async def put(self, immutable_rule_id: int) -> None:
        changed = await self.services.immutability.change(self.view.id, immutable_rule_id, **self.given())
        self.note("update", "immutability rule", f"{self.view.name}: {changed.name}")

    async def delete(self, immutable_rule_id: int) -> None:
        removed = await self.services.immutability.remove(self.view.id, immutable_rule_id)
        self.note("delete", "immutability rule", f"{self.view.name}: {removed.name}")
