"""Robot accounts, those of a project and those of the system: the list, making one, and changing one.

The pages stand at two addresses each: beneath a project, and beneath /administration for the system's robots. What an
editor gives is checked by `app.access.robots`, each time, against what they may do themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.access import roles
from app.access.errors import Invalid, Missing
from app.access.grants import EVERYWHERE
from app.access.notices import NOTICE_SECONDS
from app.database import robots
from app.database.robots import Robot
from app.oci.errors import OCIError

from . import words
from .base import PageHandler
from .secret import show_secret


@dataclass(frozen=True, slots=True)
class RightSet:
    """One set of rights of a form, and where they hold: names with commas between them, none for every project."""

    projects: str
    rights: frozenset[str]


class OfRobots(PageHandler):
    """What all these pages share."""

    async def prepare(self) -> None:
        self.section = "projects" if "project" in self.path_kwargs else "administration"
        await super().prepare()

    @property
    def owner(self) -> int | None:
        """Say whose robots these are: a project's, by its id, or the system's."""
        return None if self.project is None else self.project.id

    @property
    def home(self) -> str:
        return "/administration/robots" if self.project is None else f"/projects/{self.project.name}/robots"

    @property
    def rights(self) -> frozenset[str]:
        """What whoever looks may give here; system robots are an administrator's, who may do everything."""
        return roles.ALL_RIGHTS if self.project is None else self.project.rights

    async def robot(self) -> Robot:
        """Find the robot a form is about; raises Missing for one of another project."""
        return await self.services.robots.find_in(self.owner, self.chosen("robot"))

    @property
    def back(self) -> str:
        """Spell where a form was sent from: the robot's own page, or the list."""
        robot = self.field("robot")
        return f"{self.home}/{robot}" if self.ticked("stay") and robot.isascii() and robot.isdigit() else self.home

    def show_in_frame(self, name: str, **values: object) -> None:
        """Answer with the template of that name, in the frame of the project or of the administration."""
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
        """Read the sets of rights as they stand in a form; only the first may be empty."""
        right_sets: list[RightSet] = []
        for suffix in suffixes():
            projects, rights = self.field(f"projects{suffix}"), frozenset(self.get_body_arguments(f"right{suffix}"))
            if right_sets and not projects and not rights:
                break
            right_sets.append(RightSet(projects, rights))
        return right_sets

    async def permissions(self, right_sets: Sequence[RightSet]) -> dict[str, Sequence[str]]:
        """Spell what a form gives by the projects' ids; raises Invalid, and Missing for a project that is not there."""
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
    """The list."""

    needs = roles.LIST_ROBOTS

    async def get(self, project: str = "") -> None:
        search = self.query("q")
        listing = await self.listing(
            lambda page: self.services.database.read(robots.page, self.owner, page), lambda robot: robot.name, search
        )
        self.show_in_frame("robots", listing=listing, search=search)


class NewRobotPage(OfRobots):
    """Makes a robot account and shows its secret, this once."""

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
    """One robot account: what it is and may do, when it was used and from where; and the forms that change it.

    The one for its description and rights is sent here, and comes back with its mistakes.
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
        """Answer with the page; with what was typed into its form, where that has a mistake."""
        self.show_in_frame(
            "robot",
            robot=robot,
            description=robot.description if description is None else description,
            right_sets=right_sets or await self._right_sets(robot),
            error=error,
        )

    async def _right_sets(self, robot: Robot) -> list[RightSet]:
        """Spell what a robot was given as a form has it; a project that has been deleted since is left out."""
        names: dict[frozenset[str], list[str]] = {}
        for scope, rights in sorted(robot.permissions.items(), key=lambda given: (len(given[0]), given[0])):
            name = scope if scope == EVERYWHERE else await self._name(int(scope))
            if name is not None:
                names.setdefault(frozenset(rights), []).append(name)
        return [RightSet(", ".join(sorted(many)), rights) for rights, many in names.items()] or [
            RightSet("", frozenset())
        ]

    async def _name(self, project_id: int) -> str | None:
        try:
            return (await self.services.projects.get(project_id)).name
        except Missing:
            return None


class RefreshRobotPage(OfRobots):
    """Gives a robot account another secret and shows it, this once."""

    needs = roles.UPDATE_ROBOT

    async def post(self, project: str = "") -> None:
        robot, secret = await self.services.robots.refresh(await self.robot())
        self.note("refresh", "robot", robot.name)
        show_secret(self, robot.name, secret, self.back, expires_at=robot.expires_at)


class SwitchRobotPage(OfRobots):
    """Disables a robot account, or lets it in again."""

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
    """Moves a robot's last day, to so many days from now."""

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
    """Read for how many days something is given; raises Invalid."""
    text = page.field("days")
    if not text.removeprefix("-").isdigit() or len(text) > 6:
        raise Invalid("Type a number of days.")
    return int(text)


def suffixes() -> Iterator[str]:
    """Number the sets of rights of a form: the first has no number in its fields' names."""
    return itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
