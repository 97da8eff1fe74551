"""The two stores as the contract's tests meet them: opened from a description, also by other processes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from app.storage import BlobStore, State, Writer
from app.storage.filesystem import FilesystemStore
from app.storage.s3 import S3Store
from tests.parts.weed import ObjectStore

MIB = 1024 * 1024

Description = dict[str, Any]


@cache
def bucket(object_store: ObjectStore) -> Description:
    """Make the one bucket of these tests; SeaweedFS sets room aside for each, and they use other keys anyway."""
    return object_store.bucket("blobs")


@asynccontextmanager
async def opened(description: Description) -> AsyncIterator[BlobStore]:
    """Open the store that ``description`` (plain JSON) says: ``root`` of a folder, or S3Store's arguments."""
    store: FilesystemStore | S3Store
    if "root" in description:
        store = FilesystemStore(Path(description["root"]))
    else:
        store = S3Store(**{**description, "spool": Path(description["spool"])})
    await store.start()
    try:
        yield store
    finally:
        await store.close()
        # A closed connection lets go of its socket in the loop's next turns, and the loop ends with the test.
        for _ in range(3):
            await asyncio.sleep(0)


@dataclass
class Place:
    """One store, opened; `worker` and `host` open it again, as another process or another host would."""

    description: Description
    store: BlobStore
    tmp_path: Path
    behind: Callable[[str], list[str]]
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def on_s3(self) -> bool:
        return "bucket" in self.description

    def left(self, key: str) -> list[str]:
        """Look behind the store's back: everything that stands under ``key``."""
        return self.behind(key)

    async def worker(self) -> BlobStore:
        """Open the store as another worker of this host does."""
        return await self._open.enter_async_context(opened(self.description))

    async def host(self) -> BlobStore:
        """Open the store as another host does, with a spool folder of its own."""
        return await self._open.enter_async_context(opened(self.elsewhere()))

    def elsewhere(self) -> Description:
        """Describe the store for another host."""
        return {**self.description, "spool": str(self.tmp_path / "other")} if self.on_s3 else self.description


@asynccontextmanager
async def place(description: Description, tmp_path: Path, behind: Callable[[str], list[str]]) -> AsyncIterator[Place]:
    """Open a store for one test, and close whatever else the test has opened."""
    async with opened(description) as store:
        here = Place(description, store, tmp_path, behind)
        async with here._open:
            yield here


def content(size: int, seed: int = 1) -> bytes:
    """Make bytes that are the same in every process."""
    return random.Random(seed).randbytes(size)


def pieces(data: bytes, size: int) -> Iterator[memoryview]:
    """Cut data as a connection would."""
    view = memoryview(data)
    return (view[at : at + size] for at in range(0, len(data), size))


async def write(writer: Writer, data: bytes, size: int = 65_536) -> None:
    """Write data in pieces of ``size`` bytes."""
    for piece in pieces(data, size):
        await writer.write(piece)


async def stored(store: BlobStore, key: str, data: bytes) -> None:
    """Make an object in one go."""
    writer = await store.writer(key)
    await write(writer, data)
    await writer.finish()


async def suspended(store: BlobStore, key: str, data: bytes, state: State | None = None) -> State:
    """Begin an upload, or go on with it, and give its state."""
    writer = await store.writer(key, state)
    await write(writer, data)
    return await let_go(writer)


async def let_go(writer: Writer) -> State:
    """End a request of an upload that goes on."""
    state = await writer.suspend()
    await writer.close()
    return state


async def read(store: BlobStore, key: str, start: int, stop: int) -> bytes:
    """Read a range whole; no piece may be empty or larger than agreed."""
    got = bytearray()
    async with aclosing(store.read(key, start, stop)) as stream:
        async for piece in stream:
            assert 0 < len(piece) <= MIB
            got += piece
    return bytes(got)
