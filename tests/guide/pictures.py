"""Takes the guide's pictures of the real pages: python -m tests.guide.pictures

The service runs as everywhere in these tests, and calls itself by the name that the guide has; the browser is told
where that name is. Run it after a change of the pages, look at what comes out, and commit it.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, Locator

from app.web.pages.guide import FOLDER
from tests.parts.process import wait_for
from tests.parts.service import ADMIN, Service
from tests.parts.service import PASSWORD as ADMINS_PASSWORD
from tests.upstream.client import Hub
from tests.web import browser as browser_part
from tests.web.person import Visitor

from .scene import PROJECT, SMALL, age, furnish, log_in, prepare, refuse, wanted

IMAGES = FOLDER / "images"
# What operators see stands in docs/operations.md, which the service does not serve.
OPERATORS = FOLDER.parent / "images"
_HOST = "registry.hpc.ut.ee"
_WIDTH, _MARGIN = 1200, 16
_DOCKERFILE = """\
FROM golang:1.23 AS build
RUN go build -o /app .
FROM tiangolo/uwsgi-nginx-flask
COPY --from=build /app /app"""


def main() -> int:
    reason = browser_part.missing()
    if reason is not None:
        print(f"no pictures: {reason}", file=sys.stderr)
        return 1
    for folder in (IMAGES, OPERATORS):
        folder.mkdir(exist_ok=True)
    overrides = {
        "server": {"external_url": f"http://{_HOST}"},
        # Never asked: nobody goes there to log in.
        "saml": {"enabled": True, "idp_metadata_url": "http://127.0.0.1:9/"},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with Hub(folder / "hub") as hub, Service(folder, upstream=hub.url, overrides=overrides) as service:
            prepare(service, hub, folder)
            there = f"--host-resolver-rules=MAP {_HOST}:80 {service.host}"
            with browser_part.browser("--disable-features=HttpsUpgrades", there) as chromium:
                _anonymous(Camera(chromium))
                _mari(Camera(chromium), service, folder)
                _admin(Camera(chromium), service, hub)
    for path in sorted((*IMAGES.glob("*.png"), *OPERATORS.glob("*.png"))):
        print(f"{path.stat().st_size:>8} {path.relative_to(FOLDER.parents[1])}")
    return 0


class Camera(Visitor):
    """Somebody who takes pictures, in a browser of their own."""

    def __init__(self, chromium: Browser) -> None:
        context = chromium.new_context(
            base_url=f"http://{_HOST}", locale="en", viewport={"width": _WIDTH, "height": 780}, color_scheme="light"
        )
        context.set_default_timeout(15_000)
        super().__init__(context.new_page(), IMAGES)

    def take(self, name: str, last: Locator, *, first: str = "main", tight: bool = False, to: Path = IMAGES) -> None:
        """Take the page from the top of ``first`` to the end of ``last``; ``tight``: no wider than that."""
        self.page.wait_for_load_state("networkidle")
        # No field has the focus's ring around it.
        self.page.evaluate("document.activeElement.blur()")
        begin, end = self.page.locator(first).first.bounding_box(), last.bounding_box()
        assert begin is not None
        assert end is not None
        top = max(begin["y"] - (_MARGIN if tight else 0), 0)
        self.page.screenshot(
            path=to / f"{name}.png",
            full_page=True,
            animations="disabled",
            clip={
                "x": 0,
                "y": top,
                "width": end["x"] + end["width"] + _MARGIN if tight else _WIDTH,
                "height": end["y"] + end["height"] + _MARGIN - top,
            },
        )


def _anonymous(camera: Camera) -> None:
    camera.go("/").take("front", camera.page.locator(".hero ul"), first="body")
    camera.go("/login").take("login", camera.page.locator(".login-tools"), first="body")
    camera.go("/")
    camera.page.locator("#text").fill(_DOCKERFILE)
    camera.page.locator("#answers li").nth(1).wait_for()
    camera.page.evaluate("document.activeElement.blur()")
    camera.page.locator(".helper").screenshot(path=IMAGES / "address-helper.png", animations="disabled")
    camera.go("/mirror").take("mirror", camera.page.locator(".two .card").first)


def _mari(camera: Camera, service: Service, folder: Path) -> None:
    log_in(camera, "mari.tamm")
    camera.go("/new-project").fill("Project name", PROJECT).fill("Storage quota", "50")
    camera.fill("Description (optional)", "Pipelines of the genomics group")
    camera.take("new-project", camera.page.locator(".card").first, first=".card", tight=True)
    furnish(camera, service)
    _robots(camera, folder)
    at = f"/projects/{PROJECT}"
    card = camera.page.locator(".card")
    camera.go(f"{at}/members").take("members", card.first)
    camera.go(f"{at}/labels").take("labels", card.last)
    camera.go(f"/projects/{SMALL}").take("quota", card.nth(1))
    camera.go(f"{at}/repositories").open("PUSH COMMAND")
    camera.take("push-command", camera.page.locator(".drop-wide > .drop-body").first)
    camera.go(f"{at}/repositories/aligner:2.4.1")
    camera.page.get_by_label("Label", exact=True).select_option("tested")
    camera.click("Add label").go(f"{at}/repositories/aligner:2.4.1")
    camera.take("artifact", camera.page.locator(".card", has=camera.page.locator("svg.layers")))
    camera.go(f"{at}/repositories/aligner").take("repository", card.first)
    camera.go(f"{at}/compare/aligner?from=2.4.0&to=2.4.1").take("compare", card.last)


def _robots(camera: Camera, folder: Path) -> None:
    """Make robot accounts and access keys, and take their pages' pictures on the way."""
    at = f"/projects/{PROJECT}/robots"
    camera.go(f"{at}/new").fill("Name", "ci").fill("Description (optional)", "Builds of the aligner")
    camera.take("new-robot", camera.page.locator(".card").first, first=".card", tight=True)
    camera.click("Create robot account")
    camera.take("robot-secret", camera.page.locator(".secret"), first="h1", tight=True)
    for name, about in (("k3s", "The cluster's nodes"), ("notebook-builder", "")):
        camera.go(f"{at}/new").fill("Name", name).fill("Description (optional)", about)
        camera.click("Create robot account")
    for name in ("laptop", "workstation"):
        camera.go("/mine/keys").fill("Name", name).click("Create access key")
    age(folder)
    camera.go(at).take("robots", camera.page.locator(".card").first)
    camera.go("/mine/keys").take("access-keys", camera.page.locator(".card").nth(1))


def _admin(camera: Camera, service: Service, hub: Hub) -> None:
    """Plan a class, and look at what an operator sees."""
    refuse(service)
    log_in(camera, ADMIN, ADMINS_PASSWORD)
    begins = datetime.now().astimezone() + timedelta(days=1)
    camera.go("/plans/new").fill("Title", "Databases, group 2").fill("Images", wanted(hub))
    camera.fill("Begins at", begins.strftime("%Y-%m-%dT10:15")).click("Show what it takes")
    camera.page.locator("#preview table").wait_for()
    camera.take("plan", camera.page.locator("#preview"))
    refused = camera.page.get_by_text("ubunto")
    wait_for(lambda: camera.go("/administration") and refused.count(), what="the refused requests", interval=1)
    camera.take("overview", camera.page.locator(".card").last, to=OPERATORS)


if __name__ == "__main__":
    sys.exit(main())
