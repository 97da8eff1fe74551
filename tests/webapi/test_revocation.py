"""What is taken away is refused from the next request that needs a token; a token of before lives five minutes at most.

The service has two workers here, and is asked until both have answered: what one was told, the other knows at once.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from tests.api.client import Registry, basic
from tests.images import single
from tests.web.http import Person
from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House
from tests.webapi.scene import access

LIFETIME = 300
# Each request goes to either worker: of so many, both get some.
ASKED = 8
_NUMBERS = itertools.count(1)
_RIGHTS = "repository:pull repository:push repository:list project:read"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A service of this file's own, with two workers."""
    house = House(tmp_path_factory.mktemp("revocation"), processes=2)
    yield house
    house.close()


class Somebody(NamedTuple):
    """Who asks: by user name and secret; ``number`` is the robot's, the key's or the account's."""

    username: str
    secret: str
    number: int


@dataclass
class Stage:
    """A private project with an image in it, and a person who is a developer there."""

    house: House
    project: str
    number: int
    person: Somebody
    member: int

    @property
    def admin(self) -> Api:
        return self.house.admin

    @property
    def scope(self) -> str:
        return f"repository:{self.project}/app:pull"

    def robot(self) -> Somebody:
        permissions = [{"namespace": self.project, "access": access(_RIGHTS)}]
        body = {"name": f"ci-{next(_NUMBERS)}", "level": "project", "permissions": permissions}
        made = self.admin.do("createRobot", body).json()
        return Somebody(made["name"], made["secret"], made["id"])

    def key(self) -> Somebody:
        permissions = [{"namespace": self.project, "access": access(_RIGHTS)}]
        body = {"name": f"key-{next(_NUMBERS)}", "duration": 1, "permissions": permissions}
        made = self.own.do("createAccessKey", body).json()
        return Somebody(self.person.username, made["secret"], made["id"])

    @property
    def own(self) -> Api:
        return Api(self.house.host, self.person.username, self.person.secret)

    def token(self, who: Somebody | None, scope: str | None = None) -> str:
        """Ask for a token once and give it."""
        login = (who.username, who.secret) if who else (None, None)
        answer = Registry(self.house.host, *login).ask_token(scope or self.scope)
        assert answer.status == 200, answer
        assert answer.json()["expires_in"] <= LIFETIME
        return str(answer.json()["token"])

    def pulls(self, token: str) -> int:
        """Pull with a token; gives the status."""
        return Registry(self.house.host, token=token).manifest(f"{self.project}/app", "v1").status

    def doors(self, who: Somebody) -> dict[str, set[int]]:
        """Knock at every door that takes a user name and a secret, often enough for both workers."""
        host, manifest = self.house.host, f"/v2/{self.project}/app/manifests/v1"
        login = basic(who.username, who.secret)

        def headers() -> dict[str, str]:
            # From elsewhere each time: what was taken away counts as a wrong secret, and those are slowed down.
            number = next(_NUMBERS)
            return {"Authorization": login, "X-Forwarded-For": f"198.18.{number // 256}.{number % 256}"}

        def api() -> int:
            return Api(host, headers=headers()).do("getProject", project_name_or_id=self.project).status

        registry = Registry(host)
        return {
            "token": {registry.ask_token(self.scope, headers=headers()).status for _ in range(ASKED)},
            "v2": {registry.call("GET", manifest, None, headers(), token="").status for _ in range(ASKED)},
            "api": {api() for _ in range(ASKED)},
        }


OPEN = {"token": {200}, "v2": {200}, "api": {200}}
SHUT = {"token": {401}, "v2": {401}, "api": {401}}


@pytest.fixture
def stage(house: House) -> Stage:
    number = next(_NUMBERS)
    name, username = f"lab-{number}", f"person-{number}"
    project = house.admin.do("createProject", {"project_name": name}).number
    person = Somebody(username, PASSWORD, house.add_person(username))
    member = {"role_id": 2, "member_user": {"username": username}}
    member_id = house.admin.do("createMember", member, project_name_or_id=name).number
    Registry(house.host, ADMIN, PASSWORD).push_image(f"{name}/app", "v1", single(name, sizes=(500,)))
    return Stage(house, name, project, person, member_id)


def claims(token: str) -> dict[str, Any]:
    """Read what a token says."""
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


def lives_briefly(token: str) -> None:
    """A token that is out is good until it expires, which is five minutes after it was made at the latest."""
    said = claims(token)
    assert said["exp"] - said["iat"] <= LIFETIME


def done(answer: Any) -> None:
    assert answer.status == 200, answer


def delete_robot(stage: Stage) -> tuple[Somebody, Callable[[], None]]:
    robot = stage.robot()
    return robot, lambda: done(stage.admin.do("deleteRobot", robot_id=robot.number))


def disable_robot(stage: Stage) -> tuple[Somebody, Callable[[], None]]:
    robot = stage.robot()
    return robot, lambda: done(stage.admin.do("updateRobot", {"disable": True}, robot_id=robot.number))


def refresh_robot(stage: Stage) -> tuple[Somebody, Callable[[], None]]:
    robot = stage.robot()
    return robot, lambda: done(stage.admin.do("refreshRobot", {}, robot_id=robot.number))


def delete_key(stage: Stage) -> tuple[Somebody, Callable[[], None]]:
    key = stage.key()
    return key, lambda: done(stage.own.do("deleteAccessKey", key_id=key.number))


def disable_owner(stage: Stage) -> tuple[Somebody, Callable[[], None]]:
    return stage.key(), lambda: done(stage.admin.do("setDisabled", {"disabled": True}, user_id=stage.person.number))


def disable_person(stage: Stage) -> tuple[Somebody, Callable[[], None]]:
    return stage.person, disable_owner(stage)[1]


def delete_owner(stage: Stage) -> tuple[Somebody, Callable[[], None]]:
    return stage.key(), lambda: done(stage.admin.do("deleteUser", user_id=stage.person.number))


def delete_person(stage: Stage) -> tuple[Somebody, Callable[[], None]]:
    return stage.person, delete_owner(stage)[1]


def change_password(stage: Stage) -> tuple[Somebody, Callable[[], None]]:
    body = {"old_password": PASSWORD, "new_password": "another one of hers"}
    return stage.person, lambda: done(stage.own.do("setPassword", body, user_id=stage.person.number))


@pytest.mark.parametrize(
    "take",
    [delete_robot, disable_robot, refresh_robot, delete_key, disable_owner, disable_person, delete_owner,
     delete_person, change_password],
)  # fmt: skip
def test_who_lost_the_way_in(stage: Stage, take: Callable[[Stage], tuple[Somebody, Callable[[], None]]]) -> None:
    who, taking = take(stage)
    assert stage.doors(who) == OPEN
    token = stage.token(who)
    assert stage.pulls(token) == 200
    taking()
    assert stage.doors(who) == SHUT
    lives_briefly(token)


def test_what_was_disabled_is_let_in_again_where_it_is_enabled(stage: Stage) -> None:
    robot = stage.robot()
    for disabled, doors in ((True, SHUT), (False, OPEN)):
        done(stage.admin.do("updateRobot", {"disable": disabled}, robot_id=robot.number))
        assert stage.doors(robot) == doors
    key = stage.key()
    for disabled, doors in ((True, SHUT), (False, OPEN)):
        done(stage.admin.do("setDisabled", {"disabled": disabled}, user_id=stage.person.number))
        assert stage.doors(key) == stage.doors(stage.person) == doors


def test_the_browsers_of_who_is_disabled(stage: Stage, house: House) -> None:
    browsers = [Person(house.host).log_in(stage.person.username, PASSWORD) for _ in range(2)]
    for browser in browsers:
        assert {browser.get(f"/projects/{stage.project}").status for _ in range(ASKED)} == {200}
    done(stage.admin.do("setDisabled", {"disabled": True}, user_id=stage.person.number))
    for browser in browsers:
        for _ in range(ASKED):
            answer = browser.get("/mine")
            assert (answer.status, answer.location) == (303, "/login?next=%2Fmine")
        cookie = {"Cookie": f"session={browser.cookies['session']}"}
        assert Api(house.host, headers=cookie).do("getCurrentUser").status == 401
    person = Person(house.host)
    person.get("/login")
    refused = person.post("/login", {"username": stage.person.username, "password": PASSWORD})
    assert refused.status == 403
    assert "session" not in person.cookies
    # What has ended stays so.
    done(stage.admin.do("setDisabled", {"disabled": False}, user_id=stage.person.number))
    assert {browsers[0].get("/mine").status for _ in range(ASKED)} == {303}


def test_who_is_no_member_any_more(stage: Stage, house: House) -> None:
    key, browser = stage.key(), Person(house.host).log_in(stage.person.username, PASSWORD)
    token = stage.token(key)
    assert stage.pulls(token) == 200
    done(stage.admin.do("deleteMember", project_name_or_id=stage.project, mid=stage.member))
    for who in (key, stage.person):
        # They are still somebody, to whom nothing is given there.
        assert stage.doors(who) == {"token": {200}, "v2": {401}, "api": {404}}
        assert claims(stage.token(who))["access"] == []
        assert stage.pulls(stage.token(who)) == 401
    assert {browser.get(f"/projects/{stage.project}").status for _ in range(ASKED)} == {404}
    assert browser.get("/mine").status == 200
    lives_briefly(token)


def test_a_role_changed_in_mid_session_shows_with_the_next_request(stage: Stage, house: House) -> None:
    browser = Person(house.host).log_in(stage.person.username, PASSWORD)
    api = Api(house.host, headers={"Cookie": f"session={browser.cookies['session']}"})
    scope = f"repository:{stage.project}/app:pull,push,delete"
    rights = {
        1: (["delete", "pull", "push"], 200, 200),
        2: (["pull", "push"], 403, 200),
        3: (["pull"], 403, 200),
        5: (["pull"], 403, 403),
    }
    for role, (actions, configuration, members) in rights.items():
        done(stage.admin.do("updateMember", {"role_id": role}, project_name_or_id=stage.project, mid=stage.member))
        for _ in range(ASKED):
            assert claims(stage.token(stage.person, scope))["access"][0]["actions"] == actions
            assert browser.get(f"/projects/{stage.project}/configuration").status == configuration
            assert browser.get(f"/projects/{stage.project}/members").status == members
            assert api.do("listMembers", project_name_or_id=stage.project).status == members
        assert (browser.get(f"/projects/{stage.project}").text.count("/configuration") > 0) is (configuration == 200)


def test_who_is_no_administrator_any_more(stage: Stage, house: House) -> None:
    number = stage.person.number
    browser = Person(house.host).log_in(stage.person.username, PASSWORD)
    for is_admin, status in ((True, 200), (False, 403)):
        done(stage.admin.do("setSysadmin", {"sysadmin_flag": is_admin}, user_id=number))
        assert {browser.get("/administration/users").status for _ in range(ASKED)} == {status}
        assert {stage.own.do("listUsers").status for _ in range(ASKED)} == {status}


def test_a_project_made_private(stage: Stage, house: House) -> None:
    path = f"/v2/{stage.project}/app/manifests/v1"
    nobody, page = Api(house.host), f"/projects/{stage.project}"
    done(stage.admin.do("updateProject", {"public": True}, project_name_or_id=stage.project))
    token = stage.token(None)
    assert stage.pulls(token) == 200
    assert nobody.do("getProject", project_name_or_id=stage.project).status == 200
    assert Person(house.host).get(page).status == 200
    done(stage.admin.do("updateProject", {"public": False}, project_name_or_id=stage.project))
    for _ in range(ASKED):
        fresh = stage.token(None)
        assert claims(fresh)["access"] == []
        assert stage.pulls(fresh) == 401
        assert Registry(house.host).call("GET", path, token="").status == 401
        assert nobody.do("getProject", project_name_or_id=stage.project).status == 401
        assert Person(house.host).get(page).status == 303
        found = nobody.do("search", query={"q": stage.project}).json()
        assert (found["project"], found["repository"]) == ([], [])
    lives_briefly(token)
    assert stage.pulls(stage.token(stage.robot())) == 200


def test_what_is_deleted_is_gone_for_tokens_of_before_as_well(stage: Stage) -> None:
    """A token says what may be done in a repository, not that there is one. A project that is gone ends it."""
    token = stage.token(stage.person)
    assert stage.pulls(token) == 200
    done(stage.admin.do("deleteRepository", project_name=stage.project, repository_name="app"))
    assert {stage.pulls(token) for _ in range(ASKED)} == {404}
    done(stage.admin.do("deleteProject", project_name_or_id=stage.project))
    assert {stage.pulls(token) for _ in range(ASKED)} == {401}
