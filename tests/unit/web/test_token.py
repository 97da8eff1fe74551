"""The scopes of a mirror's client: it names repositories as the upstream does."""

from __future__ import annotations

import pytest

from app.web.token import under


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("repository:library/redis:pull", "repository:mirror/library/redis:pull"),
        ("repository:redis:pull", "repository:mirror/redis:pull"),
        # A namespace of the upstream that is spelled like the mirror.
        ("repository:mirror/app:pull", "repository:mirror/mirror/app:pull"),
        ("repository(plugin):a/b:pull", "repository(plugin):mirror/a/b:pull"),
        ("repository:a/b:pull,push", "repository:mirror/a/b:pull,push"),
        ("registry:catalog:*", "registry:catalog:*"),
        ("bad", "bad"),
    ],
)
def test_at_a_mirrors_own_address_a_scope_is_within_it(asked: str, meant: str) -> None:
    assert under("mirror", [asked]) == [meant]
    assert under("mirror", [f"{asked} {asked}", asked]) == [meant] * 3
    assert under(None, [asked]) == [asked]
