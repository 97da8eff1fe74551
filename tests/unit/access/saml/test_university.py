"""Where a log-in may lead to, and what a logout says that could not be done."""

from __future__ import annotations

from typing import Any, cast

import pytest

from app.access.computations import Computations
from app.access.saml import University, logout, own_page
from app.access.saml.logout import LogoutAsked
from app.access.sessions import Sessions
from app.config import Saml
from app.oci.errors import Unavailable
from tests.contract.access.conftest import no_redis


@pytest.mark.parametrize("path", ["/", "/projects", "/projects/a/b?page=2&q=x#top", "/%2F/evil.example"])
def test_our_own_pages_are_led_to(path: str) -> None:
    assert own_page(path) == path


@pytest.mark.parametrize(
    "path",
    [None, "", "projects", "//evil.example", "///evil.example", "/\\evil.example", "\\/evil.example", "/a\\b",
     "https://evil.example/", "https:evil.example", "javascript:alert(1)", "/\t/evil.example", "\n//evil.example",
     "/ /evil.example", "/a\r\nSet-Cookie: x=y", "/\x00", "/\x7f"],
)  # fmt: skip
def test_nothing_else_is(path: str | None) -> None:
    assert own_page(path) == "/"


class Idp:
    """An identity provider that logs people out and has no address for our answer."""

    slo_url = None

    async def current(self) -> Idp:
        return self


async def test_a_logout_that_redis_was_not_told_of_never_looks_done(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = no_redis()
    parts: dict[str, Any] = {"idp": Idp(), "cache": cache, "people": None, "sessions": Sessions(cache, 600, 3600)}
    parts["computations"] = Computations()
    university = University(Saml(), "https://registry.example.org", [], **parts)
    asked = LogoutAsked("_1", "_name", [], None)
    monkeypatch.setattr(logout, "read", lambda *_: cast("Any", asked))
    with pytest.raises(Unavailable, match="sessions cannot be ended right now"):
        await university.logged_out("SAMLRequest=…", "192.0.2.1")
    await cache.close()
