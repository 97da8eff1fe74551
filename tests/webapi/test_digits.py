"""A project whose name is digits is found by its name, and never taken for another project's number."""

from __future__ import annotations

import pytest

from tests.webapi.client import Api
from tests.webapi.house import PASSWORD, House

NAMED, NUMBERED = {"X-Is-Resource-Name": "true"}, {"X-Is-Resource-Name": "false"}
PATHS = ("", "/summary", "/_deletable", "/members", "/metadatas/", "/immutabletagrules")


@pytest.fixture(scope="module")
def clash(house: House) -> tuple[int, int]:
    """Make a project, and another one whose name is its number; give both numbers."""
    first = house.admin.do("createProject", {"project_name": "numbered", "public": True}).number
    return first, house.admin.do("createProject", {"project_name": str(first), "public": True}).number


def test_a_name_that_is_no_number(admin: Api) -> None:
    number = admin.do("createProject", {"project_name": "900000001"}).number
    for headers in ({}, NAMED):
        for path in PATHS:
            assert admin.call("GET", f"/projects/900000001{path}", headers=headers).status == 200, path
        assert admin.call("GET", "/projects/900000001", headers=headers).json()["project_id"] == number
    assert admin.call("GET", "/projects/900000001", headers=NUMBERED).status == 404


@pytest.mark.parametrize("path", PATHS)
def test_a_name_and_a_number_at_once(admin: Api, clash: tuple[int, int], path: str) -> None:
    first, _ = clash
    refused = admin.call("GET", f"/projects/{first}{path}")
    assert (refused.status, "X-Is-Resource-Name" in refused.message) == (409, True)
    assert admin.call("GET", f"/projects/{first}{path}", headers=NAMED).status == 200
    assert admin.call("GET", f"/projects/{first}{path}", headers=NUMBERED).status == 200


def test_which_of_the_two_it_is(admin: Api, clash: tuple[int, int]) -> None:
    first, second = clash
    assert admin.call("GET", f"/projects/{first}", headers=NAMED).json()["project_id"] == second
    assert admin.call("GET", f"/projects/{first}", headers=NUMBERED).json()["project_id"] == first


def test_nothing_is_changed_by_a_guess(admin: Api, clash: tuple[int, int]) -> None:
    first, second = clash
    for method, path, body in (
        ("DELETE", "", None),
        ("PUT", "", {"description": "guessed"}),
        ("POST", "/members", {"role_id": 1, "member_group": {"group_name": "guessers"}}),
        ("POST", "/metadatas/", {"public": "false"}),
        ("DELETE", "/unfinished-pushes", None),
    ):
        assert admin.call(method, f"/projects/{first}{path}", body).status == 409, (method, path)
    for number in (first, second):
        found = admin.call("GET", f"/projects/{number}", headers=NUMBERED).json()
        assert (found["description"], found["metadata"]["public"]) == ("", "true")


def test_names_only_and_numbers_only(admin: Api, clash: tuple[int, int]) -> None:
    """Paths and bodies that name, and those that count, mean what they always mean."""
    first, second = clash
    permissions = [{"namespace": str(first), "access": [{"resource": "repository", "action": "pull"}]}]
    robot = admin.do("createRobot", {"name": "ci", "level": "project", "permissions": permissions}).json()
    assert robot["name"] == f"robot-{first}+ci"
    assert len(admin.do("listRobots", query={"q": f"Level=project,ProjectID={second}"}).json()) == 1
    assert admin.do("listRobots", query={"q": f"Level=project,ProjectID={first}"}).json() == []
    assert admin.do("getQuota", id=first).json()["ref"]["name"] == "numbered"
    assert admin.do("listRepositories", project_name=str(first)).status == 200


def test_who_is_not_logged_in_learns_nothing(house: House, nobody: Api) -> None:
    """A private project of that name is there, and none of that number."""
    house.admin.do("createProject", {"project_name": "900000002", "public": False})
    seen = [nobody.call("GET", f"/projects/{name}") for name in ("900000002", "900000003")]
    assert [(one.status, one.message) for one in seen] == [(401, seen[0].message)] * 2
    house.add_person("curious")
    other = Api(house.host, "curious", PASSWORD)
    seen = [other.call("GET", f"/projects/{name}") for name in ("900000002", "900000003")]
    assert [one.status for one in seen] == [404, 404]
    assert seen[0].message.replace("900000002", "900000003") == seen[1].message


def test_only_administrators_make_such_names(house: House) -> None:
    """Everybody else could make a number ambiguous that belongs to another project."""
    house.add_person("numerologist")
    refused = Api(house.host, "numerologist", PASSWORD).do("createProject", {"project_name": "900000004"})
    assert (refused.status, "a letter" in refused.message) == (400, True)
