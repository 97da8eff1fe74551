"""Transactions on both databases: which are run again, and the error if the database is down."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.database import Database, Transaction, blobs, projects, quotas
from app.database.migrate import migrate
from app.database.tables import metadata, setting
from app.oci.errors import Unavailable
from tests.parts.postgres import Postgres
from tests.parts.process import eventually

from .rows import add_blob, is_waiting, make_project, make_repository, rows


async def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as transaction:
            await projects.create(transaction, "physics", public=True, upstream=None, settings={})
            raise LookupError("in the middle")

    with pytest.raises(LookupError):
        await fail()
    assert await rows(database, "SELECT name FROM project") == []


async def test_a_client_that_leaves_rolls_back(database: Database) -> None:
    begun = asyncio.Event()

    async def leave() -> None:
        async with database.transaction() as transaction:
            await projects.create(transaction, "physics", public=True, upstream=None, settings={})
            begun.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(leave())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await make_project(database), "nothing is locked any more"


@pytest.mark.parametrize("steps", range(6, 16))
async def test_a_statement_cancelled_in_the_middle_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("app.database.engine._SQLITE_BUSY_SECONDS", 1)
    database = Database(f"sqlite:///{tmp_path}/registry.sqlite")
    async with database.transaction() as transaction:
        await transaction.run_sync(metadata.create_all)

    async def write(name: str) -> None:
        async with database.transaction() as transaction:
            lines = [{"name": f"{name}{number}", "value": "x" * 100} for number in range(500)]
            await transaction.execute(setting.insert(), lines)

    left = asyncio.create_task(write("left"))
    # Each number of steps leaves it at another place, from waiting for a connection to committing.
    for _ in range(steps):
        await asyncio.sleep(0)
    left.cancel()
    with suppress(asyncio.CancelledError):
        await left
    await write("next")
    await database.close()


async def test_reading_never_waits_for_a_writer(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    digest = await add_blob(database, project, repository, b"data", "key1")
    async with database.transaction() as transaction:
        await blobs.unlink(transaction, repository, digest)
        assert await rows(database, "SELECT object_key FROM blob") == [("key1",)]
        assert await blobs.linked(database, repository, digest)
    assert await blobs.linked(database, repository, digest) is None, "what one connection wrote, every other one shows"


async def test_the_first_question_of_a_process(database: Database, migrated_url: str) -> None:
    project = await make_project(database)
    await database.close()
    fresh = Database(migrated_url)
    assert await projects.head(fresh, "physics") == (project, True, None)
    await fresh.close()


async def test_work_is_done_again_where_another_one_got_in_between(database: Database) -> None:
    project = await make_project(database)
    repository = await make_repository(database, project)
    attempts = []

    async def work(transaction: Transaction) -> str:
        attempts.append(1)
        if len(attempts) < 3:
            insert = "INSERT INTO link (repository_id, digest, project_id, pulled_at) VALUES (:r, 'gone', :p, 0)"
            await transaction.execute(text(insert), {"r": repository, "p": project})
        return "done"

    assert await database.transact(work) == "done"
    assert len(attempts) == 3


async def test_work_is_not_done_again_for_ever(database: Database) -> None:
    attempts = []

    async def work(transaction: Transaction) -> None:
        attempts.append(1)
        await transaction.execute(text("INSERT INTO repository (project_id, name, created_at) VALUES (404, 'x', 0)"))

    with pytest.raises(IntegrityError):
        await database.transact(work)
    assert 1 < len(attempts) < 10


async def test_a_fault_of_ours_is_neither_absence_nor_a_full_disk(database: Database) -> None:
    for statement in ("SELECT * FROM nowhere", "SELEC", "INSERT INTO garbage (object_key) VALUES ('full disk')"):
        with pytest.raises(DBAPIError):
            async with database.transaction() as transaction:
                await transaction.execute(text(statement))
    async with database.transaction() as transaction:
        await projects.create(transaction, "full", public=True, upstream=None, settings={})
    with pytest.raises(IntegrityError):
        async with database.transaction() as transaction:
            await transaction.execute(
                text("INSERT INTO project (name, public, settings, created_at) VALUES ('full', true, '{}', 0)")
            )


async def test_two_that_wait_for_each_other_both_end_well(database: Database) -> None:
    both = [await make_project(database), await make_project(database, "biology")]
    each_holds_one, attempts = asyncio.Barrier(2), []

    async def charge(order: list[int]) -> None:
        async def work(transaction: Transaction) -> None:
            attempts.append(order)
            await quotas.charge(transaction, order[0], 1)
            if len(attempts) <= 2 and not database.is_sqlite:
                await each_holds_one.wait()
            await quotas.charge(transaction, order[1], 1)

        await database.transact(work)

    await asyncio.gather(charge(both), charge(both[::-1]))
    # The one that begins again may meet the other once more.
    assert len(attempts) in ((2,) if database.is_sqlite else (3, 4))
    assert await rows(database, "SELECT used_bytes FROM project") == [(2,), (2,)]


@pytest.mark.parametrize("name", ["with space", "100%", "a?b#c", "tõde"])
async def test_odd_paths(tmp_path: Path, name: str) -> None:
    url = f"sqlite:///{tmp_path}/{name.replace('%', '%25').replace('?', '%3F')}/registry.sqlite"
    await migrate(url)
    database = Database(url)
    assert (await projects.head(database, "physics")) is None
    await database.close()
    assert (tmp_path / name / "registry.sqlite").exists()


async def test_a_full_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.sqlite"
    await migrate(url)
    database = Database(url)

    async def fill(transaction: Transaction) -> None:
        await transaction.execute(text("PRAGMA max_page_count = 1"))
        for number in range(1000):
            await blobs.discard(transaction, f"{number:0>4000}", 0)

    with pytest.raises(Unavailable, match="disk is full") as caught:
        await database.transact(fill)
    assert caught.value.answer_status == 507
    assert caught.value.headers == {"Retry-After": "60"}
    await database.close()


async def test_sqlite_is_locked_by_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.database.engine._SQLITE_BUSY_SECONDS", 0)
    url = f"sqlite:///{tmp_path}/registry.sqlite"
    await migrate(url)
    database, other = Database(url), Database(url)
    async with other.transaction():
        with pytest.raises(Unavailable, match="database is down") as caught:
            await make_project(database)
    assert "Retry-After" in caught.value.headers
    assert await make_project(database)
    await database.close()
    await other.close()


async def test_a_file_that_is_gone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/no/such/registry.sqlite")
    with pytest.raises(Unavailable):
        await database.check()
    with pytest.raises(Unavailable):
        await projects.head(database, "physics")
    await database.close()
    # aiosqlite does not wait for the thread of a connection that could not be opened; it must end before the loop.
    await eventually(no_sqlite_threads, what="aiosqlite's thread to end")


async def no_sqlite_threads() -> bool:
    return not any("_connection_worker_thread" in thread.name for thread in threading.enumerate())


async def test_postgresql_goes_and_comes_back(postgres: Postgres, postgres_url: str) -> None:
    database = Database(postgres_url)
    project = await make_project(database)

    async def ask_at_once() -> None:
        answers = await asyncio.gather(*(projects.head(database, "physics") for _ in range(12)))
        assert answers == [(project, True, None)] * 12

    await ask_at_once()
    await asyncio.to_thread(postgres.stop)
    try:
        for question in (database.check(), projects.head(database, "physics"), make_project(database, "biology")):
            with pytest.raises(Unavailable, match="database is down") as caught:
                await question
            assert caught.value.headers["Retry-After"] == "5"
    finally:
        await asyncio.to_thread(postgres.start)

    async def answers() -> bool:
        # Questions fail at once while the database is known to be down; it is tried once a second.
        with suppress(Unavailable):
            return await projects.head(database, "physics") is not None
        return False

    await eventually(answers, what="the database to be asked again")
    assert await make_project(database, "biology")
    await ask_at_once()

    # Twice it restarts while nobody asks: the pool is full of connections that have ended.
    for question in (ask_at_once(), make_project(database, "chemistry")):
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        await question
    await database.close()


async def test_a_connection_that_ends_in_the_middle(postgres_url: str) -> None:
    database = Database(postgres_url)
    killed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "

    async def work(transaction: Transaction) -> None:
        await projects.create(transaction, "physics", public=True, upstream=None, settings={})
        await rows(database, f"{killed} pg_backend_pid()")
        await transaction.execute(text("SELECT 1"))

    with pytest.raises(Unavailable, match="database is down"):
        await database.transact(work)
    assert await rows(database, "SELECT name FROM project") == []
    await database.close()


async def test_a_server_that_has_said_that_it_is_going(postgres: Postgres) -> None:
    url = make_url(postgres.database())
    await migrate(url.render_as_string())
    said = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Passes on everything but the end of the connection, which in life follows a moment later.
        above, below = await asyncio.open_connection(url.host, url.port)
        upwards = asyncio.create_task(copy(reader, below))
        await copy(above, writer)
        said.set()
        await upwards
        below.close()
        writer.close()

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    direct = Database(url.render_as_string())
    through = Database(url.set(port=server.sockets[0].getsockname()[1]).render_as_string())
    assert await projects.head(through, "physics") is None
    await rows(
        direct,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    await said.wait()
    await asyncio.sleep(0.1)  # so that the driver has read it
    with pytest.raises(Unavailable, match="database is down"):
        await projects.head(through, "physics")
    for database in (direct, through):
        await database.close()
    server.close()


@pytest.mark.parametrize(
    "url",
    ["postgresql://postgres@127.0.0.1:1/x", "postgresql://postgres@localhost:1/x", "postgresql://x@no.such.invalid/x"],
)
async def test_nobody_answers(url: str) -> None:
    database = Database(url)
    with pytest.raises(Unavailable, match="database is down"):
        await database.check()
    with pytest.raises(Unavailable, match="database is down"):
        await projects.head(database, "physics")
    await database.close()


async def test_postgresql_does_not_know_us(postgres: Postgres) -> None:
    database = Database(postgres.url.rpartition("/")[0] + "/no_such_database")
    with pytest.raises(Unavailable, match="database is down"):
        await database.check()
    await database.close()


async def test_a_locked_row_is_waited_for(database: Database) -> None:
    await make_project(database)

    async def charge(size: int) -> None:
        async with database.transaction() as transaction:
            found = await projects.find(transaction, "physics")
            assert found is not None
            await quotas.charge(transaction, found.id, size)

    async with database.transaction() as transaction:
        found = await projects.find(transaction, "physics")
        assert found is not None
        await quotas.charge(transaction, found.id, 5)
        other = asyncio.create_task(charge(-2))
        assert await is_waiting(database, other)
    await other
    assert await rows(database, "SELECT used_bytes FROM project") == [(3,)]
