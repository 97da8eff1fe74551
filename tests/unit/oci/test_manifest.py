"""Manifests and indexes: what is read out of a payload, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.digest import Digest
from app.oci.errors import ManifestInvalid
from app.oci.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    ORAS_ARTIFACT,
    Descriptor,
    Manifest,
    parse_manifest,
)

CONFIG, LAYER, CHILD, SUBJECT = (Digest.of(part.encode()) for part in ("config", "layer", "child", "subject"))


def descriptor(digest: str = LAYER, **changes: Any) -> dict[str, Any]:
    return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 5} | changes


def image(**changes: Any) -> dict[str, Any]:
    config = descriptor(CONFIG, mediaType="application/vnd.oci.image.config.v1+json", size=6)
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [descriptor()]} | changes


def index(**changes: Any) -> dict[str, Any]:
    children = [descriptor(CHILD, mediaType=OCI_MANIFEST)]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children} | changes


def without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def parse(document: object, content_type: str | None = None) -> Manifest:
    return parse_manifest(json.dumps(document).encode(), content_type)


def push(payload: bytes, content_type: str | None = None) -> Manifest:
    """Parse as hosting does."""
    parsed = parse_manifest(payload, content_type)
    if parsed.fault is not None:
        raise parsed.fault
    return parsed


def test_an_image() -> None:
    payload = json.dumps(image(annotations={"a": "1"}), indent=7).encode()
    parsed = parse_manifest(payload, OCI_MANIFEST)
    assert parsed.payload is payload
    assert parsed.media_type == OCI_MANIFEST
    assert not parsed.is_index
    assert [part.digest for part in parsed.blobs] == [CONFIG, LAYER]
    assert parsed.blobs[1] == Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", LAYER, 5)
    assert (parsed.manifests, parsed.subject, json.loads(parsed.annotations_json)) == ((), None, {"a": "1"})
    assert parsed.artifact_type == "application/vnd.oci.image.config.v1+json"


def test_an_index() -> None:
    parsed = parse(index(subject=descriptor(SUBJECT), artifactType="application/vnd.example"), OCI_INDEX)
    assert parsed.is_index
    assert [child.digest for child in parsed.manifests] == [CHILD]
    assert (parsed.blobs, parsed.artifact_type) == ((), "application/vnd.example")
    assert parsed.subject is not None
    assert parsed.subject.digest == SUBJECT
    assert parse(index()).artifact_type is None


@pytest.mark.parametrize(
    ("document", "content_type", "expected"),
    [
        (image(), None, OCI_MANIFEST),
        (image(), f"{OCI_MANIFEST}; charset=utf-8", OCI_MANIFEST),
        (image(), OCI_MANIFEST.upper(), OCI_MANIFEST),
        (image(), "application/json", OCI_MANIFEST),
        (image(), "application/octet-stream", OCI_MANIFEST),
        (without(image(), "mediaType"), OCI_MANIFEST, OCI_MANIFEST),
        (without(image(), "mediaType"), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (without(image(), "mediaType"), None, OCI_MANIFEST),
        (image(mediaType=""), None, OCI_MANIFEST),
        (image(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (index(), None, OCI_INDEX),
        (without(index(), "mediaType"), None, OCI_INDEX),
        (index(mediaType=DOCKER_LIST), DOCKER_LIST, DOCKER_LIST),
        (without(index(), "mediaType"), DOCKER_LIST, DOCKER_LIST),
    ],
)
def test_the_media_type(document: object, content_type: str | None, expected: str) -> None:
    assert push(json.dumps(document).encode(), content_type).media_type == expected


@pytest.mark.parametrize(
    "document",
    [
        image(layers=[]),
        without(image(), "layers"),
        image(layers=None),
        image(subject=None, annotations=None, artifactType=None),
        image(annotations={}, artifactType=""),
        image(layers=[descriptor(size=0), descriptor(size=2**63 - 1), descriptor(Digest.of(b"", "sha512"))]),
        image(unknown={"deep": [1, {"x": None}]}, layers=[descriptor(urls=["https://example.org"], data="e30=", x=1)]),
        image(annotations={"\x00": "\N{SNOWMAN}\x00 \U0001f600"}),
        index(manifests=[]), index(manifests=[descriptor(LAYER)]),
        index(manifests=[descriptor(CHILD, platform={"os": "linux"})] * 3),
        # As distribution does: Go reads null and a missing member as nothing.
        image(annotations={"a": None}), image(manifests=None), image(layers=[without(descriptor(), "size")]),
        image(layers=[without(descriptor(), "mediaType"), descriptor(mediaType=""), descriptor(size=None)]),
        index(manifests=None), index(config=None, layers=None), without(index(), "manifests"),
        {"SchemaVersion": 2, "MEDIATYPE": OCI_MANIFEST, "Config": image()["config"], "Layers": [descriptor()]},
    ],
)  # fmt: skip
def test_what_is_taken(document: object) -> None:
    assert push(json.dumps(document).encode()).fault is None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "not a JSON object"), ("text", "not a JSON object"), (None, "not a JSON object"), ({}, "neither a type"),
        (image(schemaVersion=1), "schemaVersion must be 2"), (image(schemaVersion="2"), "schemaVersion"),
        (without(image(), "config"), "config must be a descriptor"), (image(config=None), "config must be"),
        (image(config=[]), "config must be"), (image(layers={}), "layers must be a list"),
        (image(layers="x"), "layers must be a list"), (image(layers=[None]), r"layers\[0\] must be a descriptor"),
        (image(layers=[descriptor(), 5]), r"layers\[1\] must be a descriptor"),
        (image(layers=[without(descriptor(), "digest")]), r"layers\[0\] needs a digest"),
        (image(layers=[descriptor(mediaType=5)]), r"layers\[0\].mediaType must be a string"),
        (image(layers=[descriptor(size=-1)]), "needs a size"), (image(layers=[descriptor(size=1.5)]), "needs a size"),
        (image(layers=[descriptor(size="5")]), "needs a size"), (image(layers=[descriptor(size=True)]), "needs a size"),
        (image(layers=[descriptor(size=2**63)]), "needs a size"), (image(layers=[descriptor(size=1e3)]), "needs a"),
        (image(layers=[descriptor("sha256:short")]), r"layers\[0\]: 'sha256:short' is not a digest"),
        (image(layers=[descriptor("../../etc/passwd")]), "is not a digest"),
        (image(layers=[descriptor(mediaType="a\x00b")]), r"layers\[0\].mediaType is not a media type"),
        (image(layers=[descriptor(mediaType="a\r\nSet-Cookie: x")]), "is not a media type"),
        (image(layers=[descriptor(mediaType="\ud800")]), "is not a media type"),
        (image(artifactType="a\nb"), "artifactType is not a media type"),
        (image(artifactType="x" * 256), "is not a media type"),
        (image(artifactType=5), "artifactType must be a string"), (image(mediaType=[OCI_MANIFEST]), "must be a string"),
        (image(subject="x"), "subject must be a descriptor"),
        (image(subject=descriptor("x")), "subject: 'x' is not a digest"),
        (image(annotations=["x"]), "annotations must map"), (image(annotations={"a": 1}), "annotations must map"),
        (image(annotations={"a": {}}), "annotations must map"), (image(annotations={"a": "\ud800"}), "surrogate"),
        (image(annotations={"\udfff": "a"}), "surrogate"),
        (image(manifests=[]), "an image manifest must not have manifests"),
        (index(config=descriptor()), "must not have config or layers"),
        (index(layers=[]), "must not have config or layers"),
        (index(manifests={}), "manifests must be a list"), (index(manifests=[None]), "must be a descriptor"),
        (index(manifests=[descriptor(size="5")]), r"manifests\[0\] needs a size"),
        (image(mediaType="application/vnd.docker.distribution.manifest.v1+json"), "schema 1"),
        ({"schemaVersion": 1, "fsLayers": [], "history": []}, "schema 1"),
        ({"schemaVersion": 2}, "neither a type nor config"),
        ({"mediaType": OCI_ARTIFACT, "blobs": []}, "is not served here"),
        (image(mediaType="text/html"), "is not served here; use one of application/vnd.docker"),
    ],
)  # fmt: skip
def test_what_is_refused(document: object, reason: str) -> None:
    with pytest.raises(ManifestInvalid, match=reason) as caught:
        push(json.dumps(document).encode())
    json.loads(caught.value.body())


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (image(), OCI_INDEX), (image(), DOCKER_MANIFEST), (index(), OCI_MANIFEST), (index(), DOCKER_LIST),
        (without(image(), "mediaType"), OCI_INDEX), (without(index(), "mediaType"), OCI_MANIFEST),
        (image(), "text/html"), (image(), "x" * 10_000),
        (image(), "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ],
)  # fmt: skip
def test_another_type_than_the_header_says(document: object, content_type: str) -> None:
    with pytest.raises(ManifestInvalid):
        push(json.dumps(document).encode(), content_type)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{", b"null", b"\xff\xfe", b"{}garbage", b"<html></html>", b'{"a": NaN', b"[" * 200_000,
        b'{"schemaVersion": ' + b"9" * 5000 + b"}", b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        json.dumps(image()).encode("utf-16"), json.dumps(image()).encode("utf-32"),
        b"\xef\xbb\xbf" + json.dumps(image()).encode(), b'{"annotations": "\xed\xa0\x80"}', b"\x00" * 100,
    ],
)  # fmt: skip
def test_what_is_not_json(payload: bytes) -> None:
    with pytest.raises(ManifestInvalid, match="JSON"):
        push(payload)


@pytest.mark.parametrize(
    ("document", "header", "media_type", "blobs", "manifests"),
    [
        (image(annotations={"a": None, "b": 5}), OCI_MANIFEST, OCI_MANIFEST, [CONFIG, LAYER], []),
        (image(annotations=[]), OCI_MANIFEST, OCI_MANIFEST, [CONFIG, LAYER], []),
        (image(schemaVersion="2"), "text/plain", OCI_MANIFEST, [CONFIG, LAYER], []),
        (image(mediaType=DOCKER_MANIFEST), OCI_MANIFEST, OCI_MANIFEST, [CONFIG, LAYER], []),
        (without(image(), "mediaType"), "text/plain", OCI_MANIFEST, [CONFIG, LAYER], []),
        (image(mediaType="x/y"), None, OCI_MANIFEST, [CONFIG, LAYER], []),
        (image(config=None), OCI_MANIFEST, OCI_MANIFEST, [LAYER], []),
        (image(layers={}), OCI_MANIFEST, OCI_MANIFEST, [CONFIG], []),
        (image(layers=[None, descriptor(size=-1), descriptor("blake3:" + "a" * 64)]), None, OCI_MANIFEST,
         [CONFIG, LAYER], []),
        (image(manifests=[descriptor(CHILD, mediaType="")]), OCI_INDEX, OCI_INDEX, [CONFIG, LAYER], [CHILD]),
        (index(mediaType=DOCKER_LIST), OCI_INDEX, OCI_INDEX, [], [CHILD]),
        (index(manifests="x", subject=5), OCI_INDEX, OCI_INDEX, [], []),
        ({"Manifests": [{"Digest": CHILD, "Size": 5, "mEdiatype": OCI_MANIFEST}]}, "", OCI_INDEX, [], [CHILD]),
        ({"blobs": [descriptor()]}, "", OCI_ARTIFACT, [LAYER], []),
        ({"mediaType": ORAS_ARTIFACT, "blobs": [descriptor()]}, "", ORAS_ARTIFACT, [LAYER], []),
        ({}, OCI_MANIFEST, OCI_MANIFEST, [], []),
    ],
)  # fmt: skip
def test_what_a_mirror_carries(
    document: object, header: str | None, media_type: str, blobs: list[Digest], manifests: list[Digest]
) -> None:
    """Hosting refuses each of these; a mirror links what is understood of it."""
    parsed = parse(document, header)
    assert parsed.fault is not None or json.loads(parsed.annotations_json) == {"a": "", "b": ""}
    assert parsed.media_type == media_type
    assert [part.digest for part in parsed.blobs] == blobs
    assert [part.digest for part in parsed.manifests] == manifests


@pytest.mark.parametrize("payload", [b"\xef\xbb\xbf" + json.dumps(image()).encode(), b'{"config": null, "x": "\xff"}'])
def test_what_is_nearly_json(payload: bytes) -> None:
    assert parse_manifest(payload, None).media_type == OCI_MANIFEST


def test_annotations_that_go_reads_as_texts() -> None:
    assert json.loads(parse(image(annotations={"a": None, "b": 5, "c": "d"})).annotations_json) == {"a": "", "c": "d"}
    assert json.loads(parse(image(annotations={"\ud800": "\udfff"})).annotations_json) == {"?": "?"}


def test_the_entries_of_an_index_that_may_be_blobs() -> None:
    """A cache of BuildKit has layers there, and entries without a type may be either."""
    cache = "application/vnd.buildkit.cacheconfig.v0"
    parsed = parse(index(manifests=[descriptor(LAYER), descriptor(CONFIG, mediaType=cache), {"digest": CHILD}]))
    assert parsed.fault is None
    assert [part.digest for part in parsed.others] == [LAYER, CONFIG, CHILD]
    assert [part.digest for part in parsed.manifests] == [CHILD]


@pytest.mark.parametrize(
    ("media_type", "distributable"),
    [
        ("application/vnd.oci.image.layer.v1.tar+gzip", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", False),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", True),
    ],
)
def test_layers_that_may_stay_away(media_type: str, distributable: bool) -> None:
    assert Descriptor(media_type, LAYER, 1).distributable is distributable


KEYS = ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations", "artifactType"]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([LAYER, OCI_MANIFEST]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["mediaType", "digest", "size"]) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3), st.sampled_from([image(), index(), {}]))
def test_any_document_is_read_or_refused_in_words(changes: dict[str, Any], base: dict[str, Any]) -> None:
    try:
        parsed = parse(base | changes)
    except ManifestInvalid as refused:
        answer = refused.body()
    else:
        answer = json.dumps([parsed.artifact_type, json.loads(parsed.annotations_json)], ensure_ascii=False).encode()
    assert json.loads(answer)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(payload: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_manifest(payload, None)


@pytest.mark.parametrize("number", [0, 1, 499, 500, 501, 1200])
def test_annotations_are_encoded_as_json_is(number: int) -> None:
    annotations = {f"key {place}": f'ä"\\{place}' for place in range(number)}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "annotations": annotations}
    parsed = parse_manifest(json.dumps(document).encode(), OCI_MANIFEST)
    assert parsed.annotations_json == json.dumps(annotations)
