"""The pages that are not a project's: front, mirror, own account, administration; in both languages, scripts or not."""

from __future__ import annotations

import csv
import io
import json
import re
import socket
import uuid

import pytest
from playwright.sync_api import expect

from tests.api.client import Registry
from tests.images import multi
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web.person import Opener, Visitor
from tests.web.scene import PASSWORD, add_person

pytestmark = pytest.mark.usefixtures("clean_log")

DOCKERFILE = "FROM golang:1.23 AS build\nFROM gcr.io/distroless/static\nCOPY --from=busybox:1.37 /bin/sh /bin/sh"


def test_the_address_helper_answers_while_somebody_types(visitor: Visitor, stage: Service) -> None:
    visitor.go("/").screen("front")
    area = visitor.page.get_by_label("Images", exact=True)
    area.fill("redis")
    address = f"{stage.host}/mirror/library/redis"
    expect(visitor.page.locator("#answers .copy-line code")).to_have_text(address)
    visitor.page.locator("#answers").get_by_role("button", name="Copy").click()
    assert visitor.page.evaluate("navigator.clipboard.readText()") == address
    area.fill(DOCKERFILE)
    expect(visitor.page.locator("#answers .copy-line")).to_have_count(2)
    expect(visitor.page.locator("#answers")).to_contain_text("gcr.io is another registry")
    visitor.screen("front-dockerfile").open("The full text")
    visitor.page.locator("#answers .snippet").get_by_role("button", name="Copy").click()
    copied = visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied.strip().startswith(f"FROM {stage.host}/mirror/library/golang:1.23 AS build\n")
    area.fill("<img src=x onerror=alert(1)>")
    expect(visitor.page.locator("#answers")).to_contain_text("This text names no image.")


@pytest.mark.parametrize("example", ["redis", "docker pull …", "Dockerfile", "compose.yaml"])
def test_the_examples_fill_the_helper(visitor: Visitor, example: str) -> None:
    visitor.go("/").page.locator(".tries").get_by_role("button", name=example).click()
    expect(visitor.page.locator("#answers .copy-line").first).to_be_visible()


def test_an_address_that_is_found_can_be_pulled(visitor: Visitor, stage: Service) -> None:
    visitor.go("/").page.get_by_label("Images", exact=True).fill("docker pull redis:7")
    address = visitor.page.locator("#answers .copy-line code").inner_text()
    name, _, tag = address.removeprefix(f"{stage.host}/").rpartition(":")
    assert Registry(stage.host).pull_image(name, tag)


def test_the_set_up_of_every_client_is_shown_and_copied(visitor: Visitor) -> None:
    visitor.go("/")
    for client, line in (
        ("containerd", "capabilities"), ("podman", "registry.mirror"), ("k3s", "mirrors:"),
        ("Apptainer", "apptainer pull docker://"), ("GitLab CI", "services:"), ("Docker", "docker pull"),
    ):  # fmt: skip
        visitor.page.locator(".switcher-names label", has_text=client).click()
        snippet = visitor.page.locator(".snippet:visible").filter(has_text=line).first
        snippet.get_by_role("button", name="Copy").click()
        assert line in visitor.page.evaluate("navigator.clipboard.readText()")
        visitor.screen(f"set-up-{client.lower().replace(' ', '-')}")


def test_colours_are_switched_and_kept(visitor: Visitor) -> None:
    visitor.go("/").click("Dark colours")
    assert visitor.page.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    visitor.go("/projects")
    assert visitor.page.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    assert visitor.page.get_by_role("button", name="Dark colours").get_attribute("aria-pressed") == "true"


def test_the_language_follows_the_browser_and_the_switch(open_context: Opener) -> None:
    visitor = open_context(locale="et")
    visitor.go("/").screen("front-et")
    assert visitor.page.locator("html").get_attribute("lang") == "et"
    expect(visitor.page.get_by_role("link", name="Projektid")).to_be_visible()
    visitor.go("/projects").click("English")
    assert visitor.page.url.endswith("/projects")
    expect(visitor.page.get_by_role("heading", name="Projects")).to_be_visible()
    visitor.go("/").click("Eesti")
    expect(visitor.page.get_by_role("link", name="Projektid")).to_be_visible()


def test_everything_is_reached_by_keyboard(visitor: Visitor) -> None:
    visitor.go("/").page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.className") == "skip"
    visitor.page.keyboard.press("Enter")
    assert visitor.page.evaluate("document.activeElement.id") == "content"


def test_without_scripts_the_helper_and_forms_work(open_context: Opener, stage: Service) -> None:
    plain = open_context(scripts=False)
    plain.go("/").page.get_by_label("Images", exact=True).fill("nginx:1.27")
    plain.click("Find the addresses")
    expect(plain.page.locator("#answers .copy-line code")).to_have_text(f"{stage.host}/mirror/library/nginx:1.27")
    plain.screen("front-without-scripts").log_in("liis.kask", PASSWORD)
    name = f"plain-{uuid.uuid4().hex[:6]}"
    plain.go("/new-project").fill("Project name", name).fill("Storage quota", "1").click("Create project")
    assert name in plain.told()
    plain.go(f"/projects/{name}/configuration").fill("Type the project's name to delete it", "wrong")
    plain.click("Delete project")
    assert "Nothing was deleted" in plain.told()
    plain.fill("Type the project's name to delete it", name).click("Delete project")
    assert "is deleted" in plain.told()


def test_the_mirror_shows_what_it_saved_and_what_is_left(visitor: Visitor, stage: Service) -> None:
    visitor.go("/mirror")
    expect(visitor.page.get_by_role("img", name="Requests left over the last 24 hours")).to_be_visible()
    expect(visitor.row("library/redis")).to_contain_text("2 tags")
    visitor.screen("mirror").click("library/nginx", role="link").screen("mirror-repository")
    visitor.go("/projects/mirror").screen("mirror-project").click("Cache", role="link").screen("mirror-cache")


def test_a_running_fill_shows_how_far_it_is(visitor: Visitor, stage: Service, hub_process: Hub) -> None:
    hub_process.add(multi("slow", sizes=(6_000_000, 1_000)), "library/slow", "1")
    visitor.go("/mirror")
    expect(visitor.page.get_by_text("Nothing is being downloaded right now.")).to_be_visible()
    hub_process.pace(bandwidth=600_000)
    try:
        manifest = Registry(stage.host).manifest("mirror/library/slow", "1").json()["manifests"][0]["digest"]
        layer = Registry(stage.host).manifest("mirror/library/slow", manifest).json()["layers"][0]["digest"]
        host, _, port = stage.host.partition(":")
        token = Registry(stage.host).token("repository:mirror/library/slow:pull")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                f"GET /v2/mirror/library/slow/blobs/{layer} HTTP/1.1\r\nHost: {stage.host}\r\n"
                f"Authorization: Bearer {token}\r\n\r\n".encode()
            )
            expect(visitor.page.locator(".fill").first).to_contain_text("library/slow")
            expect(visitor.page.locator(".fill progress").first).to_be_visible()
            visitor.screen("mirror-filling")
    finally:
        hub_process.pace()


def test_an_access_key_is_made_used_and_deleted(jaan: Visitor, stage: Service) -> None:
    jaan.go("/mine").screen("mine").go("/mine/keys").fill("Name", "laptop").screen("keys").click("Create access key")
    secret = jaan.page.locator("#secret-text").inner_text()
    assert Registry(stage.host, "jaan.saar", secret).ask_token().status == 200
    jaan.click("Done", role="link")
    expect(jaan.row("laptop")).to_contain_text("every project")
    jaan.row("laptop").locator("summary").click()
    jaan.screen("key-delete").row("laptop").get_by_role("button", name="Delete").click()
    assert "The access key is deleted" in jaan.told()
    assert Registry(stage.host, "jaan.saar", secret).ask_token().status == 401


def test_an_access_key_that_ends_soon_is_told_of(open_context: Opener, stage: Service) -> None:
    add_person(stage.folder, "tiiu.lepp")
    tiiu = open_context().log_in("tiiu.lepp", PASSWORD)
    for name, days in (("short", "3"), ("long", "60")):
        tiiu.go("/mine/keys").fill("Name", name).fill("Expires after", days).click("Create access key")
    for path in ("/mine", "/mine/sessions", "/mine/keys"):
        tiiu.go(path)
        expect(tiiu.page.get_by_role("status")).to_have_count(1)
        expect(tiiu.page.get_by_role("status")).to_contain_text("The access key short expires in 3 days.")
    expect(tiiu.row("short")).to_contain_text("Expires soon")
    expect(tiiu.row("long")).not_to_contain_text("Expires soon")
    tiiu.screen("keys-ending").go("/mine").click("Create another key before then", role="link")
    assert tiiu.page.url.endswith("/mine/keys")


def test_another_browser_is_logged_out(jaan: Visitor, open_context: Opener) -> None:
    other = open_context(width=390).log_in("jaan.saar", PASSWORD)
    jaan.go("/mine/sessions").screen("sessions")
    assert jaan.page.get_by_text("this browser").count() == 1
    while jaan.page.locator("summary", has_text="End session").count():
        jaan.confirm("End session")
        assert "That browser is logged out." in jaan.told()
    other.go("/mine")
    assert "/login" in other.page.url
    jaan.open("jaan.saar").click("Log out")
    jaan.go("/mine")
    assert "/login?next=%2Fmine" in jaan.page.url


def test_a_wrong_password_says_so(visitor: Visitor) -> None:
    visitor.go("/login").screen("login").fill("User name", "mari.tamm").fill("Password", "wrong").click("Log in")
    expect(visitor.page.get_by_role("alert")).to_be_visible()
    assert visitor.page.get_by_label("User name").input_value() == "mari.tamm"
    visitor.screen("login-wrong")


@pytest.mark.long
def test_administration_of_people(admin: Visitor, open_context: Opener) -> None:
    liis = open_context().log_in("liis.kask", PASSWORD)
    liis.go("/administration", 403)

    def act(what: str) -> None:
        admin.go("/administration/users")
        admin.act_on("liis.kask", what)

    admin.go("/administration").screen("users")
    act("Make administrator")
    liis.go("/administration")
    act("Remove administrator rights")
    liis.go("/administration", 403)
    act("Disable")
    expect(admin.row("liis.kask")).to_contain_text("Disabled")
    liis.go("/mine")
    assert "/login" in liis.page.url
    act("Enable")
    liis.log_in("liis.kask", PASSWORD)
    admin.fill("Search by name or address", "saar").page.keyboard.press("Enter")
    admin.page.wait_for_url("**/users?q=saar")
    assert admin.page.locator("table.list tbody tr").count() == 1


def test_an_account_is_deleted(admin: Visitor, stage: Service) -> None:
    add_person(stage.folder, "kes.kadus")
    admin.go("/administration/users")
    admin.act_on("kes.kadus", "Delete account")
    assert "The account is deleted" in admin.told()
    assert admin.page.get_by_text("kes.kadus").count() == 0


@pytest.mark.long
def test_administration_of_projects(admin: Visitor) -> None:
    name = f"shared-{uuid.uuid4().hex[:6]}"
    admin.go("/new-project").fill("Project name", name).click("Create project")
    admin.go("/administration/projects").screen("quotas").go(f"/administration/projects?q={name}")
    admin.row(name).get_by_label(f"Quota of {name}").fill("7")
    admin.row(name).get_by_role("button", name="Set").click()
    assert "The quota is set." in admin.told()
    admin.go(f"/administration/projects?q={name}")
    expect(admin.row(name)).to_contain_text("of 7 GiB used")


def test_a_cache_is_made_and_changed(admin: Visitor) -> None:
    name = f"cache-{uuid.uuid4().hex[:6]}"
    admin.go("/new-project").fill("Project name", name)
    assert not admin.page.get_by_label("Upstream", exact=True).is_visible()
    admin.page.get_by_label("Proxy cache").check()
    admin.fill("Cache size", "5").screen("project-new-cache").click("Create project")
    assert f"The project {name} is created." in admin.told()
    admin.go(f"/projects/{name}/configuration").screen("configuration-cache")
    assert admin.page.get_by_label("Cache size").input_value() == "5"
    admin.fill("Cache size", "6").fill("User name there", "hub-user").fill("Password or token", "hub-password")
    admin.page.get_by_label("Image names without library/").select_option("alias")
    admin.click("Save")
    assert "The settings are saved." in admin.told()
    assert admin.page.get_by_label("Cache size").input_value() == "6"
    assert admin.page.get_by_label("Image names without library/").input_value() == "alias"
    admin.page.get_by_label("Remove the stored account").check()
    admin.click("Save")
    assert admin.page.get_by_label("Remove the stored account").count() == 0
    admin.go(f"/projects/{name}/repositories")
    assert admin.page.get_by_text("PUSH COMMAND").count() == 0


@pytest.mark.long
def test_system_robots(admin: Visitor, stage: Service) -> None:
    admin.go("/administration/robots").screen("system-robots").click("NEW ROBOT ACCOUNT", role="link")
    name = f"backup-{uuid.uuid4().hex[:6]}"
    admin.fill("Name", name).fill("Projects", "mirror").screen("system-robot-new").click("Create robot account")
    username, secret = (admin.page.locator(f"#secret-{what}").inner_text() for what in ("name", "text"))
    assert Registry(stage.host, username, secret).ask_token("repository:mirror/library/redis:pull").status == 200
    for what in ("Disable", "Enable", "Delete"):
        admin.go("/administration/robots")
        if what == "Disable":
            admin.row(name).locator("summary").first.click()
            admin.screen("system-robot-actions").page.keyboard.press("Escape")
        admin.act_on(name, what)
        expect(admin.page.locator(".note-success")).to_be_visible()
    assert Registry(stage.host, username, secret).ask_token().status == 401


def test_the_audit_log_is_searched_and_exported(admin: Visitor) -> None:
    admin.go("/administration/audit").screen("audit")
    admin.page.get_by_label("Action").select_option("create")
    admin.page.locator("form.filter").get_by_role("button", name="Search").click()
    admin.page.wait_for_url("**operation=create**")
    admin.fill("Search by person or name", "admin").page.keyboard.press("Enter")
    admin.page.wait_for_url("**q=admin**")
    with admin.page.expect_download() as download:
        admin.click("Export", role="link")
    rows = list(csv.reader(io.StringIO(download.value.path().read_text())))
    assert rows[0][:3] == ["time", "who", "address"]
    assert rows[1:]
    assert {row[3] for row in rows[1:]} == {"create"}


WIDTHS = (1280, 1010, 768, 390)


@pytest.mark.long
def test_no_page_is_wider_than_its_window(open_context: Opener, stage: Service) -> None:
    someone = open_context(theme="dark").log_in(stage.username, stage.password)
    for path in (
        "/", "/projects", "/new-project", "/mirror", "/help", "/mine", "/mine/keys", "/mine/sessions",
        "/projects/mirror", "/projects/mirror/repositories", "/projects/mirror/repositories/library/redis",
        "/projects/mirror/repositories/library/nginx:1.27", "/projects/mirror/members", "/projects/mirror/robots/new",
        "/projects/mirror/configuration", "/administration", "/administration/projects", "/administration/upstreams",
        "/administration/audit", "/administration/robots/new", "/administration/unattended", "/search?q=redis",
        "/help/personal-data",
        "/projects/mirror/cache", "/projects/mirror/labels", "/projects/mirror/robots", "/projects/mirror/logs",
    ):  # fmt: skip
        someone.go(path)
        name = re.sub(r"[/:?=]", "-", path.strip("/")) or "front"
        for width in WIDTHS:
            someone.page.set_viewport_size({"width": width, "height": 860})
            wide = someone.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{path} is {wide} pixels wider than {width}"
            someone.screen(f"dark-{width}-{name}")


def test_error_pages_and_what_programs_get(visitor: Visitor, stage: Service) -> None:
    visitor.go("/no/such/page", 404).screen("error-404")
    assert "There is nothing here" in visitor.text()
    answer = visitor.page.request.get("/no/such/page", headers={"Accept": "application/json"})
    assert answer.status == 404
    assert json.loads(answer.text())["errors"]


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("/mirror/library/redis", "/projects/mirror/repositories/library/redis"),
        ("/mirror/library/redis:7", "/projects/mirror/repositories/library/redis@sha256:"),
    ],
)
def test_an_image_s_address_in_a_browser_leads_to_its_page(visitor: Visitor, address: str, page: str) -> None:
    visitor.go(address)
    assert page in visitor.page.url
