"""Other sites ask for changes in the name of somebody who is logged in here: a page of a sibling host, an old form."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Mapping

import pytest

from tests.parts.service import Service
from tests.web.http import Answer, Person
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")

TOKEN = "X-Harbor-CSRF-Token"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def mari(stage: Service) -> Person:
    return Person(stage.host).log_in("mari.tamm", PASSWORD)


def make_by_form(person: Person, name: str, token: str, **headers: str) -> Answer:
    body = f"name={name}&quota=1&unit=GiB&access=private&_xsrf={token}"
    return person.ask("POST", "/new-project", body.encode(), {"Content-Type": FORM, **headers})


def make_by_api(person: Person, name: str, token: str, **headers: str) -> Answer:
    given = {"Accept": "application/json", "Content-Type": "application/json", TOKEN: token, **headers}
    return person.ask("POST", "/api/v2.0/projects", json.dumps({"project_name": name}).encode(), given)


WAYS = [make_by_form, make_by_api]
Way = Callable[..., Answer]


def exists(person: Person, name: str) -> bool:
    return person.get(f"/api/v2.0/projects/{name}").status == 200


def remove(stage: Service, name: str) -> None:
    """Remove a project again: a person may have so many only."""
    admin = Person(stage.host)
    basic = base64.b64encode(f"{stage.username}:{stage.password}".encode()).decode()
    answer = admin.ask("DELETE", f"/api/v2.0/projects/{name}", headers={"Authorization": f"Basic {basic}"})
    assert answer.status == 200, answer.text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.ut.ee"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "SELF"},
        {"Origin": "OTHER SCHEME"},
        {"Origin": "OTHER PORT"},
    ],
    ids=lambda headers: " ".join(f"{name}={value}" for name, value in headers.items()),
)
def test_a_change_comes_from_our_own_pages(stage: Service, mari: Person, way: Way, headers: Mapping[str, str]) -> None:
    spelled = {"SELF": stage.url, "OTHER SCHEME": f"https://{stage.host}", "OTHER PORT": "http://127.0.0.1:1"}
    sent = {name.replace("_", "-"): spelled.get(value, value) for name, value in headers.items()}
    name = f"csrf-{uuid.uuid4().hex[:8]}"
    assert way(mari, name, mari.token, **sent).status == 403
    assert not exists(mari, name)
    own = {"Origin": stage.url, "Sec-Fetch-Site": "same-origin"}
    assert way(mari, name, mari.token, **own).status in (201, 303)
    assert exists(mari, name)
    remove(stage, name)


@pytest.mark.parametrize("way", WAYS)
def test_the_token_is_of_this_session(stage: Service, mari: Person, way: Way) -> None:
    """Also if a sibling host sets every cookie but the session's, which it cannot read."""
    attacker = Person(stage.host).log_in("jaan.saar", PASSWORD)
    visitor = Person(stage.host)
    visitor.get("/login")
    mari.cookies |= {name: value for name, value in visitor.cookies.items() if name != "session"}
    mari.cookies |= {"_xsrf": "deadbeef", "visitor": visitor.cookies["visitor"]}
    for token in (attacker.token, visitor.token, "deadbeef", "", "00" * 64, mari.token[:-2], "é"):
        name = f"csrf-{uuid.uuid4().hex[:8]}"
        token = token.encode().decode("latin-1")
        assert way(mari, name, token).status == 403, token
        assert not exists(mari, name)


def test_each_answer_masks_the_token_anew(stage: Service, mari: Person) -> None:
    first = mari.token
    mari.get("/help")
    assert mari.token != first
    for token in (first, mari.token):
        name = f"csrf-{uuid.uuid4().hex[:8]}"
        assert make_by_form(mari, name, token).status == 303
        remove(stage, name)


def test_a_form_of_the_session_before_is_of_no_use(stage: Service, mari: Person) -> None:
    old = mari.token
    mari.log_in("mari.tamm", PASSWORD)
    assert make_by_form(mari, f"csrf-{uuid.uuid4().hex[:8]}", old).status == 403


def test_nobody_logs_a_browser_in_from_another_site(stage: Service) -> None:
    victim = Person(stage.host)
    victim.get("/login")
    form = {"username": "jaan.saar", "password": PASSWORD}
    for headers in ({"Origin": "https://evil.ut.ee"}, {"Sec-Fetch-Site": "same-site"}):
        victim.headers = headers
        assert victim.post("/login", form).status == 403
    victim.headers = {}
    assert victim.post("/login", form, token="00" * 64).status == 403
    assert "session" not in victim.cookies
    assert victim.post("/login", form).status == 303
