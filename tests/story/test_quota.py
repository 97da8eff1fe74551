"""A project that fills up: the warning on its page, the refusal that docker prints, and room made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.parts.service import Service

from .person import Person
from .terminal import Terminal
from .work import build, delete_project, make_project, make_robot


@pytest.fixture(scope="module")
def shell(terminal: Callable[[], Terminal]) -> Terminal:
    """The shell of a robot of the project."""
    return terminal()


def test_from_85_percent_on_the_page_warns(
    mari: Person, lab: str, shell: Terminal, campus: Service, tmp_path: Path
) -> None:
    make_project(mari, lab, size="2", unit="MiB")
    shell.type(make_robot(mari, lab, "ci")[1])
    mari.go(f"/projects/{lab}")
    assert mari.page.locator(".note-warning").count() == 0
    address = f"{campus.host}/{lab}/data:1"
    build(shell, tmp_path, address, size=1_850_000)
    shell.type(f"docker push {address}")
    mari.go(f"/projects/{lab}")
    expect(mari.page.locator(".note-warning")).to_contain_text("1.8 MiB of 2 MiB used")
    expect(mari.page.locator("progress.nearly")).to_be_visible()
    mari.screen("quota-warning")


def test_a_push_beyond_the_quota_is_denied_with_the_numbers(
    mari: Person, lab: str, shell: Terminal, campus: Service, tmp_path: Path
) -> None:
    address = f"{campus.host}/{lab}/data:2"
    build(shell, tmp_path, address, size=700_000)
    answer = shell.refused(f"docker push {address}")
    assert f"quota of {lab}: 1.8 MiB of 2.0 MiB used, this needs" in answer
    assert "denied" in answer
    mari.go(f"/projects/{lab}")
    expect(mari.page.locator(".note-warning")).to_contain_text("1.8 MiB of 2 MiB used")

    mari.go(f"/projects/{lab}/configuration").fill("Storage quota", "1").click("Save")
    expect(mari.page.get_by_role("alert")).to_contain_text("1.8 MiB")
    mari.screen("quota-below-use").fill("Storage quota", "3").click("Save")
    assert "The settings are saved." in mari.told()
    shell.type(f"docker push {address}")
    expect(mari.go(f"/projects/{lab}").page.locator(".card", has_text="Storage")).to_contain_text("of 3 MiB used")


def test_an_admin_sees_it_and_sets_it(tiina: Person, mari: Person, lab: str) -> None:
    tiina.go(f"/administration/projects?q={lab}").screen("quotas")
    expect(tiina.row(lab)).to_contain_text("mari@ut.ee")
    tiina.row(lab).get_by_label(f"Quota of {lab}").fill("8")
    tiina.row(lab).get_by_role("button", name="Set").click()
    assert "The quota is set." in tiina.told()
    assert "of 8 MiB used" in mari.go(f"/projects/{lab}").text()
    delete_project(mari, lab)
