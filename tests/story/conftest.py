"""A university with one registry, one identity provider, one Docker engine; people come with browsers of their own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.conftest import require
from tests.images import multi, single
from tests.parts import idp as idp_part
from tests.parts.dockerd import Docker
from tests.parts.service import Service
from tests.upstream.client import Hub
from tests.web import browser as browser_part
from tests.web.conftest import SCREENS

from .person import Person
from .terminal import Terminal

Opener = Callable[..., Person]


@pytest.fixture(scope="session")
def university(tmp_path_factory: pytest.TempPathFactory) -> Iterator[idp_part.IdentityProvider]:
    """A real identity provider."""
    require(idp_part)
    with idp_part.idp(tmp_path_factory.mktemp("idp")) as provider:
        yield provider


@pytest.fixture(scope="session")
def hub_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """An upstream of this suite's own: what its service was given there must outlive the tests of other suites."""
    with Hub(tmp_path_factory.mktemp("upstream")) as hub:
        yield hub


@pytest.fixture(scope="session")
def campus(
    tmp_path_factory: pytest.TempPathFactory, university: idp_part.IdentityProvider, hub_process: Hub
) -> Iterator[Service]:
    """The service: the university logs people in, its registry-admins are admins, Docker Hub allows 200 pulls."""
    hub_process.reset()
    hub_process.limit(200)
    hub_process.add(multi("python", sizes=(200_000, 900_000)), "library/python", "3.12")
    hub_process.add(single("redis", sizes=(300_000, 500_000)), "library/redis", "7", "latest")
    saml = {
        "enabled": True,
        "idp_metadata_url": university.metadata_url,
        "admins": [{"attribute": "groups", "values": ["registry-admins"]}],
    }
    folder = tmp_path_factory.mktemp("campus")
    with Service(folder, upstream=hub_process.url, overrides={"saml": saml}) as service:
        university.trust(service.url)
        yield service


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser, closed before another suite comes: its event loop lets no asynchronous test run beside it."""
    require(browser_part)
    with browser_part.browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def arrive(chromium: Browser, campus: Service) -> Iterator[Opener]:
    """Give a function that opens a browser of its own: ``arrive(locale="et", scripts=False, …)``.

    What our pages made a browser complain about by the module's end fails it.
    """
    opened: list[tuple[BrowserContext, Person]] = []

    def open_one(*, locale: str = "en", width: int = 1280, theme: str = "light", scripts: bool = True) -> Person:
        context = browser_part.context(chromium, campus.url, locale=locale, width=width, theme=theme, scripts=scripts)
        context.set_default_timeout(20_000)
        opened.append((context, Person(context.new_page(), SCREENS, campus.url, scripts=scripts)))
        return opened[-1][1]

    yield open_one
    for context, _ in opened:
        context.close()
    assert [complaint for _, person in opened for complaint in person.complaints] == []


@pytest.fixture(autouse=True, scope="module")
def _clean_log(campus: Service) -> Iterator[None]:
    """Fail a module during which the service logged an error: whatever people do, none of it is ours."""
    before = len(campus.log())
    yield
    assert campus.faults(before) == []


@pytest.fixture(scope="module")
def terminal(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Terminal]:
    """Give a function that opens a shell that is logged in nowhere."""
    return lambda: Terminal(docker, tmp_path_factory.mktemp("shell"))


@pytest.fixture(scope="module")
def mari(arrive: Opener) -> Person:
    """An employee in the group staff."""
    return arrive().enter("mari")


@pytest.fixture(scope="module")
def juri(arrive: Opener) -> Person:
    """A student in the group students."""
    return arrive().enter("juri")


@pytest.fixture(scope="module")
def tiina(arrive: Opener) -> Person:
    """An employee whom a rule makes an admin."""
    return arrive().enter("tiina")


@pytest.fixture(scope="module")
def lab() -> str:
    """Name a project of this module's own."""
    return f"lab-{uuid.uuid4().hex[:6]}"
