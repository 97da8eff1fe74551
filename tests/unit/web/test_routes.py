"""The route tables: every method of every route says what it needs, in a known word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

import pytest
from tornado.routing import PathMatches
from tornado.web import RequestHandler

from app.access.errors import Conflict
from app.access.roles import ALL_RIGHTS
from app.projects import checks
from app.web.access_control import WORDS as PAGE_WORDS
from app.web.api.handler import ApiHandler
from app.web.application import make_application
from app.web.base import Handler
from app.web.login import routes as login_routes
from app.web.pages.routes import NOT_FOUND
from app.web.v2 import needs
from app.web.v2.blobs import BlobHandlers
from app.web.v2.listings import ListingHandlers
from app.web.v2.manifests import ManifestHandlers
from app.web.v2.routes import Route, routes
from app.web.v2.uploads import UploadHandlers

ON_A_REPOSITORY = {needs.PULL, needs.PUSH, needs.DELETE}
WORDS = ON_A_REPOSITORY | {needs.CATALOGUE, needs.ANY_TOKEN}
# What pages may say they need when they need nothing.
FREE = {"nothing"}


@dataclass(frozen=True)
class Page:
    """One method of one URL outside the distribution API."""

    pattern: str
    handler: type[Handler]
    method: str

    @property
    def needs(self) -> str:
        return self.handler.needs

    def __str__(self) -> str:
        return f"{self.method} {self.pattern}"


class Nothing:
    """Stands for everything behind the handlers, which drawing the table does not need."""

    def __getattr__(self, name: str) -> None:
        return None


def table() -> tuple[Route, ...]:
    """Draw the distribution API's table; nothing behind the handlers is needed for that."""
    return routes(
        ManifestHandlers.__new__(ManifestHandlers),
        BlobHandlers.__new__(BlobHandlers),
        UploadHandlers.__new__(UploadHandlers),
        ListingHandlers.__new__(ListingHandlers),
    )


def rules() -> list[tuple[str, type[Handler]]]:
    """List every pattern of the application, and who answers it."""
    nothing = cast("Any", Nothing())
    login = login_routes(
        university=nothing, passwords=None, browsers=None, people=None, refusals=None, audit=None, observer=None
    )
    application = make_application(nothing, login=login, tokens=nothing, addresses=nothing, cookie_secret="")
    return [
        (cast("PathMatches", rule.matcher).regex.pattern, cast("type[Handler]", rule.target))
        for rule in application.wildcard_router.rules
    ]


def pages() -> list[Page]:
    """List every method of every URL of the application, but for the REST API: its document says who may what."""
    found = []
    everything: list[tuple[str, type[Handler]]] = [*rules(), ("anything else", NOT_FOUND)]
    for pattern, handler in everything:
        if issubclass(handler, ApiHandler):
            continue
        methods = [name for name in RequestHandler.SUPPORTED_METHODS if implements(handler, name)]
        found += [Page(pattern, handler, method) for method in methods or ["any"]]
    return found


def implements(handler: type[RequestHandler], method: str) -> bool:
    return getattr(handler, method.lower()) is not getattr(RequestHandler, method.lower())


@pytest.mark.parametrize("route", table(), ids=lambda route: route.noun)
def test_every_method_of_the_api_says_what_it_needs(route: Route) -> None:
    assert route.methods
    for method, endpoint in route.methods.items():
        assert endpoint.needs in WORDS, (route.noun, method)
        # Only a path with a repository needs a right in one: `Authorizer` reads its name from the path.
        assert (endpoint.needs in ON_A_REPOSITORY) == (re.compile(route.pattern).groups > 0)


@pytest.mark.parametrize("route", table(), ids=lambda route: route.noun)
def test_what_changes_something_needs_more_than_reading(route: Route) -> None:
    for method, endpoint in route.methods.items():
        if method not in ("GET", "HEAD"):
            assert endpoint.needs in (needs.PUSH, needs.DELETE), (route.noun, method)


@pytest.mark.parametrize("route", table(), ids=lambda route: route.noun)
def test_head_is_answered_as_get_is(route: Route) -> None:
    if route.noun not in ("uploads", "upload"):
        head, get = route.methods["HEAD"], route.methods["GET"]
        assert (head.handler, head.needs) == (get.handler, get.needs)


def test_every_endpoint_of_the_specification_is_there() -> None:
    """end-1 to end-14 of the distribution-spec, and the catalogue."""
    spelled = {
        "/v2/": {"GET", "HEAD"},
        "/v2/_catalog": {"GET", "HEAD"},
        "/v2/a/b/blobs/sha256:0": {"GET", "HEAD", "DELETE"},
        "/v2/a/b/manifests/latest": {"GET", "HEAD", "PUT", "DELETE"},
        "/v2/a/b/blobs/uploads/": {"POST"},
        "/v2/a/b/blobs/uploads/0": {"GET", "PATCH", "PUT", "DELETE"},
        "/v2/a/b/tags/list": {"GET", "HEAD"},
        "/v2/a/b/referrers/sha256:0": {"GET", "HEAD"},
    }
    for path, methods in spelled.items():
        first = next(route for route in table() if route.pattern.match(path))
        assert set(first.methods) == methods, path


def first_parts() -> set[str]:
    """List what the paths begin with that are answered here."""
    # The token service is under each mirror's name as well.
    patterns = [pattern.removeprefix("(?:/[a-z0-9._-]+)?") for pattern, _ in rules()]
    patterns += [route.pattern.pattern for route in table()]
    return {part.replace("\\", "") for pattern in patterns for part in re.findall(r"^\^?/((?:[\w-]|\\.)+)", pattern)}


def test_no_project_has_the_name_of_a_path_of_ours() -> None:
    assert first_parts() >= {"v2", "service", "api", "saml", "mine", "new-project", "mirror", "static", "healthz"}
    for part in first_parts():
        with pytest.raises(Conflict):
            checks.project_name(part, by_admin=False)
        if part != "mirror":
            with pytest.raises(Conflict):
                checks.project_name(part, by_admin=True)


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_page_says_what_it_needs(page: Page) -> None:
    declared = [kind for kind in page.handler.__mro__ if "needs" in vars(kind)]
    assert declared, f"{page.handler.__name__} does not say who may call it"
    assert declared[0] is not Handler, "the base class must not speak for everybody"
    assert page.needs in PAGE_WORDS | ALL_RIGHTS


def test_pages_that_are_free() -> None:
    """A page that needs nothing is added to this list on purpose."""
    assert {page.handler.__name__ for page in pages() if page.needs in FREE} == {
        "HealthHandler", "MetricsHandler", "ReadyHandler", "TokenHandler", "StaticHandler",
        "LoginHandler", "LogoutHandler", "SamlLoginHandler", "AcsHandler", "MetadataHandler", "SlsHandler",
        "FrontPage", "AddressesPage", "LanguagePage", "GuidePage", "PictureHandler", "NotFoundPage", "ProjectsPage",
        "MirrorPage", "SearchPage", "PrivacyPage", "WaitingPage",
    }  # fmt: skip


def test_every_handler_is_one_of_ours() -> None:
    """What they share is in the base class: the request's id, the headers, the log line."""
    for page in pages():
        assert issubclass(page.handler, Handler), page
