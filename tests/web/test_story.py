"""The guide's story, in a real browser: every control of a project's pages is used and its effect looked at."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.api.client import Registry
from tests.images import multi, single
from tests.parts.service import Service
from tests.web.person import Visitor

pytestmark = [pytest.mark.usefixtures("clean_log"), pytest.mark.long]


@pytest.fixture(scope="module")
def lab(stage: Service) -> str:
    """Name a project that the first test makes."""
    return f"lab-{uuid.uuid4().hex[:6]}"


def robot_of(person: Visitor, project: str, name: str) -> tuple[str, str]:
    """Make a robot account with what the form proposes; gives its name and secret."""
    person.go(f"/projects/{project}/robots").click("NEW ROBOT ACCOUNT", role="link")
    person.fill("Name", name).click("Create robot account")
    return person.page.locator("#secret-name").inner_text(), person.page.locator("#secret-text").inner_text()


def test_a_person_makes_a_private_project(mari: Visitor, visitor: Visitor, lab: str) -> None:
    mari.go("/projects").screen("projects-empty").click("NEW PROJECT", role="link").screen("project-new")
    assert mari.page.get_by_label("Proxy cache").is_disabled()
    mari.fill("Project name", lab).fill("Storage quota", "2").fill("Description (optional)", "Images of <b>our</b> lab")
    mari.click("Create project")
    assert f"The project {lab} is created." in mari.told()
    mari.screen("repositories-empty").go("/projects").screen("projects")
    expect(mari.row(lab)).to_contain_text("Private")
    expect(mari.row(lab)).to_contain_text("Project admin")
    expect(mari.row(lab)).to_contain_text("<b>our</b>")
    visitor.go(f"/projects/{lab}")
    assert "/login" in visitor.page.url
    visitor.go("/projects")
    assert lab not in visitor.text()


def test_a_name_that_is_taken_comes_back_with_the_form(mari: Visitor, lab: str) -> None:
    mari.go("/new-project").fill("Project name", lab).fill("Storage quota", "3").click("Create project")
    expect(mari.page.get_by_role("alert")).to_be_visible()
    assert mari.page.get_by_label("Project name").input_value() == lab
    assert mari.page.get_by_label("Storage quota").input_value() == "3"


def test_a_quota_beyond_the_most_is_refused(mari: Visitor) -> None:
    mari.go("/new-project").fill("Project name", "much-too-big").fill("Storage quota", "5000")
    mari.click("Create project")
    expect(mari.page.get_by_role("alert")).to_be_visible()


def test_a_robot_pushes_what_an_outsider_cannot_pull(mari: Visitor, stage: Service, lab: str, tmp_path: Path) -> None:
    mari.go(f"/projects/{lab}/robots").screen("robots-empty").click("NEW ROBOT ACCOUNT", role="link")
    mari.open("More rights").screen("robot-new")
    username, secret = robot_of(mari, lab, "ci")
    mari.screen("robot-secret")
    assert username == f"robot-{lab}+ci"
    login = mari.page.locator("#secret-login").inner_text()
    assert f"docker login {stage.host} --username" in login
    mari.page.locator(".copy-line", has=mari.page.locator("#secret-text")).get_by_role("button").click()
    assert mari.page.evaluate("navigator.clipboard.readText()") == secret
    expect(mari.page.locator("#announce")).to_have_text("Copied")
    with mari.page.expect_download() as download:
        mari.click("Download", role="link")
    download.value.save_as(tmp_path / "robot.json")
    kept = json.loads((tmp_path / "robot.json").read_text())
    assert kept == {"registry": stage.host, "username": username, "secret": secret}

    robot = Registry(stage.host, username, secret)
    robot.push_image(f"{lab}/app/web", "1.0", multi("web", sizes=(40_000, 400_000)))
    robot.push_image(f"{lab}/app/web", "1.1", single("web 1.1", sizes=(900_000, 20_000, 3_000, 250_000)))
    assert Registry(stage.host).manifest(f"{lab}/app/web", "1.0").status == 401
    mari.click("Done", role="link")
    expect(mari.row("ci")).to_contain_text("Active")
    assert secret not in mari.page.content()


def test_the_push_commands_are_ready_to_copy(mari: Visitor, stage: Service, lab: str) -> None:
    mari.go(f"/projects/{lab}/repositories").open("PUSH COMMAND").screen("push-command")
    for line in (
        f"docker push {stage.host}/{lab}/REPOSITORY:TAG",
        f"helm push CHART-VERSION.tgz oci://{stage.host}/{lab}",
    ):
        mari.page.locator(".copy-line", has_text=line).get_by_role("button", name="Copy").click()
        assert mari.page.evaluate("navigator.clipboard.readText()") == line
    mari.page.keyboard.press("Escape")
    expect(mari.page.locator(".drop-wide > .drop-body").first).to_be_hidden()


def test_repository_artifact_and_its_tags(mari: Visitor, stage: Service, lab: str) -> None:
    mari.go(f"/projects/{lab}").screen("project-summary").go(f"/projects/{lab}/repositories").screen("repositories")
    mari.click("app/web", role="link").screen("repository")
    mari.open("Edit description").fill("Description", "The <i>web</i> part").click("Save")
    assert "The <i>web</i> part" in mari.text()
    mari.go(f"/projects/{lab}/repositories/app/web:1.0")
    assert re.search(r"app/web@sha256:[0-9a-f]{64}$", mari.page.url)
    mari.screen("artifact-index")
    mari.page.locator("table.list a.mono").first.click()
    expect(mari.page.get_by_role("img", name="Sizes of the layers")).to_be_visible()
    mari.go(f"/projects/{lab}/repositories/app/web:1.1").screen("artifact")
    mari.fill("New tag", "stable").click("Add tag")
    assert "The tag stable is added." in mari.told()
    assert sorted(Registry(stage.host, *stage_login(stage)).tags(f"{lab}/app/web")) == ["1.0", "1.1", "stable"]
    mari.page.locator(".plain-list li", has_text="stable").locator("summary").click()
    mari.page.locator(".plain-list li", has_text="stable").get_by_role("button", name="Remove tag").click()
    assert "The tag stable is removed." in mari.told()
    assert sorted(Registry(stage.host, *stage_login(stage)).tags(f"{lab}/app/web")) == ["1.0", "1.1"]


def test_labels_are_made_put_on_and_taken_off(mari: Visitor, lab: str) -> None:
    mari.go(f"/projects/{lab}/labels").fill("Name", "tested <ok>").click("Create label")
    assert "The label is created." in mari.told()
    mari.screen("labels").go(f"/projects/{lab}/repositories/app/web:1.1")
    mari.page.get_by_label("Label", exact=True).select_option("tested <ok>")
    mari.click("Add label")
    assert "The label is added." in mari.told()
    mari.screen("artifact-labelled").confirm("Remove label")
    assert "The label is removed." in mari.told()
    mari.go(f"/projects/{lab}/labels")
    mari.row("tested").locator("summary").click()
    mari.row("tested").get_by_role("button", name="Delete").click()
    assert "The label is deleted." in mari.told()


def test_members_come_get_another_role_and_go(mari: Visitor, jaan: Visitor, lab: str) -> None:
    jaan.go(f"/projects/{lab}", 404).screen("not-found")
    mari.go(f"/projects/{lab}/members").open("USER").screen("member-add")
    mari.fill("User name", "jaan.saar").click("Add member")
    assert "jaan.saar is a member now." in mari.told()
    jaan.go(f"/projects/{lab}/repositories")
    expect(jaan.page.locator("summary", has_text="PUSH COMMAND")).to_be_visible()
    jaan.go(f"/projects/{lab}/members")
    assert jaan.page.locator("summary", has_text="USER").count() == 0
    assert jaan.page.get_by_label("Role of mari.tamm").count() == 0
    jaan.go(f"/projects/{lab}/configuration", 403).screen("forbidden")

    mari.page.get_by_label("Role of jaan.saar").select_option("guest")
    mari.click("Save jaan.saar")
    expect(mari.page.locator(".note")).to_contain_text("The role is changed.")
    jaan.go(f"/projects/{lab}/repositories")
    assert jaan.page.locator("summary", has_text="PUSH COMMAND").count() == 0
    jaan.go(f"/projects/{lab}/logs", 403)

    mari.go(f"/projects/{lab}/members").open("GROUP").fill("The group's name", "hpc-staff")
    mari.page.get_by_label("Maintainer").locator("visible=true").check()
    mari.click("Add member")
    expect(mari.row("hpc-staff")).to_contain_text("Group")
    mari.screen("members")
    mari.row("hpc-staff").locator("summary").click()
    mari.row("hpc-staff").get_by_role("button", name="Remove").click()
    assert "The member is removed." in mari.told()
    jaan.go(f"/projects/{lab}/members")
    jaan.row("jaan.saar").locator("summary").click()
    jaan.row("jaan.saar").get_by_role("button", name="Leave").click()
    assert "You have left the project." in jaan.told()
    jaan.go(f"/projects/{lab}", 404)


def test_the_last_project_admin_stays(mari: Visitor, lab: str) -> None:
    mari.go(f"/projects/{lab}/members")
    mari.page.get_by_label("Role of mari.tamm").select_option("guest")
    mari.click("Save mari.tamm")
    expect(mari.page.get_by_role("alert")).to_be_visible()
    expect(mari.page.get_by_label("Role of mari.tamm")).to_have_value("project admin")


def test_a_robot_is_refreshed_disabled_and_deleted(mari: Visitor, stage: Service, lab: str) -> None:
    username, secret = robot_of(mari, lab, "short")
    robot = Registry(stage.host, username, secret)

    def act(what: str) -> None:
        mari.go(f"/projects/{lab}/robots")
        mari.act_on("short", what)

    assert robot.ask_token(f"repository:{lab}/app/web:pull").status == 200
    act("Disable")
    assert robot.ask_token(f"repository:{lab}/app/web:pull").status == 401
    expect(mari.row("short")).to_contain_text("Disabled")
    mari.screen("robots")
    act("Enable")
    assert robot.ask_token(f"repository:{lab}/app/web:pull").status == 200
    act("Refresh secret")
    fresh = mari.page.locator("#secret-text").inner_text()
    assert robot.ask_token(f"repository:{lab}/app/web:pull").status == 401
    assert Registry(stage.host, username, fresh).ask_token(f"repository:{lab}/app/web:pull").status == 200
    act("Delete")
    assert "The robot account is deleted" in mari.told()
    assert Registry(stage.host, username, fresh).ask_token(f"repository:{lab}/app/web:pull").status == 401


def test_the_log_tells_who_did_what(mari: Visitor, lab: str) -> None:
    mari.go(f"/projects/{lab}/logs")
    expect(mari.page.locator("table.list tbody tr").first).to_be_visible()
    mari.screen("logs").fill("Search by person or name", "jaan").page.keyboard.press("Enter")
    mari.page.wait_for_url("**/logs?q=jaan")
    assert "jaan.saar" in mari.text()
    mari.fill("Search by person or name", "nothing-like-it").page.keyboard.press("Enter")
    expect(mari.page.get_by_text("Nothing found")).to_be_visible()


def test_the_configuration_is_changed(mari: Visitor, visitor: Visitor, lab: str) -> None:
    mari.go(f"/projects/{lab}/configuration").screen("configuration")
    mari.page.get_by_label("Public", exact=False).first.check()
    mari.fill("Storage quota", "3").fill("Description", "Open now").click("Save")
    assert "The settings are saved." in mari.told()
    assert mari.page.get_by_label("Storage quota").input_value() == "3"
    visitor.go(f"/projects/{lab}").screen("project-anonymous")
    assert "Open now" in visitor.text()
    for tab in ("Members", "Configuration", "Logs", "Robot Accounts"):
        assert visitor.page.locator(".tabs").get_by_text(tab).count() == 0


def test_artifact_repository_and_project_are_deleted(mari: Visitor, stage: Service, lab: str) -> None:
    admin = Registry(stage.host, *stage_login(stage))
    mari.go(f"/projects/{lab}/repositories/app/web:1.1").open("Delete").click("Delete artifact")
    assert "The artifact is deleted" in mari.told()
    assert admin.manifest(f"{lab}/app/web", "1.1").status == 404
    mari.open("Delete")
    assert mari.page.get_by_role("button", name="Delete repository").is_disabled()
    mari.fill("Type the repository's name to delete it", "app/web").click("Delete repository")
    assert "The repository app/web is deleted" in mari.told()
    assert admin.manifest(f"{lab}/app/web", "1.0").status == 404
    mari.go(f"/projects/{lab}/configuration")
    button = mari.page.get_by_role("button", name="Delete project")
    assert button.is_disabled()
    mari.fill("Type the project's name to delete it", lab)
    mari.screen("project-delete")
    button.click()
    assert f"The project {lab} is deleted." in mari.told()
    mari.go(f"/projects/{lab}", 404)


def stage_login(stage: Service) -> tuple[str, str]:
    return stage.username, stage.password
