"""The space that an unfinished push holds is seen on the project's page, and given back there."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import expect

from tests.api.client import Registry
from tests.images import single
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.person import Visitor
from tests.web.scene import PASSWORD

pytestmark = pytest.mark.usefixtures("clean_log")


def test_unfinished_pushes_are_seen_and_freed(mari: Visitor, stage: Service) -> None:
    name = f"half-{uuid.uuid4().hex[:6]}"
    person, jaan = (Person(stage.host).log_in(who, PASSWORD) for who in ("mari.tamm", "jaan.saar"))
    assert person.post("/new-project", {"name": name, "quota": "1", "unit": "GiB"}).status == 303
    assert person.post(f"/projects/{name}/members/add", {"name": "jaan.saar", "role": "guest"}).status == 303
    registry = Registry(stage.host, stage.username, stage.password)
    registry.push_image(f"{name}/whole", "1", single("whole", sizes=(3_000,)))
    registry.push_blob(f"{name}/half", b"x" * 1_572_864)
    page = jaan.get(f"/projects/{name}").text
    assert "1.5 MiB of unfinished pushes" in page
    assert "free-unfinished" not in page
    assert jaan.post(f"/projects/{name}/free-unfinished").status == 403
    mari.go(f"/projects/{name}")
    expect(mari.page.get_by_text("1.5 MiB of unfinished pushes")).to_be_visible()
    mari.screen("unfinished").confirm("Free them")
    assert "1.5 MiB of unfinished pushes are freed." in mari.told()
    assert mari.page.url.endswith(f"/projects/{name}")
    assert mari.page.get_by_text("of unfinished pushes", exact=True).count() == 0
    assert registry.manifest(f"{name}/whole", "1").status == 200
