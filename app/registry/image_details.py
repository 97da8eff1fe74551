"""Read the details that manifests and image configs state, without trust: odd values are left out.

Source: OCI image-spec, image-index.md ("platform") and config.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.oci.digest import Digest
from app.oci.errors import DigestInvalid, ManifestInvalid
from app.oci.manifest import Descriptor, member, read_object

# BuildKit lists its attestations in the index as images for this platform.
_NO_PLATFORM = "unknown"
# Of a config that is long on purpose, people see the beginning.
_MOST_ITEMS = 1000
_MOST_CHARACTERS = 20_000
# Lists show platforms.
_MOST_IN_PLATFORM = 100


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform an image runs on; ``str`` spells it linux/arm64/v8."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


_DEFAULT_PLATFORM = Platform("linux", "amd64")


@dataclass(frozen=True, slots=True)
class Child:
    """An entry of an index; ``size`` in bytes is 0 if the index does not state it.

    ``present``: it is a manifest that is here; a mirror may not have it yet. ``stored``: it is a blob that is here.
    ``total`` counts the manifest and its parts in bytes, None if they are not here.
    """

    digest: Digest
    media_type: str
    size: int
    platform: Platform | None
    annotations: Mapping[str, str]
    present: bool = False
    stored: bool = False
    total: int | None = None

    @property
    def attests(self) -> bool:
        """Return whether BuildKit put it beside an image to say how that was built."""
        return self.annotations.get("vnd.docker.reference.type") == "attestation-manifest"


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """One step of an image's build; ``created`` as the image states it, ``size`` of its layer in bytes or None."""

    created: str
    created_by: str
    comment: str
    author: str
    empty_layer: bool
    size: int | None


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The details in an image's config; each may be missing and is then empty."""

    platform: Platform | None = None
    created: str = ""
    author: str = ""
    env: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    working_dir: str = ""
    user: str = ""
    exposed_ports: Sequence[str] = ()
    labels: Mapping[str, str] | None = None
    history: Sequence[HistoryStep] = ()


def children_of(payload: bytes) -> list[Child]:
    """List the entries of an index, all with ``present`` and ``stored`` unset."""
    found = []
    for entry in _maps(member(_document(payload), "manifests")):
        descriptor = _descriptor(entry)
        if descriptor is not None:
            platform = _platform(_map(member(entry, "platform")))
            annotations = _strings(member(entry, "annotations"))
            found.append(Child(descriptor.digest, descriptor.media_type, descriptor.size or 0, platform, annotations))
    return found


def platforms_of(payload: bytes) -> Sequence[Platform]:
    """List the platforms for which an index has images; empty for any other manifest."""
    return tuple(dict.fromkeys(child.platform for child in children_of(payload) if child.platform is not None))


def annotations_of(payload: bytes) -> dict[str, str]:
    """Return a manifest's annotations."""
    return _strings(member(_document(payload), "annotations"))


def words_of(payload: bytes) -> list[str]:
    """List the texts that tell what an attached manifest is: its annotations, and its layers' types and annotations."""
    document = _document(payload)
    found = list(annotations_of(payload).values())
    for layer in _maps(member(document, "layers")):
        found += [_text(member(layer, "mediaType")), *_strings(member(layer, "annotations")).values()]
    return found


def default_child(payload: bytes) -> Digest | None:
    """Return the image for linux/amd64 in an index, None if it has none."""
    children = (child.digest for child in children_of(payload) if child.platform == _DEFAULT_PLATFORM)
    return next(children, None)


def config_of(payload: bytes) -> Descriptor | None:
    """Return the descriptor of an image manifest's config, None if there is none."""
    return _descriptor(_map(member(_document(payload), "config")))


def layer_sizes(payload: bytes) -> list[int]:
    """List the sizes of an image manifest's layers in bytes, the lowest first."""
    found = [_descriptor(entry) for entry in _maps(member(_document(payload), "layers"))]
    return [(descriptor.size if descriptor else None) or 0 for descriptor in found]


def read_config(content: bytes, layers: Sequence[int]) -> ImageConfig | None:
    """Return an image's parsed config, None if it is not a JSON object; ``layers`` are the layers' sizes in bytes."""
    document = _document(content)
    if not document:
        return None
    run = _map(document.get("config"))
    return ImageConfig(
        platform=_platform(document),
        created=_text(document.get("created")),
        author=_text(document.get("author")),
        env=_texts(run.get("Env")),
        entrypoint=_texts(run.get("Entrypoint")),
        command=_texts(run.get("Cmd")),
        working_dir=_text(run.get("WorkingDir")),
        user=_text(run.get("User")),
        exposed_ports=sorted(map(_text, list(_map(run.get("ExposedPorts")))[:_MOST_ITEMS])),
        labels=_strings(run.get("Labels")),
        history=_history(_maps(document.get("history")), layers),
    )


def _history(steps: Sequence[Mapping[str, Any]], layers: Sequence[int]) -> list[HistoryStep]:
    found, position = [], 0
    for step in steps[:_MOST_ITEMS]:
        empty = step.get("empty_layer") is True
        size = None if empty or position >= len(layers) else layers[position]
        position += not empty
        found.append(
            HistoryStep(
                created=_text(step.get("created")),
                created_by=_text(step.get("created_by")),
                comment=_text(step.get("comment")),
                author=_text(step.get("author")),
                empty_layer=empty,
                size=size,
            )
        )
    return found


def _platform(value: Mapping[str, Any]) -> Platform | None:
    os, architecture, variant, version = (
        _text(value.get(name))[:_MOST_IN_PLATFORM] for name in ("os", "architecture", "variant", "os.version")
    )
    if not os or not architecture or _NO_PLATFORM in (os, architecture):
        return None
    return Platform(os, architecture, variant, version)


def _descriptor(value: Mapping[str, Any]) -> Descriptor | None:
    size = member(value, "size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool)):
        return None
    try:
        return Descriptor(_text(member(value, "mediaType")), Digest.parse(_text(member(value, "digest"))), size)
    except DigestInvalid:
        return None


def _document(content: bytes) -> Mapping[str, Any]:
    try:
        return read_object(content)[0]
    except ManifestInvalid:
        return {}


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    """Return a text that a page can hold, without half surrogate pairs; "" for any other value."""
    return value[:_MOST_CHARACTERS].encode(errors="replace").decode() if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [_text(item) for item in value[:_MOST_ITEMS]] if isinstance(value, list) else []


def _strings(value: object) -> dict[str, str]:
    return {_text(key): _text(item) for key, item in list(_map(value).items())[:_MOST_ITEMS]}
