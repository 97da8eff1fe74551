"""One folded name everywhere: a person is found however their name is typed, and nobody else has it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.api.client import Registry
from tests.webapi.client import Api
from tests.webapi.house import PASSWORD, House
from tests.webapi.scene import access

TYPED = ("mari.maasikas", "Mari.Maasikas", "MARI.MAASIKAS")


@pytest.fixture(scope="module")
def key(house: House) -> str:
    """The secret of an access key of Mari's."""
    house.add_person("Mari.Maasikas")
    body = {"name": "k", "duration": 1, "permissions": [{"namespace": "*", "access": access("repository:pull")}]}
    secret: str = Api(house.host, "mari.maasikas", PASSWORD).do("createAccessKey", body).json()["secret"]
    return secret


@pytest.mark.parametrize("typed", TYPED)
def test_whoever_logs_in_has_one_name(house: House, key: str, typed: str) -> None:
    assert Api(house.host, typed, PASSWORD).do("getCurrentUser").json()["username"] == "mari.maasikas"
    assert Api(house.host, typed, key).do("getCurrentUser").json()["username"] == "mari.maasikas"
    Registry(house.host, typed, key).authorization("/v2/")


@pytest.mark.parametrize("typed", TYPED)
def test_nobody_else_gets_it(house: House, key: str, typed: str) -> None:
    body = {"username": typed, "password": PASSWORD}
    assert house.admin.do("createUser", body).status == 409


@pytest.mark.parametrize("typed", TYPED)
def test_a_member_by_the_name_as_people_write_it(house: House, key: str, typed: str) -> None:
    project = f"members-{TYPED.index(typed)}"
    assert house.admin.do("createProject", {"project_name": project}).status == 201
    body = {"role_id": 2, "member_user": {"username": typed}}
    assert house.admin.do("createMember", body, project_name_or_id=project).status == 201
    assert house.admin.do("createMember", body, project_name_or_id=project).status == 409
    names = [row["entity_name"] for row in house.admin.do("listMembers", project_name_or_id=project).json()]
    assert names == ["admin", "mari.maasikas"]


def test_a_number_and_a_name_of_one_person(house: House, key: str) -> None:
    number = house.admin.do("searchUsers", query={"username": "Mari.M"}).json()[0]["user_id"]
    assert house.admin.do("createProject", {"project_name": "both"}).status == 201
    user = {"user_id": number, "username": "MARI.maasikas"}
    body = {"role_id": 2, "member_user": user}
    assert house.admin.do("createMember", body, project_name_or_id="both").status == 201


def test_failures_are_counted_for_one_person(house: House) -> None:
    """Other capitals are no way around the throttle."""
    house.add_person("guessed")
    headers = {"X-Forwarded-For": "192.0.2.77"}
    statuses = []
    for number in range(13):
        spelled = "".join(letter.upper() if number >> at & 1 else letter for at, letter in enumerate("guessed"))
        statuses.append(Api(house.host, spelled, f"wrong {number}", headers).call("GET", "/users/current").status)
    assert statuses[:10] == [401] * 10
    assert 429 in statuses[10:]


def test_names_that_an_older_release_kept_as_they_were_typed(house: House) -> None:
    """They go on, and have no double; of two that differ by case, each is the one of exactly that name."""
    for name in ("older", "younger", "twin"):
        house.add_person(name)
    with closing(sqlite3.connect(house.service.folder / "data" / "registry.sqlite")) as database:
        database.execute("UPDATE account SET username = 'Older.One' WHERE username = 'older'")
        database.execute("UPDATE account SET username = 'TWIN' WHERE username = 'younger'")
        database.commit()
    for typed in ("Older.One", "older.one", "OLDER.ONE"):
        assert Api(house.host, typed, PASSWORD).do("getCurrentUser").json()["username"] == "Older.One"
        assert house.admin.do("createUser", {"username": typed, "password": PASSWORD}).status == 409
    for typed, name in (("twin", "twin"), ("TWIN", "TWIN"), ("Twin", "twin")):
        assert Api(house.host, typed, PASSWORD).do("getCurrentUser").json()["username"] == name
