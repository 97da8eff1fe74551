"""``/v2/<name>/referrers/<digest>`` and the ``OCI-Subject`` of what is pushed."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.api.client import Registry, digest_of, expect, next_page, refused
from tests.api.documents import CONFIG, EMPTY, OCI_INDEX, OCI_MANIFEST, descriptor, fresh, image, index

SBOM, SIGNATURE = "application/vnd.example.sbom.v1", "application/vnd.example.signature.v1+json"


@pytest.fixture
def subject(admin: Registry, name: str) -> bytes:
    """A manifest in the repository that others can name."""
    admin.push_blob(name, EMPTY)
    payload = image(annotations={"of": name})
    admin.push_manifest(name, "subject", payload, OCI_MANIFEST)
    return payload


def attach(admin: Registry, name: str, payload: bytes, media_type: str = OCI_MANIFEST, tag: str | None = None) -> str:
    """Push a referrer and see that the answer tells its subject."""
    answer = expect(admin.put_manifest(name, tag or digest_of(payload), payload, media_type), 201)
    assert answer["OCI-Subject"] in payload.decode()
    return answer["Docker-Content-Digest"]


def referring(subject: bytes, number: int = 0, **more: Any) -> bytes:
    return image(subject=descriptor(subject, OCI_MANIFEST), annotations={"number": str(number)}, **more)


def listed(user: Registry, name: str, subject: bytes, query: str = "") -> list[dict[str, Any]]:
    answer = expect(user.call("GET", f"/v2/{name}/referrers/{digest_of(subject)}{query}"), 200)
    assert answer["Content-Type"] == OCI_INDEX
    document = answer.json()
    assert (document.pop("schemaVersion"), document.pop("mediaType")) == (2, OCI_INDEX)
    assert list(document) == ["manifests"]
    return list(document["manifests"])


def test_none(admin: Registry, outsider: Registry, name: str) -> None:
    """Never 404: an empty list, also for a repository that nobody has pushed to."""
    assert listed(outsider, name, b"anything") == []
    admin.push_blob(name, EMPTY)
    assert listed(outsider, name, b"anything") == []


def test_an_image_that_refers(admin: Registry, outsider: Registry, name: str, subject: bytes) -> None:
    payload = referring(subject, artifactType=SBOM)
    digest = attach(admin, name, payload, tag="sbom")
    assert listed(outsider, name, subject) == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": digest,
            "size": len(payload),
            "artifactType": SBOM,
            "annotations": {"number": "0"},
        }
    ]
    assert expect(outsider.manifest(name, digest), 200).body == payload


@pytest.mark.parametrize(
    ("payload", "media_type", "kind"),
    [
        (image(artifactType=SBOM, config=EMPTY), OCI_MANIFEST, SBOM),
        (image(), OCI_MANIFEST, CONFIG),
        (image(artifactType="", config=EMPTY), OCI_MANIFEST, CONFIG),
        (index(artifactType=SBOM), OCI_INDEX, SBOM),
        (index(), OCI_INDEX, None),
        (index(artifactType=""), OCI_INDEX, None),
    ],
    ids=["image", "image without", "image with none", "index", "index without", "index with none"],
)
def test_artifact_type(
    admin: Registry, name: str, subject: bytes, payload: bytes, media_type: str, kind: str | None
) -> None:
    """The manifest's own; of an image without one the config's media type; of an index without one nothing."""
    payload = payload[:-1] + b', "subject": ' + str(descriptor(subject, OCI_MANIFEST)).replace("'", '"').encode() + b"}"
    attach(admin, name, payload, media_type)
    (found,) = listed(admin, name, subject)
    assert found.get("artifactType") == kind
    assert ("artifactType" in found) == (kind is not None)
    assert "annotations" not in found


def test_a_filter(admin: Registry, outsider: Registry, name: str, subject: bytes) -> None:
    kinds = [SBOM, SIGNATURE, SBOM, None]
    digests = [attach(admin, name, referring(subject, n, artifactType=kind)) for n, kind in enumerate(kinds)]
    assert {entry["digest"] for entry in listed(outsider, name, subject)} == set(digests)
    for kind, count in ((SBOM, 2), (SIGNATURE, 1), (CONFIG, 1), ("application/nothing", 0), ("%", 0), ("a" * 300, 0)):
        path = f"/v2/{name}/referrers/{digest_of(subject)}?artifactType={quote(kind, safe='')}"
        answer = expect(outsider.call("GET", path), 200)
        assert answer["OCI-Filters-Applied"] == "artifactType"
        found = answer.json()["manifests"]
        assert [entry["artifactType"] for entry in found] == [kind] * count
    without = outsider.call("GET", f"/v2/{name}/referrers/{digest_of(subject)}")
    assert without.get("OCI-Filters-Applied") is None


@pytest.mark.parametrize("n", [1, 2, 5, 100])
@pytest.mark.parametrize("kind", [None, SBOM])
def test_pages(admin: Registry, outsider: Registry, name: str, subject: bytes, n: int, kind: str | None) -> None:
    digests = sorted(attach(admin, name, referring(subject, number, artifactType=SBOM)) for number in range(5))
    attach(admin, name, referring(subject, 9, artifactType=SIGNATURE))
    query = f"?n={n}" + (f"&artifactType={quote(kind)}" if kind else "")
    path: str | None = f"/v2/{name}/referrers/{digest_of(subject)}{query}"
    found: list[str] = []
    while path is not None:
        answer = expect(outsider.call("GET", path), 200)
        assert (answer.get("OCI-Filters-Applied") is not None) == (kind is not None)
        page = [entry["digest"] for entry in answer.json()["manifests"]]
        assert 1 <= len(page) <= n
        found += page
        path = next_page(answer)
    assert found == sorted(found)
    assert len(found) == (5 if kind else 6)
    assert set(digests) <= set(found)


def test_before_its_subject_is_there(admin: Registry, outsider: Registry, name: str) -> None:
    admin.push_blob(name, EMPTY)
    late = image(annotations={"comes": "later"})
    digest = attach(admin, name, referring(late))
    assert [entry["digest"] for entry in listed(outsider, name, late)] == [digest]
    admin.push_manifest(name, "late", late, OCI_MANIFEST)
    assert [entry["digest"] for entry in listed(outsider, name, late)] == [digest]


def test_under_sha512(admin: Registry, name: str) -> None:
    admin.push_blob(name, EMPTY)
    subject = image(annotations={"under": "sha512"})
    long = digest_of(subject, "sha512")
    admin.push_manifest(name, long, subject, OCI_MANIFEST)
    payload = image(subject=descriptor(subject, OCI_MANIFEST, "sha512"))
    digest = digest_of(payload, "sha512")
    answer = expect(admin.put_manifest(name, digest, payload, OCI_MANIFEST), 201)
    assert answer["OCI-Subject"] == long
    found = expect(admin.call("GET", f"/v2/{name}/referrers/{long}"), 200).json()["manifests"]
    assert [entry["digest"] for entry in found] == [digest]
    assert listed(admin, name, subject) == []


def test_deleted(first: Registry, second: Registry, name: str) -> None:
    first.push_blob(name, EMPTY)
    subject = image()
    first.push_manifest(name, "subject", subject, OCI_MANIFEST)
    digests = [attach(first, name, referring(subject, number)) for number in range(3)]
    expect(first.call("DELETE", f"/v2/{name}/manifests/{digests[1]}"), 202)
    left = {digests[0], digests[2]}
    for user in (first, second):
        assert {entry["digest"] for entry in listed(user, name, subject)} == left
    expect(first.call("DELETE", f"/v2/{name}/manifests/{digest_of(subject)}"), 202)
    for user in (first, second):
        assert listed(user, name, subject) == [], "they are in the bin, with their subject"


def test_only_of_this_repository(admin: Registry, name: str, subject: bytes) -> None:
    other = f"{name}-2"
    admin.push_blob(other, EMPTY)
    attach(admin, other, referring(subject))
    assert listed(admin, name, subject) == []
    assert len(listed(admin, other, subject)) == 1


def test_many_annotations(admin: Registry, name: str, subject: bytes) -> None:
    annotations = {"org.example.note": 'ä€\U0001f600 "quoted" \\ \n', "empty": "", "": "no key", "nul": "\0"}
    attach(admin, name, image(subject=descriptor(subject, OCI_MANIFEST), annotations=annotations))
    (found,) = listed(admin, name, subject)
    assert found["annotations"] == annotations


@pytest.mark.parametrize(
    "digest", ["latest", "sha256:", f"sha256:{'0' * 63}", f"sha256:{'X' * 64}", "md5:0", "%00", "..", "a:b"]
)
def test_a_digest_that_is_none(outsider: Registry, name: str, digest: str) -> None:
    refused(outsider.call("GET", f"/v2/{name}/referrers/{digest}"), 400, "DIGEST_INVALID")


@pytest.mark.parametrize("query", ["n=-1", "n=x", "last=%00", f"last={'x' * 600}"])
def test_a_page_that_cannot_be_read(outsider: Registry, name: str, query: str) -> None:
    refused(outsider.call("GET", f"/v2/{name}/referrers/{digest_of(b'')}?{query}"), 400, "UNSUPPORTED")


def test_the_head(admin: Registry, name: str, subject: bytes) -> None:
    for number in range(3):
        attach(admin, name, referring(subject, number))
    path = f"/v2/{name}/referrers/{digest_of(subject)}?n=2&artifactType={quote(CONFIG)}"
    get, head = (admin.call(method, path) for method in ("GET", "HEAD"))
    for header in ("Content-Length", "Content-Type", "Link", "OCI-Filters-Applied"):
        assert head[header] == get[header]
    assert head.body == b""


def test_no_subject_no_header(admin: Registry, name: str) -> None:
    admin.push_blob(name, EMPTY)
    for payload, media_type in ((image(), OCI_MANIFEST), (index(), OCI_INDEX), (image(subject=None), OCI_MANIFEST)):
        answer = expect(admin.put_manifest(name, "latest", payload, media_type), 201)
        assert answer.get("OCI-Subject") is None


def test_a_layer_of_the_subject_is_still_needed(admin: Registry, name: str, subject: bytes) -> None:
    """That a subject may be missing does not excuse other parts."""
    payload = image(fresh(), subject=descriptor(subject, OCI_MANIFEST))
    refused(admin.put_manifest(name, "latest", payload, OCI_MANIFEST), 404, "MANIFEST_BLOB_UNKNOWN")
    assert listed(admin, name, subject) == []
