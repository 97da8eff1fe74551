"""Redis emptied, and Redis away: people log in again, and nothing else is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.client import Registry
from tests.conftest import require
from tests.images import single
from tests.parts import valkey as valkey_part
from tests.parts.process import command, wait_for
from tests.parts.valkey import Valkey
from tests.web.http import Person
from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House
from tests.webapi.scene import access

# So many connections reach both workers.
_BOTH = 8
_PULLS = access("repository:pull project:read")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Redis of this file's own, which goes away."""
    require(valkey_part)
    with valkey_part.valkey(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, redis: Valkey) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("lost"), redis.url, processes=2)
    yield house
    house.close()


@pytest.fixture(autouse=True)
def _no_fault_of_ours(house: House) -> Iterator[None]:
    """Fail a test in which the service met something unforeseen; that nobody can log in without Redis is foreseen."""
    before = len(house.service.log())
    yield
    assert [line for line in house.service.faults(before) if '"path": "/login", "status": 503' not in line] == []


@dataclass
class Lab:
    """A project with everything that one can have, and who may get at it."""

    house: House
    robot: Api
    key: Api

    def state(self) -> dict[str, Any]:
        """Read all that is kept, but for when something was last used."""
        admin, own = self.house.admin, Api(self.house.host, "mari", PASSWORD)
        number = admin.do("getProject", project_name_or_id="lab").json()["project_id"]
        in_lab: dict[str, Any] = {"project_name": "lab", "repository_name": "app", "reference": "v1"}
        found = {
            "project": admin.do("getProject", project_name_or_id="lab").json(),
            "summary": admin.do("getProjectSummary", project_name_or_id="lab").json(),
            "members": admin.do("listMembers", project_name_or_id="lab").json(),
            "quota": admin.do("getQuota", id=number).json(),
            "labels": admin.do("listLabels", query={"scope": "p", "project_id": number}).json(),
            "system labels": admin.do("listLabels", query={"scope": "g"}).json(),
            "artifact": admin.do("getArtifact", query={"with_label": True}, **in_lab).json(),
            "robots": admin.do("listRobots", query={"q": f"Level=project,ProjectID={number}"}).json(),
            "system robots": admin.do("listRobots").json(),
            "keys": own.do("listAccessKeys").json(),
            "people": admin.do("listUsers").json(),
        }
        return {name: _lasting(value) for name, value in found.items()}

    def works(self) -> None:
        """Pull with the robot and the key, and see the project with them."""
        for caller in (self.robot, self.key):
            assert caller.do("getProject", project_name_or_id="lab").status == 200
            registry = Registry(self.house.host, caller.username, caller.secret)
            assert registry.manifest("lab/app", "v1").status == 200


def _lasting(value: Any) -> Any:
    if isinstance(value, list):
        return [_lasting(one) for one in value]
    if isinstance(value, dict):
        passing = ("last_used_time", "last_used_from", "last_login_time", "pull_time", "pull_count")
        return {name: _lasting(one) for name, one in value.items() if name not in passing}
    return value


@pytest.fixture(scope="module")
def lab(house: House) -> Lab:
    admin = house.admin
    house.add_person("mari")
    number = admin.do("createProject", {"project_name": "lab", "storage_limit": 10**9}).number
    member = {"role_id": 2, "member_user": {"username": "mari"}}
    assert admin.do("createMember", member, project_name_or_id="lab").status == 201
    Registry(house.host, ADMIN, PASSWORD).push_image("lab/app", "v1", single("lab"))
    label = admin.do("createLabel", {"name": "good", "scope": "p", "project_id": number}).number
    assert admin.do("createLabel", {"name": "everywhere", "scope": "g"}).status == 201
    path: dict[str, Any] = {"project_name": "lab", "repository_name": "app", "reference": "v1"}
    assert admin.do("attachLabel", {"id": label}, **path).status == 200
    permissions = [{"namespace": "lab", "access": _PULLS}]
    robot = admin.do("createRobot", {"name": "ci", "level": "project", "permissions": permissions}).json()
    assert admin.do("createRobot", {"name": "all", "level": "system", "permissions": permissions}).status == 201
    own = Api(house.host, "mari", PASSWORD)
    key = own.do("createAccessKey", {"name": "laptop", "duration": 9, "permissions": permissions}).json()
    return Lab(house, Api(house.host, robot["name"], robot["secret"]), Api(house.host, "mari", key["secret"]))


def test_an_emptied_redis_costs_a_log_in(lab: Lab, redis: Valkey) -> None:
    host = lab.house.host
    browsers = [Person(host).log_in(name, PASSWORD) for name in (ADMIN, "mari")]
    before = lab.state()
    assert all(before.values())
    redis.flush()
    for browser in browsers:
        assert (browser.get("/mine").status, browser.get("/mine").location) == (303, "/login?next=%2Fmine")
    assert lab.state() == before
    lab.works()
    for browser, name in zip(browsers, (ADMIN, "mari"), strict=True):
        assert browser.log_in(name, PASSWORD).get("/mine").status == 200


def test_without_redis_everything_but_browsers_goes_on(lab: Lab, redis: Valkey) -> None:
    host = lab.house.host
    before, browser = lab.state(), Person(host).log_in("mari", PASSWORD)
    redis.stop()
    try:
        assert browser.get("/mine").status == 303
        assert browser.get("/projects").status == 200
        browser.get("/login")
        refused = browser.post("/login", {"username": "mari", "password": PASSWORD})
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert "nobody can log in right now" in refused.text
        lab.works()
        assert lab.state() == before
    finally:
        redis.start()
    # A connection that broke is tried again after a moment.
    wait_for(lambda: _knows_browsers(host), what="logging in with Redis back")
    assert browser.get("/mine").status == 303
    assert lab.state() == before
    lab.works()


def by_hand(house: House, _: int, username: str) -> None:
    """Set a password on the host, as an operator does."""
    config = str(house.service.config)
    done = command("admin", "set-password", username, "--config", config, given=f"{PASSWORD}\n")
    assert done.stdout.startswith(f"changed the password of {username}")


def by_request(house: House, number: int, _: str) -> None:
    assert house.admin.do("setPassword", {"new_password": PASSWORD}, user_id=number).status == 200


def by_disabling(house: House, number: int, _: str) -> None:
    for disabled in (True, False):
        assert house.admin.do("setDisabled", {"disabled": disabled}, user_id=number).status == 200


def by_removing(house: House, number: int, username: str) -> None:
    """Remove the person; the next one must not be let in by their cookie."""
    assert house.admin.do("deleteUser", user_id=number).status == 200
    assert house.add_person(f"{username}-next") != number


@pytest.mark.parametrize("end", [by_hand, by_request, by_disabling, by_removing])
def test_sessions_end_while_redis_is_not_there_to_be_told(
    house: House, redis: Valkey, end: Callable[[House, int, str], None]
) -> None:
    username = end.__name__.replace("_", "-")
    number = house.add_person(username)
    wait_for(lambda: _knows_browsers(house.host), what="both workers to find Redis")
    browser = Person(house.host).log_in(username, PASSWORD)
    # Frozen, for a Redis that is started anew has no sessions in any case.
    redis.pause()
    try:
        end(house, number, username)
    finally:
        redis.resume()
    wait_for(lambda: _knows_browsers(house.host), what="both workers to find Redis again")
    for _ in range(_BOTH):
        assert (browser.get("/mine").status, browser.get("/mine").location) == (303, "/login?next=%2Fmine")
    if end is not by_removing:
        page = browser.log_in(username, PASSWORD).get("/mine/sessions")
        assert (page.status, "/mine/sessions/revoke" in page.text) == (200, False), "the other one has ended"


def _knows_browsers(host: str) -> bool:
    person = Person(host)
    person.get("/login")
    answer = person.post("/login", {"username": ADMIN, "password": PASSWORD})
    return answer.status == 303 and {person.get("/mine").status for _ in range(_BOTH)} == {200}
