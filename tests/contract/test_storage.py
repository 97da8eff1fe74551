"""What every blob store does, shown on a folder and on S3."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from app.oci.errors import BlobUnknown, BlobUploadInvalid, BlobUploadUnknown, OCIError, Unavailable
from app.storage import State, new_key
from tests.contract.storage_places import (
    MIB,
    Description,
    Place,
    bucket,
    content,
    let_go,
    place,
    read,
    stored,
    suspended,
    write,
)
from tests.parts.process import ROOT, Process, free_port, python
from tests.parts.weed import ObjectStore

KINDS = ["filesystem", "s3"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def description(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Description:
    """How to open an empty store of either kind."""
    if kind == "filesystem":
        return {"root": str(tmp_path / "blobs")}
    return {
        **bucket(request.getfixturevalue("object_store")),
        "prefix": f"some/{new_key()}/",
        "spool": str(tmp_path / "spool"),
    }


@pytest.fixture
def behind(kind: str, description: Description, request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """What stands under a key, seen without the store: files, or objects and unfinished multipart uploads."""
    if kind == "filesystem":
        return lambda key: [str(found) for found in Path(description["root"]).rglob(f"*{key}*")]
    object_store: ObjectStore = request.getfixturevalue("object_store")

    def look(key: str) -> list[str]:
        client, where = object_store.client(), {"Bucket": description["bucket"], "Prefix": description["prefix"]}
        objects = client.list_objects_v2(**where).get("Contents", [])
        uploads = client.list_multipart_uploads(**where).get("Uploads", [])
        return [found["Key"] for found in [*objects, *uploads] if key in found["Key"]]

    return look


@pytest.fixture
async def here(description: Description, tmp_path: Path, behind: Callable[[str], list[str]]) -> AsyncIterator[Place]:
    async with place(description, tmp_path, behind) as here:
        yield here


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start worker processes that write and then hang; whichever are left are killed."""
    started: list[Process] = []

    def start(description: Description, key: str, state: State | None, size: int) -> Process:
        order = {"store": description, "key": key, "state": state, "size": size, "then": "hang"}
        command = python("-m", "tests.contract.storage_worker", json.dumps(order))
        process = Process(f"worker-{len(started)}", command, tmp_path, preload=True)
        started.append(process)
        process.until(lambda: "written" in process.output())
        return process

    yield start
    for process in started:
        process.stop(signal.SIGKILL)


# One object, from its first byte to its last


@pytest.mark.parametrize("size", [1, 1399, 65_536, 100_003])
async def test_an_object_is_what_was_written(here: Place, size: int) -> None:
    key, data = new_key(), content(3000 if size == 1 else 1_234_567)
    writer = await here.store.writer(key)
    await write(writer, data, size)
    assert writer.offset == len(data)
    await writer.finish()
    assert await read(here.store, key, 0, len(data)) == data


async def test_ranges(here: Place) -> None:
    key, data = new_key(), content(3 * MIB + 17)
    await stored(here.store, key, data)
    for start, stop in [
        (0, 1),
        (0, len(data)),
        (1, MIB + 1),
        (10, MIB + 777),
        (2 * MIB - 1, 2 * MIB + 1),
        (len(data) - 1, len(data)),
        (5, 5),
    ]:
        assert await read(here.store, key, start, stop) == data[start:stop]


async def test_an_empty_object(here: Place) -> None:
    key = new_key()
    await (await here.store.writer(key)).finish()
    assert await read(here.store, key, 0, 0) == b""
    assert len(here.left(key)) == 1


async def test_one_large_chunk(here: Place) -> None:
    key, data = new_key(), content(20 * MIB + 3)
    writer = await here.store.writer(key)
    await writer.write(b"")
    await writer.write(data)
    await writer.finish()
    assert await read(here.store, key, 0, len(data)) == data


@pytest.mark.parametrize(
    "cuts", [[1, 2, 3], [0, 4 * MIB, 4 * MIB, 9 * MIB + 7], [6 * MIB, 14 * MIB, 27 * MIB, 39 * MIB]]
)
async def test_an_upload_goes_on_where_it_was_suspended(here: Place, cuts: list[int]) -> None:
    key, data, state = new_key(), content(cuts[-1] + MIB + 11), None
    for start, stop in zip([0, *cuts], cuts, strict=False):
        state = json.loads(json.dumps(await suspended(here.store, key, data[start:stop], state)))
    writer = await here.store.writer(key, state)
    assert writer.offset == cuts[-1]
    await write(writer, data[writer.offset :])
    await writer.finish()
    assert await read(here.store, key, 0, len(data)) == data
    assert len(here.left(key)) == 1


@pytest.mark.parametrize("size", [5 * MIB - 1, 5 * MIB, 8 * MIB, 16 * MIB])
async def test_suspended_at_the_end_and_then_finished(here: Place, size: int) -> None:
    key, data = new_key(), content(size)
    state = await suspended(here.store, key, data)
    state = await suspended(here.store, key, b"", state)
    await (await here.store.writer(key, state)).finish()
    assert await read(here.store, key, 0, size) == data
    assert len(here.left(key)) == 1


async def test_many_small_chunks_leave_nothing_but_the_object(here: Place) -> None:
    key, data, state = new_key(), content(100_003 * 12), None
    for at in range(0, len(data), 100_003):
        state = await suspended(here.store, key, data[at : at + 100_003], state)
        assert len(here.left(key)) <= 2, "tails gather"
    await (await here.store.writer(key, state)).finish()
    assert await read(here.store, key, 0, len(data)) == data
    assert len(here.left(key)) == 1


async def test_another_host_goes_on(here: Place) -> None:
    key, data, other = new_key(), content(30 * MIB), await here.host()
    state = await suspended(here.store, key, data[: 11 * MIB])
    state = await suspended(other, key, data[11 * MIB : 12 * MIB], state)
    writer = await here.store.writer(key, state)
    await write(writer, data[12 * MIB :])
    await writer.finish()
    assert await read(other, key, 0, len(data)) == data


# Killed workers, other writers


async def test_what_a_killed_worker_wrote_after_the_last_state_is_cut_off(
    here: Place, worker: Callable[..., Process]
) -> None:
    key, data = new_key(), content(40 * MIB)
    state = await suspended(here.store, key, data[: 9 * MIB])
    worker(here.description, key, state, 31 * MIB).stop(signal.SIGKILL)
    other = content(33 * MIB, seed=2)
    writer = await here.store.writer(key, state)
    assert writer.offset == 9 * MIB
    await write(writer, other)
    await writer.finish()
    assert await read(here.store, key, 0, 42 * MIB) == data[: 9 * MIB] + other
    assert len(here.left(key)) == 1


async def test_a_worker_killed_before_the_first_state(here: Place, worker: Callable[..., Process]) -> None:
    key, data = new_key(), content(18 * MIB, seed=2)
    worker(here.description, key, None, 20 * MIB).stop(signal.SIGKILL)
    await stored(here.store, key, data)
    assert await read(here.store, key, 0, len(data)) == data
    assert len(here.left(key)) == 1


async def test_what_a_killed_worker_began_goes_with_its_key(here: Place, worker: Callable[..., Process]) -> None:
    key = new_key()
    worker(here.description, key, None, 20 * MIB).stop(signal.SIGKILL)
    assert here.left(key)
    await here.store.delete(key)
    assert here.left(key) == []


async def test_one_writer_at_a_time(here: Place, worker: Callable[..., Process]) -> None:
    key, data = new_key(), content(MIB)
    first = await here.store.writer(key)
    for store in (here.store, await here.worker()):
        with pytest.raises(BlobUploadInvalid, match="another request is writing"):
            await store.writer(key)
    state = await let_go(first)
    process = worker(here.description, key, state, MIB)
    with pytest.raises(BlobUploadInvalid, match="another request is writing"):
        await here.store.writer(key, state)
    process.stop(signal.SIGKILL)
    writer = await here.store.writer(key, state)
    await write(writer, data)
    await writer.finish()
    assert await read(here.store, key, 0, MIB) == data


@pytest.mark.parametrize("size", [1000, 12 * MIB])
async def test_a_finished_object_stays_as_it_is(here: Place, size: int) -> None:
    """A request that read the upload's row before it was completed comes with an old state, or with none."""
    key, data, late = new_key(), content(size), content(13 * MIB, seed=2)
    states: list[State | None] = [None, await suspended(here.store, key, data[:500])]
    writer = await here.store.writer(key, states[-1])
    await write(writer, data[500:])
    states.append(await let_go(writer))
    await (await here.store.writer(key, states[-1])).finish()
    for state in states:
        for more in (b"", late[:500], late):
            with pytest.raises((BlobUploadUnknown, BlobUploadInvalid)):  # noqa: PT012 - sooner or later, as the store can
                writer = await here.store.writer(key, state)
                await write(writer, more)
                if state is states[-1] and not more:
                    raise BlobUploadUnknown  # the same bytes once more may well be called finished
                await writer.finish()
            await writer.abort()
    with suppress(OCIError):
        await (await here.store.writer(key, states[1])).abort()
    assert await read(here.store, key, 0, size) == data


async def test_a_writer_ends_once(here: Place) -> None:
    key, data = new_key(), content(1000)
    writer = await here.store.writer(key)
    await write(writer, data)
    await writer.finish()
    for again in (writer.finish, writer.suspend):
        with pytest.raises(ValueError, match=r"ended|closed"):
            await again()
    with pytest.raises(ValueError, match=r"ended|closed"):
        await write(writer, content(2 * MIB))
    await writer.abort()
    assert await read(here.store, key, 0, 1000) == data


async def test_a_state_whose_bytes_are_gone(here: Place) -> None:
    for size in (1000, 9 * MIB):
        key = new_key()
        state = await suspended(here.store, key, content(size))
        await here.store.delete(key)
        with pytest.raises(BlobUploadUnknown):
            await (await here.store.writer(key, state)).finish()
        await here.store.delete(key)
        assert here.left(key) == []


async def test_an_upload_deleted_while_it_is_written(here: Place) -> None:
    key, data = new_key(), content(20 * MIB)
    writer = await here.store.writer(key)
    await write(writer, data[: 9 * MIB])
    await here.store.delete(key)
    with pytest.raises(BlobUploadUnknown):  # noqa: PT012 - sooner or later, as the store can
        await write(writer, data[9 * MIB :])
        await writer.finish()
    await writer.abort()
    assert here.left(key) == []


async def test_a_cancelled_request_lets_go(here: Place) -> None:
    key, data, state = new_key(), content(12 * MIB), None
    for turns in range(12):
        writer = await here.store.writer(key, state)
        task = asyncio.create_task(write(writer, data[writer.offset :]))
        for _ in range(turns * 3):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        state = await let_go(writer)
        assert state["offset"] == writer.offset
    writer = await here.store.writer(key, state)
    await write(writer, data[writer.offset :])
    await writer.finish()
    assert await read(here.store, key, 0, len(data)) == data


# Reading, and where it is


async def test_what_is_not_there_cannot_be_read(here: Place) -> None:
    key = new_key()
    await suspended(here.store, key, content(9 * MIB))
    for missing in (new_key(), key):
        for stop in (0, 10):
            with pytest.raises(BlobUnknown):
                await read(here.store, missing, 0, stop)


async def test_an_object_shorter_than_its_row_says(here: Place) -> None:
    key = new_key()
    await stored(here.store, key, content(1000))
    for start in (0, 1000):
        with pytest.raises(Unavailable, match="damaged"):
            await read(here.store, key, start, 2000)


async def test_deleted_while_it_is_read(here: Place) -> None:
    key, data = new_key(), content(30 * MIB)
    await stored(here.store, key, data)
    got = bytearray()
    with suppress(OCIError):
        async with aclosing(here.store.read(key, 0, len(data))) as stream:
            async for piece in stream:
                if not got:
                    await here.store.delete(key)
                got += piece
    assert data.startswith(got)
    assert got
    assert here.left(key) == []
    with pytest.raises(BlobUnknown):
        await read(here.store, key, 0, 1)


async def test_readers_who_leave_early_give_everything_back(description: Description, kind: str, here: Place) -> None:
    key, data = new_key(), content(4 * MIB)
    await stored(here.store, key, data)
    few: dict[str, Any] = {"connections": 2} if kind == "s3" else {}
    async with place({**description, **few}, here.tmp_path, here.left) as there:
        files = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            async with aclosing(there.store.read(key, 0, len(data))) as stream:
                async for _ in stream:
                    break
        assert len(list(Path("/proc/self/fd").iterdir())) <= files + 2
        assert await read(there.store, key, 0, len(data)) == data


async def test_where_an_object_can_be_read_without_us(here: Place) -> None:
    key, data = new_key(), content(100_000)
    await stored(here.store, key, data)
    where = await here.store.locate(key)
    if isinstance(where, Path):
        assert where.is_absolute()
        assert where.read_bytes() == data
        return
    assert where is not None

    def fetch(url: str, **headers: str) -> tuple[int, bytes, str]:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read(), answer.headers["Content-Type"]

    assert await asyncio.to_thread(fetch, where) == (200, data, "application/octet-stream")
    assert await asyncio.to_thread(fetch, where, Range="bytes=5-9") == (206, data[5:10], "application/octet-stream")
    with pytest.raises(urllib.error.HTTPError) as refused:
        await asyncio.to_thread(fetch, where.replace("X-Amz-Expires=300", "X-Amz-Expires=301"))
    refused.value.close()
    assert refused.value.code == 403


# Adopting, deleting, aborting


@pytest.mark.parametrize("size", [0, 1000, 8 * MIB, 40 * MIB + 5])
async def test_a_file_is_adopted_while_others_read_it(here: Place, tmp_path: Path, size: int) -> None:
    key, data, path = new_key(), content(size), tmp_path / "fill"
    path.write_bytes(data)
    with path.open("rb") as follower:
        await here.store.adopt(key, path)
        assert follower.read() == data
    path.unlink(missing_ok=True)
    assert await read(here.store, key, 0, size) == data
    assert len(here.left(key)) == 1


async def test_delete_takes_everything_and_is_silent_on_nothing(here: Place) -> None:
    done, half, small = new_key(), new_key(), new_key()
    await stored(here.store, done, content(9 * MIB))
    await suspended(here.store, half, content(9 * MIB))
    await suspended(here.store, small, content(9))
    for key in (done, half, small):
        assert here.left(key)
        await here.store.delete(key)
        assert here.left(key) == []
        await here.store.delete(key)
    await here.store.delete(new_key())


async def test_delete_takes_its_own_only(here: Place) -> None:
    keys = [new_key() for _ in range(3)]
    for key in keys:
        await suspended(here.store, key, content(9 * MIB))
    await here.store.delete(keys[1])
    assert [bool(here.left(key)) for key in keys] == [True, False, True]


@pytest.mark.parametrize("size", [0, 1000, 30 * MIB])
async def test_abort_leaves_nothing(here: Place, size: int) -> None:
    for before in (0, 9 * MIB):
        key = new_key()
        state = await suspended(here.store, key, content(before)) if before else None
        writer = await here.store.writer(key, state)
        await write(writer, content(size))
        await writer.abort()
        await writer.abort()
        assert here.left(key) == []


@pytest.mark.parametrize(
    "key", ["", "..", "../../etc/passwd", "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n", "/" + "a" * 31]
)
async def test_no_key_is_a_path(here: Place, tmp_path: Path, key: str) -> None:
    (tmp_path / "fill").write_bytes(b"x")
    with pytest.raises(ValueError, match="key"):
        await here.store.writer(key)
    with pytest.raises(ValueError, match="key"):
        await here.store.delete(key)
    with pytest.raises(ValueError, match="key"):
        await here.store.locate(key)
    with pytest.raises(ValueError, match="key"):
        await here.store.adopt(key, tmp_path / "fill")
    with pytest.raises(ValueError, match="key"):
        await read(here.store, key, 0, 1)


# When things are away or full


async def test_check(here: Place) -> None:
    await here.store.check()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("not run: a small disk to fill needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_is_told(here: Place, small_disk: Path) -> None:
    where = "spool" if here.on_s3 else "root"
    async with place({**here.description, where: str(small_disk)}, here.tmp_path, here.left) as full:
        key = new_key()
        state = await suspended(full.store, key, content(MIB))
        writer = await full.store.writer(key, state)
        with pytest.raises(Unavailable, match="disk is full") as told:
            await write(writer, content(20 * MIB))
        assert told.value.answer_status == 507
        assert told.value.headers["Retry-After"]
        with pytest.raises(Unavailable, match="disk is full"):
            await writer.suspend()
        writer = await full.store.writer(key, state)
        await write(writer, content(MIB, seed=2))
        await writer.finish()
        assert await read(full.store, key, 0, 2 * MIB) == content(MIB) + content(MIB, seed=2)


@pytest.fixture
def broken(kind: str, tmp_path: Path) -> Description:
    """A store that cannot be reached: nobody listens, or a file is where the folder should be."""
    if kind == "s3":
        url = f"http://127.0.0.1:{free_port()}"
        keys = {"access_key_id": "ACCESS", "secret_access_key": "SECRET"}
        return {"endpoint_url": url, "region": "x", "bucket": "b", "spool": str(tmp_path / "spool"), **keys}
    (tmp_path / "file").write_bytes(b"")
    return {"root": str(tmp_path / "file" / "blobs")}


async def test_a_store_that_is_away(
    broken: Description, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "filesystem":
        with pytest.raises(Unavailable, match="cannot be used: Not a directory"):
            async with place(broken, tmp_path, list):
                pass
        return
    (tmp_path / "fill").write_bytes(content(9 * MIB))
    async with place(broken, tmp_path, list) as away:
        key, store = new_key(), away.store
        with pytest.raises(Unavailable, match=r"bucket 'b' at 127\.0\.0\.1:\d+ cannot be used: nothing answers there"):
            await store.check()
        for doing in (store.delete(key), read(store, key, 0, 1), stored(store, key, b"x"),
                      suspended(store, key, b"x"), store.adopt(key, tmp_path / "fill")):  # fmt: skip
            with pytest.raises(Unavailable, match="try again") as told:
                await doing
            assert told.value.answer_status == 503
            assert told.value.headers["Retry-After"]
            assert "127.0.0.1" not in told.value.message
    assert "SECRET" not in caplog.text
    assert "ACCESS" not in caplog.text


# Memory


async def test_memory_is_bounded(description: Description) -> None:
    order = {"store": description, "key": new_key(), "state": None, "size": 128 * MIB, "then": "finish"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract.storage_worker", json.dumps(order), stdout=subprocess.PIPE, cwd=ROOT
    )
    said = json.loads((await process.communicate())[0])
    assert process.returncode == os.EX_OK
    assert said["read"] == 128 * MIB
    assert said["grown"] < 40 * MIB
