"""Manage the robot accounts of projects and of the system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.access.errors import Invalid
from app.access.roles import ALL_RIGHTS
from app.database import robots
from app.database.robots import Robot

from .handler import ApiHandler, Place
from .permissions import read_permissions, spell_permissions
from .shapes import NO_END, expiry, moment, some

_DAY = 86400


class RobotPlace(ApiHandler):
    """The base of handlers of robot accounts."""

    @property
    def project(self) -> tuple[int, str] | None:
        """The number and name of the robot account's project; None for the system."""
        view = getattr(self, "view", None)
        return None if view is None else (view.id, view.name)

    @property
    def rights(self) -> frozenset[str]:
        """The rights that the caller has there and so may give."""
        return ALL_RIGHTS if self.project is None else self.view.rights

    async def spell(self, row: Robot) -> dict[str, Any]:
        """Return a robot account in Harbor's form."""
        known = dict([self.project]) if self.project else {}
        return some(
            id=row.id,
            name=row.name,
            description=row.description,
            level="system" if row.project_id is None else "project",
            duration=_days(row),
            editable=True,
            disable=row.disabled,
            expires_at=expiry(row.expires_at),
            permissions=await spell_permissions(row.permissions, self.services.projects, known),
            creation_time=moment(row.created_at),
            created_by=row.created_by.partition(":")[2],
            last_used_time=moment(row.last_used_at),
            last_used_from=row.last_used_from,
        )

    async def permissions(self) -> dict[str, list[str]]:
        """Return the rights that the body gives; raises Missing for a project that the caller cannot see."""
        return await read_permissions(self.body["permissions"], self.services.access_control, self.principal)


class RobotsHandler(RobotPlace):
    async def place(self, path: Mapping[str, Any]) -> Place:
        if self.body is not None:
            return Place(_project_of(self.body))
        level = self.text("Level")
        if "ProjectID" in self.filters and level in ("", "project"):
            return Place(int(self.filters["ProjectID"].value))
        if "ProjectID" in self.filters or level not in ("", "system"):
            raise Invalid("q: Level=project needs ProjectID; Level=system must not have one")
        return Place(None)

    async def get(self) -> None:
        project_id = self.project[0] if self.project else None
        exact = self.exactly("name")
        if exact is not None:
            # Harbor's clients leave out the prefix.
            names = {exact, self.services.access.robot_prefix + exact}
            found = await self.services.database.read(robots.named, project_id, names)
            self.answer_whole([await self.spell(row) for row in found])
            return
        page = self.page(self.text("name"))
        rows = await self.services.database.read(robots.page, project_id, page)
        total = await self.services.database.read(robots.total, project_id, page.search)
        self.answer_page([await self.spell(row) for row in rows], total)

    async def post(self) -> None:
        row, secret = await self.services.robots.create(
            project=self.project,
            name=self.body["name"],
            description=self.body.get("description", ""),
            permissions=await self.permissions(),
            days=self.body.get("duration") or None,
            disabled=self.body.get("disable", False),
            by=self.principal,
            rights=self.rights,
        )
        self.note("create", "robot", row.name)
        body = {
            "id": row.id,
            "name": row.name,
            "secret": secret,
            "creation_time": moment(row.created_at),
            "expires_at": expiry(row.expires_at),
        }
        self.created(f"/robots/{row.id}", body)


class RobotHandler(RobotPlace):
    robot: Robot

    async def place(self, path: Mapping[str, Any]) -> Place:
        self.robot = await self.services.robots.find(path["robot_id"])
        return Place(self.robot.project_id, otherwise="there is no such robot account here")

    async def get(self, robot_id: int) -> None:
        self.answer(await self.spell(self.robot))

    async def put(self, robot_id: int) -> None:
        before = await self.spell(self.robot)
        for field in ("name", "level"):
            if self.body.get(field, before[field]) != before[field]:
                raise Invalid(
                    "the %(field)s of a robot account cannot be changed; send its present value or none", field=field
                )
        # Harbor's clients send back all fields that they received. An unchanged duration must not start again.
        days = self.body.get("duration")
        changed = self.body.get("permissions", before["permissions"]) != before["permissions"]
        after = await self.services.robots.update(
            self.robot,
            by=self.principal,
            rights=self.rights,
            description=self.body.get("description"),
            permissions=await self.permissions() if changed else None,
            days=None if days in (0, before["duration"]) else days,
            disabled=self.body.get("disable"),
        )
        switched = after.disabled != self.robot.disabled
        operation = ("disable" if after.disabled else "enable") if switched else "update"
        self.note(operation, "robot", self.robot.name)

    async def patch(self, robot_id: int) -> None:
        row, secret = await self.services.robots.refresh(self.robot)
        self.note("refresh", "robot", row.name)
        self.answer({"secret": secret})

    async def delete(self, robot_id: int) -> None:
        await self.services.robots.remove(self.robot)
        self.note("delete", "robot", self.robot.name)


def _project_of(body: Mapping[str, Any]) -> str | None:
    """Return the name of the project for a new robot account; None for the system. Raises Invalid."""
    if body["level"] == "system":
        return None
    names = {permission["namespace"] for permission in body["permissions"]}
    if len(names) != 1 or "*" in names:
        raise Invalid("a project's robot account has rights in that one project; name it as the namespace")
    return str(names.pop())


def _days(row: Robot) -> int:
    if row.expires_at is None:
        return NO_END
    return max(1, round((row.expires_at - row.created_at) / _DAY))
