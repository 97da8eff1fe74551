"""Small real images, built in memory and the same bytes every time.

Manifests are indented, as Docker Hub's are: whoever parses and writes one anew gets another digest.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Style = Literal["oci", "docker"]
PLATFORMS = ("linux/amd64", "linux/arm64")

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_TYPES: dict[Style, dict[str, str]] = {
    "oci": {
        "index": OCI_INDEX,
        "manifest": OCI_MANIFEST,
        "config": "application/vnd.oci.image.config.v1+json",
        "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    },
    "docker": {
        "index": DOCKER_LIST,
        "manifest": DOCKER_MANIFEST,
        "config": "application/vnd.docker.container.image.v1+json",
        "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    },
}


@dataclass(frozen=True)
class Image:
    """An image or an index: blobs by digest, manifests by digest as (media type, payload), the top one's digest."""

    blobs: Mapping[str, bytes]
    manifests: Mapping[str, tuple[str, bytes]]
    digest: str

    @property
    def media_type(self) -> str:
        return self.manifests[self.digest][0]

    @property
    def payload(self) -> bytes:
        return self.manifests[self.digest][1]

    @property
    def document(self) -> dict[str, Any]:
        """Parse the top payload."""
        document: dict[str, Any] = json.loads(self.payload)
        return document

    @property
    def layers(self) -> list[str]:
        """Name the layers' digests in order; of a single image only."""
        return [layer["digest"] for layer in self.document["layers"]]

    @property
    def size(self) -> int:
        """Count the bytes of all blobs."""
        return sum(map(len, self.blobs.values()))

    def platform(self, name: str) -> Image:
        """Take one child of an index as an image of its own, with just its blobs; raises KeyError."""
        for child in self.document["manifests"]:
            if f"{child['platform']['os']}/{child['platform']['architecture']}" == name:
                manifest = self.manifests[child["digest"]]
                document = json.loads(manifest[1])
                digests = [part["digest"] for part in (document["config"], *document["layers"])]
                return Image(
                    {digest: self.blobs[digest] for digest in digests}, {child["digest"]: manifest}, child["digest"]
                )
        raise KeyError(name)


def digest_of(data: bytes) -> str:
    """Spell the sha256 digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def files(seed: str, size: int, *, incompressible: bool = True) -> dict[str, bytes]:
    """Make a layer's content: one note, and one file of ``size`` bytes that differs with ``seed``."""
    data = random.Random(seed).randbytes(size) if incompressible else seed.encode().ljust(64, b".") * (size // 64 + 1)
    name = hashlib.sha256(seed.encode()).hexdigest()[:12]
    return {f"srv/{name}.note": f"layer {seed}\n".encode(), f"srv/{name}.bin": data[:size]}


def layer(content: Mapping[str, bytes], *, compresslevel: int = 1) -> tuple[bytes, str]:
    """Pack files into a tar+gzip layer; give it with the digest of the bare tar, its diff_id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    tar = buffer.getvalue()
    return gzip.compress(tar, compresslevel, mtime=0), digest_of(tar)


@functools.cache
def single(
    seed: str = "app",
    *,
    sizes: tuple[int, ...] = (2_000, 30_000),
    style: Style = "oci",
    platform: str = "linux/amd64",
    incompressible: bool = True,
) -> Image:
    """Build an image for one platform: a layer per entry of ``sizes``, each about that many bytes when packed."""
    types, level = _TYPES[style], 0 if incompressible else 9
    packed = [
        layer(files(f"{seed} {platform} {number}", size, incompressible=incompressible), compresslevel=level)
        for number, size in enumerate(sizes)
    ]
    operating_system, architecture = platform.split("/")
    config = _json(
        {
            "architecture": architecture,
            "os": operating_system,
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/true"], "Labels": {"seed": seed}},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in packed]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": f"layer {n}"} for n in range(len(packed))],
        }
    )
    layers = [data for data, _ in packed]
    payload = _json(
        {
            "schemaVersion": 2,
            "mediaType": types["manifest"],
            "config": _descriptor(types["config"], config),
            "layers": [_descriptor(types["layer"], data) for data in layers],
        }
    )
    digest = digest_of(payload)
    return Image({digest_of(data): data for data in (config, *layers)}, {digest: (types["manifest"], payload)}, digest)


def index(children: Mapping[str, Image], *, style: Style = "oci") -> Image:
    """Put single images behind an index; ``children`` by platform, such as ``linux/arm64``."""
    blobs: dict[str, bytes] = {}
    manifests: dict[str, tuple[str, bytes]] = {}
    entries = []
    for platform, child in children.items():
        blobs.update(child.blobs)
        manifests.update(child.manifests)
        operating_system, architecture = platform.split("/")
        entries.append(
            _descriptor(child.media_type, child.payload)
            | {"platform": {"architecture": architecture, "os": operating_system}}
        )
    media_type = _TYPES[style]["index"]
    payload = _json({"schemaVersion": 2, "mediaType": media_type, "manifests": entries})
    digest = digest_of(payload)
    return Image(blobs, manifests | {digest: (media_type, payload)}, digest)


def referrer(subject: Image, artifact_type: str, **annotations: str) -> Image:
    """Build an artifact that refers to ``subject``, such as a signature: one layer, and annotations."""
    data = f"{artifact_type} of {subject.digest}".encode()
    payload = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": _descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [_descriptor("application/octet-stream", data)],
            "subject": _descriptor(subject.media_type, subject.payload),
            "annotations": annotations,
        }
    )
    digest = digest_of(payload)
    return Image({digest_of(blob): blob for blob in (b"{}", data)}, {digest: (OCI_MANIFEST, payload)}, digest)


def referrers_tag(*referrers: Image) -> Image:
    """Build the index that clients put under the subject's tag if a registry has no API for referrers."""
    entries = [
        _descriptor(one.media_type, one.payload)
        | {"artifactType": one.document["artifactType"], "annotations": one.document["annotations"]}
        for one in referrers
    ]
    payload = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    digest = digest_of(payload)
    manifests = {name: manifest for one in referrers for name, manifest in one.manifests.items()}
    return Image({digest_of(b"{}"): b"{}"}, manifests | {digest: (OCI_INDEX, payload)}, digest)


@functools.cache
def multi(seed: str = "app", *, style: Style = "oci", sizes: tuple[int, ...] = (2_000, 30_000)) -> Image:
    """Build an index of an image for each of `PLATFORMS`."""
    return index({name: single(seed, sizes=sizes, style=style, platform=name) for name in PLATFORMS}, style=style)


@functools.cache
def lab_image(seed: str = "lab") -> Image:
    """Build the image of the load tests: 24 MB in 6 layers for amd64 behind an index, arm64 beside it but small."""
    return index(
        {
            "linux/amd64": single(seed, sizes=(4_000_000,) * 6, platform="linux/amd64"),
            "linux/arm64": single(seed, sizes=(1_000,), platform="linux/arm64"),
        }
    )


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=3).encode()
