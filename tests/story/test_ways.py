"""Other ways of looking: without scripts, in Estonian, in the dark, on a telephone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.parts.service import Service

from .conftest import Opener
from .terminal import Terminal
from .work import build, with_secret


def test_without_scripts_a_robot_pushes(
    arrive: Opener, lab: str, campus: Service, terminal: Callable[[], Terminal], tmp_path: Path
) -> None:
    plain, shell = arrive(scripts=False), terminal()
    plain.enter("juri", "/new-project")
    assert plain.page.url.endswith("/new-project")
    plain.fill("Project name", lab).fill("Storage quota", "1").click("Create project")
    assert f"The project {lab} is created." in plain.told()
    plain.go(f"/projects/{lab}/robots").click("NEW ROBOT ACCOUNT", role="link")
    plain.fill("Name", "ci").click("Create robot account")
    plain.screen("without-scripts")
    secret, line = (plain.page.locator(f"#secret-{what}").inner_text() for what in ("text", "script"))
    assert "Login Succeeded" in shell.type(with_secret(line, secret))
    address = f"{campus.host}/{lab}/app:1"
    build(shell, tmp_path, address)
    shell.type(f"docker push {address}")
    plain.go(f"/projects/{lab}/configuration").fill("Type the project's name to delete it", lab)
    plain.click("Delete project")
    assert "is deleted" in plain.told()
    plain.open("juri@taltech.ee").click("Log out")
    plain.page.wait_for_url(f"{campus.url}/")
    expect(plain.page.get_by_role("link", name="Log in", exact=True)).to_be_visible()


def test_the_front_page_leads_to_both_ways_in(arrive: Opener, campus: Service) -> None:
    someone = arrive()
    someone.go("/").click("Local account", role="link")
    assert someone.page.url == f"{campus.url}/login"
    someone.open("Log in with a local account")
    expect(someone.page.get_by_label("Password")).to_be_visible()
    someone.go("/").click("Log in with the university account", role="link").at_university("mari")
    expect(someone.page.locator(".who")).to_have_text("mari@ut.ee")
    someone.go("/").click("Create a new project", role="link")
    assert someone.page.url == f"{campus.url}/new-project"


def test_in_estonian_in_the_dark_on_a_telephone(arrive: Opener, lab: str) -> None:
    someone = arrive(locale="et", width=390, theme="dark")
    someone.go("/").screen("telephone-front")
    someone.go("/new-project").screen("telephone-login")
    someone.click("Logi sisse ülikooli kontoga", role="link").at_university("mari")
    assert someone.page.url.endswith("/new-project")
    expect(someone.page.get_by_role("heading", name="Uus projekt")).to_be_visible()
    someone.screen("telephone-new-project").go("/projects").screen("telephone-projects")
    assert someone.page.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    someone.click("Tume kujundus")
    assert someone.page.evaluate("document.documentElement.dataset.bsTheme") == "light"
    someone.click("English")
    expect(someone.page.get_by_role("heading", name="Projects")).to_be_visible()
    someone.go("/mine")
    assert someone.page.evaluate("document.documentElement.dataset.bsTheme") == "light"
    assert someone.page.locator("html").get_attribute("lang") == "en"
    wide = someone.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
