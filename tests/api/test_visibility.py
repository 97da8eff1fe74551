"""Who sees what: nothing tells an outsider what is private from what is not there."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.client import Answer, Registry, closing, digest_of, expect, refused
from tests.api.documents import EMPTY, OCI_INDEX, OCI_MANIFEST, descriptor, document, fresh, image, index

# As long as the private project's name, so that the answers are as long.
PRIVATE, MISSING = "secret", "absent"
LAYER = b"a private layer"


@pytest.fixture(scope="module")
def guarded(admin: Registry) -> str:
    """A private repository with an image, and the name of it."""
    name = f"{PRIVATE}/{uuid.uuid4().hex[:12]}"
    for data in (EMPTY, LAYER):
        admin.push_blob(name, data)
    admin.push_manifest(name, "latest", image(LAYER), OCI_MANIFEST)
    return name


def seen(answer: Answer, name: str) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Give all of an answer but what differs in any two: the request's id, the time, a session's id, the name."""

    def plain(text: str) -> str:
        return re.sub(r"[0-9a-f]{32}", "ID", text.replace(name, "NAME"))

    headers = [(key, plain(value)) for key, value in answer.headers.items() if key not in ("Date", "X-Request-Id")]
    return answer.status, answer.body.replace(name.encode(), b"NAME"), sorted(headers)


REQUESTS = [
    ("GET", "manifests/latest"),
    ("HEAD", "manifests/latest"),
    ("GET", f"manifests/{digest_of(image(LAYER))}"),
    ("HEAD", f"manifests/{digest_of(image(LAYER))}"),
    ("PUT", "manifests/latest"),
    ("DELETE", "manifests/latest"),
    ("GET", f"blobs/{digest_of(LAYER)}"),
    ("HEAD", f"blobs/{digest_of(LAYER)}"),
    ("DELETE", f"blobs/{digest_of(LAYER)}"),
    ("GET", "tags/list"),
    ("HEAD", "tags/list"),
    ("GET", "tags/list?n=1"),
    ("GET", f"referrers/{digest_of(image(LAYER))}"),
    ("HEAD", f"referrers/{digest_of(image(LAYER))}"),
    ("POST", "blobs/uploads/"),
    ("POST", f"blobs/uploads/?digest={digest_of(LAYER)}"),
    ("POST", f"blobs/uploads/?mount={digest_of(LAYER)}"),
    ("GET", "blobs/uploads/0"),
    ("PATCH", "blobs/uploads/0"),
    ("PUT", f"blobs/uploads/0?digest={digest_of(LAYER)}"),
    ("DELETE", "blobs/uploads/0"),
    ("OPTIONS", "manifests/latest"),
    ("GET", "nothing"),
    ("GET", "manifests/.bad"),
    ("GET", "blobs/bad"),
]


@pytest.mark.parametrize(("method", "rest"), REQUESTS)
@pytest.mark.parametrize("who", ["nobody", "anonymous", "a token for another", "a forged token", "a wrong password"])
def test_private_and_missing_answer_alike(
    admin: Registry, outsider: Registry, guarded: str, method: str, rest: str, who: str
) -> None:
    missing = guarded.replace(PRIVATE, MISSING)
    body = b"" if method in ("PUT", "POST", "PATCH") else None
    answers = []
    for name in (guarded, missing):
        headers: dict[str, str] = {}
        token: str | None = ""
        if who == "anonymous":
            token = outsider.token(f"repository:{name}:pull,push,delete")
        elif who == "a token for another":
            token = admin.token("repository:lab/app:pull,push,delete")
        elif who == "a forged token":
            token = "x.y.z"
        elif who == "a wrong password":
            headers = {"Authorization": "Basic bm9ib2R5"}
        answers.append(seen(outsider.call(method, f"/v2/{name}/{rest}", body, headers, token=token), name))
    assert answers[0] == answers[1]
    assert answers[0][0] in (401, 404, 405)


def test_their_tokens_are_alike(outsider: Registry, guarded: str) -> None:
    for name in (guarded, guarded.replace(PRIVATE, MISSING)):
        answer = outsider.ask_token(f"repository:{name}:pull,push,delete")
        assert answer.status == 200
        refused(outsider.call("GET", f"/v2/{name}/tags/list", token=answer.json()["token"]), 401, "UNAUTHORIZED")


def test_mounts_of_them_are_alike(admin: Registry, guarded: str, name: str) -> None:
    """Whoever may push somewhere learns nothing of what is elsewhere."""
    token = admin.token(f"repository:{name}:pull,push")
    answers = []
    for source in (guarded, guarded.replace(PRIVATE, MISSING)):
        path = f"/v2/{name}/blobs/uploads/?mount={digest_of(LAYER)}&from={source}"
        answers.append(seen(admin.call("POST", path, b"", token=token), name))
    assert answers[0] == answers[1]
    assert answers[0][0] == 202


class TestADigestIsNoKey:
    """That the store has a digest counts for nothing; what counts is the repository."""

    def test_a_layer(self, admin: Registry, guarded: str, name: str) -> None:
        admin.push_blob(name, EMPTY)
        payload = image(LAYER)
        answer = admin.put_manifest(name, "stolen", payload, OCI_MANIFEST)
        refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")
        assert answer.json()["errors"][0]["detail"] == [{"digest": digest_of(LAYER)}]
        unknown = admin.put_manifest(name, "stolen", image(b"as long a layer"), OCI_MANIFEST)
        assert seen(answer, digest_of(LAYER)) == seen(unknown, digest_of(b"as long a layer"))
        refused(admin.blob(name, digest_of(LAYER)), 404, "BLOB_UNKNOWN")

    def test_a_config(self, admin: Registry, guarded: str, name: str) -> None:
        payload = document(schemaVersion=2, mediaType=OCI_MANIFEST, config=descriptor(LAYER), layers=[])
        refused(admin.put_manifest(name, "stolen", payload, OCI_MANIFEST), 404, "MANIFEST_BLOB_UNKNOWN")

    def test_a_layer_that_may_not_be_distributed_is_not_served_for_that(
        self, admin: Registry, guarded: str, name: str
    ) -> None:
        admin.push_blob(name, EMPTY)
        kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
        payload = image(layers=[descriptor(LAYER, kind)])
        admin.push_manifest(name, "stolen", payload, OCI_MANIFEST)
        for method in ("GET", "HEAD"):
            assert admin.call(method, f"/v2/{name}/blobs/{digest_of(LAYER)}").status == 404

    def test_a_child(self, admin: Registry, guarded: str, name: str) -> None:
        payload = index(image(LAYER))
        refused(admin.put_manifest(name, "stolen", payload, OCI_INDEX), 404, "MANIFEST_BLOB_UNKNOWN")
        refused(admin.manifest(name, digest_of(image(LAYER))), 404, "NAME_UNKNOWN")

    def test_a_subject(self, admin: Registry, outsider: Registry, guarded: str, name: str) -> None:
        """It may be named before it is there, and is not there for being named."""
        admin.push_blob(name, EMPTY)
        subject = image(LAYER)
        payload = image(subject=descriptor(subject, OCI_MANIFEST))
        admin.push_manifest(name, "signature", payload, OCI_MANIFEST)
        refused(outsider.manifest(name, digest_of(subject)), 404, "MANIFEST_UNKNOWN")
        assert admin.call("GET", f"/v2/{guarded}/referrers/{digest_of(subject)}").json()["manifests"] == []

    def test_an_upload_of_the_same_bytes(self, admin: Registry, guarded: str, name: str) -> None:
        """Whoever has the bytes may push them, and changes nothing for the others."""
        admin.push_blob(name, LAYER)
        expect(admin.call("DELETE", f"/v2/{name}/blobs/{digest_of(LAYER)}"), 202)
        assert expect(admin.blob(guarded, digest_of(LAYER)), 200).body == LAYER

    def test_an_upload_without_the_bytes(self, admin: Registry, guarded: str, name: str) -> None:
        refused(admin.call("PUT", closing(admin.begin(name), digest_of(LAYER)), b""), 400, "DIGEST_INVALID")
        path = f"/v2/{name}/blobs/uploads/?digest={digest_of(LAYER)}"
        refused(admin.call("POST", path, b""), 400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("POST", "blobs/uploads/"),
        ("POST", f"blobs/uploads/?digest={digest_of(LAYER)}"),
        ("POST", f"blobs/uploads/?mount={digest_of(LAYER)}&from=lab/app"),
        ("PATCH", "blobs/uploads/0"),
        ("PUT", f"blobs/uploads/0?digest={digest_of(LAYER)}"),
        ("PUT", "manifests/latest"),
        ("PUT", f"manifests/{digest_of(index())}"),
    ],
)
def test_a_mirror_takes_nothing(admin: Registry, method: str, rest: str) -> None:
    words = refused(admin.call(method, f"/v2/mirror/library/app/{rest}", index()), 403, "DENIED")
    assert "pull-through cache of docker.io" in words
    assert "push to a project of your own" in words


def test_a_mirror_takes_nothing_of_an_outsider_either(outsider: Registry) -> None:
    refused(outsider.call("POST", "/v2/mirror/library/app/blobs/uploads/", b""), 401, "UNAUTHORIZED")


def test_what_is_deleted_in_a_public_project_stays_deleted(
    admin: Registry, first: Registry, second: Registry, outsider: Registry, name: str
) -> None:
    """On both workers, for everybody, at once, however warm they were."""
    layer = fresh()
    for data in (EMPTY, layer):
        admin.push_blob(name, data)
    digest = admin.push_manifest(name, "latest", image(layer), OCI_MANIFEST)
    users = [first, second, outsider]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            assert {answer.status for answer in pool.map(lambda user: user.manifest(name, digest), users * 4)} == {200}
        expect(admin.call("DELETE", f"/v2/{name}/manifests/{digest}"), 202)
        expect(admin.call("DELETE", f"/v2/{name}/blobs/{digest_of(layer)}"), 202)
        for reference in ("latest", digest):
            asked = pool.map(lambda user, asked_for: user.manifest(name, asked_for), users * 4, [reference] * 12)
            assert {answer.status for answer in asked} == {404}
        assert {answer.status for answer in pool.map(lambda user: user.blob(name, digest_of(layer)), users * 4)} == {
            404
        }
