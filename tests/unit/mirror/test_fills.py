"""Fills within one process: one fetch, many readers, and every way it can go wrong."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from app.mirror.fill import Fill
from app.mirror.fills import Fills
from app.mirror.locks import try_host_lock
from app.mirror.spool import Notes, Spool, sweep
from app.mirror.upstream import BlobBody, Upstream
from app.oci.digest import Digest
from app.oci.errors import BlobUnknown, OCIError, TooManyRequests, Unavailable, UpstreamInvalid
from tests.unit.mirror.fills_stage import CHUNK, RIGHT, Answer, Stage, read_all, until

BLOB = random.Random(2).randbytes(700_001)
HALF = 5 * CHUNK


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, BLOB)


@pytest.fixture
async def fills(stage: Stage) -> AsyncIterator[Fills]:
    fills = Fills(stage)
    yield fills
    await fills.close(0)


async def _read_as_far_as_it_goes(stage: Stage, fills: Fills, size: int | None) -> tuple[bytes, OCIError | None]:
    got = b""
    try:
        fill = await stage.join(fills, size)
        async for piece in fill.read():
            got += piece
    except OCIError as error:
        return got, error
    return got, None


async def test_64_clients_one_fetch(stage: Stage, fills: Fills) -> None:
    async def client() -> bytes:
        fill = await stage.join(fills)
        await fill.ready()
        assert fill.size == len(BLOB)
        got = await read_all(fill)
        await fill.done()
        return got

    assert set(await asyncio.gather(*(client() for _ in range(64)))) == {BLOB}
    assert stage.offsets() == [0]
    assert stage.commits() == [len(BLOB)]
    assert (stage.folder / "stored").read_bytes() == BLOB
    assert stage.leftovers() == []
    assert fills.running() == []


async def test_another_account_has_a_fill_of_its_own(stage: Stage, fills: Fills) -> None:
    mine, other = stage.request(), replace(stage.request(), spool=stage.folder / "another")
    joined = await asyncio.gather(*(fills.join(request) for request in (mine, other, mine, other)))
    assert joined[0] is joined[2]
    assert joined[1] is joined[3] is not joined[0]
    for fill in joined:
        assert fill is not None
        assert await read_all(fill) == BLOB
    assert stage.offsets() == [0, 0]


async def test_every_client_reads_from_the_first_byte_while_it_grows(stage: Stage, fills: Fills) -> None:
    stage.open_gate(HALF)
    readers = [(await stage.join(fills)).read() for _ in range(3)]
    got = [b"", b"", b""]
    for number, reader in enumerate(readers):
        while len(got[number]) < HALF - 1:
            got[number] += await anext(reader)
    (progress,) = fills.running()
    assert (progress.digest, progress.received, progress.size) == (stage.digest, HALF - 1, len(BLOB))
    assert progress.leading
    assert progress.started <= time.time()
    late = asyncio.create_task(read_all(await stage.join(fills)))
    stage.open_gate(None)
    for number, reader in enumerate(readers):
        got[number] += b"".join([piece async for piece in reader])
    assert {*got, await late} == {BLOB}
    assert stage.offsets() == [0]


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (HALF + 10, HALF + 20), (HALF + 10, None), (3, len(BLOB)), (5, 5), (0, 10**9), (10**9, None)],
)
async def test_ranges_wait_for_their_bytes(stage: Stage, fills: Fills, start: int, stop: int | None) -> None:
    stage.open_gate(HALF)
    reader = asyncio.create_task(read_all(await stage.join(fills), start, stop))
    await until(lambda: fills.running()[0].received == HALF - 1)
    stage.open_gate(None)
    assert await reader == BLOB[start:stop]


async def test_clients_that_leave_stop_nothing(stage: Stage, fills: Fills) -> None:
    stage.open_gate(HALF)
    waiting = asyncio.create_task(stage.join(fills))
    await asyncio.sleep(0)
    waiting.cancel()
    fill = await stage.join(fills)
    async with aclosing(fill.read()) as reader:
        await anext(reader)
    reading = asyncio.create_task(read_all(fill))
    await asyncio.sleep(0.02)
    reading.cancel()
    await asyncio.gather(reading, waiting, return_exceptions=True)
    stage.open_gate(None)
    await fill.done()
    assert stage.commits() == [len(BLOB)]
    assert stage.offsets() == [0]


async def test_readers_outlive_the_fill(stage: Stage, fills: Fills) -> None:
    fill = await stage.join(fills)
    reader = fill.read()
    first = await anext(reader)
    await fill.done()
    (stage.folder / "stored").unlink()
    assert first + b"".join([piece async for piece in reader]) == BLOB
    assert await read_all(fill, 7) == BLOB[7:]
    await fill.ready()


async def test_no_descriptor_is_left_open(stage: Stage, fills: Fills) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - the listing's own descriptor has to be the same each time
    fill = await stage.join(fills)
    await fill.done()
    del fill
    await asyncio.sleep(0)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("blob", [b"", b"x", BLOB])
async def test_sizes_and_algorithms(tmp_path: Path, algorithm: str, blob: bytes) -> None:
    stage = Stage(tmp_path, blob, algorithm)
    fills = Fills(stage)
    fill = await stage.join(fills, None)
    await fill.ready()
    assert await read_all(fill) == blob
    await fill.done()
    assert fill.size == len(blob)
    assert stage.commits() == [len(blob)]
    assert stage.leftovers() == []


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        (answer, size)
        for answer in (
            Answer(corrupt=True),
            Answer(corrupt=True, size=None),
            Answer(extra=1),
            Answer(extra=1, size=None),
            Answer(extra=1, size=len(BLOB) + 1),
            Answer(end_after=len(BLOB) - 1, size=len(BLOB) - 1),
            Answer(end_after=0, size=0),
            Answer(end_after=0, size=None),
            Answer(offset_more=1),
        )
        for size in (len(BLOB), None)
    ]
    + [(Answer(end_after=HALF, size=None), None), (Answer(size=None), HALF), (Answer(), HALF), (Answer(), 0)],
)
async def test_nobody_gets_the_whole_of_a_wrong_blob(
    stage: Stage, fills: Fills, answer: Answer, size: int | None
) -> None:
    stage.answers(*[answer] * 8)
    said = len(BLOB) if answer.size == RIGHT else answer.size
    whole = min([known for known in (size, said) if known], default=None)
    for got, error in await asyncio.gather(*(_read_as_far_as_it_goes(stage, fills, size) for _ in range(8))):
        assert error is not None
        assert error.answer_status in (502, 503)
        assert whole is None or len(got) < whole
    assert stage.commits() == []
    stage.answers()
    assert await read_all(await stage.join(fills)) == BLOB


@pytest.mark.parametrize("wrong", [0, HALF, len(BLOB) - 1, len(BLOB) + 1, 10**12])
@pytest.mark.parametrize("answer", [Answer(), Answer(size=None)], ids=["said", "unsaid"])
async def test_who_is_wrong_about_a_size_spoils_it_for_nobody(
    stage: Stage, fills: Fills, wrong: int, answer: Answer
) -> None:
    stage.answers(answer)
    first, second = await asyncio.gather(stage.join(fills, wrong), stage.join(fills))
    assert await read_all(first) == await read_all(second) == BLOB
    assert stage.offsets() == [0]


async def test_who_joins_while_a_fill_fails_by_a_wrong_size_has_it_begun_again(stage: Stage, fills: Fills) -> None:
    joined: list[asyncio.Task[Fill]] = []

    class Joined(Upstream):
        """Is joined by another client after each request."""

        def __init__(self) -> None:
            pass

        @asynccontextmanager
        async def open_blob(self, repository: str, digest: Digest, offset: int = 0) -> AsyncIterator[BlobBody]:
            try:
                async with stage.open_blob(repository, digest, offset) as body:
                    yield body
            finally:
                joined.append(asyncio.create_task(stage.join(fills)))
                await asyncio.sleep(0)

    fill = await fills.join(stage.request(HALF, Joined()))
    assert fill is not None
    assert await read_all(fill) == BLOB
    assert await read_all(await joined[0]) == BLOB
    assert stage.offsets() == [0, 0]


async def test_another_worker_that_is_wrong_about_a_size_is_not_followed(stage: Stage, fills: Fills) -> None:
    watched = asyncio.Event()

    class Waiting(Upstream):
        """Answers when the follower watches."""

        def __init__(self) -> None:
            pass

        @asynccontextmanager
        async def open_blob(self, repository: str, digest: Digest, offset: int = 0) -> AsyncIterator[BlobBody]:
            await watched.wait()
            async with stage.open_blob(repository, digest, offset) as body:
                yield body

    other = Fills(stage)
    leader = await other.join(stage.request(HALF, Waiting()))
    assert leader is not None
    fill = await stage.join(fills)
    assert [progress.leading for progress in fills.running()] == [False]
    watched.set()
    with pytest.raises(UpstreamInvalid, match=f"{len(BLOB)} bytes, but the manifest says {HALF}"):
        await read_all(leader)
    assert await read_all(fill) == BLOB
    assert stage.offsets() == [0, 0]
    await other.close(0)


@pytest.mark.parametrize("promised", [0, HALF, len(BLOB) - 1, len(BLOB), len(BLOB) + 1])
async def test_a_promised_size_where_the_upstream_says_none(stage: Stage, fills: Fills, promised: int) -> None:
    stage.answers(Answer(size=None))
    stage.open_gate(HALF)
    fill = await stage.join(fills)
    await fill.ready()
    assert fill.size is None
    await until(lambda: fills.running()[0].received == HALF - 1)
    got = b""

    async def read() -> None:
        nonlocal got
        async for piece in fill.read_as(promised):
            got += piece

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    assert len(got) < max(promised, 1)
    stage.open_gate(None)
    if promised == len(BLOB):
        await reader
        assert got == BLOB
    else:
        with pytest.raises(UpstreamInvalid, match=f"the manifest says {promised}"):
            await reader
        assert len(got) < max(promised, 1)


async def test_an_empty_answer_is_refused_before_any_client_is_answered(stage: Stage, fills: Fills) -> None:
    stage.answers(Answer(end_after=0, size=0))
    fill = await stage.join(fills, None)
    with pytest.raises(UpstreamInvalid, match="empty body"):
        await fill.ready()


async def test_a_cut_is_resumed_where_it_was(stage: Stage, fills: Fills) -> None:
    cut = Answer(cut_after=CHUNK)
    stage.answers(*[cut] * 8)
    fill = await stage.join(fills)
    assert await read_all(fill) == BLOB
    assert stage.offsets() == [n * CHUNK for n in range(9)]


async def test_an_upstream_that_ignores_ranges(stage: Stage, fills: Fills) -> None:
    stage.answers(Answer(cut_after=HALF + 5), Answer(ignore_range=True, cut_after=HALF + 4), Answer(ignore_range=True))
    assert await read_all(await stage.join(fills)) == BLOB
    assert stage.offsets() == [0, HALF + 5, HALF + 5]


async def test_a_body_that_ends_early_without_a_word(stage: Stage, fills: Fills) -> None:
    stage.answers(Answer(end_after=HALF, size=None))
    assert await read_all(await stage.join(fills)) == BLOB
    assert stage.offsets() == [0, HALF]


async def test_a_cut_after_the_last_byte_is_none(stage: Stage, fills: Fills) -> None:
    stage.answers(Answer(cut_after=len(BLOB)))
    assert await read_all(await stage.join(fills)) == BLOB
    assert stage.offsets() == [0]


async def test_fruitless_attempts_are_bounded_and_what_came_is_kept(stage: Stage, fills: Fills) -> None:
    stage.answers(Answer(cut_after=HALF), *[Answer(error="Unavailable")] * 9)
    fill = await stage.join(fills)
    with pytest.raises(Unavailable) as caught:
        await read_all(fill)
    assert caught.value.headers == {"Retry-After": "7"}
    assert stage.offsets() == [0] + [HALF] * 5
    stage.answers()
    fill = await stage.join(fills)
    assert await read_all(fill) == BLOB
    await fill.done()
    assert stage.offsets() == [HALF - 1], "the last byte received stays in memory until the digest is verified"
    assert stage.leftovers() == []


async def test_an_upstream_that_is_away_at_once_is_told_soon(stage: Stage, fills: Fills) -> None:
    stage.answers(*[Answer(error="Unavailable")] * 9)
    fill = await stage.join(fills)
    with pytest.raises(Unavailable, match="of the upstream"):
        await fill.ready()
    assert stage.offsets() == [0, 0]
    assert stage.leftovers() == []


@pytest.mark.parametrize("kind", [TooManyRequests, BlobUnknown, UpstreamInvalid])
async def test_refusals_reach_every_waiter_and_none_that_comes_later(
    stage: Stage, fills: Fills, kind: type[OCIError]
) -> None:
    stage.answers(Answer(error=kind.__name__))
    fill = await stage.join(fills)
    waiters = [fill.ready() for _ in range(5)] + [fill.done(), read_all(fill)]
    errors = await asyncio.gather(*waiters, return_exceptions=True)
    for error in errors:
        assert type(error) is kind
        assert error.message == f"{kind.__name__} of the upstream"
        assert error.headers == {"Retry-After": "7"}
    assert len({id(error) for error in errors}) == len(errors)
    assert stage.offsets() == [0]
    assert stage.leftovers() == []
    assert await read_all(await stage.join(fills)) == BLOB


async def test_a_fault_of_ours_shows_nothing_of_its_inside(
    stage: Stage, fills: Fills, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(digest: Digest) -> bool:
        raise KeyError("secret")

    monkeypatch.setattr(stage, "present", broken)
    with pytest.raises(OCIError) as caught:
        await stage.join(fills)
    assert caught.value.answer_status == 500
    assert "secret" not in caught.value.message
    assert stage.leftovers() == []


async def test_a_store_that_is_away_costs_no_second_fetch(stage: Stage, fills: Fills) -> None:
    (stage.folder / "commit-trouble").write_text("away")
    fill = await stage.join(fills)
    with pytest.raises(Unavailable, match="the store is away") as caught:
        await fill.done()
    assert caught.value.headers == {"Retry-After": "9"}
    assert await read_all(fill) == BLOB
    (stage.folder / "commit-trouble").unlink()
    fill = await stage.join(fills, None)
    await fill.ready()
    await fill.done()
    assert await read_all(fill) == BLOB
    assert stage.offsets() == [0]
    assert stage.leftovers() == []


async def test_what_another_worker_committed_is_not_fetched(stage: Stage, fills: Fills) -> None:
    await (await stage.join(fills)).done()
    again = [fills.join(stage.request(None)) for _ in range(3)]
    assert await asyncio.gather(*again) == [None, None, None]
    assert stage.offsets() == [0]
    assert stage.leftovers() == []


async def test_close_lets_a_fill_end(stage: Stage, fills: Fills) -> None:
    stage.open_gate(HALF)
    fill = await stage.join(fills)
    closing = asyncio.create_task(fills.close(60))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="being stopped"):
        await stage.join(fills)
    stage.open_gate(None)
    await closing
    assert await read_all(fill) == BLOB
    assert stage.commits() == [len(BLOB)]


async def test_close_stops_what_does_not_end_and_the_next_start_resumes(stage: Stage, fills: Fills) -> None:
    stage.open_gate(HALF)
    fill = await stage.join(fills)
    await until(lambda: fills.running()[0].received == HALF - 1)
    await fills.close(0)
    with pytest.raises(Unavailable, match="being stopped"):
        await fill.done()
    stage.open_gate(None)
    assert await read_all(await stage.join(Fills(stage))) == BLOB
    assert stage.offsets() == [0, HALF - 1]


@pytest.mark.parametrize("size", [len(BLOB), None])
@pytest.mark.parametrize("rest", [BLOB[:-1] + b"x" * (BLOB[-1] != ord("x")), BLOB + b"x", b"x" * HALF])
async def test_a_bad_leftover_harms_once_at_most(stage: Stage, fills: Fills, rest: bytes, size: int | None) -> None:
    stage.spool.mkdir()
    stage.part().write_bytes(rest)
    got, error = await _read_as_far_as_it_goes(stage, fills, size)
    if len(rest) < len(BLOB) and size is not None:
        assert len(got) < len(BLOB)
        assert isinstance(error, UpstreamInvalid)
        got, error = await _read_as_far_as_it_goes(stage, fills, size)
    assert (got, error) == (BLOB, None)


async def test_a_part_that_its_leader_begins_again(stage: Stage, fills: Fills) -> None:
    lock = try_host_lock(stage.part().with_suffix(".lock"))
    assert lock is not None
    with lock:
        spool, notes = Spool(stage.part(), stage.digest), Notes(lock)
        spool.append([BLOB[:HALF]])
        notes.add(spool=spool.file.inode, ready=True, size=len(BLOB))
        reader = (await stage.join(fills)).read()
        got = await anext(reader)
        spool.restart()
        notes.add(spool=spool.file.inode)
        spool.append([BLOB])
        while len(got) < len(BLOB) - 1:
            got += await anext(reader)
        spool.release_last_byte()
        notes.add(verified=True)
        assert got + await anext(reader) == BLOB
    assert stage.offsets() == []


async def test_a_blob_committed_by_somebody_else_leaves_no_reader_half_way(stage: Stage, fills: Fills) -> None:
    lock = try_host_lock(stage.part().with_suffix(".lock"))
    assert lock is not None
    with lock:
        spool, notes = Spool(stage.part(), stage.digest), Notes(lock)
        spool.append([BLOB[:HALF]])
        notes.add(spool=spool.file.inode, ready=True, size=len(BLOB))
        fill = await stage.join(fills)
        (stage.folder / "commits").write_text("1\n")
        lock.path.unlink()
        stage.part().unlink()
        notes.add(ended=None)
    assert await read_all(fill) == BLOB
    await fill.done()
    assert stage.offsets() == [0]


async def test_sweep_takes_what_is_old_and_nobodys(stage: Stage, fills: Fills) -> None:
    stage.open_gate(HALF)
    await stage.join(fills)
    for name in ("old.part", "old.lock", "young.part", "held.part", "lone.lock"):
        (stage.spool / name).write_text("")
    for path in stage.spool.iterdir():
        if not path.name.startswith("young"):
            os.utime(path, (1, 1))
    held = try_host_lock(stage.spool / "held.lock")
    assert held is not None
    with held:
        assert await sweep(stage.spool, 3600) == 1
        left = [name for name in stage.leftovers() if not name.startswith("sha256")]
        assert left == ["held.lock", "held.part", "young.part"]
    stage.open_gate(None)
    assert await read_all(await stage.join(fills)) == BLOB


async def test_sweep_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert await sweep(tmp_path / "spool", 0) == 0
