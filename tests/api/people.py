"""Projects, robots, access keys and people made behind the running service's back, by its own services."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy import update

from app.access.access_keys import AccessKeys
from app.access.principal import Principal, PrincipalKind
from app.access.robots import Robots
from app.access.roles import ALL_RIGHTS
from app.access.secrets import Secrets, read_key
from app.config import Access, Policy
from app.database import Database, accounts, projects
from app.database.robots import Robot
from app.database.tables import account, member
from app.database.tables import robot as robot_table
from app.projects.service import Projects
from tests.parts.service import Service

T = TypeVar("T")

ADMIN = Principal(PrincipalKind.PERSON, "admin", is_admin=True, id=1)


class People:
    """Works on the database of a service: ``url``, or the one in its folder."""

    def __init__(self, service: Service, url: str | None = None) -> None:
        data = service.folder / "data"
        self._url = url or f"sqlite:///{data}/registry.sqlite"
        self._secrets = Secrets(read_key(None, data))

    def project(self, name: str, *, public: bool = False, age: float = 0.0) -> int:
        """Make a project as if so many seconds ago; gives its id."""

        async def make(database: Database) -> int:
            made = await self._projects(database).create(ADMIN, name=name, public=public)
            async with database.transaction() as transaction:
                await projects.change(transaction, name, created_at=made.created_at - age)
            return made.id

        return self._do(make)

    def remove_project(self, name: str) -> None:
        """Remove a project with all it has."""

        async def remove(database: Database) -> None:
            await self._projects(database).remove(await _id(database, name))

        self._do(remove)

    def robot(self, name: str, permissions: dict[str, list[str]], project: str | None = None) -> tuple[Robot, str]:
        """Make a robot of a project (None: of the system), its rights by project name or "*"."""

        async def make(database: Database) -> tuple[Robot, str]:
            ids = {key: key if key == "*" else str(await _id(database, key)) for key in permissions}
            return await self._robots(database).create(
                project=(await _id(database, project), project) if project else None,
                name=name,
                description="",
                permissions={ids[key]: rights for key, rights in permissions.items()},
                days=None,
                by=ADMIN,
                rights=ALL_RIGHTS,
            )

        return self._do(make)

    def update(self, robot: Robot, **changes: Any) -> None:
        self._do(lambda database: self._robots(database).update(robot, by=ADMIN, rights=ALL_RIGHTS, **changes))

    def refresh(self, robot: Robot) -> str:
        return self._do(lambda database: self._robots(database).refresh(robot))[1]

    def remove(self, robot: Robot) -> None:
        self._do(lambda database: self._robots(database).remove(robot))

    def find(self, robot: Robot) -> Robot:
        return self._do(lambda database: self._robots(database).find(robot.id))

    def expire(self, robot: Robot) -> None:
        """Have a robot's time be over."""
        self._execute(update(robot_table).where(robot_table.c.id == robot.id).values(expires_at=1.0))

    def person(self, username: str, role: str, project: str) -> None:
        """Make somebody who is a member of a project."""

        async def make(database: Database) -> None:
            project_id = await _id(database, project)
            async with database.transaction() as transaction:
                await accounts.create(transaction, username, "", is_admin=False)
                found = await accounts.find(transaction, username)
                assert found is not None
                values = {"project_id": project_id, "account_id": found.id, "role": role, "created_at": 1.0}
                await transaction.execute(member.insert().values(values))

        self._do(make)

    def access_key(self, username: str, permissions: dict[str, list[str]], name: str = "laptop") -> str:
        """Make an access key of a person, its rights by project name or "*"."""

        async def make(database: Database) -> tuple[Any, str]:
            async with database.reading() as transaction:
                found = await accounts.find(transaction, username)
            assert found is not None
            ids = {key: key if key == "*" else str(await _id(database, key)) for key in permissions}
            keys = AccessKeys(database, self._secrets, Access())
            given = {ids[key]: rights for key, rights in permissions.items()}
            return await keys.create(found.id, name=name, permissions=given, days=1)

        return self._do(make)[1]

    def disable(self, username: str) -> None:
        self._execute(update(account).where(account.c.username == username).values(disabled=True))

    def _projects(self, database: Database) -> Projects:
        return Projects(database, Policy(), [], self._secrets.encrypt)

    def _robots(self, database: Database) -> Robots:
        return Robots(database, self._secrets, Access())

    def _execute(self, statement: Any) -> None:
        async def execute(database: Database) -> None:
            async with database.transaction() as transaction:
                await transaction.execute(statement)

        self._do(execute)

    def _do(self, work: Callable[[Database], Awaitable[T]]) -> T:
        async def done() -> T:
            database = Database(self._url)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(done())


async def _id(database: Database, project: str) -> int:
    head = await projects.head(database, project)
    assert head is not None, project
    return head[0]
