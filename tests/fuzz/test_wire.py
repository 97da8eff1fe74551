"""What clients of the distribution API write: names, tags, digests, ranges, conditions, manifests, configs."""

from __future__ import annotations

import json
from contextlib import suppress
from random import Random
from typing import Any

from app.oci.accept import reads_indexes
from app.oci.conditions import Conditions, range_applies
from app.oci.digest import Digest, new_hash
from app.oci.errors import BlobUploadInvalid, DigestInvalid, ManifestInvalid, NameInvalid, RangeInvalid, Unsupported
from app.oci.globs import glob, is_glob
from app.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, parse_manifest
from app.oci.ranges import parse_chunk, parse_range
from app.oci.reference import Name, Tag, parse_reference
from app.registry.image_details import children_of, config_of, layer_sizes, platforms_of, read_config

from .inputs import edited, example, fuzz, odd_json, one_of

DIGEST = "sha256:" + "0a" * 32
TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
_PARTS = ("a", "lab", "0", "a-b", "a--b", "a__b", "a.b", "x" * 100)


def _name(chance: Random) -> str:
    return "/".join(chance.choices(_PARTS, k=chance.randrange(1, 5)))


def _reference(chance: Random) -> str:
    return chance.choice([DIGEST, "sha512:" + "f" * 128, _name(chance)])


@fuzz(edited(_reference, *":@/._-%", "A", "sha256:", "\n", "\0", "²", "İ", "\ud800"))
def test_names_and_references(text: str) -> None:
    with suppress(NameInvalid):
        name = Name.parse(text)
        assert name.isascii()
        assert len(name) <= 255
        assert f"{name.project}/{name.repository}".startswith(name)
    with suppress(DigestInvalid, ManifestInvalid):
        found = parse_reference(text)
        assert isinstance(found, Tag | Digest)
        assert found.isascii()
    with suppress(DigestInvalid):
        new_hash(text)


@fuzz(edited(one_of("lab/*", "**/app", "{a,b}/**", "a?c", "*" * 50), *"*?{},/ab-\n["), _name)
def test_globs(text: str, name: str) -> None:
    if is_glob(text):
        assert glob(text).matches(name) in (True, False)


def _number(chance: Random) -> str:
    return chance.choice([str(chance.randrange(10 ** chance.randrange(1, 22))), "", "9" * 5000])


def _range(chance: Random) -> str:
    return f"{_number(chance)}-{_number(chance)}"


@fuzz(edited(_range, ",", " ", "bytes=", "bytes ", "/5", "-"), lambda chance: chance.randrange(2**63))
def test_ranges(text: str, size: int) -> None:
    for spelled in (text, f"bytes={text}"):
        with suppress(RangeInvalid):
            found = parse_range(spelled, size)
            assert found is None or 0 <= found.start < found.stop <= size
    for spelled in (text, f"bytes {text}/*"):
        with suppress(BlobUploadInvalid):
            chunk = parse_chunk(spelled)
            assert chunk is not None
            assert 0 <= chunk.start < chunk.stop <= 10**19


_tags = edited(one_of("*", f'"{DIGEST}"', f'W/"{DIGEST}", "x"', DIGEST), ",", '"', "W/", "*")
_accepts = edited(
    lambda chance: ", ".join(chance.choices([*TYPES, "*/*;q=0.5", "text/html"], k=chance.randrange(4))), ",", ";", "*/*"
)


@fuzz(_tags, _tags, _accepts)
def test_conditions(match: str, other: str, accept: str) -> None:
    digest = Digest(DIGEST)
    with suppress(Unsupported):
        assert Conditions(match, other).not_modified(digest) in (True, False)
    assert range_applies(match, digest) in (True, False)
    assert reads_indexes(accept) in (True, False)


_DESCRIPTOR: dict[str, Any] = {
    "mediaType": OCI_MANIFEST,
    "digest": DIGEST,
    "size": 5,
    "annotations": {"a": "b"},
    "platform": {"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1"},
    "urls": ["https://a.example/"],
}
_MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": _DESCRIPTOR,
    "layers": [_DESCRIPTOR, {"mediaType": "x/y", "digest": DIGEST, "size": 0}],
    "subject": _DESCRIPTOR,
    "artifactType": "application/x.sbom",
    "annotations": {"a": "b", "c": None},
}
_INDEX: dict[str, Any] = {**_MANIFEST, "mediaType": OCI_INDEX, "manifests": [_DESCRIPTOR, _DESCRIPTOR]}
_ARTIFACT = {"schemaVersion": 2, "blobs": [_DESCRIPTOR], "subject": _DESCRIPTOR}
_OLD = {"schemaVersion": 1, "fsLayers": []}
_CONFIG = {
    "os": "linux",
    "architecture": "amd64",
    "created": "2026-01-01T00:00:00Z",
    "config": {
        "Env": ["A=b"],
        "Entrypoint": ["/x"],
        "Cmd": ["y"],
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"a": "b"},
        "User": "u",
    },
    "history": [{"created": "x", "created_by": "RUN y"}, {"empty_layer": True}],
}
PIECES = (b"\xff", b"\0", b"\xef\xbb\xbf", b"{", b"[[", b'"', b"9" * 5000, b"NaN", b"\\ud800", b"1e999")


def _payload(chance: Random) -> bytes:
    return odd_json(chance, _MANIFEST, _INDEX, _ARTIFACT, _OLD, pieces=PIECES)


@fuzz(_payload, edited(one_of("", *TYPES), ";", " ", "x"))
@example(b"[" * 100_000, "")
@example(b"\xff\xfe{\0}\0", OCI_MANIFEST)
def test_manifests(payload: bytes, content_type: str) -> None:
    children_of(payload)
    platforms_of(payload)
    config_of(payload)
    layer_sizes(payload)
    with suppress(ManifestInvalid):
        found = parse_manifest(payload, content_type)
        for part in (*found.blobs, *found.manifests, *found.others, *([found.subject] if found.subject else [])):
            assert Digest.parse(part.digest) == part.digest
            assert part.size is None or 0 <= part.size < 2**63
            assert part.media_type.isascii()
        # What is kept of it can be stored, and what it is refused for can be sent.
        annotations = json.loads(found.annotations_json)
        "".join([*annotations, *annotations.values(), found.artifact_type or ""]).encode()
        assert found.fault is None or found.fault.body().endswith(b"\n")


@fuzz(lambda chance: odd_json(chance, _CONFIG, pieces=PIECES))
def test_image_configs(content: bytes) -> None:
    found = read_config(content, [1, 2])
    if found is not None:
        json.dumps([found.env, found.labels, found.created], ensure_ascii=False).encode()
        assert len(found.history) <= 1000
