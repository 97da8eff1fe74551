"""Manifests of any shape, and bytes nobody has pushed before."""

from __future__ import annotations

import json
import secrets
from typing import Any

from tests.api.client import digest_of
from tests.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"

__all__ = ["DOCKER_LIST", "DOCKER_MANIFEST", "OCI_INDEX", "OCI_MANIFEST"]


def fresh(size: int = 1000) -> bytes:
    """Make bytes that nothing else has."""
    return secrets.token_bytes(size)


def descriptor(content: bytes, media_type: str = LAYER, algorithm: str = "sha256", **more: Any) -> dict[str, Any]:
    """Describe bytes; ``more`` adds to it or replaces."""
    return {"mediaType": media_type, "digest": digest_of(content, algorithm), "size": len(content)} | more


def document(**fields: Any) -> bytes:
    """Spell a manifest of exactly these fields."""
    return json.dumps(fields).encode()


def image(*layers: bytes, config: bytes = EMPTY, media_type: str = OCI_MANIFEST, **more: Any) -> bytes:
    """Spell an image manifest of these layers; fields of ``more`` that are None are left out."""
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(config, CONFIG),
        "layers": [descriptor(data) for data in layers],
        **more,
    }
    return document(**{key: value for key, value in fields.items() if value is not None})


def buildkit_cache(*layers: bytes, config: bytes = EMPTY) -> bytes:
    """Spell the index that BuildKit before 0.21 exports a cache as: its entries are blobs."""
    entries = [
        descriptor(data, annotations={"containerd.io/uncompressed": digest_of(data), "buildkit/createdat": "x"})
        for data in layers
    ]
    entries.append(descriptor(config, "application/vnd.buildkit.cacheconfig.v0"))
    return document(schemaVersion=2, mediaType=OCI_INDEX, manifests=entries)


def index(*children: bytes, media_type: str = OCI_INDEX, child_type: str = OCI_MANIFEST, **more: Any) -> bytes:
    """Spell an image index of these manifests."""
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [descriptor(child, child_type) for child in children],
        **more,
    }
    return document(**{key: value for key, value in fields.items() if value is not None})
