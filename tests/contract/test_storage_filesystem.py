"""What only files can get wrong: lengths, modes, file systems, folders that come and go."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.oci.errors import BlobUploadUnknown
from app.storage import BlobStore, new_key
from tests.contract.storage_places import MIB, content, opened, read, stored, suspended, write


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with opened({"root": str(tmp_path / "blobs")}) as store:
        yield store


async def path_of(store: BlobStore, key: str) -> Path:
    path = await store.locate(key)
    assert isinstance(path, Path)
    return path


async def test_a_file_shorter_than_its_state(store: BlobStore) -> None:
    key = new_key()
    state = await suspended(store, key, content(1000))
    path = await path_of(store, key)
    path.write_bytes(content(999))
    with pytest.raises(BlobUploadUnknown):
        await store.writer(key, state)
    path.unlink()
    with pytest.raises(BlobUploadUnknown):
        await store.writer(key, state)


async def test_what_comes_after_the_state_is_cut_off(store: BlobStore) -> None:
    key = new_key()
    state = await suspended(store, key, content(1000))
    path = await path_of(store, key)
    path.write_bytes(content(5000))
    writer = await store.writer(key, state)
    await write(writer, b"end")
    await writer.finish()
    assert path.read_bytes() == content(1000) + b"end"


async def test_a_finished_file_is_read_only_and_others_may_read_it(store: BlobStore, tmp_path: Path) -> None:
    written, adopted, fill = new_key(), new_key(), tmp_path / "fill"
    await stored(store, written, b"x")
    fill.write_bytes(b"x")
    fill.chmod(0o644)
    await store.adopt(adopted, fill)
    for key in (written, adopted):
        assert stat.S_IMODE((await path_of(store, key)).stat().st_mode) == 0o444


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the store's."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("not run: /dev/shm is not a file system of its own here")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.mark.parametrize("size", [0, 3 * MIB + 1])
async def test_a_file_of_another_disk_is_adopted(store: BlobStore, other_disk: Path, size: int) -> None:
    key, data, fill = new_key(), content(size), other_disk / "fill"
    fill.write_bytes(data)
    with fill.open("rb") as follower:
        await store.adopt(key, fill)
        assert follower.read() == data
    assert not fill.exists()
    assert await read(store, key, 0, size) == data
    with pytest.raises(BlobUploadUnknown):
        await store.writer(key)


async def test_folders_are_made_again(store: BlobStore, tmp_path: Path) -> None:
    for _ in range(2):
        key = new_key()
        await stored(store, key, content(10))
        assert await read(store, key, 0, 10) == content(10)
        shutil.rmtree(tmp_path / "blobs")
    await store.check()


async def test_check_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    await store.check()
    assert [path.name for path in (tmp_path / "blobs").rglob("*")] == ["objects"]
