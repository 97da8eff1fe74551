"""The rules of a project for its tags: which are immutable."""

from __future__ import annotations

import time

from app.access import roles
from app.access.errors import Invalid
from app.oci.selectors import EVERY, Selector

from .base import PageHandler

_DAY = 86400.0
_MOST_DAYS = 3650


class PolicyPage(PageHandler):
    """A project's rules for tags."""

    needs = roles.READ_RETENTION
    section = "projects"

    async def get(self, project: str) -> None:
        rules = await self.services.immutability.rules(self.opened.id) if self.may(roles.LIST_IMMUTABILITY) else []
        self.show("policy.html", tab="policy", rules=rules, base=f"/projects/{project}")


class OnPolicy(PageHandler):
    """The action of a form on a project's rules."""

    section = "projects"

    def at(self, project: str) -> str:
        return f"/projects/{project}/policy"

    def selector(self, name: str) -> Selector:
        """Read a glob, and whether it takes the names that match or the others."""
        glob = self.field(name)
        return Selector(glob, self.ticked(f"{name}_excluded")) if glob else EVERY

    def days(self, name: str) -> int:
        """Read a number of days. Raise Invalid if it is not one."""
        text = self.field(name)
        if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= _MOST_DAYS):
            raise Invalid("Give a number of days, from 1 to %(most)s.", most=_MOST_DAYS)
        return int(text)


class AddImmutabilityPage(OnPolicy):
    needs = roles.CREATE_IMMUTABILITY

    async def post(self, project: str) -> None:
        async def add() -> None:
            ends_at = time.time() + self.days("days") * _DAY if self.field("days") else None
            made = await self.services.immutability.create(
                self.opened.id,
                tags=self.selector("tags"),
                repositories=self.selector("repositories"),
                ends_at=ends_at,
            )
            self.note("create", "immutability rule", f"{project}: {made.name}")

        await self.settle(add(), self._("The rule is added."), self.at(project))


class SwitchImmutabilityPage(OnPolicy):
    needs = roles.UPDATE_IMMUTABILITY

    async def post(self, project: str) -> None:
        async def switch() -> None:
            off = self.field("disabled") == "yes"
            changed = await self.services.immutability.change(self.opened.id, self.chosen("rule"), disabled=off)
            self.note("update", "immutability rule", f"{project}: {changed.name}")

        await self.settle(switch(), self._("The rule is changed."), self.at(project))


class DeleteImmutabilityPage(OnPolicy):
    needs = roles.DELETE_IMMUTABILITY

    async def post(self, project: str) -> None:
        async def remove() -> None:
            removed = await self.services.immutability.remove(self.opened.id, self.chosen("rule"))
            self.note("delete", "immutability rule", f"{project}: {removed.name}")

        await self.settle(remove(), self._("The rule is removed."), self.at(project))
