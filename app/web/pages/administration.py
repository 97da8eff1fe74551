"""What administrators see: people, projects and quotas, upstreams, the system's robots, the audit log, health."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

from app.access import roles
from app.access.errors import Missing
from app.access.grants import EVERYWHERE
from app.access.robots import NOTICE_SECONDS
from app.database.audit import Entry, Filter
from app.database.robots import Robot
from app.oci.errors import OCIError
from app.web.ops import run_checks

from . import words
from .base import PAGE_SIZE, Listing, Page
from .mirrors import OfMirror
from .people import days_of
from .projects import read_size, split_size
from .repositories import number_of
from .secret import show_secret
from .texts import mark

# Harbor's export is a spreadsheet as well. What begins like a formula must not become one, nor what does so behind a
# character that a spreadsheet somewhere takes for the end of a cell.
_FORMULA = re.compile(r"(^|[;,|\t\r\n])(?=[=+\-@\t\r\n])")
_ROWS_AT_ONCE = 500


class Administration(Page):
    needs = "admin"
    section = "administration"


class UsersPage(Administration):
    needs = "admin"

    async def get(self) -> None:
        search = self.query("q")
        found = await self.services.people.page(after=self.query("after"), limit=PAGE_SIZE + 1, search=search)
        self.show("users.html", tab="users", listing=Listing.cut(found, lambda one: one.username), search=search)


class ChangeUserPage(Administration):
    """Disables, enables, appoints, dismisses or deletes somebody."""

    needs = "admin"

    async def post(self) -> None:
        account, change = number_of(self, "account"), self.field("change")
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
    "disable": mark("The account is disabled; its sessions have ended and its keys open nothing."),
    "enable": mark("The account is enabled."),
    "appoint": mark("They are an administrator now."),
    "dismiss": mark("They are no administrator any more."),
    "delete": mark("The account is deleted; its projects stay."),
}


class QuotasPage(Administration):
    """Every project with what it uses; a form sent here sets one's quota."""

    needs = "admin"

    async def get(self) -> None:
        after, search = self.query("after"), self.query("q")
        found = await self.services.quotas.page(
            after=int(after) if after.isdigit() else 0, limit=PAGE_SIZE + 1, search=search
        )
        self.show(
            "quotas.html",
            tab="projects",
            listing=Listing.cut(found, lambda usage: usage.project_id),
            search=search,
            split_size=split_size,
            units=["MiB", "GiB", "TiB"],
        )

    async def post(self) -> None:
        async def change() -> None:
            usage = await self.services.quotas.set(
                self.principal, number_of(self, "project"), read_size(self, "quota", "unit")
            )
            self.note("update", "quota", usage.project, (usage.project_id, usage.project))

        await self.settle(change(), self._("The quota is set."), "/administration/projects")


class UpstreamsPage(Administration, OfMirror):
    needs = "admin"

    async def get(self) -> None:
        names = self.services.projects.upstreams
        self.show(
            "upstreams.html",
            tab="upstreams",
            upstreams=[(name, await self.services.mirror.budgets(name)) for name in names],
            fills=await self.services.mirror.fills(),
        )


class SystemRobotsPage(Administration):
    needs = "admin"

    async def get(self) -> None:
        search = self.query("q")
        found = await self.services.robots.page(None, after=self.query("after"), limit=PAGE_SIZE + 1, search=search)
        self.show(
            "system-robots.html",
            tab="robots",
            listing=Listing.cut(found, lambda robot: robot.name),
            search=search,
            base="/administration/robots",
            notice=NOTICE_SECONDS,
            right_names=words.RIGHTS,
        )


class NewSystemRobotPage(Administration):
    needs = "admin"

    async def get(self) -> None:
        self._form({"days": str(self.services.access.robot_days)}, [roles.PULL], "")

    async def post(self) -> None:
        rights = self.get_body_arguments("right")
        try:
            robot, secret = await self.services.robots.create(
                project=None,
                name=self.field("name"),
                description=self.field("description"),
                permissions=dict.fromkeys(await self._projects(), rights),
                days=days_of(self),
                by=self.principal,
                rights=roles.ALL_RIGHTS,
            )
        except OCIError as error:
            if error.answer_status >= 500:
                raise
            self.set_status(error.answer_status)
            values = {name: self.field(name) for name in ("name", "description", "days", "projects")}
            self._form(values, rights, self.said(error))
            return
        self.note("create", "robot", robot.name)
        show_secret(self, robot.name, secret, "/administration/robots", expires_at=robot.expires_at)

    async def _projects(self) -> list[str]:
        names = self.field("projects").replace(",", " ").split()
        return [str((await self.services.projects.find(name)).id) for name in names] or [EVERYWHERE]

    def _form(self, values: Mapping[str, str], chosen: Sequence[str], error: str) -> None:
        self.show(
            "system-robot-new.html",
            tab="robots",
            values=values,
            chosen=set(chosen),
            error=error,
            full_name=self.services.access.robot_prefix,
            most=self.services.access.most_robot_days,
            common=words.COMMON_RIGHTS,
            others=words.OTHER_RIGHTS,
        )


class OnSystemRobot(Administration):
    """What a form does to one of the system's robots."""

    needs = "admin"

    async def robot(self) -> Robot:
        return await self.services.robots.find_in(None, number_of(self, "robot"))


class RefreshSystemRobotPage(OnSystemRobot):
    needs = "admin"

    async def post(self) -> None:
        robot, secret = await self.services.robots.refresh(await self.robot())
        self.note("refresh", "robot", robot.name)
        show_secret(self, robot.name, secret, "/administration/robots", expires_at=robot.expires_at)


class SwitchSystemRobotPage(OnSystemRobot):
    needs = "admin"

    async def post(self) -> None:
        off = self.field("disabled") == "yes"

        async def switch() -> None:
            robot = await self.services.robots.update(
                await self.robot(), by=self.principal, rights=roles.ALL_RIGHTS, disabled=off
            )
            self.note("disable" if off else "enable", "robot", robot.name)

        done = self._("The robot account is disabled.") if off else self._("The robot account is enabled.")
        await self.settle(switch(), done, "/administration/robots")


class ProlongSystemRobotPage(OnSystemRobot):
    needs = "admin"

    async def post(self) -> None:
        async def prolong() -> None:
            robot = await self.services.robots.update(
                await self.robot(), by=self.principal, rights=roles.ALL_RIGHTS, days=days_of(self)
            )
            self.note("update", "robot", robot.name)

        await self.settle(prolong(), self._("Its last day is moved."), "/administration/robots")


class DeleteSystemRobotPage(OnSystemRobot):
    needs = "admin"

    async def post(self) -> None:
        async def remove() -> None:
            robot = await self.robot()
            await self.services.robots.remove(robot)
            self.note("delete", "robot", robot.name)

        done = self._("The robot account is deleted; tokens it was given before end within 5 minutes.")
        await self.settle(remove(), done, "/administration/robots")


class AuditPage(Administration):
    """Who did what, in all projects."""

    needs = "admin"

    async def get(self) -> None:
        before, search = self.query("before"), self.query("q")
        found = await self.services.audit.page(
            Filter(text=search, operation=self.query("operation")),
            before_id=int(before) if before.isdigit() else None,
            limit=PAGE_SIZE + 1,
        )
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
    """The same as a spreadsheet, however long it is."""

    needs = "admin"

    async def get(self) -> None:
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", 'attachment; filename="audit.csv"')
        self.set_header("Cache-Control", "no-store")
        entries = self.services.audit.export(Filter(text=self.query("q"), operation=self.query("operation")))
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


class HealthPage(Administration):
    """Whether the parts answer."""

    needs = "admin"

    async def get(self) -> None:
        answers, statistics = await asyncio.gather(
            run_checks(self.services.checks), self.services.projects.statistics(self.principal)
        )
        self.show("health.html", tab="health", answers=answers, statistics=statistics)
