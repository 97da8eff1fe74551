"""What a screen reader, a keyboard and tired eyes need of every page."""

from __future__ import annotations

import re
import statistics
import uuid
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

import app.web
from tests.api.client import Registry
from tests.images import multi, single
from tests.parts.service import Service
from tests.web.http import Person
from tests.web.person import Opener, Visitor

pytestmark = pytest.mark.usefixtures("clean_log")

STYLE = (Path(app.web.__file__).parent / "static" / "style.css").read_text()
COLOUR = re.compile(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")
# Text, and what it stands on.
PAIRS = {
    "ink": ("paper", "sheet", "raised", "code-bg", "brand-soft", "accent-soft", "good-soft", "warn-soft", "bad-soft"),
    "quiet": ("paper", "sheet", "raised", "code-bg"),
    "brand": ("paper", "sheet", "raised", "brand-soft"),
    "good": ("sheet", "good-soft"),
    "warn": ("sheet", "warn-soft"),
    "bad": ("sheet", "bad-soft"),
}
FILLS = ("brand-fill", "brand-fill-strong", "bad-fill")

# What of a page is wrong for who does not see it, in words.
_FAULTS = """() => {
  const faults = [], seen = (one) => one.checkVisibility();
  const levels = [...document.querySelectorAll("h1, h2, h3, h4, h5")].filter(seen).map((one) => Number(one.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) faults.push(`headings of the first level: ${levels}`);
  levels.reduce((last, level) => {
    if (level > last + 1) faults.push(`a heading of level ${level} after one of ${last}: ${levels}`);
    return level;
  }, 0);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) faults.push(`the id ${id} twice`);
  for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    if (!field.labels.length && !field.getAttribute("aria-label")) faults.push(`no label: ${field.outerHTML}`);
  }
  for (const one of document.querySelectorAll("button, a[href], summary")) {
    if (seen(one) && !one.innerText.trim() && !one.getAttribute("aria-label")) faults.push(`no name: ${one.outerHTML}`);
  }
  for (const one of document.querySelectorAll("img:not([alt]), svg:not([aria-hidden]):not([role=img])")) {
    faults.push(`neither text nor hidden: ${one.outerHTML.slice(0, 120)}`);
  }
  for (const one of document.querySelectorAll("table.list th:not([scope])")) faults.push(`no scope: ${one.outerHTML}`);
  for (const one of document.querySelectorAll("[aria-describedby], [aria-labelledby]")) {
    for (const id of (one.getAttribute("aria-describedby") ?? one.getAttribute("aria-labelledby")).split(" ")) {
      if (!document.getElementById(id)) faults.push(`described by ${id}, which is not there`);
    }
  }
  return faults;
}"""
# Controls with the same name that do different things: somebody who only hears the name cannot tell them apart.
_NAMESAKES = """() => {
  const does = new Map(), faults = [];
  for (const one of document.querySelectorAll("button, summary")) {
    if (!one.checkVisibility()) continue;
    const name = one.innerText.replace(/\\s+/g, " ").trim() || one.getAttribute("aria-label");
    const form = one.form ?? one.parentElement.querySelector("form");
    const fields = form ? [...form.querySelectorAll("input[type=hidden]:not([name=_xsrf])")].map((x) => x.value) : [];
    const copies = one.dataset.copy ?? document.getElementById(one.dataset.copyFrom)?.textContent;
    const target = copies ?? `${form?.getAttribute("action")} ${fields}`;
    if (does.has(name) && does.get(name) !== target) faults.push(`${name}: ${does.get(name)} | ${target}`);
    does.set(name, target);
  }
  return faults;
}"""
_UNFOLD = "() => { for (const one of document.querySelectorAll('details')) one.open = true; }"
_FOCUS = """() => {
  if (document.activeElement === document.body) return [true, ""];
  const style = getComputedStyle(document.activeElement);
  const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  const name = document.activeElement.outerHTML.slice(0, 120);
  return [outline || style.boxShadow !== "none" || document.activeElement.closest("label, .form-check") !== null, name];
}"""


@pytest.fixture(scope="module")
def project(stage: Service) -> str:
    """A project with something on each of its tabs."""
    name = f"looks-{uuid.uuid4().hex[:6]}"
    admin = Person(stage.host).log_in(stage.username, stage.password)
    assert admin.post("/new-project", {"name": name, "quota": "1", "unit": "GiB", "access": "public"}).status == 303
    assert (
        admin.post(f"/projects/{name}/robots/new", {"name": "ci", "days": "3", "right": "repository:pull"}).status
        == 303
    )
    assert admin.post(f"/projects/{name}/labels", {"name": "good", "color": "#00aa00"}).status == 303
    make_webhook(admin, name, header="a secret")
    owner = Registry(stage.host, stage.username, stage.password)
    owner.push_image(f"{name}/app", "1", multi("looks", sizes=(900, 400)))
    for number in range(2):
        deleted = single(f"looks {number}", sizes=(300,))
        owner.push_image(f"{name}/app", f"old-{number}", deleted)
        assert owner.call("DELETE", f"/v2/{name}/app/manifests/{deleted.digest}").status == 202
        remove_project(admin, f"{name}-{number}")
    return name


def remove_project(person: Person, name: str) -> None:
    """Make a project and delete it, so that it is in the bin."""
    assert person.post("/new-project", {"name": name, "quota": "1", "unit": "GiB"}).status == 303
    assert person.post(f"/projects/{name}/delete", {"name": name}).status == 303


def make_webhook(person: Person, project: str, **fields: str | list[str]) -> str:
    """Make a webhook that has events, and return the path of its page."""
    form: dict[str, str | list[str]] = {
        "name": "chat", "url": "http://hooks.test/", "event": "PUSH_ARTIFACT", "payload_format": "Default", **fields
    }  # fmt: skip
    answer = person.post(f"/projects/{project}/webhooks/new", form)
    assert answer.status == 303, re.findall(r'role="alert".*?</div>', answer.text, re.DOTALL)
    return answer.location


def pages(project: str) -> tuple[str, ...]:
    at = f"/projects/{project}"
    return (
        "/", "/projects", "/projects?q=nothing-like-it", "/new-project", "/mirror", "/search?q=redis", "/search",
        "/search?q=nothing-like-it", "/help", "/help/robots", "/mine", "/mine/keys", "/mine/sessions", "/login",
        at, f"{at}/repositories", f"{at}/repositories/app", f"{at}/repositories/app:1", f"{at}/members", f"{at}/robots",
        f"{at}/robots/new", f"{at}/labels", f"{at}/logs", f"{at}/configuration", f"{at}/storage",
        f"{at}/policy", f"{at}/tags/app:1", f"{at}/webhooks", f"{at}/webhooks/new", f"{at}/bin", "/mine/deleted",
        f"{at}/compare/app?from=1&to=1", "/search?q=1&in=tags", "/search?q=a&in=people", "/projects/mirror",
        "/projects/mirror/cache", "/projects/mirror/repositories/library/nginx",
        "/projects/mirror/repositories/library/nginx:1.27", "/administration/users",
        "/administration/projects", "/administration/upstreams", "/administration/robots", "/administration/robots/new",
        "/administration/audit", "/administration", "/administration/requests",
        "/no/such/page",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("width", "one_of"), [(390, 2), *(pytest.param(width, 1, marks=pytest.mark.long) for width in (1280, 390))]
)
def test_every_page_can_be_read_aloud(
    open_context: Opener, stage: Service, project: str, width: int, one_of: int
) -> None:
    """Headings in order, a name for every control and its own, ids once, tables with heads; menus open as well."""
    admin = open_context(width=width).log_in(stage.username, stage.password)
    found = {}
    for path in (*pages(project), *of_one(admin, project))[::one_of]:
        admin.page.goto(path)
        if faults := admin.page.evaluate(_FAULTS) + admin.page.evaluate(_NAMESAKES):
            found[path] = faults
        admin.page.evaluate(_UNFOLD)
        if faults := admin.page.evaluate(_FAULTS):
            found[f"{path}, unfolded"] = faults
    assert found == {}


def of_one(admin: Visitor, project: str) -> list[str]:
    """Find the pages of the project's robot account and of its webhook."""
    found = []
    for kind in ("robots", "webhooks"):
        link = re.search(rf'href="([^"]+/{kind}/\d+)"', admin.go(f"/projects/{project}/{kind}").page.content())
        assert link, kind
        found.append(link[1])
    return found


# When something of a page was drawn first, in milliseconds since it was asked for.
_FIRST_PAINT = """() => new Promise((tell) => {
  new PerformanceObserver((list) => tell(list.getEntries()[0].startTime)).observe({ type: "paint", buffered: true });
})"""


@pytest.mark.long
def test_every_page_is_painted_soon_beside_the_front_page(admin: Visitor, project: str) -> None:
    """The medians of five visits, in turns. It prints them, in milliseconds."""
    paths = ("/", *pages(project), *of_one(admin, project))
    paints: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(5):
        for path in paths:
            admin.page.goto(path)
            paints[path].append(admin.page.evaluate(_FIRST_PAINT))
    medians = {path: statistics.median(found) for path, found in paints.items()}
    for path, median in sorted(medians.items(), key=lambda item: item[1]):
        print(f"{median:6.0f} ms  {median / medians['/']:.1f}×  {path}")
    assert max(medians.values()) < 3 * medians["/"]


def test_every_page_has_a_title_of_its_own(stage: Service, project: str) -> None:
    """Tabs of the browser and its history are told apart by it. What is most particular comes first."""
    admin = Person(stage.host).log_in(stage.username, stage.password)
    titles: dict[str, str] = {}
    for path in pages(project):
        answer = admin.get(path)
        while answer.status == 303:
            path = answer.location
            answer = admin.get(path)
        found = re.search("<title>(.*?)</title>", answer.text)
        assert found, path
        title, place = found[1], urlsplit(path).path
        assert title.endswith(f" – {stage.host}") or place == "/", (path, title)
        assert titles.setdefault(title, place) == place
    assert any(title.startswith("Members – ") for title in titles)


def test_a_menu_closes_when_the_focus_leaves_it(admin: Visitor, project: str) -> None:
    for path, name in ((f"/projects/{project}/members", "USER"), (f"/projects/{project}/robots", "Actions")):
        summary = admin.page.locator("summary", has_text=name)
        menu = admin.go(path).page.locator("details.drop").filter(has=summary).first
        menu.locator("summary").first.focus()
        admin.page.keyboard.press("Enter")
        assert menu.get_attribute("open") is not None
        for _ in range(20):
            admin.page.keyboard.press("Tab")
            if menu.get_attribute("open") is None:
                break
        assert menu.get_attribute("open") is None, path
        assert admin.page.evaluate("document.activeElement !== document.body")


def test_what_moves_is_seen_to_move(admin: Visitor, stage: Service, project: str) -> None:
    """A push appears while somebody looks. What they are using stays as it is."""
    admin.page.clock.install()
    owner = Registry(stage.host, stage.username, stage.password)
    admin.go(f"/projects/{project}/repositories")
    for name in ("moves-1", "moves-2"):
        owner.push_image(f"{project}/{name}", "1", multi("looks", sizes=(900, 400)))
        expect(admin.row(name)).to_have_count(0)
        if name == "moves-2":
            admin.page.locator("#list a").first.focus()
            admin.page.clock.run_for(11_000)
            admin.page.wait_for_timeout(300)
            expect(admin.row(name)).to_have_count(0)
            admin.page.locator("#q").focus()
        admin.page.clock.run_for(11_000)
        expect(admin.row(name)).to_have_count(1)
    admin.go("/mirror")
    assert admin.page.locator("[data-live] [data-refresh]").count() == 1


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_where_the_keyboard_is_can_be_seen(open_context: Opener, stage: Service, project: str, theme: str) -> None:
    someone = open_context(theme=theme).log_in(stage.username, stage.password)
    for path in ("/", f"/projects/{project}/robots", "/new-project", "/administration/projects"):
        someone.go(path)
        for _ in range(30):
            someone.page.keyboard.press("Tab")
            visible, name = someone.page.evaluate(_FOCUS)
            assert visible, f"{path}: nothing shows that this has the focus: {name}"
    someone.go(f"/projects/{project}/robots/new").click("Create robot account")
    someone.page.keyboard.press("Shift+Tab")
    someone.page.keyboard.press("Tab")
    assert someone.page.evaluate(_FOCUS)[0]
    someone.screen(f"{theme}-focus")


def test_the_open_tab_is_in_sight_on_a_telephone(open_context: Opener, stage: Service, project: str) -> None:
    someone = open_context(width=390).log_in(stage.username, stage.password)
    for path in (f"/projects/{project}/configuration", f"/projects/{project}", "/administration/audit"):
        box = someone.go(path).page.locator(".tabs [aria-current]").bounding_box()
        assert box is not None
        assert box["x"] >= 0, path
        assert box["x"] + box["width"] <= 390, path


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out(theme: int) -> None:
    """By WCAG 2.2, 1.4.3: 4.5 to 1 at least."""
    colours = {name: pair[theme] for name, *pair in COLOUR.findall(STYLE)}
    pairs = [(colours[text], colours[ground]) for text, grounds in PAIRS.items() for ground in grounds]
    pairs += [("#ffffff", colours[fill]) for fill in FILLS]
    assert [pair for pair in pairs if contrast(*pair) < 4.5] == []


def contrast(one: str, other: str) -> float:
    dark, bright = sorted(luminance(colour) for colour in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
