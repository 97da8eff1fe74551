"""The story of a webhook in the browser: made, told of a push, asked to send again, changed, disabled and deleted.

That a receiver gets what is sent, `tests/contract/test_webhooks.py` shows: a service sends nothing to this host.
"""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import expect

from tests.api.client import Registry
from tests.images import single
from tests.parts.service import Service
from tests.web.person import Visitor

pytestmark = pytest.mark.usefixtures("clean_log")

SECRET = "Bearer nobody-reads-this"


@pytest.mark.long
def test_a_webhook_and_what_it_sent(admin: Visitor, stage: Service) -> None:
    owner, project = Registry(stage.host, stage.username, stage.password), f"hooks-{uuid.uuid4().hex[:6]}"
    admin.go("/new-project").fill("Project name", project).click("Create project")
    admin.click("Webhooks", role="link").click("NEW WEBHOOK", role="link")
    admin.fill("Name", "chat").fill("Target", "http://10.0.0.1/").page.locator("#header").fill(SECRET)
    admin.click("Create webhook")
    assert "must be a public address" in admin.text()
    assert SECRET not in admin.page.content()
    admin.fill("Target", "http://hooks.test/").page.locator("#header").fill(SECRET)
    admin.click("Create webhook")
    assert "The webhook is made." in admin.told()
    page = admin.page.url

    # A push is told. Nobody is there, and the page says so.
    owner.push_image(f"{project}/app", "v1", single(project, sizes=(500,)))
    admin.page.goto(page)
    row = admin.row("app:v1")
    expect(row).to_contain_text("An image is pushed")
    expect(row).to_contain_text("1 attempt", timeout=30_000)
    expect(row).to_contain_text("Next attempt")
    row.locator("summary").click()
    expect(row).to_contain_text("Cannot connect")
    row.get_by_role("button", name="Send again").click()
    assert "sent within seconds" in admin.told()
    admin.click("Failed", role="link")
    expect(admin.page.locator("#list")).to_contain_text("Nothing yet")

    # A change keeps the header, which no page shows.
    admin.page.goto(page)
    admin.fill("Name", "chat room").click("Save")
    assert "The webhook is changed." in admin.told()
    assert "A header is set." in admin.text()
    assert SECRET not in admin.page.content()
    admin.page.locator("#no-header").check()
    admin.click("Save")
    assert "A header is set." not in admin.text()

    # While it is disabled nothing is told.
    admin.go(f"/projects/{project}/webhooks").confirm("Disable")
    assert "The webhook is disabled." in admin.told()
    owner.push_image(f"{project}/app", "v2", single(project, sizes=(600,)))
    admin.click("Enable", exact=False)
    assert "The webhook is enabled." in admin.told()
    admin.click("chat room", role="link")
    expect(admin.row("app:v1")).to_be_visible()
    expect(admin.row("app:v2")).to_have_count(0)
    admin.go(f"/projects/{project}/webhooks").confirm("Delete")
    assert "The webhook is deleted." in admin.told()
    assert "No webhooks yet" in admin.text()
