"""The guide's story by keyboard alone: nobody touches a mouse from the log-in to a pushed image and a new member."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import Page, expect

from tests.api.client import Registry
from tests.images import single
from tests.parts.service import Service
from tests.web.person import Visitor
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")

# A page has fewer controls than this.
_MOST_STOPS = 90
_NAME = """() => {
  const one = document.activeElement, label = one.labels && one.labels[0] ? one.labels[0].innerText : "";
  return (label || one.getAttribute("aria-label") || one.innerText || one.title || "").replace(/\\s+/g, " ").trim();
}"""


def to(page: Page, name: str) -> None:
    """Press the tab key until the control of that name has the focus."""
    seen = [page.evaluate(_NAME)]
    while seen[-1] != name and len(seen) < _MOST_STOPS:
        page.keyboard.press("Tab")
        seen.append(page.evaluate(_NAME))
    if seen[-1] == name:
        return
    raise AssertionError(f"no control is called {name!r}: {seen}")


def press(page: Page, name: str, key: str = "Enter") -> None:
    to(page, name)
    page.keyboard.press(key)


def write(page: Page, name: str, text: str) -> None:
    to(page, name)
    page.keyboard.press("Control+a")
    page.keyboard.type(text)


@pytest.mark.long
def test_the_story_of_the_guide_by_keyboard(visitor: Visitor, stage: Service) -> None:
    page, name = visitor.go("/login").page, f"keys-{uuid.uuid4().hex[:6]}"
    write(page, "User name", "mari.tamm")
    write(page, "Password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/login" not in url)
    press(page, "Projects")
    page.wait_for_url("**/projects")
    press(page, "NEW PROJECT")
    page.wait_for_url("**/new-project")
    write(page, "Project name", name)
    press(page, "Create project")
    page.wait_for_url(f"**/projects/{name}/repositories")
    press(page, "Robot Accounts")
    page.wait_for_url(f"**/projects/{name}/robots")
    press(page, "NEW ROBOT ACCOUNT")
    page.wait_for_url("**/robots/new")
    write(page, "Name", "ci")
    press(page, "Create robot account")
    page.wait_for_url("**/secret")
    expect(page.locator(".secret")).to_be_visible()
    Registry(stage.host, stage.username, stage.password).push_image(f"{name}/app", "1.0", single(name, sizes=(900,)))
    press(page, "Done")
    page.wait_for_url(f"**/projects/{name}/robots")
    press(page, "Members")
    page.wait_for_url(f"**/projects/{name}/members")
    press(page, "USER")
    write(page, "User name", "jaan.saar")
    page.keyboard.press("Enter")
    expect(page.locator(".note")).to_contain_text("jaan.saar")
    press(page, "Repositories")
    page.wait_for_url(f"**/projects/{name}/repositories")
    press(page, "app")
    page.wait_for_url("**/repositories/app")
    press(page, "1.0")
    page.wait_for_url("**/repositories/app@sha256:*")
    press(page, "Delete")
    press(page, "Delete artifact")
    expect(page.locator(".note")).to_contain_text("The artifact is deleted with its tags.")
