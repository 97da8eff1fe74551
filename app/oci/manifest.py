"""Read manifests and image indexes, as Go's decoder reads them.

A payload is kept and served byte for byte. A parsed manifest is only read, never written back.

A mirror carries every manifest that has the right digest. Hosting refuses what distribution refuses. Both have the same
parser: it leaves out what it does not understand, and states the first fault that a push is refused for.

Source: OCI image-spec (manifest.md, image-index.md, descriptor.md); Docker image manifest version 2, schema 2; the
handlers of distribution v3 (``registry/handlers/manifests.go``, ``registry/storage``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .digest import Digest
from .errors import DigestInvalid, ManifestInvalid

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
# A draft of image-spec 1.1, and what ORAS had before it.
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
ORAS_ARTIFACT = "application/vnd.cncf.oras.artifact.manifest.v1+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
# The types that can be pushed.
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST}) | INDEX_TYPES
_ARTIFACT_TYPES = frozenset({OCI_ARTIFACT, ORAS_ARTIFACT})
# The types that are served; a mirror has more of them than hosting.
CARRIED_TYPES = MANIFEST_TYPES | _ARTIFACT_TYPES
# The signatures in these are no part of their digest, and current clients do not read them any more.
SCHEMA_1_TYPES = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
# With these in the Content-Type, the manifest itself says what it is.
_ANY_JSON = frozenset({"", "application/json", "application/octet-stream"})

# The specification asks for at least 4 MB. A larger manifest is refused before it is read.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024

# RFC 6838, 4.2: a type and a subtype of at most 127 characters each.
MAX_MEDIA_TYPE = 255

# So many annotations are encoded in less than a millisecond.
_ENCODED_AT_ONCE = 500

# A registry need not have these layers, because their licence forbids distribution (image-spec, layer.md).
_NON_DISTRIBUTABLE = (
    "application/vnd.docker.image.rootfs.foreign.",
    "application/vnd.oci.image.layer.nondistributable.",
)


class SchemaOne(ManifestInvalid):
    """The payload is of schema 1, which is not served at all."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A manifest's entry for one of its parts.

    ``media_type`` is "" and ``size`` (in bytes) is None if the manifest does not state them.
    """

    media_type: str
    digest: Digest
    size: int | None

    @property
    def distributable(self) -> bool:
        return not self.media_type.startswith(_NON_DISTRIBUTABLE)

    @property
    def is_manifest(self) -> bool:
        """Return whether the type is a manifest's."""
        return self.media_type in CARRIED_TYPES or self.media_type in SCHEMA_1_TYPES


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed payload.

    - ``layers``: the layers of an image, or the blobs of an artifact.
    - ``manifests``: the entries of an index that are of a manifest's type or state none.
    - ``others``: the entries of an index that are not of a manifest's type, or state none. BuildKit's cache has blobs
      there. Only the repository that has them knows what they are.
    - ``annotations_json``: the annotations, texts by name, as they are stored. Of many, it takes long to make.
    - ``fault``: the first reason for which a push is refused; None if there is none.
    """

    media_type: str
    payload: bytes
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    others: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations_json: str = "{}"
    fault: ManifestInvalid | None = None

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Return the config and the layers."""
        return self.layers if self.config is None else (self.config, *self.layers)


def parse_manifest(payload: bytes, content_type: str | None) -> Manifest:
    """Return a parsed manifest or index, with its fault; ``content_type`` is the header's value.

    Its type is the header's, else that of ``mediaType``, else the one of its shape, because image-spec allows an index
    without one. Raises ManifestInvalid if the payload is not a manifest at all, and SchemaOne.
    """
    return _Reader(payload).read((content_type or "").partition(";")[0].strip().lower())


def read_object(payload: bytes) -> tuple[Mapping[str, Any], bool]:
    """Return the JSON object in a payload, and whether it is proper JSON in UTF-8.

    A byte order mark and bytes that are not UTF-8 make it improper. Raises ManifestInvalid if there is no object.
    """
    try:
        # Decoded here, because json would accept UTF-16 and UTF-32 too. RFC 8259, 8.1 allows UTF-8 only.
        text, proper = payload.decode(), True
    except UnicodeDecodeError:
        text, proper = payload.decode(errors="replace"), False
    if text.startswith("\ufeff"):
        text, proper = text[1:], False
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid("the manifest is not JSON in UTF-8") from error
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    return document, proper


def member(document: Mapping[str, Any], name: str) -> Any:
    """Return a member of a JSON object, None if it has none; like Go, accept its name in another case."""
    if name in document:
        return document[name]
    folded = name.casefold()
    return next((value for key, value in document.items() if key.casefold() == folded), None)


class _Reader:
    """Reads one payload, and keeps the first fault."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._document, proper = read_object(payload)
        self._fault = None if proper else ManifestInvalid("the manifest is not JSON in UTF-8")

    def read(self, header: str) -> Manifest:
        media_type = self._media_type(header)
        if type(version := self._get("schemaVersion")) is not int or version != 2:
            self._refuse(ManifestInvalid("schemaVersion must be 2"))
        index = media_type in INDEX_TYPES
        config = self._get("config")
        described = self._descriptor(config, "config") if config is not None or not index else None
        layers = self._descriptors("layers")
        if media_type in _ARTIFACT_TYPES:
            layers += self._descriptors("blobs")
        entries = self._descriptors("manifests")
        subject = self._get("subject")
        return Manifest(
            media_type=media_type,
            payload=self._payload,
            config=described,
            layers=tuple(layers),
            manifests=tuple(entry for entry in entries if entry.is_manifest or not entry.media_type),
            others=tuple(entry for entry in entries if not entry.is_manifest),
            subject=None if subject is None else self._descriptor(subject, "subject"),
            artifact_type=self._type(self._get("artifactType"), "artifactType")
            or (described.media_type if described else None)
            or None,
            annotations_json=_encoded(self._annotations()),
            fault=self._fault,
        )

    def _get(self, name: str) -> Any:
        return member(self._document, name)

    def _refuse(self, fault: ManifestInvalid) -> None:
        self._fault = self._fault or fault

    def _media_type(self, header: str) -> str:
        stated = self._type(self._get("mediaType"), "mediaType")
        if header in SCHEMA_1_TYPES or stated in SCHEMA_1_TYPES or self._get("fsLayers") is not None:
            raise SchemaOne(
                "the manifest has the old format schema 1, which is not served here; push the image again with a "
                "current client"
            )
        carried = next((known for known in (header, stated) if known in CARRIED_TYPES), None) or self._shape()
        claimed = (stated or carried) if header in _ANY_JSON else header
        if claimed not in MANIFEST_TYPES:
            self._refuse(
                ManifestInvalid(
                    "manifest type %(header)r is not served here; use one of %(known)s",
                    header=claimed[:100],
                    known=", ".join(sorted(MANIFEST_TYPES)),
                )
            )
        if stated and stated != claimed:
            self._refuse(
                ManifestInvalid(
                    "the Content-Type header is %(header)r, but the manifest's mediaType is %(stated)r; make them the "
                    "same",
                    header=claimed[:100],
                    stated=stated[:100],
                )
            )
        # A document that is both could be read as one thing by us, and as the other by a client (CVE-2021-41190).
        if carried in INDEX_TYPES and not (self._get("config") is None and self._get("layers") is None):
            self._refuse(ManifestInvalid("an image index must not have config or layers"))
        if carried not in INDEX_TYPES and self._get("manifests") is not None:
            self._refuse(ManifestInvalid("an image manifest must not have manifests"))
        return carried

    def _shape(self) -> str:
        """Return the type of a manifest that states none; raises ManifestInvalid if it does not look like one."""
        names = {name.casefold() for name in self._document}
        if "manifests" in names:
            return OCI_INDEX
        if names & {"config", "layers"}:
            return OCI_MANIFEST
        if "blobs" in names:
            return OCI_ARTIFACT
        raise ManifestInvalid("the manifest's JSON has neither a type nor config, layers or manifests")

    def _descriptors(self, key: str) -> list[Descriptor]:
        value = self._get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self._refuse(ManifestInvalid("%(key)s must be a list", key=key))
            return []
        found = [self._descriptor(item, f"{key}[{position}]") for position, item in enumerate(value)]
        return [one for one in found if one is not None]

    def _descriptor(self, value: object, where: str) -> Descriptor | None:
        if not isinstance(value, dict):
            self._refuse(ManifestInvalid("%(where)s must be a descriptor", where=where))
            return None
        media_type, digest = self._type(member(value, "mediaType"), f"{where}.mediaType"), member(value, "digest")
        size = member(value, "size")
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63):
            self._refuse(ManifestInvalid("%(where)s needs a size in bytes", where=where))
            size = None
        if not isinstance(digest, str):
            self._refuse(ManifestInvalid("%(where)s needs a digest", where=where))
            return None
        try:
            return Descriptor(media_type, Digest.parse(digest), size)
        except DigestInvalid as error:
            self._refuse(ManifestInvalid("%(where)s: %(reason)s", where=where, reason=error.message))
            return None

    def _annotations(self) -> dict[str, str]:
        annotations = self._get("annotations")
        items = annotations.items() if isinstance(annotations, dict) else ()
        # Go reads null as an empty text.
        texts = {key: value or "" for key, value in items if value is None or isinstance(value, str)}
        if annotations is not None and (not isinstance(annotations, dict) or len(texts) < len(items)):
            self._refuse(ManifestInvalid("annotations must map strings to strings"))
        try:
            "".join([*texts, *texts.values()]).encode()
        except UnicodeEncodeError:
            self._refuse(ManifestInvalid("annotations hold half a surrogate pair, which is not a character"))
            texts = {_whole(key): _whole(value) for key, value in texts.items()}
        return texts

    def _type(self, value: object, where: str) -> str:
        """Return a media type, "" if there is none."""
        if value is None:
            return ""
        if not isinstance(value, str):
            self._refuse(ManifestInvalid("%(where)s must be a string", where=where))
            return ""
        # Not the whole grammar of RFC 6838: a type is refused only if it could not be stored or put into a header.
        if len(value) > MAX_MEDIA_TYPE or not (value.isascii() and value.isprintable()):
            self._refuse(ManifestInvalid("%(where)s is not a media type: %(value)r", where=where, value=value[:100]))
            return ""
        return value


def _whole(text: str) -> str:
    return text.encode(errors="replace").decode()


def _encoded(texts: Mapping[str, str]) -> str:
    """Return what ``json.dumps`` returns. For all at once, that would hold the interpreter, also in a thread."""
    rest, pieces = iter(texts.items()), []
    while some := dict(islice(rest, _ENCODED_AT_ONCE)):
        pieces.append(json.dumps(some)[1:-1])
    return f"{{{', '.join(pieces)}}}"
