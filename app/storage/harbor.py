"""The objects that a Harbor has stored, read where they are, beside the store of our own objects.

    <root>/docker/registry/v2/blobs/sha256/
        ab/                     the first two digits of the digest
            ab34…/data          one blob or one manifest

Nothing is written there. An object's key is its digest (`key_in_harbor`). The service removes such an object only after
the move was declared final, because Harbor may need it until then (`app.database.blobs.discard`).

Source: distribution, ``registry/storage/paths.go``.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from app.oci.digest import Digest
from app.oci.errors import BlobUnknown

from .disk import in_pool, new_pool, read_piece, sync_folder
from .interface import BlobStore, State, Writer, is_in_harbor
from .trouble import damaged

if TYPE_CHECKING:
    # Only installations with S3 load its client.
    from .s3_wire import S3Wire


class HarborBlobs(Protocol):
    """The place of a Harbor's objects: a folder or a bucket. Every method raises Unavailable."""

    async def start(self) -> None:
        """Open what it needs, without looking at any object."""

    async def close(self) -> None:
        """Close its connections and threads."""

    async def size(self, digest: Digest) -> int | None:
        """Return an object's size in bytes, None if there is none."""

    def read(self, digest: Digest, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield bytes of an object as `BlobStore.read` does; raises BlobUnknown."""

    async def locate(self, digest: Digest) -> Path | str:
        """Return an object's path or a presigned URL."""

    async def delete(self, digest: Digest) -> None:
        """Remove an object; does nothing if there is none."""


class HarborFolder:
    """`HarborBlobs` in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._pool = new_pool()

    async def start(self) -> None:
        """See `HarborBlobs.start`."""

    async def close(self) -> None:
        """See `HarborBlobs.close`."""
        self._pool.shutdown(wait=False)

    async def size(self, digest: Digest) -> int | None:
        """See `HarborBlobs.size`."""
        return await in_pool(self._pool, _size, self._path(digest))

    async def read(self, digest: Digest, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See `HarborBlobs.read`."""
        with await in_pool(self._pool, _open, self._path(digest)) as file:
            while start < stop:
                piece = bytes(await read_piece(file.fileno(), start, stop, self._pool))
                if not piece:
                    raise damaged()
                start += len(piece)
                yield piece

    async def locate(self, digest: Digest) -> Path:
        """See `HarborBlobs.locate`."""
        return self._path(digest)

    async def delete(self, digest: Digest) -> None:
        """See `HarborBlobs.delete`; its folder goes, too, as when Harbor's own collection removes it."""
        await in_pool(self._pool, _remove, self._path(digest))

    def _path(self, digest: Digest) -> Path:
        return self._root / _name(digest)


class HarborBucket:
    """`HarborBlobs` in an S3 bucket, of which ``wire`` gets the names that Harbor gave."""

    def __init__(self, wire: S3Wire, prefix: str) -> None:
        self._wire = wire
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""

    async def start(self) -> None:
        """See `HarborBlobs.start`."""
        await self._wire.start()

    async def close(self) -> None:
        """See `HarborBlobs.close`."""
        await self._wire.close()

    async def size(self, digest: Digest) -> int | None:
        """See `HarborBlobs.size`."""
        return await self._wire.size(self._named(digest))

    def read(self, digest: Digest, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See `HarborBlobs.read`."""
        return self._wire.get(self._named(digest), start, stop)

    async def locate(self, digest: Digest) -> str:
        """See `HarborBlobs.locate`."""
        return await self._wire.url(self._named(digest))

    async def delete(self, digest: Digest) -> None:
        """See `HarborBlobs.delete`."""
        await self._wire.remove(self._named(digest))

    def _named(self, digest: Digest) -> str:
        return self._prefix + _name(digest)


class StoreBesideHarbor:
    """A `BlobStore` that writes to our own store, and reads and removes in the place that a key belongs to."""

    def __init__(self, own: BlobStore, harbor: HarborBlobs) -> None:
        self._own = own
        self._harbor = harbor

    async def writer(self, key: str, state: State | None = None) -> Writer:
        """See `BlobStore.writer`."""
        return await self._own.writer(key, state)

    async def adopt(self, key: str, path: Path) -> None:
        """See `BlobStore.adopt`."""
        await self._own.adopt(key, path)

    def read(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See `BlobStore.read`."""
        if is_in_harbor(key):
            return self._harbor.read(Digest.parse(key), start, stop)
        return self._own.read(key, start, stop)

    async def locate(self, key: str) -> Path | str | None:
        """See `BlobStore.locate`."""
        return await (self._harbor.locate(Digest.parse(key)) if is_in_harbor(key) else self._own.locate(key))

    async def delete(self, key: str) -> None:
        """See `BlobStore.delete`."""
        await (self._harbor.delete(Digest.parse(key)) if is_in_harbor(key) else self._own.delete(key))

    async def check(self) -> None:
        """See `BlobStore.check`: our own store alone, because without Harbor's the rest can be served."""
        await self._own.check()


def _name(digest: Digest) -> str:
    return f"docker/registry/v2/blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _open(path: Path) -> io.FileIO:
    try:
        return io.FileIO(path)
    except FileNotFoundError as error:
        raise BlobUnknown() from error


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    with suppress(OSError):
        path.parent.rmdir()
    sync_folder(path.parent.parent)
