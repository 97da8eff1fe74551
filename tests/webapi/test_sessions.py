"""Browser sessions at the API: the cookie lets in, and changes something with the token only."""

from __future__ import annotations

import itertools

import pytest

from tests.webapi.client import Api
from tests.webapi.house import House

_NUMBERS = itertools.count(1)
TOKEN = "X-Harbor-CSRF-Token"  # the name of a header


@pytest.fixture
def account(house: House) -> int:
    return house.add_person(f"browser-{next(_NUMBERS)}")


def logged_in(house: House, account: int, agent: str = "a browser") -> str:
    return house.log_in(account, agent)


def browser(house: House, secret: str, token: str | None = None) -> Api:
    headers = {"Cookie": f"session={secret}"}
    return Api(house.host, headers=headers if token is None else {**headers, TOKEN: token})


def test_the_cookie_says_who_asks(house: House, account: int) -> None:
    found = browser(house, logged_in(house, account)).do("getCurrentUser")
    assert found.json()["user_id"] == account


def test_a_change_takes_the_token(house: House, account: int) -> None:
    secret = logged_in(house, account)
    token = browser(house, secret).do("getCurrentUser").headers[TOKEN]
    other = browser(house, logged_in(house, account)).do("getCurrentUser").headers[TOKEN]
    body = {"project_name": f"by-browser-{account}"}
    for wrong in (None, "made up", "", other):
        answer = browser(house, secret, wrong).do("createProject", body)
        assert (answer.status, answer.json()["errors"][0]["code"]) == (403, "FORBIDDEN")
        assert TOKEN in answer.message
    assert browser(house, secret, token).do("createProject", body).status == 201


def test_a_password_takes_no_token_and_outdoes_the_cookie(house: House, account: int, admin: Api) -> None:
    headers = {"Cookie": f"session={logged_in(house, account)}"}
    answer = admin.call("GET", "/users/current", headers=headers)
    assert answer.json()["username"] == "admin"
    assert answer.headers[TOKEN] is None
    assert admin.call("POST", "/projects", {"project_name": f"by-password-{account}"}, headers).status == 201


def test_an_ended_session_is_nobody_and_no_window_opens(house: House, account: int) -> None:
    secret = logged_in(house, account)
    house.log_out(secret)
    answer = browser(house, secret).do("getCurrentUser")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] is None


def test_sessions_are_listed_and_ended(house: House, account: int) -> None:
    here, there = logged_in(house, account, "here"), logged_in(house, account, "there")
    token = browser(house, here).do("getCurrentUser").headers[TOKEN]
    listed = {one["user_agent"]: one for one in browser(house, here).do("listSessions").json()}
    assert {agent: one["current"] for agent, one in listed.items()} == {"here": True, "there": False}
    one = browser(house, here, token)
    assert one.do("deleteSession", session_id=listed["there"]["id"]).status == 200
    assert browser(house, there).do("getCurrentUser").status == 401
    assert one.do("deleteSession", session_id=listed["there"]["id"]).status == 404
    another = logged_in(house, house.add_person(f"another-{account}"))
    number = browser(house, another).do("listSessions").json()[0]["id"]
    assert one.do("deleteSession", session_id=number).status == 404


def test_a_disabled_person_is_out_at_once(house: House, account: int, admin: Api) -> None:
    secret = logged_in(house, account)
    assert admin.do("setDisabled", {"disabled": True}, user_id=account).status == 200
    assert browser(house, secret).do("getCurrentUser").status == 401
    assert admin.do("setDisabled", {"disabled": False}, user_id=account).status == 200


def test_a_role_taken_away_counts_at_once(house: House, account: int, admin: Api) -> None:
    name = f"taken-{account}"
    admin.do("createProject", {"project_name": name})
    member = {"role_id": 4, "member_user": {"user_id": account}}
    number = admin.do("createMember", member, project_name_or_id=name).number
    one = browser(house, logged_in(house, account))
    assert one.do("listMembers", project_name_or_id=name).status == 200
    admin.do("updateMember", {"role_id": 5}, project_name_or_id=name, mid=number)
    assert one.do("listMembers", project_name_or_id=name).status == 403
    admin.do("deleteMember", project_name_or_id=name, mid=number)
    assert one.do("listMembers", project_name_or_id=name).status == 404
