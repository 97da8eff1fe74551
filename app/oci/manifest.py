"""Parse manifests and image indexes of the types that are served.

A payload is kept and served byte for byte. A parsed manifest is only read, never written back.

Source: OCI image-spec (manifest.md, image-index.md, descriptor.md); Docker image manifest version 2, schema 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .digest import Digest
from .errors import DigestInvalid, ManifestInvalid

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST}) | INDEX_TYPES

# The specification asks for at least 4 MB. A larger manifest is refused before it is read.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024

# RFC 6838, 4.2: a type and a subtype of at most 127 characters each.
MAX_MEDIA_TYPE = 255

# A registry need not have these layers, because their licence forbids distribution (image-spec, layer.md).
_NON_DISTRIBUTABLE = (
    "application/vnd.docker.image.rootfs.foreign.",
    "application/vnd.oci.image.layer.nondistributable.",
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A manifest's entry for one of its parts; ``size`` in bytes."""

    media_type: str
    digest: Digest
    size: int

    @property
    def distributable(self) -> bool:
        return not self.media_type.startswith(_NON_DISTRIBUTABLE)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed payload: ``blobs`` are config and layers, ``manifests`` the children of an index."""

    media_type: str
    payload: bytes
    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES


def parse_manifest(payload: bytes, content_type: str | None) -> Manifest:
    """Return a parsed manifest or index; raises ManifestInvalid with the reason.

    ``content_type`` is the header's value; its parameters are ignored. If both the header and ``mediaType`` are given,
    they must be equal. If neither is, the shape decides, because image-spec allows an index without one.
    """
    try:
        # Decoded here, because json would accept UTF-16 and UTF-32 too. RFC 8259, 8.1 allows UTF-8 only.
        document = json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid("the manifest is not JSON in UTF-8") from error
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    media_type = _media_type(document, content_type)
    if document.get("schemaVersion") != 2:
        raise ManifestInvalid("schemaVersion must be 2")
    index = media_type in INDEX_TYPES
    config = None if index else _descriptor(document.get("config"), "config")
    layers = [] if index else _descriptors(document, "layers")
    manifests = _descriptors(document, "manifests") if index else []
    subject = _descriptor(document["subject"], "subject") if document.get("subject") is not None else None
    artifact_type = _media_type_of(document, "artifactType") or (config.media_type if config else None)
    return Manifest(
        media_type=media_type,
        payload=payload,
        blobs=tuple([config] if config else []) + tuple(layers),
        manifests=tuple(manifests),
        subject=subject,
        artifact_type=artifact_type,
        annotations=_annotations(document),
    )


def _media_type(document: dict[str, Any], content_type: str | None) -> str:
    header = (content_type or "").partition(";")[0].strip().lower()
    stated = _media_type_of(document, "mediaType")
    if header in ("", "application/json", "application/octet-stream"):
        header = stated or (OCI_INDEX if "manifests" in document else OCI_MANIFEST)
    if header not in MANIFEST_TYPES:
        raise ManifestInvalid(
            "manifest type %(header)r is not served here; use one of %(known)s",
            header=header[:100],
            known=", ".join(sorted(MANIFEST_TYPES)),
        )
    if stated is not None and stated != header:
        raise ManifestInvalid(
            "the Content-Type header is %(header)r, but the manifest's mediaType is %(stated)r; make them the same",
            header=header,
            stated=stated[:100],
        )
    if header in INDEX_TYPES and ("config" in document or "layers" in document):
        raise ManifestInvalid("an image index must not have config or layers")
    if header not in INDEX_TYPES and "manifests" in document:
        raise ManifestInvalid("an image manifest must not have manifests")
    return header


def _descriptors(document: dict[str, Any], key: str) -> list[Descriptor]:
    value = document.get(key)
    if value is None and key == "layers":
        return []
    if not isinstance(value, list):
        raise ManifestInvalid("%(key)s must be a list", key=key)
    return [_descriptor(item, f"{key}[{position}]") for position, item in enumerate(value)]


def _descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise ManifestInvalid("%(where)s must be a descriptor", where=where)
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str):
        raise ManifestInvalid("%(where)s needs mediaType and digest", where=where)
    _require_media_type(media_type, f"{where}.mediaType")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise ManifestInvalid("%(where)s needs a size in bytes", where=where)
    try:
        return Descriptor(media_type, Digest.parse(digest), size)
    except DigestInvalid as error:
        raise ManifestInvalid("%(where)s: %(reason)s", where=where, reason=error.message) from error


def _annotations(document: dict[str, Any]) -> dict[str, str]:
    annotations = document.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise ManifestInvalid("annotations must map strings to strings")
    try:
        "".join([*annotations, *annotations.values()]).encode()
    except UnicodeEncodeError as error:
        raise ManifestInvalid("annotations hold half a surrogate pair, which is not a character") from error
    return annotations


def _media_type_of(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise ManifestInvalid("%(key)s must be a string", key=key)
    if value:
        _require_media_type(value, key)
    return value or None


def _require_media_type(value: str, where: str) -> None:
    # Not the whole grammar of RFC 6838: a type is refused only if it could not be stored or put into a header.
    if len(value) > MAX_MEDIA_TYPE or not (value.isascii() and value.isprintable()):
        raise ManifestInvalid("%(where)s is not a media type: %(value)r", where=where, value=value[:100])
