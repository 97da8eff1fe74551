"""axe-core finds nothing on any page, with the menus open, at three widths and in both themes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import pytest
from playwright.sync_api import Browser

from tests.api.client import Registry
from tests.conftest import require
from tests.images import multi
from tests.parts.service import Service
from tests.web import axe
from tests.web.conftest import opening
from tests.web.http import Person
from tests.web.person import Visitor
from tests.web.test_looks import make_webhook, of_one, pages
from tests.web.test_repository import push_chart

pytestmark = pytest.mark.usefixtures("clean_log")

WIDTHS = (390, 820, 1440)
# Pages of different kinds: a form, lists, an image, charts of numbers. The others are for `-m long`.
FEW = (
    "/",
    "/administration",
    "/administration/requests",
    "AT/repositories/app",
    "AT/repositories/app:1",
    "AT/robots/new",
)


@pytest.fixture(scope="module")
def project(stage: Service) -> str:
    """A project with something on each of its pages."""
    require(axe)
    name = f"axe-{uuid.uuid4().hex[:6]}"
    admin = Person(stage.host).log_in(stage.username, stage.password)
    forms: tuple[tuple[str, dict[str, str]], ...] = (
        ("/new-project", {"name": name, "quota": "1", "unit": "GiB", "access": "public"}),
        (f"/projects/{name}/robots/new", {"name": "ci", "days": "3", "right": "repository:pull"}),
        (f"/projects/{name}/labels", {"name": "good", "color": "#00aa00"}),
        (f"/projects/{name}/members/add", {"name": "mari.tamm", "role": "guest"}),
        ("/mine/keys", {"name": "laptop", "days": "3", "scope": "*", "right": "repository:pull"}),
    )
    for form, fields in forms:
        assert admin.post(form, fields).status == 303
    make_webhook(admin, name, header="a secret")
    owner = Registry(stage.host, stage.username, stage.password)
    owner.push_image(f"{name}/app", "1", multi("axe", sizes=(900, 400)))
    owner.push_blob(f"{name}/half", b"half a push")
    push_chart(owner, f"{name}/chart", {"c/values.yaml": b"a: 1", "c/README.md": b"# Chart\n\n## Use\n"}, name="c")
    assert admin.post(f"/projects/{name}/describe-repository/app", {"description": "# App\n\n## Use"}).status == 303
    return name


def check(person: Visitor, paths: Sequence[str], widths: Sequence[int]) -> dict[str, list[str]]:
    """Look at each page as it opens, with its folds open, and into each of its menus.

    An open menu lies over other controls until it is closed. So only the menu itself is looked at then.
    """
    found = {}
    for path in paths:
        person.page.goto(path)
        for width in widths:
            person.page.set_viewport_size({"width": width, "height": 900})
            person.page.evaluate(
                "() => document.querySelectorAll('details:not(.drop)').forEach((one) => one.open = true)"
            )
            if wrong := axe.violations(person.page):
                found[f"{path} at {width}"] = wrong
            for place, menu in enumerate(person.page.locator("details.drop").all()):
                # Menus of one list are alike.
                if place > 6 or not menu.locator("summary").first.is_visible():
                    continue
                menu.evaluate("(one) => { one.open = true; }")
                if wrong := axe.violations(person.page, menu):
                    found[f"{path} at {width}, menu {place}"] = wrong
                menu.evaluate("(one) => { one.open = false; }")
    return found


def test_the_main_pages_break_no_rule(chromium: Browser, stage: Service, project: str) -> None:
    with opening(chromium, stage) as open_one:
        admin = open_one(width=390, theme="dark").log_in(stage.username, stage.password)
        paths = [path.replace("AT", f"/projects/{project}") for path in FEW]
        assert check(admin, paths, WIDTHS[:1]) == {}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_breaks_a_rule(chromium: Browser, stage: Service, project: str, theme: str) -> None:
    with opening(chromium, stage) as open_one:
        admin = open_one(theme=theme).log_in(stage.username, stage.password)
        more = (
            *of_one(admin, project),
            f"/projects/{project}/repositories/chart:1.0.0_build.1?show=files",
            "/projects/mirror/repositories",
        )
        found = check(admin, [*pages(project), *more], WIDTHS)
        visitor = open_one(theme=theme)
        found |= check(visitor, ["/", "/login", "/projects", "/mirror", "/no/such/page"], WIDTHS)
        assert found == {}
