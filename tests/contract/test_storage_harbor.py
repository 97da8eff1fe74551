"""Objects that a Harbor has stored, in a folder and in S3, read and removed beside our own."""

from __future__ import annotations

import asyncio
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from app.config import parse
from app.main import open_harbor
from app.oci.digest import Digest
from app.oci.errors import BlobUnknown
from app.storage import key_in_harbor, new_key
from app.storage.filesystem import FilesystemStore
from app.storage.harbor import HarborBlobs, StoreBesideHarbor
from tests.parts.harbor import Bucket, Folder, Place, blob_path
from tests.parts.weed import ObjectStore

DATA = b"what Harbor has stored"
DIGEST = Digest.of(DATA)


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())


@pytest.fixture(params=["folder", "s3"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[HarborBlobs, Place]]:
    """A place with one object, and the way to write behind its back."""
    if request.param == "folder":
        there: Place = Folder(tmp_path / "harbor")
        section: dict[str, Any] = {"driver": "filesystem", "folder": str(tmp_path / "harbor")}
    else:
        store: ObjectStore = request.getfixturevalue("object_store")
        name = f"harbor-{uuid.uuid4().hex[:12]}"
        section = {"driver": "s3", "s3": store.bucket(name) | {"prefix": "/deep/root"}}
        there = Bucket(store.client(), name, "deep/root/")
    there.put(blob_path(DIGEST), DATA)
    async with AsyncExitStack() as stack:
        harbor = await open_harbor(parse({"harbor": section}, tmp_path), stack)
        assert harbor is not None
        yield harbor, there


async def test_it_is_read_and_removed_where_it_is(place: tuple[HarborBlobs, Place], tmp_path: Path) -> None:
    harbor, _ = place
    own = FilesystemStore(tmp_path / "own")
    await own.start()
    store, key = StoreBesideHarbor(own, harbor), key_in_harbor(DIGEST)
    assert await harbor.size(DIGEST) == len(DATA)
    assert await harbor.size(Digest.of(b"other")) is None
    async with aclosing(store.read(key, 5, 11)) as pieces:
        assert b"".join([piece async for piece in pieces]) == DATA[5:11]
    where = await store.locate(key)
    if isinstance(where, Path):
        assert where.read_bytes() == DATA
    else:
        assert await asyncio.to_thread(fetched, str(where)) == DATA
    ours = new_key()
    writer = await store.writer(ours)
    await writer.write(b"ours")
    await writer.finish()
    assert isinstance(await store.locate(ours), Path)
    for _ in range(2):
        await store.delete(key)
    assert await harbor.size(DIGEST) is None
    with pytest.raises(BlobUnknown):
        async with aclosing(store.read(key, 0, 3)) as pieces:
            await anext(pieces)
    async with aclosing(store.read(ours, 0, 4)) as pieces:
        assert b"".join([piece async for piece in pieces]) == b"ours"
    await store.delete(ours)
    await own.close()
