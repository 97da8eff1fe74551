"""What the clients carry: an image for two platforms, or an artifact of one file for those that know no images."""

from __future__ import annotations

import functools
import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests import images
from tests.images import Image, digest_of
from tests.upstream.client import Hub

Carries = Literal["image", "file", "chart"]
VERSION = "1.0.0"


@dataclass(frozen=True)
class Sample:
    """``identity`` is the digest that a client's `pull` gives: of an image's config, of an artifact's one file.

    ``given`` are the blobs that a pull moves, ``counted`` the manifests.
    """

    image: Image
    identity: str
    given: frozenset[str]
    counted: int


def make(carries: Carries, name: str) -> Sample:
    """Make a sample that no other name has; a chart is called like the last part of its repository."""
    if carries == "image":
        image = images.multi(name)
        amd64 = image.platform("linux/amd64")
        return Sample(image, amd64.document["config"]["digest"], frozenset(amd64.blobs), counted=2)
    if carries == "file":
        data = f"what {name} carries\n".encode()
        config, layer_type = ("application/vnd.oci.image.config.v1+json", b"{}"), "text/plain"
        title = {"org.opencontainers.image.title": f"{name}.txt"}
    else:
        data, about = _chart(name)
        config, layer_type = ("application/vnd.cncf.helm.config.v1+json", about), _CHART_LAYER
        title = {}
    image = _artifact(config, layer_type, data, title)
    # ORAS leaves the config where it is.
    given = frozenset(image.blobs) if carries == "chart" else frozenset([digest_of(data)])
    return Sample(image, digest_of(data), given, counted=1)


def config_of(image: Image) -> str:
    """Give the digest by which engines know an image of two platforms that they have pulled."""
    return str(image.platform("linux/amd64").document["config"]["digest"])


def paid_once(hub: Hub, image: Image) -> None:
    """Assert that the upstream gave the image for amd64 once, and nothing else."""
    counters = hub.counters()
    assert counters.get_manifest == 2
    assert dict(counters.blob_gets) == dict.fromkeys(image.platform("linux/amd64").blobs, 1)


_CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


@functools.cache
def _chart(name: str) -> tuple[bytes, bytes]:
    """Pack the smallest chart there is; give it with its config."""
    about = {"apiVersion": "v2", "name": name, "version": VERSION, "description": "carried by a test"}
    files = {
        f"{name}/Chart.yaml": json.dumps(about).encode(),
        f"{name}/templates/note.yaml": b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: note}\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0), json.dumps(about).encode()


def _artifact(config: tuple[str, bytes], layer_type: str, data: bytes, annotations: Mapping[str, str]) -> Image:
    layer = {"mediaType": layer_type, "digest": digest_of(data), "size": len(data)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": images.OCI_MANIFEST,
        "config": {"mediaType": config[0], "digest": digest_of(config[1]), "size": len(config[1])},
        "layers": [{**layer, "annotations": dict(annotations)} if annotations else layer],
    }
    payload = json.dumps(manifest, indent=3).encode()
    digest = digest_of(payload)
    blobs = {digest_of(part): part for part in (config[1], data)}
    return Image(blobs, {digest: (images.OCI_MANIFEST, payload)}, digest)
