"""How access ends: another browser logged out, a logout that is the university's too, a person disabled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.parts.service import Service

from .conftest import Opener
from .person import Person
from .terminal import Terminal
from .work import build, make_key, make_project


@pytest.mark.long
def test_another_browser_is_seen_and_logged_out(mari: Person, tiina: Person, arrive: Opener) -> None:
    other = arrive(width=390).enter("mari", "/mine")
    mari.go("/mine/sessions").screen("sessions")
    expect(mari.page.get_by_text("Chrome · Linux this browser")).to_have_count(1)
    while mari.page.locator("summary", has_text="End session").count():
        mari.confirm("End session")
        assert "That browser is logged out." in mari.told()
    other.go("/mine")
    assert "/login?next=%2Fmine" in other.page.url
    mari.go("/mine/sessions")
    expect(mari.page.locator("table.list tbody tr")).to_have_count(1)
    tiina.until("/administration/audit?q=mari@ut.ee", "removed session")


def test_logging_out_is_the_university_s_as_well(mari: Person, campus: Service) -> None:
    mari.go("/projects").open("mari@ut.ee").screen("own-menu").click("Log out")
    mari.page.wait_for_url(f"{campus.url}/")
    expect(mari.page.get_by_role("link", name="Log in", exact=True)).to_be_visible()
    mari.go("/mine").click("Log in with the university account", role="link")
    expect(mari.page.locator("input[name=password]")).to_be_visible()
    mari.at_university("mari")
    assert mari.page.url == f"{campus.url}/mine"


def test_a_disabled_person_s_browser_and_key_end_at_once(
    tiina: Person, juri: Person, lab: str, campus: Service, terminal: Callable[[], Terminal], tmp_path: Path
) -> None:
    shell, address, key = terminal(), f"{campus.host}/{lab}/own:1", f"key-of-{lab}"
    make_project(juri, lab)
    line = make_key(juri, key)
    shell.type(line)
    build(shell, tmp_path, address)
    shell.type(f"docker push {address}")
    juri.until("/mine/keys", "from 127.0.0.1", row=key).screen("keys")

    def act(what: str) -> None:
        tiina.go("/administration/users").act_on("juri@taltech.ee", what)

    act("Disable")
    assert "The account is disabled" in tiina.told()
    expect(tiina.row("juri@taltech.ee")).to_contain_text("Disabled")
    tiina.screen("users-disabled")
    juri.go("/mine/keys")
    assert "/login?next=" in juri.page.url
    assert "unauthorized" in shell.refused(line)
    shell.refused(f"docker pull {address}")
    shell.refused(f"docker push {address}")
    juri.click("Log in with the university account", role="link")
    expect(juri.page.get_by_role("alert")).to_contain_text("was not accepted")
    juri.screen("login-refused")

    act("Enable")
    juri.go("/mine/keys").click("Log in with the university account", role="link").back_home()
    expect(juri.row(key)).to_be_visible()
    shell.pull(address)
    juri.row(key).locator("summary").click()
    juri.row(key).get_by_role("button", name="Delete").click()
    assert "The access key is deleted" in juri.told()
    shell.refused(f"docker pull {address}")


def test_only_admins_administrate(tiina: Person, mari: Person, arrive: Opener, campus: Service) -> None:
    mari.go("/administration", 403).screen("forbidden")
    assert mari.page.get_by_role("link", name="Administration").count() == 0
    expect(tiina.page.get_by_role("link", name="Administration")).to_be_visible()
    local = arrive()
    local.go("/login?next=/administration/users").open("Log in with a local account").screen("login-local")
    local.fill("User name", campus.username).fill("Password", campus.password).click("Log in")
    local.page.wait_for_url("**/administration/users")
    local.go("/administration")
    for part in ("Database", "Redis", "Store of blobs"):
        row = local.page.get_by_role("listitem").filter(has_text=part)
        expect(row.get_by_text("Good", exact=True)).to_be_visible()
    local.screen("health")


def test_the_audit_log_says_so(tiina: Person, lab: str) -> None:
    for name, words in {
        "juri@taltech.ee": ("logged in juri@taltech.ee", "disabled account juri@taltech.ee", "enabled account"),
        "mari@ut.ee": ("logged out mari@ut.ee", "logged in mari@ut.ee"),
        lab: (f"added access key key-of-{lab}", f"removed access key key-of-{lab}", f"pushed artifact {lab}/own:1"),
    }.items():
        for said in words:
            tiina.until(f"/administration/audit?q={name}", said)
