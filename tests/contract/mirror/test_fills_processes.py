"""Fills that the workers of a host share: one fetch among processes, and what happens when one of them dies."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.contract.mirror.fills_worker import Worker, worker
from tests.unit.mirror.fills_stage import CHUNK, Answer, Stage, until

BLOB = random.Random(3).randbytes(20 * CHUNK + 1)
CLIENTS = 3


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, BLOB)


async def _two_mid_way(stage: Stage, stack: AsyncExitStack, gate: int = 5 * CHUNK) -> tuple[Worker, Worker]:
    """A leader and a follower in another process, whose clients have the first bytes; the upstream waits."""
    stage.open_gate(gate)
    leader = await stack.enter_async_context(worker(stage, CLIENTS))
    await leader.event("first")
    follower = await stack.enter_async_context(worker(stage, CLIENTS))
    await follower.event("first")
    assert stage.requests() == [(0, leader.pid)]
    return leader, follower


async def _until_part_has(stage: Stage, size: int) -> None:
    await until(lambda: stage.part().stat().st_size >= size)


async def _until_led_by_another(stage: Stage, process: int) -> None:
    await until(lambda: stage.requests()[-1][1] != process)


def _whole(ends: list[dict[str, Any]], stage: Stage) -> None:
    assert len(ends) == CLIENTS
    for end in ends:
        assert end["stored"] or (end["digest"], end["error"]) == (stage.digest, None)


async def test_one_fetch_for_all_processes(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        leader, follower = await _two_mid_way(stage, stack)
        stage.open_gate(None)
        _whole(await leader.ends(CLIENTS), stage)
        _whole(await follower.ends(CLIENTS), stage)
    assert stage.offsets() == [0]
    assert stage.commits() == [len(BLOB)]
    assert stage.leftovers() == []


async def test_processes_that_start_at_once(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker(stage, CLIENTS)) for _ in range(4)]
        for one in workers:
            _whole(await one.ends(CLIENTS), stage)
    assert stage.offsets() == [0]
    assert stage.commits() == [len(BLOB)]
    assert stage.leftovers() == []


async def test_leaders_killed_one_after_another(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        workers = list(await _two_mid_way(stage, stack))
        for _ in range(2):
            late = await stack.enter_async_context(worker(stage, CLIENTS))
            await late.event("first")
            workers.append(late)
        for chunks in (5, 9, 14):
            stage.open_gate(chunks * CHUNK)
            await _until_part_has(stage, chunks * CHUNK - 1)
            (dead,) = [one for one in workers if one.pid == stage.requests()[-1][1]]
            workers.remove(dead)
            dead.kill()
            await _until_led_by_another(stage, dead.pid)
        stage.open_gate(None)
        _whole(await workers[0].ends(CLIENTS), stage)
    assert stage.offsets() == [0, 5 * CHUNK - 1, 9 * CHUNK - 1, 14 * CHUNK - 1]
    assert stage.commits() == [len(BLOB)]
    assert stage.leftovers() == []


async def test_a_leader_that_stops_hands_over(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        leader, follower = await _two_mid_way(stage, stack)
        leader.terminate()
        for end in await leader.ends(CLIENTS):
            assert end["error"]["class"] == "Unavailable"
            assert end["count"] == 5 * CHUNK - 1
        stage.open_gate(None)
        _whole(await follower.ends(CLIENTS), stage)
    assert stage.offsets() == [0, 5 * CHUNK - 1]


async def test_a_crash_leaves_what_the_next_start_resumes(stage: Stage) -> None:
    stage.open_gate(5 * CHUNK)
    async with worker(stage, CLIENTS) as first:
        await first.event("first")
        await _until_part_has(stage, 5 * CHUNK - 1)
    stage.open_gate(None)
    async with worker(stage, CLIENTS) as second:
        _whole(await second.ends(CLIENTS), stage)
    assert stage.offsets() == [0, 5 * CHUNK - 1]
    assert stage.leftovers() == []


@pytest.mark.parametrize(("trouble", "offsets"), [("hang-before", [0]), ("hang-between", [0, 0])])
async def test_a_leader_killed_while_it_commits(stage: Stage, trouble: str, offsets: list[int]) -> None:
    (stage.folder / "commit-trouble").write_text(trouble)
    async with AsyncExitStack() as stack:
        leader, follower = await _two_mid_way(stage, stack)
        stage.open_gate(None)
        for one in (leader, follower):
            for _ in range(CLIENTS):
                await one.event("read")
        await until((stage.folder / "hangs").exists)
        (stage.folder / "commit-trouble").unlink()
        leader.kill()
        _whole(await follower.ends(CLIENTS), stage)
    assert stage.offsets() == offsets, "a file that was moved without a record is fetched again, one in place is not"
    assert stage.commits() == [len(BLOB)]
    assert stage.leftovers() == []


async def test_a_failure_reaches_every_process_and_none_that_comes_later(stage: Stage) -> None:
    stage.answers(Answer(cut_after=5 * CHUNK), Answer(error="TooManyRequests"))
    async with AsyncExitStack() as stack:
        stage.open_gate(5 * CHUNK - 1)
        leader = await stack.enter_async_context(worker(stage, CLIENTS))
        await leader.event("first")
        follower = await stack.enter_async_context(worker(stage, CLIENTS))
        await follower.event("first")
        stage.open_gate(None)
        for one in (leader, follower):
            for end in await one.ends(CLIENTS):
                assert end["error"] == {
                    "class": "TooManyRequests",
                    "message": "TooManyRequests of the upstream",
                    "headers": {"Retry-After": "7"},
                    "status": 429,
                }
                assert end["count"] < len(BLOB)
        later = await stack.enter_async_context(worker(stage, CLIENTS))
        _whole(await later.ends(CLIENTS), stage)
    assert stage.offsets() == [0, 5 * CHUNK, 5 * CHUNK - 1]
    assert stage.leftovers() == []


async def test_a_wrong_digest_completes_nobody_anywhere(stage: Stage) -> None:
    stage.answers(Answer(corrupt=True))
    async with AsyncExitStack() as stack:
        leader, follower = await _two_mid_way(stage, stack)
        stage.open_gate(None)
        for one in (leader, follower):
            for end in await one.ends(CLIENTS):
                assert (end["error"]["class"], end["error"]["status"]) == ("UpstreamInvalid", 502)
                assert end["count"] < len(BLOB)
    assert stage.commits() == []
    assert stage.leftovers() == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB; only root can mount one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill up")
    disk = tmp_path / "spool"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_full_disk_is_told_to_every_process_and_emptied(tiny_disk: Path, stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        leader, follower = await _two_mid_way(stage, stack)
        stage.open_gate(None)
        for one in (leader, follower):
            for end in await one.ends(CLIENTS):
                assert (end["error"]["class"], end["error"]["status"]) == ("Unavailable", 507)
                assert "is full" in end["error"]["message"]
                assert "Retry-After" in end["error"]["headers"]
        assert stage.offsets() == [0]
        assert stage.leftovers() == []
        space = os.statvfs(tiny_disk)
        assert space.f_bfree == space.f_blocks
