"""The bin in the browser: an image, a repository and a project are deleted and restored, and a secret goes for good."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.api.client import Registry
from tests.images import single
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.person import Visitor

pytestmark = pytest.mark.usefixtures("clean_log")


@pytest.mark.long
def test_what_was_deleted_comes_back(admin: Visitor, stage: Service) -> None:
    owner, project = Registry(stage.host, stage.username, stage.password), f"bin-{uuid.uuid4().hex[:6]}"
    admin.go("/new-project").fill("Project name", project).click("Create project")
    image, secret = (single(f"{project} {number}", sizes=(500,)) for number in range(2))
    owner.push_image(f"{project}/app", "v1", image)
    owner.push_image(f"{project}/app", "secret", secret)

    # An image, by one click.
    admin.go(f"/projects/{project}/repositories/app@{image.digest}").page.locator("summary", has_text="Delete").click()
    assert "You can restore it from the bin for 7 days." in admin.text()
    admin.click("Delete artifact")
    assert owner.tags(f"{project}/app") == ["secret"]
    admin.go(f"/projects/{project}")
    assert "in the bin" in admin.text()
    admin.go(f"/projects/{project}/bin").page.get_by_role("button", name="Restore app").click()
    assert "app is restored." in admin.told()
    assert sorted(owner.tags(f"{project}/app")) == ["secret", "v1"]

    # A secret goes for good.
    admin.go(f"/projects/{project}/repositories/app@{secret.digest}").page.locator("summary", has_text="Delete").click()
    admin.click("Delete artifact")
    admin.go(f"/projects/{project}/bin").confirm("Delete for good")
    assert "It is deleted for good." in admin.told()
    assert "The bin is empty" in admin.text()
    for digest in secret.blobs:
        assert digest in image.blobs or owner.blob(f"{project}/app", digest).status == 404

    # A project with all that it has.
    admin.go(f"/projects/{project}/configuration").page.locator("#delete-name").fill(project)
    admin.click("Delete project")
    admin.go("/mine/deleted").page.get_by_role("button", name=f"Restore {project}").click()
    assert f"{project} is restored." in admin.told()
    assert owner.tags(f"{project}/app") == ["v1"]


def test_without_a_bin_no_page_speaks_of_one(tmp_path: Path) -> None:
    overrides = {"policy": {"bin_days": 0}, "projects": {"lab": {"public": True}}}
    with Service(tmp_path, overrides=overrides) as service:
        owner, person = Registry(service.host, service.username, service.password), Person(service.host)
        person.log_in(service.username, service.password)
        image = single("no bin", sizes=(500,))
        owner.push_image("lab/app", "v1", image)
        page = person.get(f"/projects/lab/repositories/app@{image.digest}").text
        assert "You cannot undo this." in page
        assert "/projects/lab/bin" not in page
        assert "/mine/deleted" not in person.get("/mine").text
        assert person.post(f"/projects/lab/delete-artifact/app@{image.digest}").status == 303
        assert owner.call("GET", f"/v2/lab/app/manifests/{image.digest}").status == 404
        assert "The bin is empty" in person.get("/projects/lab/bin").text
