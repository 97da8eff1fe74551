"""The connection to PostgreSQL or SQLite: transactions and point reads.

There are three ways to use it. `Database.transaction` is the ordinary one. `Database.read` runs one query of this
package that only reads. `Database.point` runs the one-row queries of the hot path. On SQLite it reads on the event
loop, because a primary-key read from the page cache takes less time than the hop to a thread. On PostgreSQL it runs a
prepared statement of the driver.

Every question to PostgreSQL has a deadline (`deadline`). SQLite's questions wait for the write lock, and only for that,
for at most `_SQLITE_BUSY_SECONDS`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakSet

import asyncpg
from sqlalchemy import CompoundSelect, Connection, Select, Table, event
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.dialects.sqlite.dml import Insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.kit.facts import spending

from .changes import NOTED, Changes, raise_epoch
from .copies import Copies, FileCopies
from .deadline import DEADLINE_SECONDS, TRANSACTION_SECONDS, Deadlines, Prepare, Question
from .file_version import FileVersion
from .ids import next_id
from .trouble import DEADLOCK, NO_DESCRIPTOR, TOO_MANY_CONNECTIONS, Translator, is_down, sqlstate

Transaction = AsyncConnection
T = TypeVar("T")
P = ParamSpec("P")

# Long enough for the writers of one host to queue for SQLite's single write lock, short enough to answer a client.
_SQLITE_BUSY_SECONDS = 20
# For each worker: connections that stay open, and further ones while all of these are in use.
_POOL_SIZE, _MORE_CONNECTIONS = 8, 8
# Until a server has accepted a connection. Questions have shorter deadlines of their own.
_CONNECT_SECONDS = 5.0
_MOST_ATTEMPTS = 5
# A write that touches no row, so that no lock delays it. Its COMMIT waits for the disk as every other one does.
_PROBE = """
SELECT CASE WHEN current_setting('transaction_read_only') = 'off' THEN pg_logical_emit_message(true, 'registry', '') END
"""
_ONLY_READS = "it only reads"
# The options of a connection for statements that only read: on PostgreSQL, and on SQLite (`_begin_sqlite`).
_READING: tuple[dict[str, Any], dict[str, Any]] = {"isolation_level": "AUTOCOMMIT"}, {"reading": True}
# A server notices at this interval that the client of a running statement is gone, and ends the statement.
_NOTICES_END_MS = "1000"


class Encoded(str):
    """A value of a column of JSON that is JSON already; large ones are encoded beside the event loop."""

    __slots__ = ()


class PointQuery:
    """A SELECT of at most one row, compiled once per database; its parameters are passed in order of appearance."""

    def __init__(
        self,
        statement: Select[Any] | CompoundSelect[Any],
        *,
        scope: Callable[..., str] | None = None,
        leased: bool = True,
        shared: bool = True,
        keeps: Callable[[Sequence[Any]], bool] = lambda _: True,
    ) -> None:
        """``scope`` returns the scope of the parameters (`changes`); with None, nobody keeps a copy of an answer.

        ``leased``: whether a worker may use a copy for a moment without asking for its version. Then everybody who
        changes the row waits until that moment is over (`changes.changed`). ``shared``: whether a copy may leave the
        worker's memory. ``keeps``: whether a row is worth a copy.
        """
        self._statement = statement
        self.scope = scope
        self.leased = leased
        self.shared = shared
        self.keeps = keeps
        # The text in no driver's spelling, which other hosts and releases compare with theirs.
        self.standard_text = str(statement)
        self._compiled: dict[str, str] = {}

    def text(self, engine: AsyncEngine) -> str:
        """Return the statement's SQL for the driver of ``engine``."""
        name = engine.dialect.name
        if name not in self._compiled:
            self._compiled[name] = str(self._statement.compile(dialect=engine.dialect))
        return self._compiled[name]


class Database:
    """One pool of connections per worker; the owner calls `close`. Nothing connects before the first use."""

    def __init__(self, url: str, copies: Copies | None = None, prepare: Prepare | None = None) -> None:
        """``copies`` of PostgreSQL's rows, None for a process that keeps none; SQLite's file has its own.

        ``prepare``: for a PostgreSQL that was down when the service started (`Deadlines`).
        """
        self.url = make_url(async_url(url))
        self.is_sqlite = is_sqlite(url)
        self._reader: sqlite3.Connection | None = None
        self._version: FileVersion | None = None
        self._deadlines: Deadlines | None = None
        self._errors = Translator()
        self._copies = FileCopies(self._version_of_file) if self.is_sqlite else copies
        self._telling: set[asyncio.Task[None]] = set()
        # The connections of the pool.
        self._opened: WeakSet[asyncpg.Connection] = WeakSet()
        if self.is_sqlite:
            self._engine = create_async_engine(
                self.url,
                pool_size=_POOL_SIZE,
                max_overflow=0,
                pool_timeout=_SQLITE_BUSY_SECONDS,
                hide_parameters=True,
                json_serializer=_encode,
            )
            event.listen(self._engine.sync_engine, "connect", _configure_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
            event.listen(self._engine.sync_engine, "invalidate", _release_lock)
        else:
            self._deadlines = Deadlines(self._probe, self._empty_pool, prepare)
            self._engine = self._make_engine(pool_size=_POOL_SIZE, max_overflow=_MORE_CONNECTIONS)
            self._single_engine = self._make_engine(poolclass=NullPool)
            event.listen(self._engine.sync_engine, "checkout", _renew_closed)
            event.listen(self._engine.sync_engine, "connect", self._note_opened)

    def _make_engine(self, **pool: Any) -> AsyncEngine:
        settings = {"client_connection_check_interval": _NOTICES_END_MS}
        options = {"server_settings": settings, "timeout": _CONNECT_SECONDS}
        engine = create_async_engine(
            self.url, hide_parameters=True, json_serializer=_encode, connect_args=options, **pool
        )
        event.listen(engine.sync_engine, "close", _drop)
        return engine

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @asynccontextmanager
    async def transaction(
        self, seconds: float = TRANSACTION_SECONDS, *, answers: bool = True
    ) -> AsyncIterator[Transaction]:
        """Run one transaction; commit it at the end of the block, roll it back if the block raises.

        Then nobody uses a copy of what it has changed any more; without ``answers``, because no client waits for it,
        that may take a moment longer. ``seconds``: the deadline of the whole block on PostgreSQL. Raises Unavailable:
        503 with ``Retry-After`` if the database is down or too busy, 507 if its disk is full. After a 503 the
        transaction may have been committed.
        """
        changes, committing = Changes(), False
        try:
            async with self._connected(seconds) as connection, connection.begin():
                yield await connection.execution_options(**{NOTED: changes})
                if changes.settle is not None:
                    await changes.settle(connection, changes.owed)
                if changes.scopes and self._copies is None:
                    await raise_epoch(connection)
                committing = True
        except BaseException:
            # Even if its COMMIT was not answered, it may have come about.
            if committing:
                self._tell(changes, answers=False)
            raise
        if (telling := self._tell(changes, answers=answers)) is not None:
            await asyncio.shield(telling)

    def _tell(self, changes: Changes, *, answers: bool) -> asyncio.Task[None] | None:
        """Begin to end the copies of what has changed; that goes on if the client leaves."""
        if not changes.scopes or self._copies is None:
            return None
        task = asyncio.create_task(self._copies.tell(changes, answers=answers))
        self._telling.add(task)
        task.add_done_callback(self._told)
        return task

    def _told(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        # If the client has left, nobody else takes the error of a database that is down.
        if not task.cancelled():
            task.exception()

    async def transact(
        self, work: Callable[[Transaction], Awaitable[T]], seconds: float = TRANSACTION_SECONDS, *, answers: bool = True
    ) -> T:
        """Run ``work`` in a transaction, and again from the start if another transaction interfered.

        A failed foreign key is one sign of that: the blob to be linked was removed a moment ago. The other is a
        deadlock that PostgreSQL ended by failing this transaction. ``seconds`` and ``answers`` are those of
        `transaction`. Raises Unavailable.
        """
        for attempt in range(_MOST_ATTEMPTS):
            try:
                async with self.transaction(seconds, answers=answers) as transaction:
                    return await work(transaction)
            except DBAPIError as error:
                in_between = isinstance(error, IntegrityError) or sqlstate(error) == DEADLOCK
                if attempt == _MOST_ATTEMPTS - 1 or not in_between:
                    raise
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def reading(self, seconds: float = TRANSACTION_SECONDS) -> AsyncIterator[Transaction]:
        """Run statements that only read, without waiting for writers; raises Unavailable as `transaction` does.

        On SQLite they read one state of the file. On PostgreSQL each reads the newest, as in a transaction there. So it
        needs none, whose beginning and end would take longer than most of the statements.
        """
        async with self._connected(seconds) as connection:
            yield await connection.execution_options(**_READING[self.is_sqlite])

    async def read(
        self, query: Callable[Concatenate[Transaction, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run one query of this package that only reads; raises Unavailable as `transaction` does."""
        async with self.reading() as transaction:
            return await query(transaction, *args, **kwargs)

    async def point(self, query: PointQuery, *parameters: object, renew: bool = False) -> Sequence[Any] | None:
        """Return the row of a query outside any transaction, None if there is no row; raises Unavailable.

        It may be a copy, which is the same as what the database would answer. With ``renew``, it is one only if the
        database is down.
        """
        if self._copies is None or query.scope is None:
            return await self._ask(query, *parameters)
        return await self._copies.point(query, parameters, self._ask, renew=renew)

    async def _ask(self, query: PointQuery, *parameters: object) -> Sequence[Any] | None:
        text = query.text(self._engine)
        return self._read_file(text, parameters) if self.is_sqlite else await self._fetch(text, parameters)

    async def _fetch(self, text: str, parameters: tuple[object, ...]) -> Sequence[Any] | None:
        async with self._connected(DEADLINE_SECONDS) as connection:
            driver = await _driver(connection)
            row: Sequence[Any] | None = await driver.fetchrow(text, *parameters)
            return row

    def _version_of_file(self) -> bytes:
        if self._version is None:
            # From the first question on, this connection keeps the log's files in their places.
            self._read_file("SELECT count(*) FROM sqlite_schema", ())
            with self._errors.translating():
                self._version = FileVersion(Path(self.url.database or ""))
        return self._version.read()

    def _read_file(self, text: str, parameters: tuple[object, ...]) -> Sequence[Any] | None:
        with self._errors.translating():
            if self._reader is None:
                path = Path(self.url.database or "").absolute().as_uri()
                self._reader = sqlite3.connect(f"{path}?mode=ro", uri=True, isolation_level=None, timeout=1)
            row: Sequence[Any] | None = self._reader.execute(text, parameters).fetchone()
            return row

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[AsyncConnection]:
        """Give the block a connection of its own to PostgreSQL, outside any transaction; it may take minutes.

        Raises Unavailable.
        """
        with self._errors.translating():
            async with self._single_engine.connect() as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def check(self) -> None:
        """Raise Unavailable if the database does not answer or, if it is PostgreSQL, cannot be written."""
        if self.is_sqlite:
            async with self.reading() as connection:
                await connection.exec_driver_sql("SELECT 1")
            return
        async with self._connected(DEADLINE_SECONDS) as connection:
            if await _only_reads(connection):
                raise ConnectionError(_ONLY_READS)

    async def close(self) -> None:
        """Close every connection, without waiting for the server."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._deadlines is not None:
            await self._deadlines.close()
        await self._engine.dispose()
        # It comes last, because it would end the locks of the connections above.
        if self._version is not None:
            self._version.close()
            self._version = None

    @asynccontextmanager
    async def _connected(self, seconds: float) -> AsyncIterator[AsyncConnection]:
        """Give the block a connection of the pool; it ends within ``seconds`` on PostgreSQL. Raises Unavailable."""
        if self._deadlines is None:
            with self._errors.translating(), spending("db"):
                async with self._engine.connect() as connection:
                    yield connection
            return
        with self._errors.translating(), spending("db"):
            try:
                async with self._deadlines.question(seconds) as question, self._engine.connect() as connection:
                    await _attach(question, connection)
                    yield connection
            except Exception as error:
                if is_down(error):
                    self._deadlines.doubt()
                raise

    async def _probe(self, question: Question) -> str | None:
        try:
            async with self._single_engine.connect() as connection:
                await _attach(question, connection)
                return _ONLY_READS if await _only_reads(connection) else None
        except (OSError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            # A server whose connections are all in use answers those who have one, and so do we if we can open no more.
            # Without one, each question would try in vain to connect, for as long as its deadline on a busy machine.
            # Any other refusal of the statement is an answer, too.
            crowded = sqlstate(error) == TOO_MANY_CONNECTIONS or getattr(error, "errno", None) in NO_DESCRIPTOR
            if not is_down(error) or (crowded and any(not opened.is_closed() for opened in self._opened)):
                return None
            return str(error) or type(error).__name__

    def _note_opened(self, connection: Any, _record: object) -> None:
        self._opened.add(connection.driver_connection)

    async def _empty_pool(self) -> None:
        # The server that answers next may be another one, and an old connection may lead nowhere.
        await self._engine.dispose()


def insert(transaction: Transaction, table: Table) -> Insert:
    """Return an INSERT that can have ON CONFLICT, which SQLAlchemy keeps in one module for each database.

    The row gets an id that no row of its table had before.
    """
    if transaction.dialect.name != "sqlite":
        return cast("Insert", postgresql_insert(table))
    statement = sqlite_insert(table)
    return statement if table.autoincrement_column is None else statement.values(id=next_id(table))


def is_sqlite(url: str) -> bool:
    """Return whether a URL as people write it is that of an SQLite file."""
    return url.startswith("sqlite:")


def async_url(url: str) -> str:
    """Return a URL as people write it (``sqlite:///PATH``, ``postgresql://…``) with the driver's name added."""
    for plain, driver in (
        ("sqlite:", "sqlite+aiosqlite:"),
        ("postgresql:", "postgresql+asyncpg:"),
        ("postgres:", "postgresql+asyncpg:"),
    ):
        if url.startswith(plain):
            return driver + url.removeprefix(plain)
    return url


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        # This comes first, because the other pragmas may have to wait as well.
        f"busy_timeout={_SQLITE_BUSY_SECONDS * 1000}",
        "journal_mode=WAL",
        # FULL: a push that was answered 201 survives a power cut, not only a killed process.
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    connection.isolation_level = None


def _encode(value: object) -> str:
    return str(value) if isinstance(value, Encoded) else json.dumps(value)


def _begin_sqlite(connection: Connection) -> None:
    # A deferred BEGIN that reads first and writes later fails if another connection has written in between.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _release_lock(connection: Any, _record: object, _error: object) -> None:
    # A cancelled statement keeps SQLite's write lock until Python collects the connection, even if that is closed.
    # The driver has no public way to queue a rollback from code that cannot await.
    driver = connection.driver_connection
    driver._tx.put_nowait((asyncio.get_running_loop().create_future(), driver._conn.rollback))


def _renew_closed(connection: Any, _record: object, _proxy: object) -> None:
    # The pool notices a closed connection only if a statement fails; the driver knows it before, at no cost.
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


async def _driver(connection: AsyncConnection) -> asyncpg.Connection:
    return (await connection.get_raw_connection()).driver_connection


async def _attach(question: Question, connection: AsyncConnection) -> None:
    question.connection = await _driver(connection)
    if question.dropped:
        # Before Python 3.12, the pool's `asyncio.wait_for` may return a connection although the task was cancelled.
        raise TimeoutError


async def _only_reads(connection: AsyncConnection) -> bool:
    async with connection.begin():
        return (await connection.exec_driver_sql(_PROBE)).scalar_one() is None


def _drop(connection: Any, _record: object) -> None:
    # The pool's own way to close a connection waits for the server.
    connection.driver_connection.terminate()
