"""PostgreSQL that does not answer: every question ends in time, and everything goes on after it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import event, make_url, text

from app.database import Database, Transaction, projects, quotas
from app.database.deadline import DEADLINE_SECONDS, JOB_SECONDS, LATE_SECONDS, PROBE_SECONDS
from app.database.migrate import migrate
from app.oci.errors import Unavailable
from tests.parts.postgres import Postgres
from tests.parts.postgres import postgres as a_postgres
from tests.parts.process import eventually

from .rows import make_project, rows

# A question ends by then, three times over for a busy machine.
IN_TIME = 3 * (LATE_SECONDS + PROBE_SECONDS)
PROJECT = "physics"


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    await make_project(database, PROJECT)
    yield database
    await asyncio.wait_for(database.close(), IN_TIME)


@pytest.fixture
def frozen(postgres: Postgres) -> Iterator[Callable[[], None]]:
    """What freezes the server; it is resumed after the test."""
    yield postgres.pause
    postgres.resume()


async def point(database: Database) -> None:
    await projects.head(database, PROJECT)


async def read(database: Database) -> None:
    await database.read(projects.find, PROJECT)


async def reading(database: Database) -> None:
    async with database.reading() as transaction:
        await transaction.execute(text("SELECT 1"))


async def write(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute(text("UPDATE project SET used_bytes = used_bytes + 1"))


async def work(database: Database) -> None:
    async def change(transaction: Transaction) -> None:
        await transaction.execute(text("UPDATE project SET used_bytes = used_bytes + 1"))

    await database.transact(change, JOB_SECONDS)


async def check(database: Database) -> None:
    await database.check()


QUESTIONS = [point, read, reading, write, work, check]


async def refused(question: Awaitable[None]) -> float:
    """Return after how many seconds a question was refused with 503 and ``Retry-After``."""
    began = time.monotonic()
    with pytest.raises(Unavailable, match="database is down") as caught:
        await question
    assert caught.value.answer_status == 503
    assert caught.value.headers["Retry-After"] == "5"
    return time.monotonic() - began


async def answers(database: Database) -> bool:
    with suppress(Unavailable):
        await write(database)
        return True
    return False


@pytest.mark.parametrize(("question", "connected"), [(point, True), (write, True), (work, True), (check, False)])
async def test_each_question_to_a_frozen_server_ends(
    database: Database,
    frozen: Callable[[], None],
    postgres: Postgres,
    question: Callable[[Database], Awaitable[None]],
    *,
    connected: bool,
) -> None:
    """With a connection in the pool, or with one to be made first; and the next question fails at once."""
    if not connected:
        await database.close()
    frozen()
    assert await refused(question(database)) < IN_TIME
    asked = await asyncio.gather(*(refused(each(database)) for each in QUESTIONS * 5))
    assert max(asked) < IN_TIME / 2, "the verdict is known: the connections are not waited for one after the other"
    postgres.resume()
    await eventually(lambda: answers(database), what="the database to be asked again")


async def test_a_worker_that_is_late_itself_blames_nobody(database: Database) -> None:
    """Without a processor, a new connection takes longer than the probe may: each of its answers waits to be read."""
    await database.close()
    until = time.monotonic() + 4

    async def starve() -> None:
        while time.monotonic() < until:
            time.sleep(0.3)  # noqa: ASYNC251  # nobody else runs
            await asyncio.sleep(0)

    async def ask() -> None:
        while time.monotonic() < until:
            await asyncio.gather(point(database), check(database))
            await database.close()

    await asyncio.gather(starve(), ask())


async def test_more_questions_than_connections_end_together(
    database: Database, frozen: Callable[[], None], postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    frozen()
    with caplog.at_level(logging.INFO, "app.database"):
        assert max(await asyncio.gather(*(refused(each(database)) for each in QUESTIONS * 20))) < IN_TIME
        postgres.resume()
        await eventually(lambda: answers(database), what="the database to be asked again")
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "the database cannot be used",
        "a question to the database failed: no answer in time",
        "the database can be used again",
    ]
    # Every connection can be used again.
    await asyncio.gather(*(reading(database) for _ in range(16)))


async def test_a_commit_that_is_not_answered(
    database: Database, frozen: Callable[[], None], postgres: Postgres
) -> None:
    async def freeze_before_commit() -> None:
        async with database.transaction() as transaction:
            await transaction.execute(text("UPDATE project SET used_bytes = 5"))
            frozen()

    assert await refused(freeze_before_commit()) < IN_TIME
    postgres.resume()
    await eventually(lambda: answers(database), what="the database to be asked again")
    # The server may have read the COMMIT before its connection ended. Nobody claimed either.
    assert await rows(database, "SELECT used_bytes FROM project") in ([(1,)], [(6,)])


@pytest.mark.parametrize("steps", [0, 1, 2, 4, 8, 16, 1000])
async def test_a_client_leaves_while_the_server_is_frozen(
    database: Database,
    frozen: Callable[[], None],
    postgres: Postgres,
    caplog: pytest.LogCaptureFixture,
    steps: int,
) -> None:
    """Each number of steps leaves the questions at another place."""
    await asyncio.gather(*(reading(database) for _ in range(16)))
    frozen()
    tasks = [asyncio.create_task(each(database)) for each in QUESTIONS * 3]
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    began = time.monotonic()
    await asyncio.wait(tasks)
    assert time.monotonic() - began < IN_TIME
    postgres.resume()
    await eventually(lambda: answers(database), what="the database to be asked again")
    await asyncio.gather(*(reading(database) for _ in range(16)))
    # The driver leaves a future behind if a connection is given up at its very beginning.
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR and record.name != "asyncio"]
    assert errors == []


async def test_a_row_that_is_locked_for_long_fails_nobody_else(database: Database) -> None:
    found = await database.read(projects.find, PROJECT)
    assert found is not None

    async def charge() -> None:
        async with database.transaction(DEADLINE_SECONDS) as transaction:
            await quotas.charge(transaction, found.id, 1)

    async def work_on() -> None:
        while not waiting.done():
            await point(database)
            await check(database)
            await asyncio.sleep(0.01)

    async with database.transaction(JOB_SECONDS) as transaction:
        await quotas.charge(transaction, found.id, 5)
        waiting = asyncio.create_task(charge())
        await work_on()
        with pytest.raises(Unavailable):
            await waiting
    assert await rows(database, "SELECT used_bytes FROM project") == [(5,)]


async def test_an_unanswered_statement_ends_on_the_server_too(database: Database) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        async with database.transaction(DEADLINE_SECONDS) as transaction:
            await transaction.execute(text("SELECT pg_sleep(600)"))
    assert time.monotonic() - began >= DEADLINE_SECONDS * 0.9

    async def ended() -> bool:
        statement = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%'"
        return not await rows(database, f"{statement} AND pid <> pg_backend_pid()")

    await eventually(ended, what="the statement to end")


async def test_a_primary_that_became_a_copy(database: Database) -> None:
    """It answers and writes nothing: not ready, and 503 until the primary is there."""
    name = database.url.database
    url = make_url(str(database)).set(drivername="postgresql").render_as_string(hide_password=False)

    def default(read_only: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {read_only}".encode())
            connection.execute(
                b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                b"WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    await asyncio.to_thread(default, "on")
    try:
        await refused(write(database))
        await refused(check(database))
        await refused(point(database))
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off".encode())
    await eventually(lambda: answers(database), what="the database to be asked again")


async def test_a_standby() -> None:
    """A primary that was demoted answers and writes nothing, until it is promoted."""
    with a_postgres() as server:
        url = server.database()
        await migrate(url)
        server.stop()
        server.demote()
        database = Database(url)
        await refused(check(database))
        await refused(write(database))
        await refused(point(database))
        server.promote()
        await eventually(lambda: answers(database), what="the database to be asked again")
        await database.close()


@pytest.mark.parametrize(
    ("closed", "opened"),
    [
        ("ALTER DATABASE {name} ALLOW_CONNECTIONS false", "ALTER DATABASE {name} ALLOW_CONNECTIONS true"),
        ("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC", "GRANT CONNECT ON DATABASE {name} TO PUBLIC"),
    ],
)
async def test_a_database_that_takes_no_connections(
    postgres: Postgres, postgres_template: str, closed: str, opened: str
) -> None:
    """An administrator has closed it; whoever has a connection may go on, and whoever needs one is refused."""
    url = make_url(postgres.database(postgres_template))

    def administer(statement: str) -> None:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(statement.format(name=url.database).encode())

    def end_connections() -> None:
        administer(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.database}'")

    with suppress(psycopg.errors.DuplicateObject):
        administer("CREATE ROLE guest LOGIN IN ROLE pg_write_all_data, pg_read_all_data")
    database = Database(url.set(username="guest").render_as_string(hide_password=False))
    await write(database)
    administer(closed)
    end_connections()
    try:
        for question in QUESTIONS:
            assert await refused(question(database)) < IN_TIME
    finally:
        administer(opened)
    await eventually(lambda: answers(database), what="the database to be asked again")
    await database.close()


@pytest.mark.parametrize("through_socket", [False, True], ids=["through a port", "through a socket"])
async def test_a_server_that_is_stopped(postgres: Postgres, postgres_template: str, *, through_socket: bool) -> None:
    """It refuses connections, or has removed its socket; 4,283 requests got 500 while the socket was not there."""
    url = postgres.database(postgres_template)
    database = Database(postgres.through_socket(url) if through_socket else url)
    await write(database)
    postgres.stop()
    try:
        for question in QUESTIONS:
            assert await refused(question(database)) < IN_TIME
    finally:
        postgres.start()
    await eventually(lambda: answers(database), what="the database to be asked again")
    await database.close()


async def test_a_database_that_is_prepared_when_it_comes(postgres: Postgres) -> None:
    """Until then nobody uses it, because its schema may be of another release."""
    url, prepared = postgres.database(), asyncio.Event()

    async def prepare() -> str | None:
        if not prepared.is_set():
            return "not now"
        await migrate(url)
        return None

    database = Database(url, prepare=prepare)
    for question in QUESTIONS:
        assert await refused(question(database)) < LATE_SECONDS
    prepared.set()
    await eventually(lambda: answers(database), what="the database to be prepared")
    await database.close()


async def test_no_connection_is_left(database: Database, postgres: Postgres) -> None:
    """Who has a connection goes on; who needs another one is refused at once."""
    await point(database)
    taken: list[psycopg.Connection] = []
    with suppress(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(postgres.url))
    try:
        await point(database)
        async with database.reading() as transaction:
            await transaction.execute(text("SELECT 1"))
            assert await refused(write(database)) < IN_TIME
            await transaction.execute(text("SELECT 1"))
        await write(database)
    finally:
        for connection in taken:
            connection.close()
    await eventually(lambda: answers(database), what="the database to be asked again")


async def test_a_worker_without_a_connection_tries_in_vain_once_a_second(
    database: Database, postgres: Postgres
) -> None:
    """Else each question tries by itself, which takes its whole deadline on a busy machine."""
    await point(database)
    taken: list[psycopg.Connection] = []

    def take_all() -> None:
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(postgres.url, autocommit=True))

    take_all()
    tried: list[float] = []
    event.listen(database._engine.sync_engine, "do_connect", lambda *_: tried.append(time.monotonic()))
    others = [connection.info.backend_pid for connection in taken]
    end = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = %s AND pid <> ALL(%s)"
    try:
        taken[0].execute(end, ["client backend", others])
        take_all()
        await refused(point(database))
        await eventually(lambda: down_at_once(database), what="the server to be found out of connections")
        before = len(tried)
        for _ in range(100):
            assert await refused(point(database)) < LATE_SECONDS
        assert len(tried) == before
    finally:
        for connection in taken:
            connection.close()
    await eventually(lambda: answers(database), what="the database to be asked again")


async def down_at_once(database: Database) -> bool:
    return await refused(point(database)) < 0.01
