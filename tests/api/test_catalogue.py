"""``/v2/_catalog``: which repositories there are, for whom."""

from __future__ import annotations

import uuid
from urllib.parse import quote

import pytest

from tests.api.client import Registry, expect, next_page, refused
from tests.api.documents import OCI_INDEX, fresh, index

MARK = uuid.uuid4().hex[:8]
SHOWN = [f"lab/{MARK}", f"lab/{MARK}-2", f"lab/{MARK}.3", f"lab/{MARK}/deep/er", f"lab/{MARK}_4"]
HIDDEN = [f"secret/{MARK}", f"secret/{MARK}/app"]


@pytest.fixture(scope="module", autouse=True)
def _filled(admin: Registry) -> None:
    for name in (*SHOWN, *HIDDEN):
        admin.push_manifest(name, "latest", index(), OCI_INDEX)
    admin.push_blob(f"lab/{MARK}-blobs-only", fresh())


def ours(names: list[str]) -> list[str]:
    """Leave out what other tests have pushed."""
    return [name for name in names if MARK in name]


@pytest.mark.parametrize("n", ["", "?n=1000", "?n=2", "?n=1"])
def test_an_outsider_sees_public_projects_only(outsider: Registry, n: str) -> None:
    names = outsider.pages(f"/v2/_catalog{n}", "repositories")
    assert ours(names) == SHOWN
    assert not [name for name in names if name.startswith("secret/")]
    assert names == sorted(names)


@pytest.mark.parametrize("n", ["", "?n=3"])
def test_the_admin_sees_everything(admin: Registry, n: str) -> None:
    names = admin.pages(f"/v2/_catalog{n}", "repositories")
    assert ours(names) == [*SHOWN, *HIDDEN]


def test_pages(outsider: Registry) -> None:
    answer = expect(outsider.call("GET", f"/v2/_catalog?n=2&last={quote(SHOWN[0])}"), 200)
    assert answer.json() == {"repositories": SHOWN[1:3]}
    assert answer["Content-Type"] == "application/json"
    following = next_page(answer)
    assert following == f"/v2/_catalog?n=2&last={quote(SHOWN[2], safe='')}"
    assert expect(outsider.call("GET", following), 200).json()["repositories"][:2] == SHOWN[3:]


def test_none_asked_for(outsider: Registry) -> None:
    answer = expect(outsider.call("GET", "/v2/_catalog?n=0"), 200)
    assert answer.json() == {"repositories": []}
    assert next_page(answer) is None


@pytest.mark.parametrize("last", ["zzz", "secret", "secret/", "secret/MARK", "zzz/zzz", "~"])
def test_after_the_last(outsider: Registry, last: str) -> None:
    answer = expect(outsider.call("GET", f"/v2/_catalog?n=5&last={quote(last.replace('MARK', MARK))}"), 200)
    assert answer.json() == {"repositories": []}


@pytest.mark.parametrize("last", ["", "a", "lab", "lab/", "/", "//", "..", "LAB", "%"])
def test_after_what_is_no_repository(outsider: Registry, last: str) -> None:
    answer = expect(outsider.call("GET", f"/v2/_catalog?last={quote(last)}"), 200)
    assert ours(answer.json()["repositories"]) == SHOWN


@pytest.mark.parametrize("query", ["n=-1", "n=x", "n=", f"n={'9' * 400}", "last=%00", f"last={'x' * 600}"])
def test_a_page_that_cannot_be_read(outsider: Registry, query: str) -> None:
    refused(outsider.call("GET", f"/v2/_catalog?{query}"), 400, "UNSUPPORTED")


def test_the_head(outsider: Registry) -> None:
    path = f"/v2/_catalog?n=1&last={quote(SHOWN[0])}"
    get, head = (outsider.call(method, path) for method in ("GET", "HEAD"))
    assert (head["Content-Length"], head["Link"]) == (str(len(get.body)), get["Link"])


def test_without_the_scope(outsider: Registry, admin: Registry) -> None:
    for user in (outsider, admin):
        for token in (user.token(f"repository:{SHOWN[0]}:pull"), ""):
            refused(user.call("GET", "/v2/_catalog", token=token), 401, "UNAUTHORIZED")


def test_what_is_gone_is_not_listed(admin: Registry, outsider: Registry, name: str) -> None:
    digest = admin.push_manifest(name, "latest", index(), OCI_INDEX)
    assert name in outsider.pages("/v2/_catalog", "repositories")
    expect(admin.call("DELETE", f"/v2/{name}/manifests/{digest}"), 202)
    assert name not in outsider.pages("/v2/_catalog", "repositories")
