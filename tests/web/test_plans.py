"""A class in the browser: paste, look at what it takes, plan, watch it come, and project it."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from tests.images import multi
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web.http import Person
from tests.web.person import Visitor

pytestmark = pytest.mark.usefixtures("clean_log")


def test_a_class_is_planned_watched_and_projected(stage: Service, hub_process: Hub, admin: Visitor) -> None:
    word = uuid.uuid4().hex[:6]
    web, shop, title = f"class/web-{word}", f"class/shop-{word}", f"Databases {word}"
    for name in (web, shop):
        hub_process.add(multi(name), name, "1")
    # So soon that all of it is fetched now.
    begins = datetime.fromtimestamp(time.time() + 2 * 3600, UTC).astimezone().strftime("%Y-%m-%dT%H:%M")
    compose = (
        f"services:\n  web:\n    image: {web}:1\n  shop:\n    image: {shop}:1\n  gone:\n    image: class/none-{word}"
    )
    admin.go("/plans").click("NEW PLAN", role="link").page.wait_for_url("**/plans/new")
    admin.fill("Title", title).fill("Images", compose).fill("Begins at", begins)
    admin.click("Show what it takes")
    shown = admin.page.locator("#preview")
    expect(shown).to_contain_text("Not all of it will be here in time")
    expect(shown.get_by_role("row").nth(1)).to_contain_text("Expected")
    term = datetime.fromtimestamp(time.time() + 90 * 86400, UTC).astimezone().strftime("%Y-%m-%dT%H:%M")
    admin.fill("Images", f"{web}:1\n{shop}:1").fill("Pin the tags until", term).click("Show what it takes")
    expect(shown).to_contain_text("All of it will be here in time")
    admin.click("Make this plan").page.wait_for_url("**/plans/*")
    expect(admin.page.get_by_role("heading", name=title)).to_be_visible()
    expect(admin.page.locator("#plan")).to_contain_text("0 of 2 here")
    path = admin.page.url.removeprefix(stage.url)

    # The service carries plans out every 15 s, and the page is read again every 10 s.
    expect(admin.page.locator("#plan")).to_contain_text("2 of 2 here", timeout=120_000)
    expect(admin.page.locator("#plan")).to_contain_text("Pulled by 0 machines")
    other = Person(stage.host).log_in(stage.username, stage.password)
    assert other.get(f"{path}/fills").status == 200
    assert other.get("/waiting").status == 200
    assert title in other.get("/plans").text
    assert other.post("/plans/delete", {"plan": path.rpartition("/")[2]}).status == 303
    assert other.get(path).status == 404

    # The upstream moves, which a comparison shows. The tag stays until somebody uses the newer one.
    newer = hub_process.add(multi(f"{word}-newer"), web, "1")
    again = {"title": title, "text": f"{web}:1", "platforms": "linux/amd64", "due_at": begins, "do": "show"}
    assert other.post("/plans/new", again).status == 200
    admin.go(f"/projects/mirror/repositories/{web}")
    pins = admin.page.locator("#pins")
    expect(pins).to_contain_text(f"The upstream has a newer one: {newer.digest[:19]}")
    expect(pins).to_contain_text("admin")
    admin.confirm("Use the newer one")
    assert "The tag names the newer artifact now." in admin.told()
    expect(pins).not_to_contain_text("The upstream has a newer one")
    expect(admin.page.locator("#list")).to_contain_text(newer.digest.partition(":")[2][:12])
