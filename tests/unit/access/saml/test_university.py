"""Where a log-in may lead to."""

from __future__ import annotations

import pytest

from app.access.saml import own_page


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
