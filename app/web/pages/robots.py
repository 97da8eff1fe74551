"""The pages that list, create, change and delete robot accounts of a project or of the system.

Each page has two addresses: under a project, and under /administration for the system's robots. `app.access.robots`
checks each time that editors give only rights that they have themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.access import roles
from app.access.absence import HANDING_OVER_SECONDS
from app.access.errors import Invalid, Missing
from app.access.grants import EVERYWHERE
from app.access.notices import NOTICE_SECONDS
from app.database import attendance, robots
from app.database.robots import Robot
from app.oci.errors import OCIError

from . import words
from .base import PageHandler
from .secret import show_secret


@dataclass(frozen=True, slots=True)
class RightSet:
    """One set of rights of a form. ``projects`` holds names with commas between them; empty means every project."""

    projects: str
    rights: frozenset[str]


class OfRobots(PageHandler):
    """The base of these pages."""

    async def prepare(self) -> None:
        self.section = "projects" if "project" in self.path_kwargs else "administration"
        await super().prepare()

    @property
    def owner(self) -> int | None:
        """Return the id of the project that has these robots, None for the system's."""
        return None if self.project is None else self.project.id

    @property
    def home(self) -> str:
        return "/administration/robots" if self.project is None else f"/projects/{self.project.name}/robots"

    @property
    def rights(self) -> frozenset[str]:
        """Return the rights that the visitor may give here. System robots are for administrators, with all rights."""
        return roles.ALL_RIGHTS if self.project is None else self.project.rights

    async def robot(self) -> Robot:
        """Find the robot of a form. Raise Missing if it belongs to another project."""
        return await self.services.robots.find_in(self.owner, self.chosen("robot"))

    @property
    def back(self) -> str:
        """Return the address that a form was sent from: the robot's own page, or the list."""
        robot = self.field("robot")
        stays = self.ticked("stay") and robot.isascii() and robot.isdigit()
        return f"{self.home}/{robot}" if stays else self.returning(self.home)

    def show_in_frame(self, name: str, **values: object) -> None:
        """Render the template of that name, in the frame of the project or of the administration."""
        self.show(
            f"{'' if self.project else 'system-'}{name}.html",
            tab="robots",
            base=self.home,
            may_change=roles.UPDATE_ROBOT in self.rights,
            may_delete=roles.DELETE_ROBOT in self.rights,
            notice=NOTICE_SECONDS,
            right_names=words.RIGHTS,
            common=[one for one in words.COMMON_RIGHTS if one[0] in self.rights],
            others=[one for one in words.OTHER_RIGHTS if one[0] in self.rights],
            most=self.services.access.most_robot_days,
            **values,
        )

    def typed(self) -> list[RightSet]:
        """Read the sets of rights of a form. Only the first may be empty."""
        right_sets: list[RightSet] = []
        for suffix in suffixes():
            projects, rights = self.field(f"projects{suffix}"), frozenset(self.get_body_arguments(f"right{suffix}"))
            if right_sets and not projects and not rights:
                break
            right_sets.append(RightSet(projects, rights))
        return right_sets

    async def permissions(self, right_sets: Sequence[RightSet]) -> dict[str, Sequence[str]]:
        """Return a form's rights by the projects' ids. Raise Invalid, or Missing if there is no such project."""
        if self.project is not None:
            return {str(self.project.id): sorted(right_sets[0].rights)}
        given: dict[str, Sequence[str]] = {}
        for place, one in enumerate(right_sets):
            if place and not one.projects:
                raise Invalid("Name the projects of the other rights; * means all projects.")
            for scope in await self._scopes(one.projects):
                if scope in given:
                    raise Invalid("Name each project only once, with all of its rights in one set.")
                given[scope] = sorted(one.rights)
        return given

    async def _scopes(self, names: str) -> list[str]:
        return [
            EVERYWHERE if name == EVERYWHERE else str((await self.services.projects.find(name)).id)
            for name in names.replace(",", " ").split() or [EVERYWHERE]
        ]


class RobotsPage(OfRobots):
    """The list of robot accounts."""

    needs = roles.LIST_ROBOTS

    async def get(self, project: str = "") -> None:
        search = self.query("q")
        listing = await self.listing(
            lambda page: self.services.database.read(robots.page, self.owner, page), lambda robot: robot.name, search
        )
        since = None if self.owner is None else await self.services.database.read(attendance.since, self.owner)
        stop_at = None if since is None else since + HANDING_OVER_SECONDS
        self.show_in_frame("robots", listing=listing, search=search, stop_at=stop_at)


class NewRobotPage(OfRobots):
    """Creates a robot account and shows its secret once."""

    needs = roles.CREATE_ROBOT

    async def get(self, project: str = "") -> None:
        hosts = self.project is not None and self.project.upstream is None
        proposed = frozenset({roles.PULL, roles.PUSH} if hosts else {roles.PULL})
        self._form({"days": str(self.services.access.robot_days)}, [RightSet("", proposed)], "")

    async def post(self, project: str = "") -> None:
        right_sets = self.typed()
        try:
            robot, secret = await self.services.robots.create(
                project=None if self.project is None else (self.project.id, self.project.name),
                name=self.field("name"),
                description=self.field("description"),
                permissions=await self.permissions(right_sets),
                days=days_of(self),
                by=self.principal,
                rights=self.rights,
            )
        except OCIError as error:
            self._form(
                {name: self.field(name) for name in ("name", "description", "days")}, right_sets, self.mistake(error)
            )
            return
        self.note("create", "robot", robot.name)
        show_secret(self, robot.name, secret, self.home, expires_at=robot.expires_at)

    def _form(self, values: Mapping[str, str], right_sets: Sequence[RightSet], error: str) -> None:
        prefix = self.services.access.robot_prefix + (f"{self.project.name}+" if self.project else "")
        self.show_in_frame("robot-new", values=values, right_sets=right_sets, error=error, full_name=prefix)


class RobotPage(OfRobots):
    """One robot account: its rights, its last use, and the forms that change it.

    The form for its description and rights is sent here, and is shown again if it has a mistake.
    """

    needs = roles.LIST_ROBOTS
    needs_to_send = roles.UPDATE_ROBOT

    async def get(self, robot: str, project: str = "") -> None:
        await self._show(await self._find(robot))

    async def post(self, robot: str, project: str = "") -> None:
        found, about, right_sets = await self._find(robot), self.field("description"), self.typed()
        try:
            await self.services.robots.update(
                found,
                by=self.principal,
                rights=self.rights,
                description=about,
                permissions=await self.permissions(right_sets),
            )
        except OCIError as error:
            await self._show(found, description=about, right_sets=right_sets, error=self.mistake(error))
            return
        self.note("update", "robot", found.name)
        self.flash("success", self._("The robot account is changed. The change applies from its next log-in."))
        self.redirect(f"{self.home}/{found.id}", status=303)

    async def _find(self, robot: str) -> Robot:
        return await self.services.robots.find_in(self.owner, int(robot))

    async def _show(
        self, robot: Robot, *, description: str | None = None, right_sets: Sequence[RightSet] = (), error: str = ""
    ) -> None:
        """Render the page, with the texts that were typed if the form has a mistake."""
        self.show_in_frame(
            "robot",
            robot=robot,
            description=robot.description if description is None else description,
            right_sets=right_sets or await self._right_sets(robot),
            error=error,
        )

    async def _right_sets(self, robot: Robot) -> list[RightSet]:
        """Return a robot's rights as a form has them. A project that was deleted since is left out."""
        names: dict[frozenset[str], list[str]] = {}
        for scope, rights in sorted(robot.permissions.items(), key=lambda given: (len(given[0]), given[0])):
            name = scope if scope == EVERYWHERE else await self._name(int(scope))
            if name is not None:
                # A form has our names of rights; Harbor's clients may have given others.
                names.setdefault(roles.rights_named(rights), []).append(name)
        return [RightSet(", ".join(sorted(many)), rights) for rights, many in names.items()] or [
            RightSet("", frozenset())
        ]

    async def _name(self, project_id: int) -> str | None:
        try:
            return (await self.services.projects.get(project_id)).name
        except Missing:
            return None


class RefreshRobotPage(OfRobots):
    """Gives a robot account a new secret and shows it once."""

    needs = roles.UPDATE_ROBOT

    async def post(self, project: str = "") -> None:
        robot, secret = await self.services.robots.refresh(await self.robot())
        self.note("refresh", "robot", robot.name)
        show_secret(self, robot.name, secret, self.back, expires_at=robot.expires_at)


class SwitchRobotPage(OfRobots):
    """Disables a robot account, or enables it again."""

    needs = roles.UPDATE_ROBOT

    async def post(self, project: str = "") -> None:
        off = self.field("disabled") == "yes"

        async def switch() -> None:
            robot = await self.robot()
            await self.services.robots.update(robot, by=self.principal, rights=self.rights, disabled=off)
            self.note("disable" if off else "enable", "robot", robot.name)

        done = self._("The robot account is disabled.") if off else self._("The robot account is enabled.")
        await self.settle(switch(), done, self.back)


class ProlongRobotPage(OfRobots):
    """Sets a robot account's expiry to a number of days from now."""

    needs = roles.UPDATE_ROBOT

    async def post(self, project: str = "") -> None:
        async def prolong() -> None:
            robot = await self.robot()
            await self.services.robots.update(robot, by=self.principal, rights=self.rights, days=days_of(self))
            self.note("update", "robot", robot.name)

        await self.settle(prolong(), self._("The expiry is changed."), self.back)


class DeleteRobotPage(OfRobots):
    """Deletes a robot account for good."""

    needs = roles.DELETE_ROBOT

    async def post(self, project: str = "") -> None:
        async def remove() -> None:
            robot = await self.robot()
            await self.services.robots.remove(robot)
            self.note("delete", "robot", robot.name)

        done = self._("The robot account is deleted. Its tokens expire within 5 minutes.")
        await self.settle(remove(), done, self.home)


def days_of(page: PageHandler) -> int:
    """Read the number of days until something expires. Raise Invalid if it is not a number."""
    text = page.field("days")
    if not text.removeprefix("-").isdigit() or len(text) > 6:
        raise Invalid("Type a number of days.")
    return int(text)


def suffixes() -> Iterator[str]:
    """Yield the suffixes of fields' names, one for each set of rights. The first is empty."""
    return itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
