"""One service with pages, people and images for all of these tests, and a browser to look at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.api.client import Registry
from tests.conftest import require
from tests.images import multi, single
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web import browser as browser_part
from tests.web.person import Opener, Visitor
from tests.web.scene import PASSWORD, add_past, add_people

# A picture takes longer than the page it is of, so they are kept for who asks: SCREENS=FOLDER before the command.
SCREENS = Path(os.environ["SCREENS"]) if "SCREENS" in os.environ else None


@pytest.fixture(scope="session")
def hub_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """An upstream of this suite's own: what its service was given there must outlive the tests of other suites."""
    with Hub(tmp_path_factory.mktemp("upstream")) as hub:
        yield hub


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, hub_process: Hub) -> Iterator[Service]:
    """The service, with a mirror that has cached something and has a past."""
    hub_process.reset()
    hub_process.limit(200)
    hub_process.add(multi("redis", sizes=(200_000, 900_000)), "library/redis", "7", "latest")
    hub_process.add(single("nginx", sizes=(100_000, 700_000, 300_000)), "library/nginx", "1.27")
    folder = tmp_path_factory.mktemp("stage")
    overrides = {"hosts": {"mirror.example.org": "mirror"}}
    with Service(folder, upstream=hub_process.url, overrides=overrides) as service:
        add_people(folder)
        for name, tag in (("library/redis", "7"), ("library/redis", "latest"), ("library/nginx", "1.27")):
            Registry(service.host).pull_image(f"mirror/{name}", tag)
        add_past(folder)
        yield service


@pytest.fixture(scope="module")
def clean_log(stage: Service) -> Iterator[None]:
    """Fail a module at whose end the log has an error: whatever a browser sends, none of it is ours."""
    before = len(stage.log())
    yield
    assert stage.faults(before) == []


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser, closed before another suite comes: its event loop lets no asynchronous test run beside it."""
    require(browser_part)
    with browser_part.browser() as chromium:
        yield chromium


@contextmanager
def opening(chromium: Browser, stage: Service) -> Iterator[Opener]:
    """Give a function that opens a browser of its own: ``open_context(locale="et", width=390, …)``.

    What a browser complained about by the end (blocked by the policy, a script's error) fails the test.
    """
    opened: list[tuple[BrowserContext, Visitor]] = []

    def open_one(*, locale: str = "en", width: int = 1280, theme: str = "light", scripts: bool = True) -> Visitor:
        context = browser_part.context(chromium, stage.url, locale=locale, width=width, theme=theme, scripts=scripts)
        context.set_default_timeout(15_000)
        opened.append((context, Visitor(context.new_page(), SCREENS)))
        return opened[-1][1]

    yield open_one
    for context, _ in opened:
        context.close()
    assert [complaint for _, visitor in opened for complaint in visitor.complaints] == []


@pytest.fixture
def open_context(chromium: Browser, stage: Service) -> Iterator[Opener]:
    """Open browsers that are closed after the test, see `opening`."""
    with opening(chromium, stage) as open_one:
        yield open_one


@pytest.fixture
def visitor(open_context: Opener) -> Visitor:
    """Nobody in particular."""
    return open_context()


@pytest.fixture
def admin(open_context: Opener, stage: Service) -> Visitor:
    return open_context().log_in(stage.username, stage.password)


@pytest.fixture
def mari(open_context: Opener) -> Visitor:
    return open_context().log_in("mari.tamm", PASSWORD)


@pytest.fixture
def jaan(open_context: Opener) -> Visitor:
    return open_context().log_in("jaan.saar", PASSWORD)
