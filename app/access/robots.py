"""Robot accounts: names, rights and secrets for programs, of one project or of the whole system.

    robot-physics+ci    of the project physics; each project may have its own ci
    robot-backup        of the system; only administrators make these

A change counts from the next token on (docs/decisions/0030).
"""

from __future__ import annotations

from app.config import Access
from app.database import Database, Transaction, robots
from app.database.robots import Robot
from app.kit.ids import is_id
from app.oci.errors import Term
from app.oci.reference import is_plain_name

from .errors import Conflict, Forbidden, Invalid, Missing
from .grants import EVERYWHERE, Permissions, checked_permissions, expiry
from .principal import Principal
from .secrets import Secrets
from .typed import checked_text

# The number of days of a robot account that never expires; only administrators may give it.
NEVER = -1
_MOST_NAME = 64
# Nobody can log in with a longer name (`accounts`).
_MOST_FULL_NAME = 255
_MOST_DESCRIPTION = 1000


class Robots:
    """Makes and changes robot accounts; callers decide who may do so."""

    def __init__(self, database: Database, secrets: Secrets, access: Access) -> None:
        self._database = database
        self._secrets = secrets
        self._access = access

    def full_name(self, name: str, project: str | None) -> str:
        """Return the name that a robot account logs in with; raises Invalid for a name that no robot may have."""
        full = self._access.robot_prefix + (f"{project}+{name}" if project is not None else name)
        if not is_plain_name(name) or len(name) > _MOST_NAME or len(full) > _MOST_FULL_NAME:
            raise Invalid(
                "write a robot's name in lower-case letters and digits, with single . _ - between them, "
                "at most %(most)s characters, and without the prefix",
                most=_MOST_NAME,
            )
        return full

    async def create(
        self,
        *,
        project: tuple[int, str] | None,
        name: str,
        description: str,
        permissions: Permissions,
        days: int | None,
        by: Principal,
        rights: frozenset[str],
        disabled: bool = False,
    ) -> tuple[Robot, str]:
        """Make a robot account and return it with its secret, which is never shown again.

        ``project`` is its id and name, or None for the system. ``permissions`` are rights by project id or "*".
        ``days`` are None for the configured number; only administrators may give `NEVER`. ``rights`` are those of
        ``by`` there, and nobody can give more. Raises Invalid, Forbidden, Conflict if the name is taken, Unavailable.
        """
        full = self.full_name(name, project[1] if project is not None else None)
        kept = self._checked(project[0] if project is not None else None, permissions, by, rights)
        until = self._until(self._access.robot_days if days is None else days, by)
        about = checked_text(description.strip(), Term("description"), _MOST_DESCRIPTION)
        secret = self._secrets.new()

        async def create(transaction: Transaction) -> Robot:
            await _require_projects(transaction, kept)
            made = await robots.create(
                transaction,
                project_id=project[0] if project is not None else None,
                name=full,
                description=about,
                secret_hash=self._secrets.hash(secret),
                permissions=kept,
                disabled=disabled,
                created_by=by.subject,
                expires_at=until,
            )
            if made is None:
                raise Conflict(
                    "the robot account %(name)s exists already; choose another name or refresh its secret", name=full
                )
            return made

        return await self._database.transact(create), secret

    async def find(self, robot_id: int) -> Robot:
        """Return any robot account; raises Missing, Unavailable. Callers check by its project_id who may see it."""
        if not is_id(robot_id):
            return _existing(None)
        async with self._database.reading() as transaction:
            return _existing(await robots.find(transaction, robot_id))

    async def find_in(self, project_id: int | None, robot_id: int) -> Robot:
        """Return a robot of this project, or of the system (None); raises Missing for any other, and Unavailable."""
        found = await self.find(robot_id)
        return _existing(found if found.project_id == project_id else None)

    async def update(
        self,
        robot: Robot,
        *,
        by: Principal,
        rights: frozenset[str],
        description: str | None = None,
        permissions: Permissions | None = None,
        days: int | None = None,
        disabled: bool | None = None,
    ) -> Robot:
        """Change each value that is not None; ``days`` count from now. Raises as `create` does, or Missing."""
        values: dict[str, object] = {}
        kept = None
        if description is not None:
            values["description"] = checked_text(description.strip(), Term("description"), _MOST_DESCRIPTION)
        if permissions is not None:
            values["permissions"] = kept = self._checked(robot.project_id, permissions, by, rights)
        if days is not None:
            values["expires_at"] = self._until(days, by)
        if disabled is not None:
            values["disabled"] = disabled
        if not values:
            return robot

        async def change(transaction: Transaction) -> Robot | None:
            if kept is not None:
                await _require_projects(transaction, kept)
            return await robots.change(transaction, robot.id, **values)

        return _existing(await self._database.transact(change))

    async def refresh(self, robot: Robot) -> tuple[Robot, str]:
        """Make a new secret and return it with the robot account; the former one is refused at once. Raises Missing."""
        secret = self._secrets.new()
        async with self._database.transaction() as transaction:
            changed = await robots.change(transaction, robot.id, secret_hash=self._secrets.hash(secret))
        return _existing(changed), secret

    async def remove(self, robot: Robot) -> None:
        """Remove a robot account; raises Missing if it is gone already."""
        async with self._database.transaction() as transaction:
            if not await robots.remove(transaction, robot.id):
                _existing(None)

    def _checked(
        self, project_id: int | None, permissions: Permissions, by: Principal, rights: frozenset[str]
    ) -> dict[str, list[str]]:
        if project_id is None and not by.administers:
            raise Forbidden("only administrators can make system robots")
        if project_id is not None and set(permissions) - {str(project_id)}:
            raise Invalid(
                "a project's robot can have rights in that project only; for several projects, use a system robot"
            )
        return checked_permissions(permissions, rights)

    def _until(self, days: int, by: Principal) -> float | None:
        return None if days == NEVER and by.administers else expiry(days, self._access.most_robot_days)


def _existing(robot: Robot | None) -> Robot:
    if robot is None:
        raise Missing("there is no such robot account here")
    return robot


async def _require_projects(transaction: Transaction, permissions: Permissions) -> None:
    """Raise Invalid for an id that no project has, because a later project may get it."""
    ids = {int(project) for project in permissions if project != EVERYWHERE}
    if unknown := sorted(await robots.unknown_projects(transaction, ids)):
        raise Invalid("there is no project with the id %(number)s", number=unknown[0])
