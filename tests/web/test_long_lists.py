"""A repository with 5,000 tags opens like one with 50: the same is loaded, asked for and drawn; and one gets about."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from playwright.sync_api import Response, expect
from sqlalchemy import Engine, event

from app.access.computations import Computations
from app.database import Database, Transaction, projects, repositories
from app.database import artifacts as listed
from app.database.keyset import MOST_COUNTED, Page
from app.database.tables import manifest, tag
from app.oci.digest import Digest
from app.oci.manifest import OCI_INDEX
from app.registry.artifacts import Artifacts
from app.registry.repositories import Repositories
from app.storage.filesystem import FilesystemStore
from app.web.pages.base import PAGE_SIZE
from tests.api.client import Registry
from tests.images import single
from tests.parts.service import Service
from tests.web.person import Visitor
from tests.web.scene import within

pytestmark = pytest.mark.usefixtures("clean_log")

FEW, MANY = 50, 5000
COUNTS = {"few": FEW, "much": MANY}


@dataclass(frozen=True)
class Lists:
    """A project with two repositories of as many artifacts as tags, and two in which one artifact has all the tags."""

    project: str
    digest: str

    def images(self, size: str) -> str:
        return f"/projects/{self.project}/repositories/images-{size}?show=artifacts"

    def tags(self, size: str) -> str:
        return f"/projects/{self.project}/repositories/names-{size}"

    def names(self, size: str) -> str:
        return f"/projects/{self.project}/repositories/names-{size}@{self.digest}"


@pytest.fixture(scope="module")
def lists(stage: Service) -> Lists:
    """Short names and times alike, so that what is loaded differs in nothing but how much there is."""
    project = f"long-{uuid.uuid4().hex[:6]}"
    owner = Registry(stage.host, stage.username, stage.password)
    image = single("long", sizes=(400,))

    async def make(transaction: Transaction) -> None:
        await projects.create(transaction, project, public=True, upstream=None, settings={})

    async def fill(transaction: Transaction) -> None:
        found = await projects.find(transaction, project)
        assert found is not None
        now = time.time() - 5 * 86400
        bare = {"media_type": OCI_INDEX, "annotations": {}, "payload": b"{}", "size": 2, "pulled_at": now}
        for size, count in COUNTS.items():
            many = [Digest.of(f"{number}".encode()) for number in range(count)]
            spread = await projects.ensure_repository(transaction, found.id, f"images-{size}")
            rows = [{"repository_id": spread, "digest": one, "created_at": now + at} for at, one in enumerate(many)]
            await transaction.execute(manifest.insert(), [bare | row for row in rows])
            entry = await repositories.find(transaction, found.id, f"names-{size}")
            assert entry is not None
            for repository, digests in ((spread, many), (entry.id, [image.digest] * count)):
                tags = [
                    {"repository_id": repository, "name": f"t{number:04}", "digest": digest, "updated_at": now}
                    for number, digest in enumerate(digests)
                ]
                await transaction.execute(tag.insert(), [row | {"checked_at": now} for row in tags])

    within(stage.folder, make)
    for size in COUNTS:
        owner.push_image(f"{project}/names-{size}", "z", image)
    within(stage.folder, fill)
    return Lists(project, image.digest)


@dataclass(frozen=True)
class Loaded:
    """What a browser loaded for one page and drew of it."""

    requests: int
    page_bytes: int
    rows: int
    elements: int


def load(visitor: Visitor, path: str, rows: str) -> Loaded:
    """Open a page anew and look at all it takes."""
    answers: list[Response] = []

    def note(answer: Response) -> None:
        answers.append(answer)

    visitor.page.on("response", note)
    visitor.go(path)
    visitor.page.wait_for_load_state("networkidle")
    visitor.page.remove_listener("response", note)
    (page,) = [answer for answer in answers if answer.request.resource_type == "document"]
    return Loaded(
        len(answers),
        len(page.body()),
        visitor.page.locator(rows).count(),
        int(visitor.page.evaluate("document.querySelectorAll('*').length")),
    )


@pytest.mark.parametrize(
    ("page", "rows"), [("images", "table.list tbody tr"), ("tags", "table.list tbody tr"), ("names", ".plain-list li")]
)
def test_five_thousand_tags_load_what_fifty_load(visitor: Visitor, lists: Lists, page: str, rows: str) -> None:
    few, many = (load(visitor, getattr(lists, page)(size), rows) for size in COUNTS)
    assert (many.rows, many.requests, many.elements) == (few.rows, few.requests, few.elements)
    assert many.rows == PAGE_SIZE
    # A number with two figures more, here and there.
    assert abs(many.page_bytes - few.page_bytes) < 200
    visitor.screen(f"five-thousand-{page}")


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Every statement that this process sends a database."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def test_five_thousand_tags_are_asked_for_like_fifty(stage: Service, lists: Lists, statements: list[str]) -> None:
    """By what the pages ask of the registry, on the database of the service that answers the test above."""

    async def ask(size: str) -> list[str]:
        database = Database(f"sqlite:///{stage.folder / 'data' / 'registry.sqlite'}")
        artifacts = Artifacts(database, FilesystemStore(stage.folder / "data" / "blobs"), Computations())
        found = Repositories(database)
        try:
            async with database.reading() as transaction:
                project = await projects.find(transaction, lists.project)
            assert project is not None
            statements.clear()
            images = await found.find(project.id, f"images-{size}")
            assert len(await artifacts.page(images.id, Page(PAGE_SIZE + 1))) == PAGE_SIZE + 1
            names = await found.find(project.id, f"names-{size}")
            for by_name in (False, True):
                for offset in (0, PAGE_SIZE):
                    page: Page[str] = Page(PAGE_SIZE, offset=offset)
                    assert len(await artifacts.tag_page(names.id, page, by_name=by_name)) == PAGE_SIZE
            detail = await artifacts.detail(names.id, Digest.parse(lists.digest))
            assert detail.artifact.tag_count == min(COUNTS[size], MOST_COUNTED) + 1
            assert len(detail.artifact.tags) == 10
            assert len(await database.read(listed.tags, names.id, Page(PAGE_SIZE + 1))) == PAGE_SIZE + 1
            return list(statements)
        finally:
            await database.close()

    with ThreadPoolExecutor(1) as pool:
        few, many = (pool.submit(asyncio.run, ask(size)).result() for size in COUNTS)
    assert few == many
    assert len(few) > 3


def shown(visitor: Visitor) -> list[str]:
    return visitor.page.locator("table.list tbody tr .mark-brand").all_inner_texts()


def test_one_turns_the_pages_of_artifacts_and_comes_back(visitor: Visitor, lists: Lists) -> None:
    visitor.go(lists.images("much"))
    newest = [f"t{number:04}" for number in range(MANY - 1, MANY - 1 - 3 * PAGE_SIZE, -1)]
    pages = [newest[start : start + PAGE_SIZE] for start in (0, PAGE_SIZE, 2 * PAGE_SIZE)]
    assert shown(visitor) == pages[0]
    assert visitor.page.get_by_role("link", name="Previous").count() == 0
    for turn, page in (("Next", 1), ("Next", 2), ("Previous", 1), ("Previous", 0), ("Next", 1)):
        visitor.click(turn, role="link")
        expect(visitor.page.locator("table.list tbody tr .mark-brand")).to_have_text(pages[page])
    visitor.click("First page", role="link")
    expect(visitor.page.get_by_role("link", name="First page")).to_have_count(0)
    assert shown(visitor) == pages[0]
    # The oldest page of a filter: nothing follows it, and nothing is before its only page.
    visitor.fill("Search by tag", "t000").page.keyboard.press("Enter")
    visitor.page.wait_for_url("**q=t000**")
    assert shown(visitor) == [f"t000{number}" for number in range(9, -1, -1)]
    assert visitor.page.get_by_role("link", name="Next").count() == 0


def test_the_first_page_reached_backwards_has_no_page_before_it(visitor: Visitor, lists: Lists) -> None:
    visitor.go(lists.images("few"))
    first = shown(visitor)
    visitor.click("Next", role="link")
    visitor.page.wait_for_url("**after=**")
    assert visitor.page.get_by_role("link", name="Next").count() == 0
    visitor.click("Previous", role="link")
    visitor.page.wait_for_url("**before=**")
    assert shown(visitor) == first
    assert visitor.page.get_by_role("link", name="Previous").count() == 0


def test_the_tags_of_one_artifact_are_filtered_and_turned(visitor: Visitor, lists: Lists) -> None:
    tags = visitor.page.locator(".plain-list li b")
    visitor.go(lists.names("much"))
    expect(tags).to_have_text([f"t{number:04}" for number in range(PAGE_SIZE)])
    visitor.click("Next", role="link")
    expect(tags).to_have_text([f"t{number:04}" for number in range(PAGE_SIZE, 2 * PAGE_SIZE)])
    visitor.click("Previous", role="link")
    expect(tags).to_have_text([f"t{number:04}" for number in range(PAGE_SIZE)])
    visitor.fill("Search by tag", "499").page.keyboard.press("Enter")
    expect(tags).to_have_text([*(f"t{number:04}" for number in (499, 1499, 2499, 3499, 4499)),
                               *(f"t499{number}" for number in range(10))])  # fmt: skip
    visitor.screen("tags-searched").fill("Search by tag", "nothing").page.keyboard.press("Enter")
    expect(visitor.page.get_by_text("No tag with that name")).to_be_visible()
    visitor.click("Show all", role="link")
    expect(tags).to_have_count(PAGE_SIZE)


def test_repositories_and_projects_are_turned_back_as_well(admin: Visitor, lists: Lists, stage: Service) -> None:
    names = [f"{lists.project}-{number:02}" for number in range(PAGE_SIZE + 2)]

    async def make(transaction: Transaction) -> None:
        found = await projects.find(transaction, lists.project)
        assert found is not None
        for name in names:
            await projects.create(transaction, name, public=True, upstream=None, settings={})
            await projects.ensure_repository(transaction, found.id, f"part/{name}")

    within(stage.folder, make)
    for path in (f"/projects?q={lists.project}-", f"/projects/{lists.project}/repositories?q=part/"):
        admin.go(path)
        names_shown = admin.page.locator("table.list tbody td.name a")
        first = names_shown.all_inner_texts()
        assert len(first) == PAGE_SIZE
        admin.click("Next", role="link")
        expect(names_shown).to_have_count(2)
        admin.click("Previous", role="link")
        expect(names_shown).to_have_text(first)


@pytest.mark.parametrize("query", ["before=x", "before=1,x", "after=x&before=x", "before=0,sha256:00"])
def test_a_key_that_is_none_is_told_so(visitor: Visitor, lists: Lists, query: str) -> None:
    visitor.go(f"{lists.images('few')}&{query}", 400)
    visitor.go(f"{lists.tags('few')}?{query}", 400 if "=x" in query else 200)
    visitor.go(f"/projects/{lists.project}/repositories?before=%00")
