"""What a person who is logged in sees first: their repositories, and what of theirs ends soon; what fills a project."""

from __future__ import annotations

import re
import uuid

import pytest
from playwright.sync_api import expect

from tests.api.client import Registry
from tests.images import single
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.person import Opener
from tests.web.scene import PASSWORD, add_person

pytestmark = pytest.mark.usefixtures("clean_log")


def test_the_front_page_is_about_what_one_has(stage: Service, open_context: Opener) -> None:
    word = uuid.uuid4().hex[:6]
    name, username = f"front-{word}", f"front.{word}"
    add_person(stage.folder, username)
    someone = open_context().log_in(username, PASSWORD)
    expect(someone.go("/").page.get_by_text("You have no projects yet.")).to_be_visible()
    person = Person(stage.host).log_in(username, PASSWORD)
    for form, fields in (
        ("/new-project", {"name": name, "quota": "1", "unit": "GiB"}),
        (f"/projects/{name}/robots/new", {"name": "ends", "days": "2", "right": "repository:pull"}),
        (f"/projects/{name}/robots/new", {"name": "stays", "days": "20", "right": "repository:pull"}),
        ("/mine/keys", {"name": "laptop", "days": "3", "scope": "*", "right": "repository:pull"}),
        ("/mine/keys", {"name": "desk", "days": "30", "scope": "*", "right": "repository:pull"}),
    ):
        assert person.post(form, fields).status == 303
    expect(someone.go("/").page.get_by_text("Nothing is in your projects yet.")).to_be_visible()
    owner = Registry(stage.host, stage.username, stage.password)
    image, other = single(f"front {word}", sizes=(2_000_000,)), single(f"other {word}", sizes=(500_000,))
    owner.push_image(f"{name}/first", "1.0", image)
    owner.push_image(f"{name}/second", "2.0", other)
    owner.push_image(f"{name}/copy", "1.0", image)
    rows = someone.go("/").page.locator("table.list tbody tr")
    someone.screen("front-own")
    expect(rows.locator("a")).to_have_text([f"{name}/copy", f"{name}/second", f"{name}/first"])
    expect(rows.nth(1)).to_contain_text("2.0")
    ending = someone.page.locator(".note-warning")
    expect(ending.locator("a")).to_have_text(["laptop", re.compile(rf"{name}\+ends$")])
    expect(ending).to_contain_text("in 3 days")
    # The summary of the project has the same, and says what fills it.
    someone.go(f"/projects/{name}")
    expect(someone.page.locator(".card", has_text="Pushed lately").locator("td.name a")).to_have_text(
        ["copy", "second", "first"]
    )
    someone.screen("summary").click("What takes the space?", role="link")
    expect(rows.locator("td:nth-child(1)")).to_have_text(["copy", "first", "second"])
    # Two repositories have the same layers: deleting one of them frees nothing.
    expect(rows.locator("td:nth-child(3)")).to_have_text(["0 B", "0 B", re.compile("KiB")])
    someone.screen("storage")


def test_a_robot_of_a_project_that_one_does_not_manage_is_not_told_of(stage: Service) -> None:
    word = uuid.uuid4().hex[:6]
    name, maker, username = f"guest-{word}", f"maker.{word}", f"guest.{word}"
    add_person(stage.folder, username, maker)
    mari = Person(stage.host).log_in(maker, PASSWORD)
    assert mari.post("/new-project", {"name": name, "quota": "1", "unit": "GiB"}).status == 303
    form = {"name": "soon", "days": "2", "right": "repository:pull"}
    assert mari.post(f"/projects/{name}/robots/new", form).status == 303
    assert mari.post(f"/projects/{name}/members/add", {"name": username, "role": "guest"}).status == 303
    assert f"{name}+soon" not in Person(stage.host).log_in(username, PASSWORD).get("/").text
    assert f"{name}+soon" in mari.get("/").text
