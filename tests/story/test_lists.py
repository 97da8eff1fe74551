"""Long lists: every filter, search and pager does what it says; and the controls that no other part of this uses."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.api.client import Registry, basic, exchange
from tests.images import single
from tests.parts.service import Service

from .person import Person
from .terminal import Terminal
from .work import delete_project, log_in_line

pytestmark = pytest.mark.long

PAGE, MORE = 25, 27


@pytest.fixture(scope="module")
def lab(lab: str, campus: Service) -> str:
    """A project with more of everything than a page shows; the local admin's, beside others of theirs."""
    headers = {"Authorization": basic(campus.username, campus.password), "Content-Type": "application/json"}
    names = [f"{lab}-{number:02}" for number in range(MORE)]
    for name in (lab, *names):
        wanted = {"project_name": name, "metadata": {"public": str(name == names[0]).lower()}}
        answer = exchange(campus.host, "POST", "/api/v2.0/projects", json.dumps(wanted).encode(), headers)
        assert answer.status == 201, answer
    registry = Registry(campus.host, campus.username, campus.password)
    image = single("lists", sizes=(200,))
    for number in range(MORE):
        registry.push_image(f"{lab}/part-{number:02}", "1", image)
        registry.push_manifest(f"{lab}/part-00", f"v{number:02}", image.payload, image.media_type)
    return lab


def shown(person: Person) -> list[str]:
    """Name what the list on the page has."""
    names = person.page.locator("table.list tbody td.name").all_inner_texts()
    return [name.split("\n")[0].strip() for name in names]


def search(person: Person, what: str, label: str = "Search by name") -> list[str]:
    """Type into the list's search and send it; gives what is listed then."""
    person.fill(label, what).page.keyboard.press("Enter")
    person.page.wait_for_url(f"**?**q={what}**")
    return shown(person)


def turned(person: Person) -> list[str]:
    """Go on to the next page of a list and back to its beginning; gives what both had."""
    first = shown(person)
    person.click("Next", role="link")
    person.page.wait_for_url("**after=**")
    second = shown(person)
    person.click("First page", role="link")
    person.page.wait_for_url(lambda url: "after=" not in url)
    assert shown(person) == first
    assert len(first) == PAGE
    return first + second


def test_projects_are_filtered_searched_and_paged(tiina: Person, lab: str) -> None:
    names = [lab, *(f"{lab}-{number:02}" for number in range(MORE))]
    tiina.go("/projects")
    assert search(tiina, lab) == names[:PAGE]
    assert turned(tiina) == names
    for choice, found in (("Public", [names[1]]), ("Mine", []), ("Private", [names[0], *names[2 : PAGE + 1]])):
        tiina.click(choice, role="link")
        tiina.page.wait_for_url(f"**show={choice.lower()}**")
        assert shown(tiina) == found
        expect(tiina.page.get_by_role("link", name=choice)).to_have_attribute("aria-current", "true")
    assert search(tiina, "no-such-project") == []
    expect(tiina.page.get_by_text("No project with that name")).to_be_visible()
    tiina.go("/administration/projects")
    assert search(tiina, f"{lab}-0") == names[1:11]


def test_repositories_and_tags_are_searched_and_paged(tiina: Person, lab: str) -> None:
    names = [f"part-{number:02}" for number in range(MORE)]
    tiina.go(f"/projects/{lab}/repositories")
    assert turned(tiina) == names
    assert search(tiina, "part-1") == names[10:20]
    assert search(tiina, "nothing") == []
    tiina.click("Show all", role="link")
    tiina.click("part-00", role="link")
    assert len(search(tiina, "v07", "Search by tag")) == 1
    assert search(tiina, "v99", "Search by tag") == []
    tiina.go(f"/projects/{lab}/repositories/part-00:1")
    tags = tiina.page.locator(".plain-list li b")
    expect(tags).to_have_count(PAGE)
    tiina.click("Next", role="link")
    expect(tags).to_have_text(["v24", "v25", "v26"])
    tiina.click("Previous", role="link")
    expect(tags).to_have_count(PAGE)
    tiina.open("Raw manifest")
    tiina.page.locator(".snippet", has=tiina.page.locator("#payload")).get_by_role("button").click()
    assert json.loads(tiina.page.evaluate("navigator.clipboard.readText()"))["schemaVersion"] == 2


def test_members_robots_and_users_are_searched(tiina: Person, lab: str) -> None:
    tiina.go(f"/projects/{lab}/members")
    assert shown(tiina) == ["admin"]
    assert search(tiina, "tiina") == []
    tiina.go("/administration/users")
    assert search(tiina, "tiina", "Search by name or address") == ["tiina@ut.ee"]
    assert search(tiina, "nobody", "Search by name or address") == []


def test_a_system_robot_gets_a_new_secret(
    tiina: Person, lab: str, campus: Service, terminal: Callable[[], Terminal]
) -> None:
    shell = terminal()
    tiina.go("/administration/robots").click("NEW ROBOT ACCOUNT", role="link")
    tiina.fill("Name", lab).fill("Projects", lab).click("Create robot account")
    first = log_in_line(tiina)
    shell.type(first)
    shell.pull(f"{campus.host}/{lab}/part-03:1")
    shell.refused(f"docker push {campus.host}/{lab}/part-03:1")
    tiina.go("/administration/robots")
    assert search(tiina, lab) == [f"robot-{lab}"]
    tiina.act_on(lab, "Refresh secret")
    second = log_in_line(tiina)
    assert "unauthorized" in shell.refused(first)
    shell.type(second)
    assert search(tiina.go("/administration/robots"), "nothing") == []
    tiina.go("/administration/robots").act_on(lab, "Delete")
    assert "unauthorized" in shell.refused(second)


def test_a_full_project_is_deleted_whole(tiina: Person, lab: str) -> None:
    tiina.go(f"/projects/{lab}/configuration")
    assert f"{MORE} repositories with all their images and tags" in tiina.text()
    delete_project(tiina, lab)
    assert search(tiina.go("/projects"), f"{lab}-2") == [f"{lab}-{number}" for number in range(20, MORE)]
