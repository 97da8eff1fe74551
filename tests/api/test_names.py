"""Names and paths: what breaks the grammar, and every spelling of a way out of the tree."""

from __future__ import annotations

import pytest

from tests.api.client import Registry, check_answer, digest_of, expect, refused
from tests.api.documents import OCI_INDEX, index
from tests.api.wire import Connection

DIGEST = digest_of(b"")

GOOD = [
    "lab/a",
    "lab/0",
    "lab/a/b/c/d/e/f/g",
    "lab/a.b_c__d-e---f",
    "lab/a--b",
    "lab/manifests/tags/list",
    "lab/blobs/uploads",
    "lab/referrers",
    "lab/v2/_catalog".replace("_", ""),
    "lab/" + "x" * 251,
]

BAD = [
    "lab/",
    "lab//app",
    "lab/A",
    "LAB/app",
    "lab/a..b",
    "lab/a___b",
    "lab/-a",
    "lab/a-",
    "lab/_a",
    "lab/.a",
    "lab/a._b",
    "lab/a b",
    "lab/a+b",
    "lab/a:b",
    "lab/a@b",
    "lab/a~b",
    "lab/ä",
    "lab/\u0661",
    "lab/a\n",
    "lab/a\0b",
    "\0",
    "lab/\x7f",
    "lab/..",
    "lab/../secret/app",
    "../lab/app",
    "..",
    ".",
    "lab/./app",
    "lab/%2e%2e/app",
    "lab\\app",
    "/lab/app",
    "lab/" + "x" * 300,
    "x" * 300,
    "lab/" + "a/" * 127 + "a",
    "lab/" + "x" * 252,
]


def encoded(name: str, *, twice: bool = False) -> str:
    """Spell every byte that could mean something as %XX."""
    once = "".join(
        character if character.isascii() and (character.isalnum() or character in "/-_") else escaped(character)
        for character in name
    )
    return once.replace("%", "%25") if twice else once


def escaped(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode())


@pytest.mark.parametrize("name", GOOD)
def test_names_that_are_some(admin: Registry, outsider: Registry, name: str) -> None:
    payload = index(annotations={"name": name})
    admin.push_manifest(name, "latest", payload, OCI_INDEX)
    assert expect(outsider.manifest(name, "latest"), 200).body == payload
    assert outsider.tags(name) == ["latest"]
    refused(outsider.blob(name, DIGEST), 404, "BLOB_UNKNOWN")
    refused(admin.call("GET", f"/v2/{name}/blobs/uploads/{'0' * 32}"), 404, "BLOB_UPLOAD_UNKNOWN")
    expect(outsider.call("GET", f"/v2/{name}/referrers/{DIGEST}"), 200)


PATHS = [
    ("GET", "manifests/latest"),
    ("HEAD", "manifests/latest"),
    ("PUT", "manifests/latest"),
    ("DELETE", "manifests/latest"),
    ("GET", f"blobs/{DIGEST}"),
    ("DELETE", f"blobs/{DIGEST}"),
    ("POST", "blobs/uploads/"),
    ("GET", "blobs/uploads/0"),
    ("PATCH", "blobs/uploads/0"),
    ("PUT", f"blobs/uploads/0?digest={DIGEST}"),
    ("GET", "tags/list"),
    ("GET", f"referrers/{DIGEST}"),
]


@pytest.mark.parametrize("twice", [False, True], ids=["encoded", "encoded twice"])
@pytest.mark.parametrize("name", BAD)
def test_names_that_are_none(admin: Registry, name: str, twice: bool) -> None:
    spelled = encoded(name, twice=twice)
    token = admin.token("repository:lab/app:pull,push,delete")
    for method, rest in PATHS:
        answer = admin.call(method, f"/v2/{spelled}/{rest}", b"" if method in ("PUT", "POST") else None, token=token)
        # Decoded twice or cut at a slash, "lab/A" could become a good name; it must not.
        assert answer.status in (400, 404, 405), (method, rest, str(answer))
        assert method == "HEAD" or answer.json()["errors"][0]["code"] in ("NAME_INVALID", "NAME_UNKNOWN", "UNSUPPORTED")


@pytest.mark.parametrize("name", ["lab/A", "lab/" + "x" * 300, "lab/a__-b", "lab/%00", "lab/%ff", "lab/a%0ab"])
def test_the_words(outsider: Registry, name: str) -> None:
    answer = outsider.call("GET", f"/v2/{name}/tags/list", token="")
    if "%0a" in name:
        refused(answer, 404, "NAME_UNKNOWN")
    else:
        assert "lower-case letters, digits" in refused(answer, 400, "NAME_INVALID")


ESCAPES = [
    "/v2/lab/app/blobs/../../../../etc/passwd",
    "/v2/lab/app/blobs/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/v2/lab/app/blobs/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/v2/lab/app/blobs/..%2f..%2f..%2fetc%2fpasswd",
    "/v2/lab/app/blobs/%252e%252e%252f%252e%252e%252fetc%252fpasswd",
    "/v2/lab/app/blobs/..%5c..%5cetc%5cpasswd",
    "/v2/lab/app/blobs/%c0%ae%c0%ae/etc/passwd",
    "/v2/lab/app/blobs/%00",
    f"/v2/lab/app/blobs/{DIGEST}%00.txt",
    f"/v2/lab/app/blobs/{DIGEST}/../../manifests/latest",
    f"/v2/lab/app/blobs/{DIGEST};x=y",
    f"/v2/lab/app/blobs/sha256/{DIGEST[7:]}",
    "/v2/lab/app/manifests/..%2f..%2fsecret%2fapp%2fmanifests%2flatest",
    "/v2/lab/app/manifests/../../secret/app/manifests/latest",
    "/v2/lab/app/../../secret/app/manifests/latest",
    "/v2/lab/app/%2e%2e/%2e%2e/secret/app/manifests/latest",
    "/v2/../v2/secret/app/manifests/latest",
    "/v2/%2e%2e/secret/manifests/latest",
    "/v2/lab%00/app/manifests/latest",
    "/v2/lab/app/blobs/uploads/../../../../../../tmp/x",
    "/v2/lab/app/blobs/uploads/%2e%2e%2f%2e%2e%2fx",
    "/v2/lab/app/tags/list/../list",
    "/v2/lab/app/referrers/../tags/list",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH"])
def test_no_way_out(admin: Registry, path: str, method: str) -> None:
    token = admin.token("repository:lab/app:pull,push,delete", "repository:secret/app:pull,push,delete")
    answer = admin.call(method, path, None, token=token)
    assert answer.status in (400, 401, 404, 405), answer
    assert b"root:" not in answer.body


def test_an_encoded_slash_is_a_slash_and_no_more(admin: Registry) -> None:
    """Paths are decoded before they are looked at: every spelling of a good path is that path, nothing else is."""
    payload = index(annotations={"spelled": "oddly"})
    admin.push_manifest("lab/spelled", "latest", payload, OCI_INDEX)
    token = admin.token("repository:lab/spelled:pull")
    for path in ("/v2/lab%2fspelled/manifests/latest", "/%76%32/lab/spelled/m%61nifests/%6catest"):
        assert expect(admin.call("GET", path, token=token), 200).body == payload
    refused(admin.call("GET", "/v2/lab%252fspelled/manifests/latest", token=token), 400, "NAME_INVALID")


UNKNOWN = [
    "/v2/x",
    "/v2//",
    "/v2///",
    "/v2/lab",
    "/v2/lab/app",
    "/v2/lab/app/",
    "/v2/lab/app/manifests",
    "/v2/lab/app/manifests/",
    "/v2/lab/app/manifests/a/b",
    "/v2/lab/app/blobs",
    "/v2/lab/app/blobs/",
    "/v2/lab/app/tags",
    "/v2/lab/app/tags/list/",
    "/v2/lab/app/tags/latest",
    "/v2/lab/app/referrers",
    "/v2/lab/app/referrers/",
    "/v2/_catalog/",
    "/v2/_catalog/x",
    "/v2/_oci/ext/discover",
    "/v2/lab/app/_oci/ext/discover",
    "/v2/token",
    "/v2/?/x",
    "/v2/#x",
    "/v2/%",
    "/v2/%zz",
    "/v2/%0d%0aSet-Cookie:%20x=y",
    "/v2/<script>alert(1)</script>",
    "/v2/{{7*7}}",
    "/v2/'%20OR%201=1--",
    "/v2/" + "x" * 8000,
    "/v2/" + "a/" * 4000,
    "/v2/" + "%2e%2e/" * 2000,
]


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("token", [None, ""], ids=["with a token", "without"])
def test_unknown_paths(admin: Registry, path: str, token: str | None) -> None:
    with Connection(admin.host) as connection:
        headers = {} if token == "" else {"Authorization": f"Bearer {admin.token('repository:lab/app:pull')}"}
        connection.request("GET", path, headers)
        answer = connection.answer()
    check_answer(answer, "GET", path)
    if path == "/v2/?/x":
        assert answer.status == (401 if token == "" else 200)
    else:
        assert answer.status in (400, 404), answer


@pytest.mark.parametrize(
    "method", ["OPTIONS", "TRACE", "CONNECT", "PROPFIND", "FOO", "get", "X" * 100, "POST", "PATCH"]
)
@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/lab/app/manifests/latest", "/v2/lab/app/tags/list"])
def test_unknown_methods(admin: Registry, method: str, path: str) -> None:
    with Connection(admin.host) as connection:
        token = admin.token("repository:lab/app:pull,push", "registry:catalog:*")
        connection.request(method, path, {"Authorization": f"Bearer {token}"})
        answer = connection.answer()
    check_answer(answer, method, path)
    refused(answer, 405, "UNSUPPORTED")
    assert "GET" in answer["Allow"].split(", ")
