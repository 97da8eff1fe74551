"""The Mirror page lists every mirror that one may see; administrators see how each upstream does."""

from __future__ import annotations

import time
import uuid

import pytest
from playwright.sync_api import expect
from sqlalchemy import update

from app.database import Transaction, projects, repositories, traffic
from app.database.tables import tag
from app.database.traffic import Counts
from app.web.pages.base import PAGE_SIZE
from tests.api.client import Registry
from tests.images import multi, single
from tests.parts.process import wait_for
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web.http import Person
from tests.web.person import Opener, Visitor
from tests.web.scene import within

pytestmark = pytest.mark.usefixtures("clean_log")

GIB = 1024**3


@pytest.fixture(scope="module")
def mirrors(stage: Service, hub_process: Hub) -> tuple[str, str]:
    """A public and a private mirror made by an administrator in the browser; the public one has served something."""
    word = uuid.uuid4().hex[:6]
    public, private = f"lab-hub-{word}", f"own-hub-{word}"
    admin = Person(stage.host).log_in(stage.username, stage.password)
    for name, access in ((public, "public"), (private, "private")):
        form = {"name": name, "access": access, "cache": "on", "upstream": "docker.io"}
        assert admin.post("/new-project", form).status == 303
    hub_process.add(single("few", sizes=(3_000_000,)), "library/alpine", "3")
    hub_process.add(single("many", sizes=(2_000,)), "library/bash", "5")
    owner = Registry(stage.host, stage.username, stage.password)
    owner.pull_image(f"{public}/library/alpine", "3")
    owner.pull_image(f"{public}/library/bash", "5")
    owner.pull_image(f"{private}/library/bash", "5")

    async def add(transaction: Transaction) -> None:
        found = await projects.find(transaction, public)
        assert found is not None
        hour = int(time.time() // 3600) - 100
        await traffic.add(transaction, {(found.id, hour): Counts(3_000_000, 1_000_000, 12 * GIB, 2 * GIB)})

    within(stage.folder, add)
    return public, private


def test_every_mirror_one_may_see_is_listed(visitor: Visitor, admin: Visitor, mirrors: tuple[str, str]) -> None:
    public, private = mirrors
    visitor.go("/mirror")
    row = visitor.row(public)
    expect(row).to_contain_text("Cache of docker.io")
    cells = row.locator("td").all_inner_texts()
    assert cells[2].strip() == "2"
    assert "MiB" in cells[3]
    assert cells[4].startswith("75 %")
    assert cells[5] == "10 GiB"
    assert private not in visitor.text()
    # What the configuration names is still shown whole.
    expect(visitor.page.get_by_role("img", name="Requests left over the last 24 hours")).to_be_visible()
    visitor.screen("mirrors").click(public, role="link")
    expect(visitor.page.get_by_role("heading", name="Most pulled images")).to_be_visible()
    expect(visitor.row("library/alpine")).to_be_visible()
    expect(admin.go("/mirror").row(private)).to_contain_text("Private")


def test_a_fill_is_counted_with_the_mirrors_it_runs_for(
    visitor: Visitor, stage: Service, mirrors: tuple[str, str], hub_process: Hub
) -> None:
    public, _ = mirrors
    image = single("crawling", sizes=(6_000_000,))
    hub_process.add(image, "library/crawling", "1")
    registry = Registry(stage.host)
    layer = registry.manifest(f"{public}/library/crawling", "1").json()["layers"][0]["digest"]
    hub_process.pace(bandwidth=600_000)
    try:
        connection = registry.connect()
        token = registry.token(f"repository:{public}/library/crawling:pull")
        connection.request(
            "GET", f"/v2/{public}/library/crawling/blobs/{layer}", headers={"Authorization": f"Bearer {token}"}
        )
        for _ in range(20):
            if visitor.go("/mirror").row(public).locator("td").last.inner_text().strip() == "1":
                break
            time.sleep(0.3)
        expect(visitor.row(public).locator("td").last).to_have_text("1")
        connection.close()
    finally:
        hub_process.pace()


def test_many_mirrors_are_turned(admin: Visitor, stage: Service, mirrors: tuple[str, str]) -> None:
    word = uuid.uuid4().hex[:6]

    async def make(transaction: Transaction) -> None:
        for number in range(PAGE_SIZE):
            await projects.create(
                transaction, f"zz-{word}-{number:02}", public=False, upstream="docker.io", settings={}
            )

    within(stage.folder, make)
    admin.go("/mirror").click("Next", role="link")
    expect(admin.row(f"zz-{word}-{PAGE_SIZE - 1:02}")).to_be_visible()
    assert admin.page.get_by_text("Most pulled images").count() == 0
    admin.click("Previous", role="link")
    expect(admin.row(mirrors[0])).to_be_visible()


def test_upstreams_say_where_they_are_changed_and_how_they_do(
    admin: Visitor, open_context: Opener, stage: Service, mirrors: tuple[str, str], hub_process: Hub
) -> None:
    admin.go("/administration/upstreams").screen("upstreams")
    card = admin.page.locator(".card", has=admin.page.get_by_role("heading", name="docker.io"))
    expect(card).to_contain_text("Answers")
    expect(card).to_contain_text(hub_process.url)
    expect(card).to_contain_text("300 seconds")
    expect(card.get_by_role("link", name=mirrors[1])).to_be_visible()
    expect(card).to_contain_text("of 200 left")
    expect(admin.page.get_by_role("note")).to_contain_text("config.yaml")
    # Looking at it costs nothing of what it tells.
    left = card.locator("td").nth(1).inner_text()
    assert admin.go("/administration/upstreams").page.locator(".card td").nth(1).inner_text() == left
    hub_process.down("registry")
    try:
        admin.go("/administration/upstreams").screen("upstreams-away")
        expect(card.locator(".mark-bad")).to_contain_text("cannot be reached")
    finally:
        hub_process.up("registry")
    expect(admin.go("/administration/upstreams").page.locator(".mark-good").first).to_have_text("Answers")


def test_an_artifact_says_whether_a_pull_of_it_costs_something(
    visitor: Visitor, stage: Service, mirrors: tuple[str, str], hub_process: Hub
) -> None:
    """What is here, when its tag was compared with the upstream, and what the next pull costs."""
    public, _ = mirrors
    name = f"library/costs-{uuid.uuid4().hex[:6]}"
    hub_process.add(multi(name, sizes=(1_000, 2_000)), name, "1")
    owner = Registry(stage.host, stage.username, stage.password)
    at = f"/projects/{public}/repositories/{name}"
    index = owner.manifest(f"{public}/{name}", "1").json()
    card = visitor.go(f"{at}:1").page.locator(".cached")
    expect(card).to_contain_text(f"0 of {len(index['manifests'])} parts are here")
    expect(card).to_contain_text("costs one pull of the upstream's limit")
    image = index["manifests"][0]["digest"]
    owner.manifest(f"{public}/{name}", image)
    visitor.go(f"{at}@{image}")
    expect(card).to_contain_text("0 of 3 parts are here")
    expect(card).to_contain_text("A pull downloads the missing layers. That costs nothing")
    owner.pull_image(f"{public}/{name}", "1")
    # A client has its last byte a moment before the registry has written it down.
    wait_for(lambda: "Cached here" in visitor.go(f"{at}@{image}").page.locator(".cached").inner_text(), what="a fill")
    expect(card).to_contain_text("A pull by digest never asks the upstream")
    visitor.go(f"{at}:1").screen("cached")
    expect(card).to_contain_text("A pull costs nothing of the upstream's limit.")
    expect(card).to_contain_text("Pulls do not ask there again until")

    async def wait(transaction: Transaction) -> None:
        project = await projects.find(transaction, public)
        assert project is not None
        found = await repositories.find(transaction, project.id, name)
        assert found is not None
        await transaction.execute(
            update(tag).where(tag.c.repository_id == found.id).values(checked_at=time.time() - 400)
        )

    within(stage.folder, wait)
    visitor.go(f"{at}:1")
    expect(card).to_contain_text("compared with docker.io 6 minutes ago")
    expect(card).to_contain_text("The next pull compares it again, which is free.")
    assert visitor.go(f"/projects/{public}").page.locator(".cached").count() == 0
