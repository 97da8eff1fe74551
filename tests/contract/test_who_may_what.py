"""Who may what, in process: the route tables of the REST API and the pages, for everybody who could ask.

The suites `webapi` and `web` have the tables of the expected answers, and ask for samples over HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace

import pytest

from app.access.errors import Forbidden, Missing
from app.access.permissions import Permissions
from app.access.principal import ANONYMOUS, Principal, PrincipalKind
from app.access.roles import ALL_RIGHTS, GRANTABLE_RIGHTS, PULL
from app.config import Policy
from app.database import Database, accounts, members, projects
from app.oci.errors import Unauthorized
from app.projects.service import Projects
from app.web.access_control import AccessControl
from app.web.api.document import document
from app.web.pages import routes as pages
from tests.web import test_who_may_what as of_pages
from tests.webapi import test_who_may_what as of_api
from tests.webapi.scene import CALLERS, ROLES

NAMES = {True: "open", False: "closed"}
PERSON, ROBOT = PrincipalKind.PERSON, PrincipalKind.ROBOT


@pytest.fixture
def kind() -> str:
    """SQLite: `test_members` compares the databases."""
    return "sqlite"


@pytest.fixture
async def callers(database: Database) -> Mapping[str, Principal]:
    """Two projects, and everybody who could ask, by the names that both tables have for them."""
    found = {"anonymous": ANONYMOUS, "admin": Principal(PERSON, "admin", is_admin=True, id=10**6)}
    async with database.transaction() as transaction:
        for public, name in NAMES.items():
            await projects.create(transaction, name, public=public, upstream=None, settings={})
        for name in (*ROLES, "outsider"):
            await accounts.create(transaction, name, "x", is_admin=False)
            account = await accounts.find(transaction, name)
            assert account is not None
            found[name] = Principal(PERSON, name, id=account.id)
            for project in NAMES.values():
                there = await projects.find(transaction, project)
                assert there is not None
                if name in ROLES:
                    await members.add(transaction, there.id, name, account_id=account.id)
    every = {"*": frozenset(GRANTABLE_RIGHTS)}
    found["robot with every right"] = Principal(ROBOT, "robot-all", id=1, limits=every)
    found["robot that pulls"] = Principal(ROBOT, "robot-pulls", id=2, limits={"*": frozenset({PULL})})
    owner = found["project admin"]
    found["key of the project admin"] = Principal(PERSON, owner.name, id=owner.id, limits=every)
    return found


@pytest.fixture
def control(database: Database) -> AccessControl:
    return AccessControl(Projects(database, Policy(), (), str), Permissions(database))


async def refused(control: AccessControl, principal: Principal, public: bool, needs: str) -> int | None:
    """Ask as the handlers do; give the status of a refusal, None for nobody who is refused."""
    try:
        await control.open(principal, NAMES[public], needs)
    except (Unauthorized, Forbidden, Missing) as error:
        return error.answer_status
    return None


def operations() -> Iterator[tuple[str, str]]:
    for item in document().paths.values():
        for operation in item.values():
            if operation.needs in ALL_RIGHTS:
                yield operation.id, operation.needs


async def test_every_operation_of_the_api(control: AccessControl, callers: Mapping[str, Principal]) -> None:
    wrong, asked = [], 0
    for operation, needs in operations():
        for caller in CALLERS:
            for public in NAMES:
                asked += 1
                place = SimpleNamespace(public=public)
                wanted = of_api.expected(of_api.IN_A_PROJECT[operation], caller, place)  # type: ignore[arg-type]
                found = await refused(control, callers[caller], public, needs)
                if found != wanted:
                    wrong.append((operation, caller, NAMES[public], found, wanted))
    assert wrong == []
    assert asked == len(of_api.IN_A_PROJECT) * len(CALLERS) * len(NAMES)


async def test_every_method_of_every_page(control: AccessControl, callers: Mapping[str, Principal]) -> None:
    """Robots and keys log in to no page: there, they are nobody."""
    wrong, asked = [], 0
    for pattern, handler in pages._PAGES:
        rest = pattern.removeprefix(pages._PROJECT)
        for method, needs in (("get", handler.needs), ("post", handler.needs_to_send or handler.needs)):
            door = of_pages.IN_A_PROJECT.get((method, rest))
            if rest == pattern or door is None or needs not in ALL_RIGHTS:
                continue
            asked += 1
            for caller in ("anonymous", *of_pages.PEOPLE):
                for public in NAMES:
                    place = SimpleNamespace(public=public)
                    # Pages themselves turn away nobody's forms, whatever the project.
                    wanted = of_pages.expected(door._replace(people=False), caller, place)  # type: ignore[arg-type]
                    found = await refused(control, callers[caller], public, needs)
                    if found != (401 if wanted == "log in" else wanted):
                        wrong.append((method, rest, caller, NAMES[public], found, wanted))
    assert wrong == []
    assert asked == len(of_pages.IN_A_PROJECT)
