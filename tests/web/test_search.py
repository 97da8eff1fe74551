"""The search field at the top: reached by a key, answered with what one may see, with and without scripts."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import expect

from app.database import Transaction, projects
from app.web.pages.base import PAGE_SIZE
from app.web.pages.search import name_in
from tests.api.client import Registry
from tests.images import single
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.person import Opener, Visitor
from tests.web.scene import PASSWORD, within

pytestmark = pytest.mark.usefixtures("clean_log")

FIELD = "Search projects and repositories"
HOST = "registry.hpc.ut.ee"


@pytest.fixture(scope="module")
def secret(stage: Service) -> str:
    """A private project of mari.tamm with one repository."""
    name = f"secret-{uuid.uuid4().hex[:6]}"
    mari = Person(stage.host).log_in("mari.tamm", PASSWORD)
    assert mari.post("/new-project", {"name": name, "quota": "1", "unit": "GiB", "access": "private"}).status == 303
    owner = Registry(stage.host, stage.username, stage.password)
    owner.push_image(f"{name}/tools/simulator", "1", single("simulator", sizes=(400,)))
    return name


def test_a_slash_goes_to_the_field_from_every_page(mari: Visitor, secret: str) -> None:
    for path in ("/projects", "/mirror", "/help", "/mine", f"/projects/{secret}", "/"):
        mari.go(path).page.keyboard.press("/")
        expect(mari.page.get_by_label(FIELD)).to_be_focused()
        assert mari.page.get_by_label(FIELD).input_value() == ""
    # Whoever types a slash elsewhere means a slash.
    area = mari.page.get_by_label("Images", exact=True)
    area.focus()
    mari.page.keyboard.type("a/b")
    assert area.input_value() == "a/b"


def test_projects_and_repositories_are_found(mari: Visitor, secret: str) -> None:
    mari.go("/").fill(FIELD, secret).page.keyboard.press("Enter")
    mari.page.wait_for_url("**/search?q=*")
    mari.screen("search")
    assert mari.page.get_by_label(FIELD).input_value() == secret
    expect(mari.page.get_by_role("link", name=secret, exact=True)).to_be_visible()
    mari.click(f"{secret}/tools/simulator", role="link")
    assert mari.page.url.endswith(f"/projects/{secret}/repositories/tools/simulator")
    mari.fill(FIELD, "SIMULAT").page.keyboard.press("Enter")
    expect(mari.page.get_by_role("link", name=f"{secret}/tools/simulator")).to_be_visible()


def test_what_one_may_not_see_is_not_found(visitor: Visitor, jaan: Visitor, secret: str) -> None:
    for outsider in (visitor, jaan):
        outsider.go(f"/search?q={secret}")
        expect(outsider.page.get_by_role("heading", name="Nothing with that name")).to_be_visible()
        outsider.go("/search?q=tools/simulat")
        assert outsider.page.get_by_role("link", name=secret, exact=False).count() == 0
    visitor.screen("search-nothing").click("Log in to search your own too.", role="link")
    assert "/login?next=%2Fsearch%3Fq%3D" in visitor.page.url


def test_search_works_without_scripts_in_estonian_on_a_telephone(open_context: Opener) -> None:
    plain = open_context(scripts=False, locale="et", width=390)
    plain.go("/mirror").fill("Otsi projekte ja hoidlaid", "redis").page.keyboard.press("Enter")
    expect(plain.page.get_by_role("link", name="mirror/library/redis")).to_be_visible()
    wide = plain.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    plain.screen("search-telephone").go("/search").screen("search-empty")


def test_many_results_are_turned_by_key(visitor: Visitor, stage: Service) -> None:
    word = uuid.uuid4().hex[:6]

    async def make(transaction: Transaction) -> None:
        for number in range(PAGE_SIZE + 3):
            await projects.create(transaction, f"many-{word}-{number:02}", public=True, upstream=None, settings={})
            made = await projects.find(transaction, f"many-{word}-{number:02}")
            assert made is not None
            await projects.ensure_repository(transaction, made.id, "app")

    within(stage.folder, make)
    visitor.go(f"/search?q={word}").screen("search-many")
    repositories = visitor.page.locator("td.name a[href*='/repositories/']")
    first = repositories.all_inner_texts()
    assert first == [f"many-{word}-{number:02}/app" for number in range(PAGE_SIZE)]
    visitor.click("Next", role="link")
    expect(repositories).to_have_text([f"many-{word}-{PAGE_SIZE + number}/app" for number in range(3)])
    visitor.click("Previous", role="link")
    expect(repositories).to_have_text(first)
    visitor.go(f"/search?q={word}").click("All matching projects", role="link")
    assert visitor.page.url.endswith(f"/projects?q={word}")


def test_tags_digests_and_people_are_found(mari: Visitor, jaan: Visitor, visitor: Visitor, stage: Service) -> None:
    """What one may not see is not found by its content either; people are found by those who are logged in."""
    word, image = uuid.uuid4().hex[:6], single(f"held {uuid.uuid4().hex}", sizes=(400,))
    name = f"held-{word}"
    person = Person(stage.host).log_in("mari.tamm", PASSWORD)
    assert person.post("/new-project", {"name": name, "quota": "1", "unit": "GiB", "access": "private"}).status == 303
    owner = Registry(stage.host, stage.username, stage.password)
    owner.push_image(f"{name}/one", f"v-{word}-1", image)
    owner.push_image(f"{name}/two", f"v-{word}-2", image)
    links = mari.page.locator("tbody a.mono")
    mari.go(f"/search?q=v-{word}&in=tags").screen("search-tags")
    expect(links).to_have_text([f"v-{word}-1", f"v-{word}-2"])
    mari.go("/").fill(FIELD, f"two:v-{word}").page.keyboard.press("Enter")
    mari.click("Tags", role="link")
    expect(links).to_have_text([f"v-{word}-2"])
    links.first.click()
    mari.page.wait_for_url(f"**/two@{image.digest}")
    # A digest is known by its form, from its first dozen digits on.
    for text in (image.digest, image.digest[7:19], f"{stage.host}/{name}/one@{image.digest}"):
        mari.go(f"/search?q={text}")
        expect(links).to_have_text([image.digest[:19]] * 2)
    for outsider in (jaan, visitor):
        for text, kind in ((f"v-{word}", "tags"), (image.digest, "digests")):
            outsider.go(f"/search?q={text}&in={kind}")
            assert outsider.page.locator("tbody tr").count() == 0
    jaan.go("/search?q=mari").click("People", role="link").click("Projects of mari.tamm", role="link")
    assert jaan.page.url.endswith("/projects?owner=mari.tamm")
    assert jaan.page.get_by_role("link", name=name, exact=True).count() == 0
    expect(mari.go("/projects?owner=mari.tamm").page.get_by_role("link", name=name, exact=True)).to_be_visible()
    assert "Mari Tamm" not in Person(stage.host).get("/search?q=mari&in=people").text


@pytest.mark.parametrize(
    "query", ["", "q=", "q=%00", "q=%25", "q=" + "x" * 5000, "q=a&after=%00", "q=a&before=nonsense", "q=a&in=tags",
              "q=%C2%BD&in=tags", "q=a:b:c&in=tags", "q=zz&in=digests", "q=x&in=people", "q=a&in=x", "in=people",
              "q=a&in=tags&after=%C2%BD"]
)  # fmt: skip
def test_anything_may_be_searched_for(stage: Service, query: str) -> None:
    assert Person(stage.host).get(f"/search?{query}").status == 200


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("redis", "redis"),
        (f"{HOST}/lab/app:1.0", "lab/app"),
        (f"https://{HOST}/lab/app", "lab/app"),
        (f"lab/app@sha256:{'0' * 64}", "lab/app"),
        ("mari@ut.ee", "mari@ut.ee"),
        (f"{HOST}", HOST),
    ],
)
def test_an_address_is_searched_for_by_its_name(text: str, name: str) -> None:
    assert name_in(text, HOST) == name
