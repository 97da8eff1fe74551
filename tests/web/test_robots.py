"""A robot account's own page: what it may do, its last day and its description are changed there, and count at once."""

from __future__ import annotations

import re
import time
import uuid
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from app.access.roles import GRANTABLE_RIGHTS
from app.web.pages import words
from tests.api.client import Registry
from tests.images import single
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.person import Opener, Visitor
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")

DAY = 86400
EXPIRY = "Expires after, counted from now"


@pytest.fixture(scope="module")
def project(stage: Service) -> str:
    """A private project of mari.tamm with one image, in which jaan.saar is a guest."""
    name = f"bots-{uuid.uuid4().hex[:6]}"
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    assert mari.post("/new-project", {"name": name, "quota": "1", "unit": "GiB", "access": "private"}).status == 303
    assert "success" in mari.message(mari.post(f"/projects/{name}/members/add", {"name": "jaan.saar", "role": "guest"}))
    push(stage, stage.username, stage.password, name)
    return name


def push(stage: Service, username: str, secret: str, project: str) -> None:
    Registry(stage.host, username, secret).push_image(f"{project}/app", "1", single("bots", sizes=(400,)))


def make(person: Visitor, home: str, name: str, *, projects: str | None = None) -> tuple[str, str]:
    """Make a robot account that pulls; gives its name and secret."""
    person.go(f"{home}/new").fill("Name", name)
    if projects is not None:
        person.fill("Projects", projects)
    if person.page.locator("input[value='repository:push']").first.is_checked():
        person.page.locator("input[value='repository:push']").first.uncheck()
    person.click("Create robot account")
    return person.page.locator("#secret-name").inner_text(), person.page.locator("#secret-text").inner_text()


def may(stage: Service, robot: tuple[str, str], project: str, action: str) -> bool:
    """Say whether a token for this is given, by what it opens."""
    registry, scope = Registry(stage.host, *robot), f"repository:{project}/app:pull,{action}"
    if registry.ask_token(scope).status != 200:
        return False
    if action == "push":
        return registry.call("POST", f"/v2/{project}/app/blobs/uploads/", token=registry.token(scope)).status == 202
    return registry.manifest(f"{project}/app", "1").status == 200


def open_page(person: Visitor, home: str, robot: tuple[str, str]) -> Visitor:
    person.go(f"{home}?q={quote(robot[0])}").click(robot[0], role="link")
    expect(person.page.get_by_role("heading", name=robot[0])).to_be_visible()
    return person


def tick(person: Visitor, right: str, suffix: str = "", *, on: bool = True) -> None:
    person.page.locator(f"input[name='right{suffix}'][value='{right}']").set_checked(on)


@pytest.mark.long
def test_rights_and_description_are_changed(mari: Visitor, stage: Service, project: str) -> None:
    home = f"/projects/{project}/robots"
    robot = make(mari, home, "editor")
    assert (may(stage, robot, project, "pull"), may(stage, robot, project, "push")) == (True, False)
    open_page(mari, home, robot)
    tick(mari, "repository:push")
    mari.fill("Description (optional)", "Pushes <b>now</b>").click("Save")
    assert "The robot account is changed" in mari.told()
    assert mari.page.get_by_label("Description (optional)").input_value() == "Pushes <b>now</b>"
    assert may(stage, robot, project, "push")
    mari.screen("robot").go(home)
    expect(mari.row("editor")).to_contain_text("Pushes <b>now</b>")
    expect(mari.row("editor")).to_contain_text("Push images")
    open_page(mari, home, robot)
    tick(mari, "repository:push", on=False)
    mari.click("Save")
    assert (may(stage, robot, project, "pull"), may(stage, robot, project, "push")) == (True, False)
    tick(mari, "repository:pull", on=False)
    mari.fill("Description (optional)", "nothing").click("Save")
    expect(mari.page.get_by_role("alert")).to_contain_text("at least one right")
    assert mari.page.get_by_label("Description (optional)").input_value() == "nothing"
    assert may(stage, robot, project, "pull")
    # A form that comes back is at the page's own address: another language there is not another page.
    mari.click("Eesti").click("English")
    assert mari.page.get_by_label("Description (optional)").input_value() == "Pushes <b>now</b>"


@pytest.mark.long
def test_the_last_day_is_chosen_freely(mari: Visitor, stage: Service, project: str) -> None:
    home = f"/projects/{project}/robots"
    mari.go(f"{home}/new").fill("Name", "days").fill("Expires after", "3").click("Create robot account")
    robot = (mari.page.locator("#secret-name").inner_text(), "")
    mari.go(home)
    expect(mari.row("days")).to_contain_text("Expires soon")
    open_page(mari, home, robot)
    expect(mari.page.locator(".sub-head")).to_contain_text("Expires soon")
    for days, shown in (("123", "in 123 days"), ("365", "in 365 days"), ("1", "in 24 hours")):
        mari.fill(EXPIRY, days).click("Change expiry")
        assert "The expiry is changed." in mari.told()
        expect(mari.page.locator(".facts")).to_contain_text(shown)
    assert mari.page.get_by_label(EXPIRY).get_attribute("max") == "365"
    # What the field would not take is refused behind it as well.
    plain = Person(stage.host).log_in("mari.tamm", PASSWORD)
    number = mari.page.url.rpartition("/")[2]
    for days in ("366", "0", "-1", "x", ""):
        told = plain.message(plain.post(f"{home}/prolong", {"robot": number, "days": days}))
        assert told.startswith("danger"), days
    expect(mari.go(f"{home}/{number}").page.locator(".facts")).to_contain_text("in 24 hours")


def test_its_page_shows_when_and_from_where_it_was_used(mari: Visitor, stage: Service, project: str) -> None:
    home = f"/projects/{project}/robots"
    robot = make(mari, home, "used")
    facts = open_page(mari, home, robot).page.locator(".facts")
    expect(facts).to_contain_text("never")
    assert may(stage, robot, project, "pull")
    # Written within seconds, off the request's path.
    for _ in range(30):
        if "from 127.0.0.1" in facts.inner_text():
            break
        time.sleep(0.5)
        mari.page.reload()
    expect(facts).to_contain_text("from 127.0.0.1")


def test_it_is_disabled_refreshed_and_deleted_on_its_page(mari: Visitor, stage: Service, project: str) -> None:
    home = f"/projects/{project}/robots"
    robot = make(mari, home, "switched")
    open_page(mari, home, robot).confirm("Disable")
    assert "The robot account is disabled." in mari.told()
    expect(mari.page.locator(".sub-head")).to_contain_text("Disabled")
    assert not may(stage, robot, project, "pull")
    mari.click("Enable")
    assert may(stage, robot, project, "pull")
    mari.confirm("Refresh secret")
    fresh = (robot[0], mari.page.locator("#secret-text").inner_text())
    assert (may(stage, robot, project, "pull"), may(stage, fresh, project, "pull")) == (False, True)
    mari.click("Done", role="link").open("Delete robot account").click("Delete for good")
    assert "The robot account is deleted" in mari.told()
    assert mari.page.url.endswith(home)
    assert not may(stage, fresh, project, "pull")


def test_a_guest_reads_it_and_changes_nothing(mari: Visitor, jaan: Visitor, stage: Service, project: str) -> None:
    home = f"/projects/{project}/robots"
    robot = make(mari, home, "looked-at")
    number = open_page(mari, home, robot).page.url.rpartition("/")[2]
    open_page(jaan, home, robot).screen("robot-guest")
    assert "Pull images" in jaan.text()
    main = jaan.page.locator("main")
    assert main.locator("form").count() == 0
    guest = Person(stage.host).log_in("jaan.saar", PASSWORD)
    for form in (number, "prolong", "switch", "refresh", "delete"):
        fields = {"robot": number, "right": "repository:push", "days": "5", "disabled": "yes"}
        assert guest.post(f"{home}/{form}", fields).status == 403, form


def test_nobody_gives_by_a_change_what_may_not_be_given(mari: Visitor, stage: Service, project: str) -> None:
    home = f"/projects/{project}/robots"
    robot = make(mari, home, "modest")
    number = open_page(mari, home, robot).page.url.rpartition("/")[2]
    plain = Person(stage.host).log_in("mari.tamm", PASSWORD)
    for right in ("robot:create", "member:create", "project:delete", "nonsense"):
        answer = plain.post(f"{home}/{number}", {"right": right})
        assert answer.status in (400, 403), right
    # Fields of the system's form mean nothing in a project's: a robot of a project stays in it.
    fields = {"right": "repository:pull", "projects": "mirror", "projects-2": "*", "right-2": "*"}
    assert plain.post(f"{home}/{number}", fields).status == 303
    assert not may(stage, robot, project, "push")
    other = f"bots-{uuid.uuid4().hex[:6]}"
    liis = Person(stage.host).log_in("liis.kask", PASSWORD)
    assert liis.post("/new-project", {"name": other, "quota": "1", "unit": "GiB"}).status == 303
    assert liis.post(f"/projects/{other}/robots/{number}", {"right": "repository:pull"}).status == 404
    assert liis.get(f"/projects/{other}/robots/{number}").status == 404
    assert liis.get(f"{home}/{number}").status == 404


@pytest.mark.long
def test_a_system_robot_has_different_rights_in_different_projects(
    admin: Visitor, stage: Service, project: str
) -> None:
    home, name = "/administration/robots", f"spread-{uuid.uuid4().hex[:6]}"
    other = f"bots-{uuid.uuid4().hex[:6]}"
    owner = Person(stage.host).log_in("mari.tamm", PASSWORD)
    assert owner.post("/new-project", {"name": other, "quota": "1", "unit": "GiB", "access": "private"}).status == 303
    push(stage, stage.username, stage.password, other)
    robot = make(admin, home, name, projects=project)
    assert (may(stage, robot, project, "pull"), may(stage, robot, other, "pull")) == (True, False)
    open_page(admin, home, robot)
    admin.open("Other rights in other projects").fill("Other projects", other)
    tick(admin, "repository:pull", "-2")
    tick(admin, "repository:push", "-2")
    admin.screen("system-robot").click("Save")
    assert "The robot account is changed" in admin.told()
    assert [may(stage, robot, one, "push") for one in (project, other)] == [False, True]
    assert admin.page.get_by_label("Projects", exact=True).input_value() == project
    admin.fill("Other projects", f"{other}, {project}").click("Save")
    expect(admin.page.get_by_role("alert")).to_contain_text("Name each project only once")
    admin.fill("Other projects", "").click("Save")
    expect(admin.page.get_by_role("alert")).to_contain_text("Name the projects")
    admin.fill("Other projects", "no-such-project").click("Save")
    expect(admin.page.get_by_role("alert")).to_be_visible()
    assert [may(stage, robot, one, "push") for one in (project, other)] == [False, True]
    admin.fill(EXPIRY, "-1").click("Change expiry")
    expect(admin.page.locator(".facts")).to_contain_text("never")


@pytest.mark.long
def test_a_robot_is_changed_without_scripts_in_estonian(open_context: Opener, project: str) -> None:
    plain = open_context(scripts=False, locale="et", width=390)
    plain.go("/login").page.get_by_label("Kasutajanimi").fill("mari.tamm")
    plain.page.get_by_label("Parool").fill(PASSWORD)
    plain.click("Logi sisse")
    plain.go(f"/projects/{project}/robots/new").fill("Nimi", "eesti").click("Loo robotikonto")
    plain.go(f"/projects/{project}/robots").click(f"robot-{project}+eesti", role="link")
    plain.screen("robot-et").fill("Aegub alates praegusest", "77").click("Muuda aegumist")
    expect(plain.page.locator(".facts")).to_contain_text("77 päeva pärast")
    wide = plain.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


def test_every_right_that_can_be_given_has_a_name_on_the_forms() -> None:
    assert set(words.RIGHTS) == GRANTABLE_RIGHTS
    assert all(re.fullmatch(r"[A-Z][a-z ]+", name) for name in words.RIGHTS.values())
