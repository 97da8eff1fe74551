"""The one message that a form leaves for the next page: nobody else puts words there."""

from __future__ import annotations

import base64
import json
import uuid

import pytest
from tornado.web import create_signed_value

from tests.parts.service import Service
from tests.web.http import Answer, Person
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def project(stage: Service) -> str:
    """A project of mari.tamm."""
    name = f"messages-{uuid.uuid4().hex[:6]}"
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    assert mari.post("/new-project", {"name": name, "quota": "1", "unit": "GiB", "access": "private"}).status == 303
    return name


def add(person: Person, project: str, group: str) -> Answer:
    return person.post(f"/projects/{project}/members/add", {"name": group, "kind": "group", "role": "guest"})


def test_nobody_plants_words_in_our_pages(stage: Service, project: str) -> None:
    """Neither by a cookie they made themselves nor by one that our own service signed, for them."""
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    jaan = Person(stage.host).log_in("jaan.saar", PASSWORD)
    assert (
        mari.post(f"/projects/{project}/members/add", {"name": "lure", "kind": "group", "role": "guest"}).status == 303
    )
    signed = mari.cookies["flash"]
    session = json.loads(base64.b64decode(signed.split("|")[4].partition(":")[2]))[0]
    lure = json.dumps([session, "danger", "lure"])
    planted = [
        base64.urlsafe_b64encode(json.dumps(["danger", "lure"]).encode()).decode(),
        create_signed_value("not our key", "flash", lure).decode(),
        create_signed_value("", "flash", lure).decode(),
        signed[:-1] + ("0" if signed[-1] != "0" else "1"),
        *("%%%", "e30=", "W10=", "2|1:0|"),
    ]
    for cookie in planted:
        mari.cookies["flash"] = cookie
        page = mari.get("/help")
        assert (page.status, "lure" in page.text) == (200, False), cookie
    for other in (jaan, Person(stage.host)):
        other.cookies["flash"] = signed
        assert "lure" not in other.get("/help").text
    # That it was good for anything at all:
    mari.cookies["flash"] = signed
    assert "lure is a member now." in mari.get("/help").text


def test_a_message_of_our_own_is_text(stage: Service, project: str) -> None:
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    said = mari.message(
        mari.post(f"/projects/{project}/members/add", {"name": SCRIPT, "kind": "group", "role": "guest"})
    )
    assert said.startswith("success: &lt;")
    long = "õ" * 250 + SCRIPT
    assert mari.message(mari.post(f"/projects/{project}/members/add", {"name": long, "kind": "group", "role": "guest"}))
