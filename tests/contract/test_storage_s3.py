"""What only S3 can get wrong: writers on different hosts, lost answers, orphans, signatures."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.oci.errors import BlobUploadInvalid, BlobUploadUnknown, OCIError, Unavailable
from app.storage import State, Writer, new_key
from tests.contract.storage_line import Line, line_to
from tests.contract.storage_places import MIB, Place, bucket, content, place, read, stored, suspended, write
from tests.parts.weed import ObjectStore


@pytest.fixture
def client(object_store: ObjectStore) -> Any:
    return object_store.client()


@pytest.fixture
def left(client: Any, object_store: ObjectStore) -> Callable[[str], list[str]]:
    """What stands under a key: objects, and multipart uploads that have not ended."""

    def look(key: str) -> list[str]:
        where = {"Bucket": bucket(object_store)["bucket"], "Prefix": f"objects/{key}"}
        objects = client.list_objects_v2(**where).get("Contents", [])
        return [found["Key"] for found in [*objects, *client.list_multipart_uploads(**where).get("Uploads", [])]]

    return look


@pytest.fixture
async def here(object_store: ObjectStore, tmp_path: Path, left: Callable[[str], list[str]]) -> AsyncIterator[Place]:
    async with place({**bucket(object_store), "spool": str(tmp_path / "spool")}, tmp_path, left) as here:
        yield here


@pytest.fixture
async def line(object_store: ObjectStore) -> AsyncIterator[Line]:
    async with line_to(object_store.endpoint_url) as line:
        yield line


@pytest.fixture
async def over_line(here: Place, line: Line) -> AsyncIterator[Place]:
    """The same bucket, reached over a line that a test can cut."""
    async with place({**here.description, "endpoint_url": line.url}, here.tmp_path, here.left) as over_line:
        yield over_line


# Two writers of one upload, on two hosts

# What both go on from, and what each of them adds: sizes on either side of one part and of a tail.
_BEFORE = [None, 1000, 9 * MIB]
_SIZES = [(1000, 2000), (1000, 9 * MIB), (9 * MIB, 1000), (9 * MIB, 10 * MIB)]
_TURNS = [order for order in set(itertools.permutations("AABB")) if order[0] == "A"]


@pytest.mark.parametrize(
    ("before", "sizes"),
    # Each of both once in the short form.
    [
        pytest.param(before, sizes, marks=[pytest.mark.long] * (number % 3 != place % 3))
        for place, before in enumerate(_BEFORE)
        for number, sizes in enumerate(_SIZES)
    ],
)
async def test_one_of_two_hosts_completes_what_it_sent(here: Place, before: int | None, sizes: tuple[int, int]) -> None:
    """Each writes at one turn and finishes at its next, in every order."""
    stores = {"A": here.store, "B": await here.host()}
    base = content(before or 0, seed=3)
    adds = {"A": content(sizes[0], seed=4), "B": content(sizes[1], seed=5)}
    for order in _TURNS:
        key = new_key()
        state = None if before is None else await suspended(here.store, key, base)
        writers: dict[str, Writer] = {name: await stores[name].writer(key, state) for name in "AB"}
        finished = await _take_turns(order, writers, adds)
        assert len(finished) <= 1, order
        for name in finished:
            assert await read(here.store, key, 0, len(base + adds[name])) == base + adds[name]
            assert here.left(key) == [f"objects/{key}"]
        await here.store.delete(key)
        assert here.left(key) == []


async def _take_turns(order: tuple[str, ...], writers: dict[str, Writer], adds: dict[str, bytes]) -> list[str]:
    begun: set[str] = set()
    lost: set[str] = set()
    finished: list[str] = []
    for name in order:
        if name in lost:
            continue
        try:
            if name not in begun:
                begun.add(name)
                await write(writers[name], adds[name])
            else:
                await writers[name].finish()
                finished.append(name)
        except (BlobUploadInvalid, BlobUploadUnknown):
            lost.add(name)
            await writers[name].abort()
    return finished


async def test_two_hosts_that_finish_at_the_same_moment(here: Place) -> None:
    other = await here.host()
    for before, size in itertools.product((None, 9 * MIB), (1000, 9 * MIB)):
        key = new_key()
        base, adds = content(before or 0), [content(size, seed=4), content(size, seed=5)]
        state = None if before is None else await suspended(here.store, key, base)
        writers = [await store.writer(key, state) for store in (here.store, other)]
        await asyncio.gather(*map(write, writers, adds), return_exceptions=True)
        ends = await asyncio.gather(*(writer.finish() for writer in writers), return_exceptions=True)
        assert all(end is None or isinstance(end, OCIError) for end in ends)
        won = [add for end, add in zip(ends, adds, strict=True) if end is None]
        # S3 lets one of them in. SeaweedFS looks whether the object is there and writes it in two steps, and has been
        # seen to let in both; then too the object is what one of them sent, and no mixture.
        if won:
            assert await read(here.store, key, 0, len(base + won[0])) in [base + add for add in won]


async def test_states_of_two_hosts_do_not_mix(here: Place) -> None:
    """Both suspend, at the same offset, with other bytes; each state still means its own bytes, or is refused."""
    other = await here.host()
    for before, size in itertools.product((None, 9 * MIB), (1000, 9 * MIB)):
        key, base, states = new_key(), content(before or 0), []
        adds = [content(size, seed=4), content(size, seed=5)]
        state = None if before is None else await suspended(here.store, key, base)
        for store, add in zip((here.store, other), adds, strict=True):
            states.append(await suspended(store, key, add, state))
        finished = 0
        for mine, add in zip(states, adds, strict=True):
            try:
                await (await here.store.writer(key, mine)).finish()
            except OCIError:
                continue
            finished += 1
            assert await read(here.store, key, 0, len(base + add)) == base + add
        assert finished == 1


# Orphans


async def test_a_new_upload_ends_those_that_were_left_behind(here: Place, client: Any) -> None:
    key, data = new_key(), content(9 * MIB)
    for _ in range(3):
        client.create_multipart_upload(Bucket=here.description["bucket"], Key=f"objects/{key}")
    await stored(here.store, key, data)
    assert here.left(key) == [f"objects/{key}"]


@pytest.mark.parametrize("many", [3, pytest.param(1003, marks=pytest.mark.long)])
async def test_orphans_are_aborted_with_their_key_however_many(here: Place, client: Any, many: int) -> None:
    key, neighbour = new_key(), new_key()
    for _ in range(many):
        client.create_multipart_upload(Bucket=here.description["bucket"], Key=f"objects/{key}")
    await suspended(here.store, neighbour, content(9 * MIB))
    longer = {"Bucket": here.description["bucket"], "Key": f"objects/{key}0"}
    client.create_multipart_upload(**longer)
    await here.store.delete(key)
    assert here.left(key) == [longer["Key"]], "not ours"
    assert len(here.left(neighbour)) == 2, "an upload and its tail"


async def test_an_adoption_that_fails_leaves_nothing(here: Place, tmp_path: Path) -> None:
    key, path = new_key(), tmp_path / "fill"
    await stored(here.store, key, b"first")
    path.write_bytes(content(30 * MIB))
    with pytest.raises(OCIError):
        await here.store.adopt(key, path)
    assert here.left(key) == [f"objects/{key}"]
    assert await read(here.store, key, 0, 5) == b"first"


# Lines that break


async def test_an_object_cut_while_it_is_read(over_line: Place, line: Line) -> None:
    key, data = new_key(), content(4 * MIB)
    await stored(over_line.store, key, data)
    line.cut_after = MIB
    assert await read(over_line.store, key, 0, len(data)) == data
    assert await read(over_line.store, key, 5, len(data) - 5) == data[5:-5]


async def test_an_object_whose_rest_does_not_come(over_line: Place, line: Line) -> None:
    key, data = new_key(), content(4 * MIB)
    await stored(over_line.store, key, data)
    line.cut_after = MIB
    got = bytearray()
    with pytest.raises(Unavailable) as told:  # noqa: PT012 - the line breaks in the middle
        async for piece in over_line.store.read(key, 0, len(data)):
            got += piece
            line.away = True
    assert told.value.headers["Retry-After"]
    assert bytes(got) == data[: len(got)]
    assert len(got) < len(data)


async def test_an_object_is_never_continued_with_the_bytes_of_another(
    over_line: Place, line: Line, client: Any
) -> None:
    key, data = new_key(), content(4 * MIB)
    await stored(over_line.store, key, data)
    line.cut_after = MIB
    got = bytearray()
    with pytest.raises(OCIError):  # noqa: PT012 - the object changes in the middle
        async for piece in over_line.store.read(key, 0, len(data)):
            if not got:
                client.put_object(
                    Bucket=over_line.description["bucket"], Key=f"objects/{key}", Body=content(4 * MIB, seed=2)
                )
            got += piece
    assert bytes(got) == data[: len(got)]


@pytest.mark.parametrize(("size", "request_line"), [(1000, b"PUT /blobs/"), (9 * MIB, b"POST ")])
async def test_a_finish_whose_answer_got_lost_counts(
    over_line: Place, line: Line, size: int, request_line: bytes
) -> None:
    key, data = new_key(), content(size)
    writer = await over_line.store.writer(key)
    await write(writer, data)
    if size > MIB:
        await asyncio.sleep(0.5)  # the upload has begun by now: the next POST completes it
    line.swallow = request_line
    await writer.finish()
    assert line.lost == 1
    assert await read(over_line.store, key, 0, size) == data


async def test_a_part_that_cannot_be_sent_is_not_forgotten(over_line: Place, line: Line) -> None:
    key, data = new_key(), content(40 * MIB)
    state = await suspended(over_line.store, key, data[: 9 * MIB])
    writer = await over_line.store.writer(key, state)
    line.cut_after = 1
    with pytest.raises(Unavailable):  # noqa: PT012 - parts are sent while the next are written
        await write(writer, data[9 * MIB :])
        await writer.suspend()
    with pytest.raises((Unavailable, ValueError)):
        await writer.finish()
    line.cut_after = 0
    writer = await over_line.store.writer(key, state)
    await write(writer, data[9 * MIB :])
    await writer.finish()
    assert await read(over_line.store, key, 0, len(data)) == data


# Signatures and integrity


async def test_urls_are_signed_for_the_address_that_clients_reach(here: Place, line: Line) -> None:
    key, data = new_key(), content(1000)
    async with place({**here.description, "public_endpoint_url": line.url}, here.tmp_path, here.left) as public:
        await stored(public.store, key, data)
        url = await public.store.locate(key)

    def fetch() -> bytes:
        with urllib.request.urlopen(str(url), timeout=10) as answer:
            return bytes(answer.read())

    assert str(url).startswith(line.url)
    assert "X-Amz-Expires=300" in str(url)
    assert await asyncio.to_thread(fetch) == data


async def test_wrong_keys_are_named_and_not_shown(here: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "app")
    wrong = {**here.description, "secret_access_key": "not-this-one"}
    async with place(wrong, here.tmp_path, here.left) as refused:
        with pytest.raises(Unavailable, match="access_key_id") as told:
            await refused.store.check()
        with pytest.raises(Unavailable):
            await stored(refused.store, new_key(), b"x")
    for shown in (caplog.text, told.value.message):
        assert "not-this-one" not in shown
        assert here.description["access_key_id"] not in shown.replace("access_key_id", "")


@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_clock_that_is_wrong_is_named(here: Place, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """And not taken for wrong keys: the first request is a HEAD, whose refusal has no words."""
    off = timedelta(hours=hours)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime.now(UTC) + off)
    clock = SimpleNamespace(time=lambda: time.time() + off.total_seconds())
    monkeypatch.setattr("app.storage.s3_trouble.time", clock)
    with pytest.raises(Unavailable, match="clocks of this host and of the object store"):
        await here.store.check()


async def test_a_state_is_compact(here: Place) -> None:
    key = new_key()
    state: State = await suspended(here.store, key, content(100 * MIB))
    assert len(str(state)) < 12 * 40 + 300
    await here.store.delete(key)


async def test_s3_gets_the_md5_of_what_it_stores(here: Place, client: Any) -> None:
    key, data = new_key(), content(1000)
    await stored(here.store, key, data)
    head = client.head_object(Bucket=here.description["bucket"], Key=f"objects/{key}")
    assert head["ETag"].strip('"') == hashlib.md5(data).hexdigest()
    assert head["ContentType"] == "application/octet-stream"
