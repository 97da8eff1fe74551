"""The story of a tag in the browser: made immutable, moved and pointed back, kept by a rule or removed by a run."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import expect

from tests.api.client import Registry, refused
from tests.images import single
from tests.parts.service import Service
from tests.web.person import Visitor

pytestmark = pytest.mark.usefixtures("clean_log")


@pytest.mark.long
def test_the_rules_of_a_project(admin: Visitor, stage: Service) -> None:
    owner, project = Registry(stage.host, stage.username, stage.password), f"rules-{uuid.uuid4().hex[:6]}"
    admin.go("/new-project").fill("Project name", project).click("Create project")
    images = [single(f"{project} {number}", sizes=(500,)) for number in range(4)]
    for number, tag in enumerate(("v1", "old", "latest", "latest")):
        owner.push_image(f"{project}/app", tag, images[number])

    # A tag that a rule holds is neither moved nor deleted.
    admin.go(f"/projects/{project}/policy").page.locator("summary", has_text="Add a rule").first.click()
    admin.page.locator("#immutable-tags").fill("v*")
    admin.page.locator("form[action$='/immutability/add']").get_by_role("button", name="Add rule").click()
    assert "The rule is added." in admin.told()
    answer = owner.put_manifest(f"{project}/app", "v1", images[3].payload, images[3].media_type)
    assert "(v* in **)" in refused(answer, 412, "DENIED")
    assert owner.put_manifest(f"{project}/app", "v1", images[0].payload, images[0].media_type).status == 201
    admin.go(f"/projects/{project}/repositories/app@{images[0].digest}").click("v1", role="link")
    assert "nobody can move or delete it" in admin.text()

    # Another one has a history, and is pointed back.
    admin.go(f"/projects/{project}/tags/app:latest").confirm("Point back")
    assert "names that artifact again" in admin.told()
    assert owner.manifest(f"{project}/app", "latest")["Docker-Content-Digest"] == images[2].digest

    # A retention rule: first what a run would remove, then the run.
    admin.go(f"/projects/{project}/policy").page.locator("summary", has_text="Add a rule").last.click()
    admin.page.locator("#template").select_option("always")
    admin.page.locator("#retention-tags").fill("latest")
    admin.page.locator("form[action$='/retention/add']").get_by_role("button", name="Add rule").click()
    assert "The rule is added." in admin.told()
    admin.go(f"/projects/{project}/tags/app:old")
    assert "The next run removes it." in admin.text()
    admin.go(f"/projects/{project}/tags/app:latest")
    assert "It stays." in admin.text()
    admin.go(f"/projects/{project}/policy").click("Show what a run would remove")
    done = admin.page.locator("#list td", has_text="done")
    expect(done).to_have_count(1, timeout=60_000)
    admin.page.locator("#list td.name a").first.click()
    admin.page.locator("summary", has_text="Artifacts").click()
    named = admin.page.locator(".plain-list").inner_text()
    assert "old" in named
    assert "v1" not in named, "it is immutable"
    assert sorted(owner.tags(f"{project}/app")) == ["latest", "old", "v1"]
    admin.go(f"/projects/{project}/policy").confirm("Run now")
    expect(done).to_have_count(2, timeout=90_000)
    assert sorted(owner.tags(f"{project}/app")) == ["latest", "v1"]
