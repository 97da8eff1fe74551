"""``/v2/<name>/tags/list``: order, pages, and what ``n`` and ``last`` may be."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.api.client import Registry, digest_of, expect, next_page, refused
from tests.api.documents import OCI_INDEX, fresh, index

# In ASCII order: digits, upper case, the underscore, lower case.
TAGS = ["0", "10", "2", "A", "B1", "_x", "a", "a-1", "a.1", "a_1", "aa", "b", "latest", "v1.0", "v1.0.1", "v2"]


@pytest.fixture(scope="module")
def tagged(admin: Registry) -> str:
    """A repository with `TAGS`, made in another order."""
    name = "lab/tagged"
    for tag in sorted(TAGS, key=str.lower, reverse=True):
        admin.push_manifest(name, tag, index(), OCI_INDEX)
    return name


def listed(user: Registry, name: str, query: str = "") -> tuple[list[str], str | None]:
    answer = expect(user.call("GET", f"/v2/{name}/tags/list{query}"), 200)
    assert answer["Content-Type"] == "application/json"
    assert list(answer.json()) == ["name", "tags"]
    assert answer.json()["name"] == name
    return answer.json()["tags"], next_page(answer)


def test_all_in_order(outsider: Registry, tagged: str) -> None:
    assert sorted(TAGS) == TAGS
    assert listed(outsider, tagged) == (TAGS, None)


@pytest.mark.parametrize("n", [1, 3, 5, 15, 16, 17, 1000, 10**17])
def test_pages(outsider: Registry, tagged: str, n: int) -> None:
    path: str | None = f"?n={n}"
    found: list[str] = []
    while path is not None:
        page, following = listed(outsider, tagged, path)
        assert len(page) == min(n, len(TAGS) - len(found))
        found += page
        path = following.removeprefix(f"/v2/{tagged}/tags/list") if following else None
    assert found == TAGS


@pytest.mark.parametrize("last", [*TAGS, "", "!", "Zz", "a-", "zzz", "not-there", "ä", "~"])
def test_after_a_tag_whether_it_is_there_or_not(outsider: Registry, tagged: str, last: str) -> None:
    after = [tag for tag in TAGS if tag > last]
    assert listed(outsider, tagged, f"?last={quote(last)}") == (after, None)
    page, following = listed(outsider, tagged, f"?n=3&last={quote(last)}")
    assert page == after[:3]
    assert (following is not None) == (len(after) > 3)


def test_none_asked_for(outsider: Registry, tagged: str) -> None:
    for query in ("?n=0", "?n=0&last=a", "?last=a&n=00"):
        assert listed(outsider, tagged, query) == ([], None)


@pytest.mark.parametrize(
    "query",
    ["n=-1", "n=abc", "n=", "n=1.5", "n=+1", "n=%201", "n=1e3", "n=0x10", "n=%d9%a1", "n=%b2", "n=1%00",
     f"n={'9' * 19}", f"n={'9' * 5000}", "n=%00", "last=%00", "last=a%0a", f"last={'x' * 513}",
     "&".join(["n=1"] * 201)],
)  # fmt: skip
def test_a_page_that_cannot_be_read(outsider: Registry, tagged: str, query: str) -> None:
    refused(outsider.call("GET", f"/v2/{tagged}/tags/list?{query}"), 400, "UNSUPPORTED")


@pytest.mark.parametrize("query", ["", "?", "?&&", "?x=1", "?n=5&n=x", "?last=", "?=", "?%", "?n", "?n=5&last=%zz"])
def test_what_does_not_matter_is_not_minded(outsider: Registry, tagged: str, query: str) -> None:
    answer = outsider.call("GET", f"/v2/{tagged}/tags/list{query}")
    assert answer.status == (400 if query == "?n" else 200)


def test_more_than_a_page_holds(admin: Registry, outsider: Registry, name: str) -> None:
    """No answer lists more than a thousand; the rest follows by Link."""
    payload = index()
    tags = [f"t{number:04}" for number in range(1050)]
    for start in range(0, 1050, 100):
        query = "&".join(f"tag={tag}" for tag in tags[start : start + 100])
        expect(admin.put_manifest(name, f"{digest_of(payload)}?{query}", payload, OCI_INDEX), 201)
    for query in ("", "?n=1000", "?n=1050", "?n=5000"):
        page, following = listed(outsider, name, query)
        assert page == tags[:1000]
        assert following == f"/v2/{name}/tags/list?n=1000&last=t0999"
    assert listed(outsider, name, "?n=1000&last=t0999") == (tags[1000:], None)
    assert outsider.tags(name) == tags


def test_the_head_of_a_listing(outsider: Registry, tagged: str) -> None:
    get, head = (outsider.call(method, f"/v2/{tagged}/tags/list?n=2") for method in ("GET", "HEAD"))
    assert head["Content-Length"] == str(len(get.body))
    assert (head["Link"], head.body) == (get["Link"], b"")


def test_a_repository_without_tags(admin: Registry, outsider: Registry, name: str) -> None:
    refused(outsider.call("GET", f"/v2/{name}/tags/list"), 404, "NAME_UNKNOWN")
    refused(admin.call("GET", "/v2/nowhere/app/tags/list"), 404, "NAME_UNKNOWN")
    admin.push_blob(name, fresh())
    assert listed(outsider, name) == ([], None)
    payload = index(annotations={"of": name})
    admin.push_manifest(name, digest_of(payload), payload, OCI_INDEX)
    assert listed(outsider, name) == ([], None)
    admin.push_manifest(name, "one", payload, OCI_INDEX)
    assert listed(outsider, name) == (["one"], None)
    expect(admin.call("DELETE", f"/v2/{name}/manifests/one"), 202)
    assert listed(outsider, name) == ([], None)


def test_a_page_while_tags_come_and_go(first: Registry, second: Registry, name: str) -> None:
    """A page begins after a name, not at a position: none is listed twice, none that stays is left out."""
    for tag in ("b", "d", "f", "h"):
        first.push_manifest(name, tag, index(), OCI_INDEX)
    page, following = listed(second, name, "?n=2")
    assert page == ["b", "d"]
    expect(first.call("DELETE", f"/v2/{name}/manifests/b"), 202)
    expect(first.call("DELETE", f"/v2/{name}/manifests/d"), 202)
    first.push_manifest(name, "a", index(), OCI_INDEX)
    first.push_manifest(name, "e", index(), OCI_INDEX)
    assert following is not None
    assert second.pages(following, "tags") == ["e", "f", "h"]
