"""Copies of rows give the answers that SQL would give, also if Redis or SQL fails at any moment."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.database import Database, Transaction, changes, manifests, projects, shared_copies
from app.database.engine import PointQuery
from app.database.migrate import migrate
from app.database.shared_copies import LONGEST_SECONDS
from app.oci.digest import Digest
from app.oci.errors import Unavailable
from tests.parts.postgres import Postgres
from tests.parts.process import eventually
from tests.parts.valkey import Valkey
from tests.parts.valkey import valkey as started

from .copying import Host, hosts
from .rows import add_manifest, execute, image, make_project, make_repository

OLD, NEW = image("old"), image("new")
OLD_DIGEST, NEW_DIGEST = Digest.of(OLD.payload), Digest.of(NEW.payload)


@pytest.fixture
async def two(postgres_url: str, valkey: Valkey) -> AsyncIterator[list[Host]]:
    async with hosts(postgres_url, valkey.url, valkey.url) as opened:
        yield opened


@pytest.fixture
async def repository(two: list[Host]) -> int:
    """The id of physics/app, whose tag ``latest`` is the old image."""
    made = await make_repository(two[0], await make_project(two[0]))
    await add_manifest(two[0], made, NEW)
    await add_manifest(two[0], made, OLD, "latest")
    return made


async def tagged(host: Database, repository: int, *, leased: bool = False) -> Digest | None:
    found = await manifests.tagged(host, repository, "latest", leased=leased)
    return found.digest if found else None


async def move(host: Database, repository: int, digest: Digest, *, answers: bool = True) -> None:
    async with host.transaction(answers=answers) as transaction:
        await manifests.set_tags(transaction, repository, ["latest"], digest)


async def remove(host: Database, repository: int, digest: Digest) -> None:
    async with host.transaction() as transaction:
        assert await manifests.remove(transaction, repository, digest) is not None


async def test_what_is_asked_again_costs_sql_nothing(two: list[Host], repository: int) -> None:
    for host in two:
        for _ in range(3):
            assert await projects.resolve(host, "physics", "app")
            assert await projects.head(host, "physics")
            assert await tagged(host, repository) == OLD_DIGEST
            assert await tagged(host, repository, leased=True) == OLD_DIGEST
            assert await manifests.present(host, repository, OLD_DIGEST)
    # Both questions for the tag share what Redis has, and the second host has what the first one read.
    assert [sum(host.asked.values()) for host in two] == [4, 0]


async def test_a_move_shows_at_once_everywhere(two: list[Host], repository: int) -> None:
    for number in range(20):
        digest = (NEW_DIGEST, OLD_DIGEST)[number % 2]
        await move(two[number % 2], repository, digest)
        assert [await tagged(host, repository) for host in two] == [digest] * 2


async def test_what_is_leased_shows_when_the_writer_is_answered(two: list[Host], repository: int) -> None:
    for host in two:
        assert await manifests.present(host, repository, OLD_DIGEST)
    removing = asyncio.create_task(remove(two[0], repository, OLD_DIGEST))
    while not removing.done():
        # Until it is answered, either is right.
        await manifests.present(two[1], repository, OLD_DIGEST)
        await asyncio.sleep(0.01)
    await removing
    assert [await manifests.present(host, repository, OLD_DIGEST) for host in two] == [None, None]
    assert [await tagged(host, repository) for host in two] == [None, None]


async def test_what_is_not_there_is_asked_every_time(two: list[Host], repository: int) -> None:
    assert await projects.head(two[1], "biology") is None
    made = await make_project(two[0], "biology")
    assert await projects.head(two[1], "biology") == (made, True, None)
    assert (await projects.resolve(two[1], "biology", "app") or [0] * 4)[3] is None
    inside = await make_repository(two[0], made)
    assert (await projects.resolve(two[1], "biology", "app") or [0] * 4)[3] == inside
    assert await manifests.present(two[1], inside, OLD_DIGEST) is None
    await add_manifest(two[0], inside, OLD)
    assert await manifests.present(two[1], inside, OLD_DIGEST)


async def test_a_writer_overtakes_a_reader_that_sql_has_answered(
    two: list[Host], repository: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, goes_on = asyncio.Event(), asyncio.Event()
    ask = Host._ask

    async def slow(host: Host, query: PointQuery, *parameters: object) -> Sequence[Any] | None:
        row = await ask(host, query, *parameters)
        answered.set()
        await goes_on.wait()
        return row

    monkeypatch.setattr(Host, "_ask", slow)
    reading = asyncio.create_task(tagged(two[1], repository))
    await answered.wait()
    monkeypatch.setattr(Host, "_ask", ask)
    await move(two[0], repository, NEW_DIGEST)
    goes_on.set()
    assert await reading == OLD_DIGEST, "it began before the move"
    assert [await tagged(host, repository) for host in (*two, two[1])] == [NEW_DIGEST] * 3


async def test_a_push_ends_the_copies_of_its_own_tags(two: list[Host], repository: int) -> None:
    await add_manifest(two[0], repository, OLD, "other")

    async def others() -> None:
        other = await manifests.tagged(two[1], repository, "other")
        assert other is not None
        assert other.digest == OLD_DIGEST
        assert await manifests.present(two[1], repository, OLD_DIGEST)

    for _ in range(2):
        await others()
    asked = two[1].asked.total()
    await move(two[0], repository, NEW_DIGEST)
    await others()
    assert two[1].asked.total() == asked
    assert await tagged(two[1], repository) == NEW_DIGEST
    await remove(two[0], repository, OLD_DIGEST)
    assert await manifests.tagged(two[1], repository, "other") is None
    assert await manifests.present(two[1], repository, OLD_DIGEST) is None


async def test_what_fails_before_its_commit_ends_no_copy(two: list[Host], repository: int) -> None:
    """SQL that goes down in the middle of a push leaves what is cached of its tag."""
    for host in two:
        assert await tagged(host, repository) == OLD_DIGEST
    asked = [host.asked.total() for host in two]

    async def fail(transaction: Transaction) -> None:
        await manifests.set_tags(transaction, repository, ["latest"], NEW_DIGEST)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await two[0].transact(fail)
    for host in two:
        assert await tagged(host, repository) == OLD_DIGEST
    assert [host.asked.total() for host in two] == asked


async def test_a_worker_that_starts_while_sql_is_down(
    two: list[Host], repository: int, postgres_url: str, postgres: Postgres, valkey: Valkey
) -> None:
    """It uses what the others know, until SQL answers: then somebody may write whom it does not hear."""
    for host in two:
        assert await tagged(host, repository) == OLD_DIGEST
        await host.copies.look()
    await asyncio.to_thread(postgres.stop)
    try:
        async with hosts(postgres_url, valkey.url, valkey.url) as (late, later):
            assert await tagged(late, repository) == OLD_DIGEST
            with pytest.raises(Unavailable):
                await manifests.present(late, repository, NEW_DIGEST)
            later.copies.disinherit()
            await later.copies.look()
            with pytest.raises(Unavailable):
                await tagged(later, repository)
        await asyncio.to_thread(valkey.command, "DEL r:copy:epoch")
        async with hosts(postgres_url, valkey.url) as (latest,):
            with pytest.raises(Unavailable):
                await tagged(latest, repository)
    finally:
        await asyncio.to_thread(postgres.start)


async def test_redis_is_flushed_stopped_and_frozen(two: list[Host], repository: int, valkey: Valkey) -> None:
    assert await tagged(two[1], repository) == OLD_DIGEST
    await asyncio.to_thread(valkey.flush)
    await move(two[0], repository, NEW_DIGEST)
    assert await tagged(two[1], repository) == NEW_DIGEST
    valkey.pause()
    try:
        # Nobody can be told. The writer waits until nobody trusts what it knows.
        began = time.monotonic()
        await move(two[0], repository, OLD_DIGEST)
        assert time.monotonic() - began >= LONGEST_SECONDS
        assert await tagged(two[1], repository) == OLD_DIGEST
    finally:
        valkey.resume()
    await asyncio.to_thread(valkey.stop)
    try:
        assert await tagged(two[1], repository) == OLD_DIGEST
        await two[1].copies.look()
        before = two[1].asked.total()
        for _ in range(5):
            assert await tagged(two[1], repository, leased=True) == OLD_DIGEST
        assert two[1].asked.total() <= before + 1, "a lease needs no Redis"
    finally:
        await asyncio.to_thread(valkey.start)

    async def are_kept_again() -> bool:
        before = two[1].asked.total()
        await two[1].copies.look()
        assert await tagged(two[1], repository) == OLD_DIGEST
        return two[1].asked.total() == before

    await eventually(are_kept_again, what="copies to be kept again")


async def test_a_host_that_is_cut_off_from_redis(postgres_url: str, valkey: Valkey) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    async with hosts(postgres_url, valkey.url, nowhere) as (reader, writer):
        repository = await make_repository(writer, await make_project(writer))
        await add_manifest(reader, repository, NEW)
        await add_manifest(reader, repository, OLD, "latest")
        looking = asyncio.create_task(reader.copies.run())
        for digest in (NEW_DIGEST, OLD_DIGEST):
            assert await tagged(reader, repository)
            await move(writer, repository, digest)
            assert await tagged(reader, repository) == digest
        # The mirror's own moves answer nobody, and the job tells them later.
        began = time.monotonic()
        await move(writer, repository, NEW_DIGEST, answers=False)
        assert time.monotonic() - began < LONGEST_SECONDS
        await writer.copies.look()
        await reader.copies.look()
        assert await tagged(reader, repository) == NEW_DIGEST
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_hosts_that_take_different_servers_for_one(postgres_url: str, valkey: Valkey, tmp_path: Path) -> None:
    """One may be a Redis that was replaced; nobody uses copies then."""
    with started(tmp_path) as another:
        async with hosts(postgres_url, valkey.url, another.url) as two:
            repository = await make_repository(two[0], await make_project(two[0]))
            await add_manifest(two[0], repository, NEW)
            await add_manifest(two[0], repository, OLD, "latest")
            looking = [asyncio.create_task(host.copies.run()) for host in two]
            for number in range(4):
                digest = (NEW_DIGEST, OLD_DIGEST)[number % 2]
                assert await tagged(two[0], repository) == await tagged(two[1], repository)
                await move(two[number % 2], repository, digest)
                assert [await tagged(host, repository) for host in two] == [digest] * 2
            # One of them goes, and the other one serves both.
            two[1].versions._pool = two[0].versions._pool
            await two[1].versions._disconnect()

            async def are_kept() -> bool:
                before = two[1].asked.total()
                assert await tagged(two[1], repository) == OLD_DIGEST
                return two[1].asked.total() == before

            await eventually(are_kept, what="copies to be kept again")
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)


async def test_a_redis_that_comes_back_with_what_it_knew_before(
    two: list[Host], repository: int, valkey: Valkey
) -> None:
    assert await tagged(two[1], repository) == OLD_DIGEST
    await asyncio.sleep(0)
    assert await tagged(two[1], repository) == OLD_DIGEST
    assert valkey.command("SAVE") == "+OK"
    # Redis knows of this move, and then no more: its memory is older.
    await move(two[0], repository, NEW_DIGEST)
    await asyncio.to_thread(valkey.stop)
    await asyncio.to_thread(valkey.start)
    assert int(valkey.command("DBSIZE").removeprefix(":")) > 0
    assert [await tagged(host, repository) for host in two] == [NEW_DIGEST] * 2
    await asyncio.sleep(1.1)  # Redis is asked again
    assert [await tagged(host, repository) for host in two] == [NEW_DIGEST] * 2


async def test_sql_is_down(two: list[Host], repository: int, postgres: Postgres, valkey: Valkey) -> None:
    first, second = two
    for host in two:
        assert await tagged(host, repository) == OLD_DIGEST
        assert await projects.resolve(host, "physics", "app")
    await asyncio.to_thread(postgres.stop)
    try:
        await asyncio.sleep(LONGEST_SECONDS)
        await first.copies.look()
        for host in two:
            assert await tagged(host, repository) == OLD_DIGEST
            assert await tagged(host, repository, leased=True) == OLD_DIGEST
            assert await projects.resolve(host, "physics", "app")
        with pytest.raises(Unavailable):
            await move(first, repository, NEW_DIGEST)
        with pytest.raises(Unavailable):
            await projects.head(first, "biology")
        # Whoever wrote last may have told Redis: then nobody knows.
        assert await second.versions.forget([changes.tag(repository, "latest")])
        for host in two:
            with pytest.raises(Unavailable):
                await tagged(host, repository)
        await asyncio.to_thread(valkey.stop)
        try:
            with pytest.raises(Unavailable):
                await projects.resolve(first, "physics", "app")
        finally:
            await asyncio.to_thread(valkey.start)
    finally:
        await asyncio.to_thread(postgres.start)

    async def answers() -> bool:
        with suppress(Unavailable):
            return await tagged(first, repository) == OLD_DIGEST
        return False

    await eventually(answers, what="SQL to be asked again")


async def test_what_was_committed_while_nobody_could_be_told(
    two: list[Host], repository: int, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL goes away between the commit and the new epoch: 503, and the next look tells it."""
    assert await tagged(two[1], repository) == OLD_DIGEST

    async def down() -> None:
        raise Unavailable("down")

    await asyncio.to_thread(valkey.stop)
    try:
        monkeypatch.setattr(two[0].copies, "_raise_epoch", down)
        with pytest.raises(Unavailable):
            await move(two[0], repository, NEW_DIGEST)
        monkeypatch.undo()
    finally:
        await asyncio.to_thread(valkey.start)

    async def told() -> bool:
        await two[0].copies.look()
        await two[1].copies.look()
        return await tagged(two[1], repository) == NEW_DIGEST

    await eventually(told, what="the move to show")


async def test_a_client_that_leaves_does_not_stop_the_telling(two: list[Host], repository: int) -> None:
    assert await manifests.present(two[1], repository, OLD_DIGEST)
    removing = asyncio.create_task(remove(two[0], repository, OLD_DIGEST))

    async def gone() -> bool:
        return await Database.point(two[0], manifests._present, repository, OLD_DIGEST) is None

    await eventually(gone, what="the commit")
    removing.cancel()
    await asyncio.gather(removing, return_exceptions=True)
    await eventually(lambda: _absent(two[1], repository), what="the removal to show")


async def _absent(host: Host, repository: int) -> bool:
    return await manifests.present(host, repository, OLD_DIGEST) is None


async def test_a_copy_is_read_again_in_time(two: list[Host], repository: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody was killed between the commit and the telling."""
    assert await tagged(two[1], repository) == OLD_DIGEST
    await execute(two[0].url.render_as_string(hide_password=False), f"UPDATE tag SET digest = '{NEW_DIGEST}'")
    assert await tagged(two[1], repository) == OLD_DIGEST, "nobody told"
    monkeypatch.setattr(shared_copies, "_AGE_SECONDS", 0.0)
    assert await tagged(two[1], repository) == NEW_DIGEST


async def test_a_process_without_copies_ends_those_of_others(two: list[Host], repository: int) -> None:
    """The operators' commands: they tell SQL in their own transaction."""
    assert await projects.head(two[1], "physics")
    alone = Database(two[0].url.render_as_string(hide_password=False))
    async with alone.transaction() as transaction:
        await projects.change(transaction, "physics", public=False)
    await alone.close()
    await two[1].copies.look()
    found = await projects.head(two[1], "physics")
    assert found is not None
    assert found[1] is False


async def test_redis_is_full(two: list[Host], repository: int, valkey: Valkey) -> None:
    """It takes no new version and no copy, but a writer can still end one."""
    assert await tagged(two[1], repository) == OLD_DIGEST
    valkey.command("CONFIG SET maxmemory 1")
    try:
        began = time.monotonic()
        for digest in (NEW_DIGEST, OLD_DIGEST, NEW_DIGEST):
            await move(two[0], repository, digest)
            assert [await tagged(host, repository) for host in two] == [digest] * 2
        assert time.monotonic() - began < LONGEST_SECONDS, "no writer waited"
    finally:
        valkey.command("CONFIG SET maxmemory 0")
    assert await tagged(two[1], repository) == NEW_DIGEST
    asked = two[1].asked.total()
    assert await tagged(two[1], repository) == NEW_DIGEST
    assert two[1].asked.total() == asked


async def test_a_file_says_whether_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/registry.sqlite"
    await migrate(url)
    writer, reader = Database(url), Database(url)
    made = await make_repository(writer, await make_project(writer))
    await add_manifest(writer, made, NEW)
    await add_manifest(writer, made, OLD, "latest")
    asked = []
    ask = reader._ask

    async def counted(query: PointQuery, *parameters: object) -> Sequence[Any] | None:
        asked.append(parameters)
        return await ask(query, *parameters)

    monkeypatch.setattr(reader, "_ask", counted)
    for _ in range(5):
        assert await tagged(reader, made) == OLD_DIGEST
        assert await projects.resolve(reader, "physics", "app")
        assert await projects.head(reader, "biology") is None
    assert len(asked) == 3
    for number in range(10):
        digest = (NEW_DIGEST, OLD_DIGEST)[number % 2]
        # Also by a connection of the reader's own.
        await move((writer, reader)[number % 2], made, digest)
        assert await tagged(reader, made) == digest
    await make_project(writer, "biology")
    assert await projects.head(reader, "biology")
    for database in (writer, reader):
        await database.close()


# Runs each line of its input as a statement on a connection of its own, or on a new one, and says when that is done.
_ANOTHER = """
import sqlite3, sys
opened = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    if line == "again\\n":
        opened.close()
        opened = sqlite3.connect(sys.argv[1], isolation_level=None)
    else:
        opened.execute(line)
    print("done", flush=True)
"""


async def test_a_file_is_changed_by_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    url = f"sqlite:///{path}"
    await migrate(url)
    database = Database(url)
    made = await make_repository(database, await make_project(database))
    await add_manifest(database, made, NEW)
    await add_manifest(database, made, OLD, "latest")
    # The reader has no other connection to the file, so the last one that closes would remove its log.
    await database.close()
    reader = Database(url)
    assert await tagged(reader, made) == OLD_DIGEST
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ANOTHER, path, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    between = ["PRAGMA wal_checkpoint(TRUNCATE)", "again", "VACUUM", "PRAGMA wal_checkpoint(PASSIVE)"]
    for number in range(400):
        digest = (NEW_DIGEST, OLD_DIGEST)[number % 2]
        for statement in (f"UPDATE tag SET digest = '{digest}'", *between[number % 20 : number % 20 + 1]):
            other.stdin.write(f"{statement}\n".encode())
            assert await other.stdout.readline() == b"done\n"
            assert await tagged(reader, made) == digest
    other.stdin.close()
    await other.wait()
    assert await tagged(reader, made) == OLD_DIGEST
    await reader.close()
