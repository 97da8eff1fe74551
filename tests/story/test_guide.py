"""What the guide tells people to do, from the first log-in to the last deletion, each step seen by a Docker engine."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.parts.service import Service

from .conftest import Opener
from .person import Person
from .terminal import Terminal
from .work import build, delete_project, log_in_line, make_key, make_project, make_robot

LAYERS = 4  # two of the base that the mirror gives, two of our own


@pytest.fixture(scope="module")
def mari(arrive: Opener) -> Person:
    """Somebody who is not logged in at first."""
    return arrive()


@pytest.fixture(scope="module")
def program(terminal: Callable[[], Terminal]) -> Terminal:
    """The shell of a pipeline, which logs in as the robot."""
    return terminal()


@pytest.fixture(scope="module")
def student(terminal: Callable[[], Terminal]) -> Terminal:
    """The shell of the second person, who has an access key."""
    return terminal()


@pytest.fixture(scope="module")
def nobody(terminal: Callable[[], Terminal]) -> Terminal:
    """A shell that is logged in nowhere."""
    return terminal()


@pytest.fixture(scope="module")
def image(campus: Service, lab: str) -> str:
    """Where the first image goes."""
    return f"{campus.host}/{lab}/net/model:1.0"


def test_logging_in_leads_to_the_page_that_was_asked_for(mari: Person, campus: Service) -> None:
    mari.go("/").screen("front").go("/new-project")
    assert mari.page.url.endswith("/login?next=%2Fnew-project")
    mari.screen("login").click("Log in with the university account", role="link")
    mari.screen("identity-provider").at_university("mari")
    assert mari.page.url == f"{campus.url}/new-project"
    expect(mari.page.locator(".who")).to_have_text("mari@ut.ee")
    mari.go("/mine").screen("mine")
    for fact in ("Mari Maasikas", "mari@ut.ee", "university", "staff"):
        assert fact in mari.text()
    assert mari.page.get_by_role("link", name="Administration").count() == 0


def test_a_private_project_is_made(mari: Person, lab: str) -> None:
    make_project(mari, lab)
    mari.screen("project-made").go("/projects").screen("projects")
    expect(mari.row(lab)).to_contain_text("Private")


def test_the_login_line_of_a_robot_is_run_as_it_was_copied(mari: Person, lab: str, program: Terminal) -> None:
    username, line = make_robot(mari, lab, "ci")
    mari.screen("robot-secret")
    assert username == f"robot-{lab}+ci"
    assert "$" not in line
    secret = mari.copy(mari.page.locator("#secret-text").inner_text())
    assert line.endswith(f"\n{secret}\nEND")
    assert "Login Succeeded" in program.type(line)


def test_the_address_helper_s_answer_is_what_docker_pulls(
    mari: Person, campus: Service, program: Terminal, image: str, tmp_path: Path
) -> None:
    mari.go("/").page.get_by_label("Images", exact=True).fill("FROM python:3.12\nCOPY model.bin /srv/")
    address = mari.copy("library/python")
    assert address == f"{campus.host}/mirror/library/python:3.12"
    mari.screen("address-helper")
    program.pull(address)
    build(program, tmp_path, "model", base=address)


def test_the_copied_push_commands_push(mari: Person, lab: str, program: Terminal, image: str, campus: Service) -> None:
    mari.go(f"/projects/{lab}").click("Repositories", role="link").open("PUSH COMMAND").screen("push-command")
    template = f"{campus.host}/{lab}/REPOSITORY:TAG"
    tag, push = mari.copy("docker tag"), mari.copy("docker push")
    assert (tag, push) == (f"docker tag SOURCE_IMAGE:TAG {template}", f"docker push {template}")
    program.type(tag.replace(template, image).replace("SOURCE_IMAGE:TAG", "model:latest"))
    printed = program.type(push.replace(template, image))
    digest = re.search(r"1\.0: digest: (sha256:[0-9a-f]{64})", printed)
    assert digest is not None, printed

    mari.go(f"/projects/{lab}/repositories").screen("repositories").click("net/model", role="link")
    expect(mari.row("1.0")).to_contain_text("linux/amd64")
    mari.screen("repository").page.locator("table.list a.mono").first.click()
    mari.page.wait_for_url(f"**/net/model@{digest[1]}")
    expect(mari.page.get_by_role("img", name="Sizes of the layers").locator("rect")).to_have_count(LAYERS)
    assert len(json.loads(program.type("docker image inspect model"))[0]["RootFS"]["Layers"]) == LAYERS
    assert "COPY" in mari.page.locator(".history").inner_text()
    assert mari.copy("docker pull") == f"docker pull {image}"
    mari.screen("artifact")


def test_a_robot_is_seen_to_have_been_used(mari: Person, lab: str) -> None:
    mari.until(f"/projects/{lab}/robots", "from 127.0.0.1", row="ci").screen("robots")
    expect(mari.row("ci")).to_contain_text("Active")


def test_an_outsider_cannot_tell_the_project_from_a_missing_one(
    juri: Person, campus: Service, lab: str, image: str, nobody: Terminal, student: Terminal
) -> None:
    assert "Login Succeeded" in student.type(make_key(juri, "laptop"))
    juri.screen("key-secret")
    missing = image.replace(lab, "nothing-here")
    for shell in (nobody, student):
        answer = shell.refused(f"docker pull {image}")
        assert answer.replace(lab, "nothing-here") == shell.refused(f"docker pull {missing}")
        assert "denied" in answer or "unauthorized" in answer or "not found" in answer
    juri.go(f"/projects/{lab}", 404).go("/projects/nothing-here", 404)
    juri.go("/projects")
    assert lab not in juri.text()


def test_a_guest_pulls_and_does_not_push(
    mari: Person, juri: Person, lab: str, image: str, student: Terminal, campus: Service
) -> None:
    mari.go(f"/projects/{lab}/members").open("USER").fill("User name", "juri@taltech.ee").tick_role("Guest")
    mari.screen("member-add").click("Add member")
    assert "juri@taltech.ee is a member now." in mari.told()
    expect(mari.row("Jüri Juurikas").get_by_label("Role of")).to_have_value("guest")
    mari.screen("members")
    student.pull(image)
    student.type(f"docker tag {image} {campus.host}/{lab}/net/theirs:1")
    assert "denied" in student.refused(f"docker push {campus.host}/{lab}/net/theirs:1")
    juri.go(f"/projects/{lab}/repositories").screen("guest-repositories")
    assert juri.page.get_by_text("PUSH COMMAND").count() == 0
    assert "net/theirs" not in juri.text()


def test_a_group_of_the_university_gives_its_people_the_role(
    mari: Person, juri: Person, lab: str, image: str, student: Terminal, campus: Service
) -> None:
    mari.go(f"/projects/{lab}/members")
    mari.row("juri@taltech.ee").locator("summary").click()
    mari.row("juri@taltech.ee").get_by_role("button", name="Remove").click()
    assert "The member is removed." in mari.told()
    student.refused(f"docker pull {image}")
    mari.open("GROUP").fill("The group's name", "students").tick_role("Developer").click("Add member")
    expect(mari.row("students")).to_contain_text("Group")
    mari.screen("members-group")
    student.type(f"docker push {campus.host}/{lab}/net/theirs:1")
    juri.go(f"/projects/{lab}/repositories")
    expect(juri.row("net/theirs")).to_be_visible()
    expect(juri.page.locator("summary", has_text="PUSH COMMAND")).to_be_visible()
    mari.go(f"/projects/{lab}/members")
    mari.row("students").locator("summary").click()
    mari.row("students").get_by_role("button", name="Remove").click()
    assert "The member is removed." in mari.told()
    student.refused(f"docker pull {image}")
    juri.go(f"/projects/{lab}", 404)


def test_a_public_project_is_pulled_by_everybody(
    mari: Person, lab: str, image: str, nobody: Terminal, arrive: Opener
) -> None:
    mari.go(f"/projects/{lab}/configuration").page.get_by_label("Public").check()
    mari.click("Save").screen("configuration")
    assert "The settings are saved." in mari.told()
    nobody.pull(image)
    visitor = arrive()
    visitor.go(f"/projects/{lab}/repositories").screen("anonymous-repositories")
    assert visitor.page.get_by_text("PUSH COMMAND").count() == 0
    mari.page.get_by_label("Private").check()
    mari.click("Save")
    nobody.refused(f"docker pull {image}")
    visitor.go(f"/projects/{lab}")
    assert "/login?next=" in visitor.page.url


def test_a_label_is_attached_and_seen(mari: Person, lab: str) -> None:
    mari.go(f"/projects/{lab}/labels").fill("Name", "released").click("Create label")
    mari.go(f"/projects/{lab}/repositories/net/model:1.0").page.get_by_label("Label", exact=True).select_option(
        "released"
    )
    mari.click("Add label")
    assert "The label is added." in mari.told()
    mari.screen("artifact-labelled").go(f"/projects/{lab}/repositories/net/model")
    expect(mari.row("1.0")).to_contain_text("released")


def test_a_disabled_robot_is_refused_at_once(mari: Person, lab: str, image: str, program: Terminal) -> None:
    program.pull(image)
    mari.go(f"/projects/{lab}/robots").act_on("ci", "Disable")
    assert "disabled" in mari.told()
    mari.screen("robots-disabled")
    program.refused(f"docker pull {image}")
    _, line = make_robot(mari, lab, "other")
    mari.go(f"/projects/{lab}/robots").act_on("ci", "Enable")
    program.pull(image)
    mari.go(f"/projects/{lab}/robots").act_on("ci", "Refresh secret")
    fresh = log_in_line(mari)
    program.refused(f"docker pull {image}")
    program.type(fresh)
    program.pull(image)
    program.type(line)
    mari.go(f"/projects/{lab}/robots").act_on("other", "Delete")
    assert "unauthorized" in program.refused(line)
    program.type(fresh)


def test_the_project_s_log_tells_who_did_what(mari: Person, lab: str) -> None:
    mari.until(f"/projects/{lab}/logs", f"removed robot account robot-{lab}+other").screen("logs")
    for words in ("added member juri@taltech.ee", "removed member students", "added label released", "pushed artifact"):
        assert words in mari.text(), words


def test_what_is_deleted_on_the_pages_is_gone_for_docker(
    mari: Person, lab: str, image: str, program: Terminal, campus: Service, tmp_path: Path
) -> None:
    second, spare = image.replace(":1.0", ":2.0"), image.replace(":1.0", ":spare")
    build(program, tmp_path, second)
    program.type(f"docker tag {second} {spare}")
    program.type(f"docker push {second} && docker push {spare}")

    mari.go(f"/projects/{lab}/repositories/net/model:2.0")
    tag = mari.page.locator(".plain-list li", has_text="spare")
    tag.locator("summary").click()
    mari.screen("tag-remove")
    tag.get_by_role("button", name="Remove tag").click()
    assert "The tag spare is removed." in mari.told()
    assert "not found" in program.refused(f"docker pull {spare}")
    program.pull(second)

    mari.open("Delete").screen("artifact-delete").click("Delete artifact")
    assert "The artifact is deleted" in mari.told()
    assert "not found" in program.refused(f"docker pull {second}")
    program.pull(image)

    mari.go(f"/projects/{lab}/repositories/net/model").open("Delete")
    button = mari.page.get_by_role("button", name="Delete repository")
    expect(button).to_be_disabled()
    mari.fill("Type the repository's name to delete it", "net/model").screen("repository-delete")
    button.click()
    assert "The repository net/model is deleted" in mari.told()
    program.refused(f"docker pull {image}")

    login = f"docker login {campus.host} --username robot-{lab}+ci --password-stdin < /dev/null"
    mari.go(f"/projects/{lab}/configuration")
    expect(mari.page.get_by_role("button", name="Delete project")).to_be_disabled()
    mari.fill("Type the project's name to delete it", lab[:-1])
    expect(mari.page.get_by_role("button", name="Delete project")).to_be_disabled()
    mari.screen("project-delete")
    delete_project(mari, lab)
    mari.go(f"/projects/{lab}", 404)
    program.refused(f"docker push {image}")
    program.refused(login)


def test_all_of_it_is_in_the_audit_log_in_words(tiina: Person, lab: str) -> None:
    tiina.until(f"/administration/audit?q={lab}", f"removed project {lab}")
    shown = re.sub(r"\s+", " ", tiina.text())
    tiina.screen("audit")
    for words in (f"added project {lab}", f"added robot account robot-{lab}+ci", f"removed project {lab}"):
        assert words in shown, words
    with tiina.page.expect_download() as download:
        tiina.click("Export", role="link")
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert all(lab in " ".join((row["what"], row["who"], row["project"])) for row in rows)
    did = {(row["who"], row["operation"], row["kind"]) for row in rows}
    for who, operation, kind in (
        ("person:mari@ut.ee", "create", "project"),
        ("person:mari@ut.ee", "update", "project"),
        ("person:mari@ut.ee", "create", "robot"),
        ("person:mari@ut.ee", "disable", "robot"),
        ("person:mari@ut.ee", "enable", "robot"),
        ("person:mari@ut.ee", "refresh", "robot"),
        ("person:mari@ut.ee", "delete", "robot"),
        ("person:mari@ut.ee", "delete", "tag"),
        ("person:mari@ut.ee", "delete", "artifact"),
        ("person:mari@ut.ee", "delete", "repository"),
        ("person:mari@ut.ee", "delete", "project"),
        (f"robot:robot-{lab}+ci", "push", "artifact"),
    ):
        assert (who, operation, kind) in did, (who, operation, kind, did)
