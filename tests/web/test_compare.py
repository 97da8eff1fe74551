"""Two images of a repository side by side, and the pulls of a repository over time."""

from __future__ import annotations

import json
import time
import uuid

import pytest
from playwright.sync_api import expect

from app.database import Transaction, projects, pulls, repositories
from tests.api.client import Registry
from tests.api.documents import descriptor, document
from tests.images import OCI_MANIFEST, Image, digest_of, multi
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.person import Visitor
from tests.web.scene import within

pytestmark = pytest.mark.usefixtures("clean_log")

BASE, OLD, NEW = b"base" * 500_000, b"old" * 300, b"new" * 700_000


def built(layers: tuple[bytes, ...], steps: list[str], **run: object) -> Image:
    """Make an image of these layers and build steps, that runs so."""
    history = [{"created_by": step} for step in steps]
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": run, "history": history}).encode()
    payload = document(
        schemaVersion=2, mediaType=OCI_MANIFEST, layers=[descriptor(layer) for layer in layers],
        config=descriptor(config, "application/vnd.oci.image.config.v1+json"),
        annotations={"org.opencontainers.image.base.name": "docker.io/library/debian:12"},
    )  # fmt: skip
    blobs = {digest_of(data): data for data in (config, *layers)}
    return Image(blobs, {digest_of(payload): (OCI_MANIFEST, payload)}, digest_of(payload))


@pytest.fixture(scope="module")
def project(stage: Service) -> str:
    """A public project with two versions of a tool, and an image for several platforms."""
    name = f"compare-{uuid.uuid4().hex[:6]}"
    admin = Person(stage.host).log_in(stage.username, stage.password)
    assert admin.post("/new-project", {"name": name, "quota": "1", "unit": "GiB", "access": "public"}).status == 303
    owner = Registry(stage.host, stage.username, stage.password)
    old = built(
        (BASE, OLD), ["ADD rootfs", "RUN install old"], User="root", Env=["LANG=C", "GONE=1"], Labels={"team": "a"}
    )
    new = built((BASE, NEW), ["ADD rootfs", "RUN install new"], User="tool", Env=["LANG=C.UTF-8", "MADE=<b>"])
    owner.push_image(f"{name}/tool", "1.0", old)
    owner.push_image(f"{name}/tool", "1.1", new)
    owner.push_image(f"{name}/multi", "1", multi("compared", sizes=(700,)))
    owner.push_image(f"{name}/multi", "2", multi("compared again", sizes=(900,)))
    return name


def test_two_tags_are_compared(visitor: Visitor, project: str) -> None:
    visitor.go(f"/projects/{project}/repositories/tool").click("Compare", role="link")
    assert visitor.page.url.endswith(f"/projects/{project}/compare/tool?from=1.0&to=1.1")
    visitor.screen("compare")
    cards = visitor.page.locator(".figure-card")
    expect(cards.nth(2)).to_contain_text("1.9 MiB")
    expect(cards.nth(3)).to_contain_text("2 MiB")
    layers = visitor.page.locator(".card", has_text="Layers").first.locator("tbody tr")
    expect(layers.locator(".mark")).to_have_text(["both", "the first only", "the second only"])
    for name, before, after in (("User", "root", "tool"), ("LANG", "C", "C.UTF-8"), ("GONE", "1", "–"),
                                ("MADE", "–", "<b>"), ("team", "a", "–")):  # fmt: skip
        expect(visitor.page.locator("tr", has=visitor.page.get_by_text(name, exact=True)).locator("td")).to_have_text(
            [name, before, after]
        )
    history = visitor.page.locator(".card", has_text="Build history")
    expect(history).to_contain_text("Both begin with the same 1 step.")
    expect(history.locator("li")).to_have_count(2)
    expect(history.locator("li").last).to_contain_text("RUN install new")
    visitor.go(f"/projects/{project}/repositories/tool:1.0")
    expect(visitor.page.locator(".facts").first).to_contain_text("FROM docker.io/library/debian:12")


def test_images_of_one_platform_are_compared(visitor: Visitor, project: str) -> None:
    visitor.go(f"/projects/{project}/compare/multi?from=1&to=2")
    platform = visitor.page.get_by_label("Platform")
    expect(platform).to_have_value("linux/amd64")
    others = [one for one in platform.locator("option").all_inner_texts() if one != "linux/amd64"]
    platform.select_option(others[0])
    visitor.click("Compare")
    visitor.page.wait_for_url("**platform=*")
    expect(platform).to_have_value(others[0])
    expect(visitor.page.locator(".figure-card")).to_have_count(4)


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("", 200, "Compare two images"),
        ("from=1.0&to=1.0", 200, "Both are the same image."),
        ("from=1.0&to=none", 404, "There is no tag none here."),
        ("from=1.0&to=a%20b", 404, "There is no tag a b here."),
        ("from=sha256:x&to=1.0", 404, "There is no tag sha256:x here."),
    ],
)
def test_anything_may_be_compared(stage: Service, project: str, query: str, status: int, said: str) -> None:
    answer = Person(stage.host).get(f"/projects/{project}/compare/tool?{query}")
    assert (answer.status, said in answer.text) == (status, True)


def test_a_comparison_is_never_heavy(stage: Service, project: str) -> None:
    """However much the images say of themselves: more of everything than is listed."""
    long = '<"&é' * 200
    images = [
        built(
            tuple(f"{word}{number}".encode() for number in range(70)),
            [f"{word}{number}{long}" for number in range(70)],
            User=word + long, Env=[f"{word}{number}={long}" for number in range(70)],
            Labels={f"{word}{number}": long for number in range(70)},
        )
        for word in ("a", "b")
    ]  # fmt: skip
    owner = Registry(stage.host, stage.username, stage.password)
    for tag, image in zip(("1", "2"), images, strict=True):
        owner.push_image(f"{project}/heavy", tag, image)
    answer = Person(stage.host).get(f"/projects/{project}/compare/heavy?from=1&to=2")
    assert answer.status == 200
    assert len(answer.text.encode()) < 100_000


def test_pulls_are_drawn_over_time(visitor: Visitor, stage: Service, project: str) -> None:
    now = int(time.time() // 3600)

    async def pull(transaction: Transaction) -> None:
        found = await projects.find(transaction, project)
        assert found is not None
        repository = await repositories.find(transaction, found.id, "tool")
        assert repository is not None
        for back in range(0, 40 * 24, 7):
            await pulls.add(transaction, {repository.id: 1 + back % 5}, now - back)

    within(stage.folder, pull)
    visitor.go(f"/projects/{project}/repositories/tool").screen("pulls")
    month, day = visitor.page.get_by_role("img", name="pulls in").all()
    assert month.locator("rect").count() == 30
    assert day.locator("rect").count() == 24
    expect(visitor.page.get_by_text("pulls in 24 hours", exact=False)).to_have_text(
        f"{sum(1 + back % 5 for back in range(0, 24, 7))} pulls in 24 hours"
    )
