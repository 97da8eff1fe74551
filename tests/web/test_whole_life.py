"""A project that nobody manages any more is handed over, and the page on personal data says what is configured."""

from __future__ import annotations

import time
import uuid

import pytest
from playwright.sync_api import expect

from app.access.roles import Role
from app.database import Transaction, accounts, attendance, members, projects
from tests.parts.service import Service
from tests.web.person import Opener, Visitor
from tests.web.scene import within

pytestmark = pytest.mark.usefixtures("clean_log")


def leave_alone(stage: Service) -> str:
    """Make a project whose only admin has left, and return its name."""
    name = f"left-{uuid.uuid4().hex[:6]}"

    async def make(transaction: Transaction) -> None:
        await accounts.create(transaction, "kes.lahkus", "hash", is_admin=False)
        gone = await accounts.find(transaction, "kes.lahkus")
        assert gone is not None
        await accounts.set_disabled(transaction, gone.id, disabled=True)
        await projects.create(transaction, name, public=False, upstream=None, settings={})
        made = await projects.find(transaction, name)
        assert made is not None
        await members.add(transaction, made.id, Role.PROJECT_ADMIN, account_id=gone.id)
        await attendance.mark(transaction, [made.id], time.time() - 3 * 86400)

    within(stage.folder, make)
    return name


def test_a_project_is_handed_over(admin: Visitor, stage: Service) -> None:
    name = leave_alone(stage)
    expect(admin.go(f"/projects/{name}/robots").page.locator(".note")).to_contain_text("these robot accounts stop")
    for width in (390, 1440):
        admin.page.set_viewport_size({"width": width, "height": 860})
        admin.screen(f"robots-unattended-{width}")
    expect(admin.go("/administration/projects").page.locator("main")).to_contain_text("Nobody manages")
    admin.screen("quotas-unattended").click("Projects that nobody manages", role="link")
    for width in (390, 1440):
        admin.page.set_viewport_size({"width": width, "height": 860})
        admin.screen(f"unattended-{width}")
    field = admin.row(name).get_by_label(f"New project admin of {name}")
    field.fill("nobody.here")
    admin.row(name).get_by_role("button", name="Hand over").click()
    assert "must log in once first" in admin.told()
    field.fill("Jaan.Saar")
    admin.row(name).get_by_role("button", name="Hand over").click()
    assert "Jaan.Saar manages the project now." in admin.told()
    assert admin.page.get_by_text(name).count() == 0
    expect(admin.go(f"/projects/{name}/members").row("jaan.saar")).to_contain_text("Project admin")


@pytest.mark.parametrize(("locale", "words"), [("en", "365 days"), ("et", "365 päeva")])
def test_personal_data_are_explained(open_context: Opener, locale: str, words: str) -> None:
    visitor = open_context(locale=locale)
    visitor.go("/").click("Personal data" if locale == "en" else "Isikuandmed", role="link")
    expect(visitor.page.locator("main")).to_contain_text(words)
    for width in (390, 1440):
        visitor.page.set_viewport_size({"width": width, "height": 860})
        visitor.screen(f"privacy-{locale}-{width}")
