"""Accounts with passwords of their own, and who may not be shut out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parts.process import command
from tests.web.http import Person
from tests.webapi.client import Api
from tests.webapi.house import ADMIN, PASSWORD, House


def test_an_account_is_made_and_logs_in(admin: Api, house: House) -> None:
    body = {"username": "kati", "password": PASSWORD, "realname": "Kati Karu", "email": "kati@ut.ee", "comment": "x"}
    answer = admin.do("createUser", body)
    assert answer.headers["Location"] == f"/api/v2.0/users/{answer.number}"
    found = admin.do("getUser", user_id=answer.number).json()
    told = {name: found[name] for name in ("username", "realname", "email", "sysadmin_flag", "source", "disabled")}
    assert told == {
        "username": "kati", "realname": "Kati Karu", "email": "kati@ut.ee", "sysadmin_flag": False, "source": "local",
        "disabled": False,
    }  # fmt: skip
    assert PASSWORD.encode() not in answer.body
    assert Api(house.host, "kati", PASSWORD).do("getCurrentUser").json()["user_id"] == answer.number
    assert Person(house.host).log_in("kati", PASSWORD).get("/mine").status == 200
    again = admin.do("createUser", {**body, "password": "somebody else's"})
    assert again.status == 409
    assert "choose another user name" in again.message
    assert Api(house.host, "kati", PASSWORD).do("getCurrentUser").status == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"username": "robot-kati", "password": PASSWORD}, "begin with the prefix of robot accounts"),
        ({"username": "ka:ti", "password": PASSWORD}, "without a colon"),
        ({"username": "ka\nti", "password": PASSWORD}, "printable"),
        ({"username": " kati", "password": PASSWORD}, "blanks around it"),
        ({"username": "short", "password": "1234567"}, "password"),
        ({"username": "long", "password": "x" * 1025}, "password"),
        ({"username": "", "password": PASSWORD}, "username"),
        ({"username": "none"}, "password"),
    ],
)
def test_an_account_that_cannot_be(admin: Api, body: dict[str, Any], words: str) -> None:
    answer = admin.do("createUser", body)
    assert answer.status == 400
    assert words in answer.message


def test_nobody_is_made_an_administrator_by_the_way(admin: Api) -> None:
    """Harbor's clients send the flag with each request; an operation of its own sets it."""
    made = admin.do("createUser", {"username": "more", "password": PASSWORD, "sysadmin_flag": True}).number
    admin.do("updateUser", {"realname": "More", "sysadmin_flag": True}, user_id=made)
    assert admin.do("getUser", user_id=made).json()["sysadmin_flag"] is False


def test_an_administrator_cannot_shut_themselves_out(admin: Api, house: House) -> None:
    own = admin.do("getCurrentUser").json()["user_id"]
    for answer in (
        admin.do("setDisabled", {"disabled": True}, user_id=own),
        admin.do("setSysadmin", {"sysadmin_flag": False}, user_id=own),
        admin.do("deleteUser", user_id=own),
    ):
        assert answer.status == 403
        assert "ask another administrator" in answer.message
    browser = Person(house.host).log_in(ADMIN, PASSWORD)
    for change in ("disable", "dismiss", "delete"):
        form = {"account": str(own), "change": change}
        assert "ask another administrator" in browser.message(browser.post("/administration/users/change", form))
    assert admin.do("getCurrentUser").json()["sysadmin_flag"] is True


def test_nobody_of_that_number(admin: Api) -> None:
    for answer in (
        admin.do("setDisabled", {"disabled": True}, user_id=10**9),
        admin.do("setSysadmin", {"sysadmin_flag": False}, user_id=10**9),
        admin.do("deleteUser", user_id=10**9),
    ):
        assert (answer.status, answer.message) == (404, "there is no user with the id 1000000000")


def test_a_private_cache_stays_private(admin: Api, house: House) -> None:
    (upstream,) = admin.do("listRegistries").json()
    body = {"project_name": "own-hub", "public": False, "registry_id": upstream["id"]}
    assert admin.do("createProject", body).status == 201
    for change in ({"public": True}, {"metadata": {"public": "true"}}):
        answer = admin.do("updateProject", change, project_name_or_id="own-hub")
        assert answer.status == 409
        assert "make a new public cache instead" in answer.message
    browser = Person(house.host).log_in(ADMIN, PASSWORD)
    page = browser.get("/projects/own-hub/configuration").text
    assert 'value="private"' in page
    assert 'value="public"' not in page
    said = browser.message(browser.post("/projects/own-hub/configuration", {"access": "public", "description": "x"}))
    assert "make a new public cache instead" in said
    ended = command("admin", "change-project", "own-hub", "--public", "--config", str(house.service.config))
    assert ended.returncode != 0
    assert "make a new public cache instead" in ended.stderr
    assert admin.do("getProject", project_name_or_id="own-hub").json()["metadata"] == {"public": "false"}
    saved = browser.post("/projects/own-hub/configuration", {"access": "private", "description": "ours"})
    assert browser.message(saved).startswith("success")
    rules = {"allowed_names": "library/*\r\n good/** ", "denied_names": "No Name"}
    form = {"access": "private", "description": "ours", **rules}
    assert "no name or glob" in browser.message(browser.post("/projects/own-hub/configuration", form))
    saved = browser.post("/projects/own-hub/configuration", {**form, "denied_names": ""})
    assert browser.message(saved).startswith("success")
    shown = browser.get("/projects/own-hub/configuration").text
    assert "library/*\ngood/**</textarea>" in shown
    cache = admin.do("getProject", project_name_or_id="own-hub").json()["proxy_cache"]
    assert (cache["allowed_names"], cache["denied_names"]) == (["library/*", "good/**"], [])
    assert admin.do("deleteProject", project_name_or_id="own-hub").status == 200


@pytest.mark.parametrize(
    "path", ["/", "/login", "/help", "/projects", "/healthz", "/readyz", "/metrics", "/static/style.css", "/nowhere"]
)
def test_head_is_get_without_the_body(house: House, path: str) -> None:
    person = Person(house.host)
    read, asked = person.ask("GET", path), person.ask("HEAD", path)
    assert (asked.status, asked.text) == (read.status, "")
    assert asked.headers["Content-Type"] == read.headers["Content-Type"]
    if path != "/metrics":  # this counts the request before
        assert len(asked.headers["Content-Length"]) == len(read.headers["Content-Length"])


def test_head_where_there_is_nothing_to_read(house: House) -> None:
    person = Person(house.host).log_in(ADMIN, PASSWORD)
    for path in ("/logout", "/mine/keys/delete"):
        assert person.ask("HEAD", path).status == 405
    assert person.ask("HEAD", "/api/v2.0/users/current", headers={"Accept": "application/json"}).status == 405
