"""Manifests that are refused: in words, and with nothing of them kept."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.api.client import Registry, digest_of, expect, refused
from tests.api.documents import (
    CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EMPTY,
    LAYER,
    OCI_INDEX,
    OCI_MANIFEST,
    buildkit_cache,
    descriptor,
    document,
    fresh,
    image,
    index,
)
from tests.api.wire import Connection
from tests.parts.process import wait_for
from tests.parts.service import Service

LIMIT = 4 * 1024 * 1024
BLOB = b"a layer that is there"
GOOD: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": descriptor(EMPTY, CONFIG),
    "layers": [descriptor(BLOB)],
}


@pytest.fixture
def repository(admin: Registry, name: str) -> str:
    """A repository with the parts of `GOOD`."""
    for data in (EMPTY, BLOB):
        admin.push_blob(name, data)
    return name


@pytest.fixture(scope="module")
def empty(admin: Registry) -> str:
    """A repository with the parts of `GOOD` that stays without manifests, for tests that push none."""
    name = "lab/refused"
    for data in (EMPTY, BLOB):
        admin.push_blob(name, data)
    return name


def nothing_kept(admin: Registry, name: str, payload: bytes) -> None:
    assert admin.tags(name) == []
    assert admin.manifest(name, digest_of(payload)).status == 404


NOT_JSON = {
    "empty": b"",
    "space": b"  \n",
    "text": b"hello",
    "html": b"<html></html>",
    "cut": json.dumps(GOOD).encode()[:-1],
    "twice": json.dumps(GOOD).encode() * 2,
    "not utf-8": b'{"schemaVersion": 2, "x": "\xff\xfe"}',
    "list": b"[]",
    "number": b"2",
    "null": b"null",
    "string": b'"schemaVersion"',
    "deep": b"[" * 100_000,
    "deeper": b'{"a":' * 100_000,
    "long number": b'{"schemaVersion": ' + b"2" * 5000 + b"}",
    "zip bomb's head": b"\x1f\x8b\x08\x00",
}


@pytest.mark.parametrize("payload", NOT_JSON.values(), ids=NOT_JSON)
@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX, None])
def test_not_json(admin: Registry, empty: str, payload: bytes, media_type: str | None) -> None:
    for reference in ("latest", digest_of(payload)):
        words = refused(admin.put_manifest(empty, reference, payload, media_type), 400, "MANIFEST_INVALID")
        assert "JSON" in words
    nothing_kept(admin, empty, payload)


def changed(**fields: Any) -> bytes:
    return document(**{key: value for key, value in (GOOD | fields).items() if value != "absent"})


def layer(**fields: Any) -> bytes:
    return changed(layers=[{key: value for key, value in (descriptor(BLOB) | fields).items() if value != "absent"}])


INVALID = {
    "no schemaVersion": changed(schemaVersion="absent"),
    "schemaVersion 1": changed(schemaVersion=1),
    "schemaVersion '2'": changed(schemaVersion="2"),
    "schemaVersion true": changed(schemaVersion=True),
    "schemaVersion null": changed(schemaVersion=None),
    "no config": changed(config="absent"),
    "config null": changed(config=None),
    "config a list": changed(config=[]),
    "config a digest": changed(config=digest_of(EMPTY)),
    "config empty": changed(config={}),
    "layers an object": changed(layers={}),
    "layers text": changed(layers="none"),
    "a layer null": changed(layers=[None]),
    "a layer a list": changed(layers=[[]]),
    "no digest": layer(digest="absent"),
    "digest null": layer(digest=None),
    "digest a number": layer(digest=1),
    "digest of md5": layer(digest="md5:" + "0" * 32),
    "digest in upper case": layer(digest="sha256:" + "A" * 64),
    "digest with a path": layer(digest="sha256:../../../../etc/passwd"),
    "digest with a NUL": layer(digest=f"sha256:{'0' * 64}\0"),
    "digest with a newline": layer(digest=f"sha256:{'0' * 64}\n"),
    "size text": layer(size="21"),
    "size true": layer(size=True),
    "size negative": layer(size=-1),
    "size a fraction": layer(size=21.5),
    "size too large": layer(size=2**63),
    "size far too large": layer(size=10**400),
    "mediaType of a layer a number": layer(mediaType=1),
    "half a surrogate in a layer's mediaType": layer(mediaType="\ud800"),
    "mediaType a number": changed(mediaType=1),
    "mediaType a list": changed(mediaType=[OCI_MANIFEST]),
    "another mediaType than the header": changed(mediaType=DOCKER_MANIFEST),
    "mediaType of an index": changed(mediaType=OCI_INDEX),
    "mediaType nobody knows": changed(mediaType="text/html"),
    "manifests in an image": changed(manifests=[]),
    "a byte order mark": b"\xef\xbb\xbf" + changed(),
    "subject text": changed(subject="sha256:"),
    "subject a list": changed(subject=[]),
    "subject with a bad digest": changed(subject=descriptor(b"", digest="x")),
    "artifactType a number": changed(artifactType=1),
    "artifactType with a NUL": changed(artifactType="application/x\0"),
    "artifactType with a line break": changed(artifactType="application/x\r\nX-Header: y"),
    "artifactType half a surrogate": changed(artifactType="\ud800"),
    "artifactType endless": changed(artifactType="a/" + "x" * 10_000),
    "annotations a list": changed(annotations=["a"]),
    "annotations text": changed(annotations="a"),
    "an annotation a number": changed(annotations={"a": 1}),
    "an annotation nested": changed(annotations={"a": {"b": "c"}}),
    "half a surrogate in an annotation": changed(annotations={"a": "\udfff"}),
    "schema 1": document(schemaVersion=1, name="app", tag="latest", fsLayers=[], history=[], signatures=[]),
    "nothing": b"{}",
}


@pytest.mark.parametrize("payload", INVALID.values(), ids=INVALID)
def test_invalid(admin: Registry, empty: str, payload: bytes) -> None:
    for reference in ("latest", digest_of(payload)):
        refused(admin.put_manifest(empty, reference, payload, OCI_MANIFEST), 400, "MANIFEST_INVALID")
    nothing_kept(admin, empty, payload)


TAKEN = {
    "an annotation null": changed(annotations={"a": None}),
    "annotations null": changed(annotations=None),
    "layers null": changed(layers=None),
    "manifests null": changed(manifests=None),
    "no size": layer(size="absent"),
    "size null": layer(size=None),
    "no mediaType": layer(mediaType="absent"),
    "mediaType of a layer empty": layer(mediaType=""),
    "keys in another case": document(SchemaVersion=2, MEDIATYPE=OCI_MANIFEST, Config=GOOD["config"], Layers=[]),
    "white space": b" \n" + changed() + b"\n\n",
    "subject without a size": changed(subject={"mediaType": OCI_MANIFEST, "digest": digest_of(b"")}),
}


@pytest.mark.parametrize("payload", TAKEN.values(), ids=TAKEN)
def test_what_distribution_takes(admin: Registry, repository: str, payload: bytes) -> None:
    """Go's decoder reads null and a missing member as nothing, and names in any case."""
    expect(admin.put_manifest(repository, "latest", payload, OCI_MANIFEST), 201)
    assert admin.manifest(repository, "latest").body == payload


@pytest.mark.parametrize("manifests", [{}, {"manifests": None}, {"manifests": None, "config": None, "layers": None}])
def test_indexes_that_distribution_takes(admin: Registry, repository: str, manifests: dict[str, None]) -> None:
    payload = document(schemaVersion=2, mediaType=OCI_INDEX, **manifests)
    expect(admin.put_manifest(repository, "latest", payload, OCI_INDEX), 201)


def test_the_good_one_is_good(admin: Registry, repository: str) -> None:
    """What the table above changes one thing of."""
    expect(admin.put_manifest(repository, "latest", changed(), OCI_MANIFEST), 201)


INVALID_INDEXES = {
    "manifests an object": index(manifests={}),
    "a child null": index(manifests=[None]),
    "a child without digest": index(manifests=[{"mediaType": OCI_MANIFEST, "size": 1}]),
    "a config": index(config=descriptor(EMPTY)),
    "layers": index(layers=[]),
    "schemaVersion 1": index(schemaVersion=1),
    "mediaType of an image": index(mediaType=OCI_MANIFEST),
    "mediaType of the other list": index(mediaType=DOCKER_LIST),
}


@pytest.mark.parametrize("payload", INVALID_INDEXES.values(), ids=INVALID_INDEXES)
def test_invalid_index(admin: Registry, empty: str, payload: bytes) -> None:
    refused(admin.put_manifest(empty, "latest", payload, OCI_INDEX), 400, "MANIFEST_INVALID")
    nothing_kept(admin, empty, payload)


@pytest.mark.parametrize(
    "header",
    [OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, "text/plain", "text/html", "application/xml", "*/*", "/", "x" * 9000,
     "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.oci.image.config.v1+json",
     "application/vnd.docker.distribution.manifest.v1+prettyjws", f"{OCI_MANIFEST}, {OCI_MANIFEST}",
     "multipart/form-data; boundary=x"],
)  # fmt: skip
def test_another_type_in_the_header(admin: Registry, empty: str, header: str) -> None:
    payload = changed()
    refused(admin.put_manifest(empty, "latest", payload, header), 400, "MANIFEST_INVALID")
    nothing_kept(admin, empty, payload)


@pytest.mark.parametrize("wrong", [0, 1, len(BLOB) - 1, len(BLOB) + 1, 2**62])
def test_a_descriptor_of_the_wrong_size(admin: Registry, empty: str, wrong: int) -> None:
    for payload in (layer(size=wrong), changed(config=descriptor(BLOB, CONFIG, size=wrong), layers=[])):
        words = refused(admin.put_manifest(empty, "latest", payload, OCI_MANIFEST), 400, "MANIFEST_INVALID")
        assert f"has {len(BLOB)} bytes, but the manifest says {wrong}" in words
        nothing_kept(admin, empty, payload)


def test_a_child_of_the_wrong_size(admin: Registry, repository: str) -> None:
    child = changed()
    admin.push_manifest(repository, digest_of(child), child, OCI_MANIFEST)
    payload = index(manifests=[descriptor(child, OCI_MANIFEST, size=1)])
    words = refused(admin.put_manifest(repository, "latest", payload, OCI_INDEX), 400, "MANIFEST_INVALID")
    assert f"has {len(child)} bytes, but the manifest says 1" in words


def test_one_part_with_two_sizes(admin: Registry, empty: str) -> None:
    payload = changed(layers=[descriptor(BLOB), descriptor(BLOB, size=1)])
    refused(admin.put_manifest(empty, "latest", payload, OCI_MANIFEST), 400, "MANIFEST_INVALID")


class TestMissingParts:
    """MANIFEST_BLOB_UNKNOWN, with everything that is missing in its detail."""

    def missing(self, admin: Registry, name: str, payload: bytes, media_type: str) -> set[str]:
        answer = admin.put_manifest(name, "latest", payload, media_type)
        refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")
        nothing_kept(admin, name, payload)
        return {entry["digest"] for entry in answer.json()["errors"][0]["detail"]}

    def test_layers(self, admin: Registry, repository: str) -> None:
        absent = [fresh() for _ in range(3)]
        payload = changed(layers=[descriptor(data) for data in (BLOB, *absent)])
        assert self.missing(admin, repository, payload, OCI_MANIFEST) == {digest_of(data) for data in absent}

    def test_the_config(self, admin: Registry, repository: str) -> None:
        config = fresh()
        payload = changed(config=descriptor(config, CONFIG))
        assert self.missing(admin, repository, payload, OCI_MANIFEST) == {digest_of(config)}

    def test_everything_in_a_new_repository(self, admin: Registry, name: str) -> None:
        answer = admin.put_manifest(name, "latest", changed(), OCI_MANIFEST)
        refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")
        assert admin.call("GET", f"/v2/{name}/tags/list").status == 404

    def test_children(self, admin: Registry, repository: str) -> None:
        child, absent = changed(), image(annotations={"is": "absent"})
        admin.push_manifest(repository, digest_of(child), child, OCI_MANIFEST)
        payload = index(child, absent)
        assert self.missing_of_index(admin, repository, payload) == {digest_of(absent)}

    def missing_of_index(self, admin: Registry, name: str, payload: bytes) -> set[str]:
        answer = admin.put_manifest(name, "latest", payload, OCI_INDEX)
        refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")
        return {entry["digest"] for entry in answer.json()["errors"][0]["detail"]}

    def test_a_blob_is_no_child_and_a_manifest_no_layer(self, admin: Registry, repository: str) -> None:
        child = changed()
        admin.push_manifest(repository, digest_of(child), child, OCI_MANIFEST)
        assert self.missing_of_index(admin, repository, index(BLOB)) == {digest_of(BLOB)}
        answer = admin.put_manifest(repository, "x", changed(layers=[descriptor(child)]), OCI_MANIFEST)
        refused(answer, 404, "MANIFEST_BLOB_UNKNOWN")

    def test_entries_that_are_no_manifests(self, admin: Registry, repository: str) -> None:
        absent = fresh()
        payload = buildkit_cache(BLOB, absent)
        assert self.missing_of_index(admin, repository, payload) == {digest_of(absent)}
        wrong = index(manifests=[descriptor(BLOB, size=1)])
        refused(admin.put_manifest(repository, "x", wrong, OCI_INDEX), 400, "MANIFEST_INVALID")

    def test_under_another_algorithm(self, admin: Registry, repository: str) -> None:
        payload = changed(layers=[descriptor(BLOB, LAYER, "sha512")])
        assert self.missing(admin, repository, payload, OCI_MANIFEST) == {digest_of(BLOB, "sha512")}

    def test_in_another_repository_of_the_project(self, admin: Registry, name: str, repository: str) -> None:
        """That the project has it does not count: it is mounted first."""
        other, data = f"{name}-2", fresh()
        admin.push_blob(other, data)
        assert self.missing(admin, repository, changed(layers=[descriptor(data)]), OCI_MANIFEST) == {digest_of(data)}

    def test_many(self, admin: Registry, repository: str) -> None:
        absent = [descriptor(fresh(8)) for _ in range(1500)]
        assert len(self.missing(admin, repository, changed(layers=absent), OCI_MANIFEST)) == 100

    def test_deleted_before(self, admin: Registry, repository: str) -> None:
        expect(admin.call("DELETE", f"/v2/{repository}/blobs/{digest_of(BLOB)}"), 202)
        assert self.missing(admin, repository, changed(), OCI_MANIFEST) == {digest_of(BLOB)}


@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT])
@pytest.mark.parametrize("stream", [False, True])
def test_too_large(admin: Registry, empty: str, size: int, stream: bool) -> None:
    payload = changed(annotations={"filling": "x" * size})[:size]
    body = iter([payload[:LIMIT], payload[LIMIT:]]) if stream else payload
    answer = admin.call("PUT", f"/v2/{empty}/manifests/large", body, {"Content-Type": OCI_MANIFEST})
    assert f"{LIMIT} bytes at most" in refused(answer, 413, "MANIFEST_INVALID")
    assert admin.tags(empty) == []


def test_too_large_is_said_before_it_is_sent(admin: Registry, empty: str) -> None:
    with Connection(admin.host) as connection:
        token = admin.token(f"repository:{empty}:pull,push")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": OCI_MANIFEST, "Content-Length": str(10**12)}
        connection.request("PUT", f"/v2/{empty}/manifests/large", headers, b"{")
        answer = connection.answer()
    refused(answer, 413, "MANIFEST_INVALID")
    assert answer["Connection"] == "close"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_another_digest_than_in_the_path(admin: Registry, empty: str, algorithm: str) -> None:
    payload, wrong = changed(), digest_of(b"else", algorithm)
    words = refused(admin.put_manifest(empty, wrong, payload, OCI_MANIFEST), 400, "DIGEST_INVALID")
    assert wrong in words
    assert digest_of(payload, algorithm) in words
    assert admin.manifest(empty, wrong).status == 404
    nothing_kept(admin, empty, payload)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("reference", "code"),
    [
        (".", "MANIFEST_INVALID"),
        ("-", "MANIFEST_INVALID"),
        (".hidden", "MANIFEST_INVALID"),
        ("-dash", "MANIFEST_INVALID"),
        ("x" * 129, "MANIFEST_INVALID"),
        ("x" * 300, "MANIFEST_INVALID"),
        ("..", "MANIFEST_INVALID"),
        ("%2e%2e", "MANIFEST_INVALID"),
        ("a%20b", "MANIFEST_INVALID"),
        ("a+b", "MANIFEST_INVALID"),
        ("a@b", "MANIFEST_INVALID"),
        ("a%00b", "MANIFEST_INVALID"),
        ("%00", "MANIFEST_INVALID"),
        ("a%0ab", "MANIFEST_INVALID"),
        ("latest%0a", "MANIFEST_INVALID"),
        ("%c3%a4", "MANIFEST_INVALID"),
        ("%ff", "MANIFEST_INVALID"),
        ("%2561", "MANIFEST_INVALID"),
        ("%d9%a1", "MANIFEST_INVALID"),
        ("a:b", "DIGEST_INVALID"),
        ("sha256:", "DIGEST_INVALID"),
        ("sha256:" + "0" * 63, "DIGEST_INVALID"),
        ("sha256:" + "F" * 64, "DIGEST_INVALID"),
        ("sha256:" + "0" * 64 + "%00", "DIGEST_INVALID"),
        ("sha512:" + "0" * 64, "DIGEST_INVALID"),
        ("md5:" + "0" * 32, "DIGEST_INVALID"),
        ("a:b:c", "DIGEST_INVALID"),
    ],
)
def test_a_reference_that_is_none(admin: Registry, empty: str, method: str, reference: str, code: str) -> None:
    body = changed() if method == "PUT" else None
    answer = admin.call(method, f"/v2/{empty}/manifests/{reference}", body, {"Content-Type": OCI_MANIFEST})
    assert answer.status == 400
    assert method == "HEAD" or refused(answer, 400, code)


@pytest.mark.parametrize("framing", [{"Content-Length": "500"}, {"Transfer-Encoding": "chunked"}])
def test_a_body_cut_short(service: Service, admin: Registry, empty: str, framing: dict[str, str]) -> None:
    payload, reference = changed(), f"cut-{'-'.join(framing)}"
    assert len(payload) < 500
    with Connection(admin.host) as connection:
        token = admin.token(f"repository:{empty}:pull,push")
        body = payload if "Content-Length" in framing else b"%x\r\n%b\r\n" % (len(payload), payload)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": OCI_MANIFEST, **framing}
        connection.request("PUT", f"/v2/{empty}/manifests/{reference}", headers, body)
    wait_for(lambda: f"{empty}/manifests/{reference}" in service.log(), what="the request to be through")
    nothing_kept(admin, empty, payload)


def test_unknown(admin: Registry, outsider: Registry, name: str, repository: str) -> None:
    for user in (admin, outsider):
        for reference in ("nothing", digest_of(b"nothing")):
            words = refused(user.manifest(repository, reference), 404, "MANIFEST_UNKNOWN")
            assert re.search(rf"{name}[:@]{reference}", words)
            assert user.call("HEAD", f"/v2/{repository}/manifests/{reference}").status == 404
        refused(user.manifest("lab/never-made", "latest"), 404, "NAME_UNKNOWN")
