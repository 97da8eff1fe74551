"""Read the configs of images from the store for pages and the API; each worker caches the last few."""

from __future__ import annotations

from contextlib import aclosing

from cachetools import LRUCache

from app.database import Database, blobs
from app.database.artifacts import DETAILED_BYTES, IMAGE_CONFIGS
from app.oci.digest import Digest
from app.oci.errors import BlobUnknown, Unavailable
from app.storage import BlobStore

from .image_details import ImageConfig, config_of, layer_sizes, read_config

# An ordinary config has some kilobytes. A larger one is not read for a list.
_MOST_LISTED_BYTES = 64 * 1024
_MOST_KEPT = 500


class ImageConfigs:
    """Configs by the digest of their manifest. A digest's bytes never change, so a cached config stays valid."""

    def __init__(self, database: Database, store: BlobStore) -> None:
        self._database = database
        self._store = store
        self._kept: LRUCache[Digest, ImageConfig] = LRUCache(_MOST_KEPT)

    async def read(self, repository_id: int, digest: Digest, payload: bytes) -> ImageConfig | None:
        """Return the config of the image whose manifest this is.

        None if the manifest is not an image's, if the config is larger than `DETAILED_BYTES`, or if it is not here (a
        mirror may not have it). Raises Unavailable.
        """
        return await self._read(repository_id, digest, payload, DETAILED_BYTES)

    async def read_soft(self, repository_id: int, digest: Digest, payload: bytes) -> ImageConfig | None:
        """Return the config as `read` does, for a list; None also if it is larger than 64 KiB or `read` would raise."""
        try:
            return await self._read(repository_id, digest, payload, _MOST_LISTED_BYTES)
        except Unavailable:
            return None

    async def _read(self, repository_id: int, digest: Digest, payload: bytes, most_bytes: int) -> ImageConfig | None:
        described = config_of(payload)
        if described is None or described.media_type not in IMAGE_CONFIGS:
            return None
        # Looked up every time, because a link in another repository gives no right to it.
        found = await blobs.linked(self._database, repository_id, described.digest)
        if found is None or found.size > most_bytes:
            return None
        kept = self._kept.get(digest)
        if kept is not None:
            return kept
        try:
            async with aclosing(self._store.read(found.object_key, 0, found.size)) as pieces:
                content = b"".join([piece async for piece in pieces])
        except BlobUnknown:
            return None
        config = read_config(content, layer_sizes(payload))
        if config is not None and found.size <= _MOST_LISTED_BYTES:
            self._kept[digest] = config
        return config
