"""The administrators' pages: people, projects and quotas, upstreams, the audit log."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.access.errors import Missing
from app.config import UpstreamConfig
from app.database import accounts, attendance, audit, projects, quotas
from app.database.audit import Entry
from app.database.keyset import Page
from app.mirror.statistics import BudgetView
from app.projects.condition import run_checks

from . import words
from .base import PAGE_SIZE, Listing, PageHandler, whole
from .projects import read_size, split_size
from .texts import mark

# The export is opened in a spreadsheet, as Harbor's is. Text that begins like a formula must not become one. The same
# holds after a character that some spreadsheet takes for the end of a cell.
_FORMULA = re.compile(r"(^|[;,|\t\r\n])(?=[=+\-@\t\r\n])")
_ROWS_AT_ONCE = 500
_MOST_MIRRORS = 500


class Administration(PageHandler):
    needs = "admin"
    section = "administration"


class UsersPage(Administration):
    needs = "admin"

    async def get(self) -> None:
        search = self.query("q")
        listing = await self.listing(
            lambda page: self.services.database.read(accounts.page, page), lambda one: one.username, search
        )
        self.show("users.html", tab="users", listing=listing, search=search)


class ChangeUserPage(Administration):
    """Disables, enables or deletes a person's account, or changes whether they are an administrator."""

    needs = "admin"

    async def post(self) -> None:
        account, change = self.chosen("account"), self.field("change")
        await self.settle(self._change(account, change), self._(_CHANGED.get(change, "")), "/administration/users")

    async def _change(self, account: int, change: str) -> None:
        people = self.services.people
        if change in ("disable", "enable"):
            person = await people.set_disabled(self.principal, account, disabled=change == "disable")
        elif change in ("appoint", "dismiss"):
            person = await people.set_admin(self.principal, account, is_admin=change == "appoint")
        elif change == "delete":
            person = await people.remove(self.principal, account)
        else:
            raise Missing
        self.note(_NOTED.get(change, change), "account", person.username)


_NOTED = {"appoint": "promote", "dismiss": "demote"}
_CHANGED: Mapping[str, str] = {
    "disable": mark("The account is disabled. Its sessions have ended, and its keys no longer work."),
    "enable": mark("The account is enabled."),
    "appoint": mark("The user is an administrator now."),
    "dismiss": mark("The user is no longer an administrator."),
    "delete": mark("The account is deleted. Its projects stay."),
}


class QuotasPage(Administration):
    """Every project with the storage that it uses. A form sent here sets a project's quota."""

    needs = "admin"

    async def get(self) -> None:
        search = self.query("q")
        listing = await self.listing(
            lambda page: self.services.database.read(quotas.page, page.with_keys(whole)),
            lambda usage: str(usage.project_id),
            search,
        )
        self.show(
            "quotas.html",
            tab="projects",
            listing=listing,
            search=search,
            unattended=(await self.services.database.read(attendance.total)).number,
            split_size=split_size,
            units=["MiB", "GiB", "TiB"],
        )

    async def post(self) -> None:
        async def change() -> None:
            usage = await self.services.quotas.set(
                self.principal, self.chosen("project"), read_size(self, "quota", "unit")
            )
            self.note("update", "quota", usage.project, (usage.project_id, usage.project))

        await self.settle(change(), self._("The quota is set."), "/administration/projects")


@dataclass(frozen=True, slots=True)
class UpstreamView:
    """One upstream as it is configured, and its state. ``health`` is `OK`, or says in words why it is not."""

    name: str
    config: UpstreamConfig
    health: str
    budgets: Sequence[BudgetView]
    mirrors: Sequence[str]


class UpstreamsPage(Administration):
    """The upstreams of mirrors, read-only because config.yaml sets them. Opening the page checks each of them."""

    needs = "admin"

    async def get(self) -> None:
        mirror = self.services.mirror
        health = await run_checks(mirror.checks)
        entries = await self.services.projects.page(self.principal, Page(_MOST_MIRRORS), projects.Filter(mirrors=True))
        self.show(
            "upstreams.html",
            tab="upstreams",
            upstreams=[
                UpstreamView(
                    name,
                    config,
                    health.get(name, self._("not started on this worker")),
                    await mirror.budgets(name),
                    [one.project.name for one in entries if one.project.upstream == name],
                )
                for name, config in sorted(self.services.upstreams.items())
            ],
            fills=await mirror.fills(),
            late=[
                state
                for state in await self.services.plans.newest(self.principal)
                if state.late and state.plan.due_at > self.now
            ],
        )


class AllFillsPage(Administration):
    """Only the running fills of all mirrors, for the script that refreshes them."""

    needs = "admin"

    async def get(self) -> None:
        self.show("fills.html", fills=await self.services.mirror.fills())


class AuditPage(Administration):
    """The audit log of all projects."""

    needs = "admin"

    async def get(self) -> None:
        search = self.query("q")
        # The newest entries come first, so the next page holds the entries before this one.
        page = Page(PAGE_SIZE + 1, self.number("before"))
        chosen = audit.Filter(text=search, operation=self.query("operation"))
        found = await self.services.database.read(audit.page, page, chosen)
        self.show(
            "audit.html",
            tab="audit",
            listing=Listing.cut(found, lambda entry: entry.id),
            search=search,
            chosen=self.query("operation"),
            days=self.services.policy.audit_days,
            actor_names=words.ACTORS,
            operation_names=words.OPERATIONS,
            resource_names=words.RESOURCES,
        )


class AuditExportPage(Administration):
    """The audit log as CSV, however long it is."""

    needs = "admin"

    async def get(self) -> None:
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", 'attachment; filename="audit.csv"')
        self.set_header("Cache-Control", "no-store")
        entries = self.services.audit.export(audit.Filter(text=self.query("q"), operation=self.query("operation")))
        async for rows in _spelled(entries):
            self.write(rows)
            await self.flush()


async def _spelled(entries: AsyncIterator[Entry]) -> AsyncIterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["time", "who", "address", "operation", "kind", "what", "project", "project id", "times"])
    count = 0
    async for entry in entries:
        at = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = (entry.actor, entry.address, entry.operation, entry.resource_type, entry.resource, entry.project_name)
        writer.writerow([at, *map(_plain, told), entry.project_id, entry.times])
        count += 1
        if count % _ROWS_AT_ONCE == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _plain(text: str) -> str:
    return _FORMULA.sub(r"\1'", text)
