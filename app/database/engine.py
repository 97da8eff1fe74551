"""The connection to PostgreSQL or SQLite: transactions, point reads, and what happens when the database is away.

Three ways in. `Database.transaction` is the ordinary one, and `Database.read` answers one query of this room that only
reads. `Database.point` answers the one-row questions of the hot path: on SQLite straight on the event loop, because a
primary-key read from its page cache takes less time than handing it to a thread; on PostgreSQL as a prepared statement
of the driver.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import asyncpg
from sqlalchemy import Connection, Select, Table, event
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.dialects.sqlite.dml import Insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.oci.errors import Unavailable

from .ids import next_id
from .snapshots import Snapshots

Transaction = AsyncConnection
T = TypeVar("T")
P = ParamSpec("P")

# Long enough for the writers of one host to queue on SQLite's single write lock, short enough to answer a client.
_SQLITE_BUSY_SECONDS = 20
_POOL_SIZE = 8
# For how long point reads spare a PostgreSQL that could not be reached.
_AWAY_SECONDS = 1.0
_MOST_ATTEMPTS = 5
_RETRY_AFTER = {"Retry-After": "5"}

# SQLSTATEs, or the first two characters of one, that say something of the server and nothing of our statement:
# connections, who may connect, which database, resources, the operator's intervention. Source: PostgreSQL, Appendix A.
_CONNECTION_LOST, _DEADLOCK = "08006", "40P01"
_AWAY = {"08", "28", "3D", "53", "57P01", "57P02", "57P03"} | {
    f"sqlite {code}"
    for code in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    )
}
_FULL = {"53100", f"sqlite {sqlite3.SQLITE_FULL}"}
# A host that resolves to several addresses, none of which answers, is a bare OSError.
_AWAY_ERRORS = (PoolTimeout, ConnectionError, TimeoutError, socket.gaierror)


class PointQuery:
    """A SELECT of at most one row, compiled once per database; parameters go by position, in order of appearance."""

    def __init__(self, statement: Select[Any], *, has_snapshots: bool = True) -> None:
        """``has_snapshots``: whether an answer of the last minute will do while PostgreSQL is away."""
        self._statement = statement
        self.has_snapshots = has_snapshots
        self._compiled: dict[str, str] = {}

    def text(self, engine: AsyncEngine) -> str:
        """Spell the statement for the driver of ``engine``."""
        name = engine.dialect.name
        if name not in self._compiled:
            self._compiled[name] = str(self._statement.compile(dialect=engine.dialect))
        return self._compiled[name]


class Database:
    """One pool per worker; `close` it. Nothing connects before the first use."""

    def __init__(self, url: str, snapshots: Snapshots | None = None) -> None:
        """``snapshots`` answer point reads while PostgreSQL is away; SQLite's file is never elsewhere."""
        self._snapshots = snapshots
        self.url = make_url(async_url(url))
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._reader: sqlite3.Connection | None = None
        self._away_until = 0.0
        if self.is_sqlite:
            self._engine = create_async_engine(self.url, pool_size=_POOL_SIZE, max_overflow=0, hide_parameters=True)
            event.listen(self._engine.sync_engine, "connect", _configure_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
            event.listen(self._engine.sync_engine, "invalidate", _let_go_of_lock)
        else:
            self._engine = create_async_engine(
                self.url,
                hide_parameters=True,
                pool_size=_POOL_SIZE,
                max_overflow=_POOL_SIZE,
                pool_timeout=5,
                connect_args={"timeout": 5},
            )
            event.listen(self._engine.sync_engine, "checkout", _renew_closed)

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run one transaction: committed at the end of the block, rolled back when it raises.

        Raises Unavailable (503, ``Retry-After``) when the database is away, busy beyond reason or out of disk.
        """
        with _away_is_unavailable():
            async with self._engine.begin() as connection:
                yield connection

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction, again from the start where another one got in between.

        A foreign key that fails says so (the blob being linked was removed a moment ago), and a deadlock that
        PostgreSQL has ended by failing this one. Raises Unavailable.
        """
        for attempt in range(_MOST_ATTEMPTS):
            try:
                async with self.transaction() as transaction:
                    return await work(transaction)
            except DBAPIError as error:
                in_between = isinstance(error, IntegrityError) or _sqlstate(error) == _DEADLOCK
                if attempt == _MOST_ATTEMPTS - 1 or not in_between:
                    raise
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """Run statements that only read; never waits for a writer. Raises Unavailable as `transaction` does."""
        with _away_is_unavailable():
            async with self._engine.connect() as connection:
                yield await connection.execution_options(reading=True)

    async def read(
        self, query: Callable[Concatenate[Transaction, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Answer one query of this room that only reads, by itself. Raises Unavailable as `transaction` does."""
        async with self.reading() as transaction:
            return await query(transaction, *args, **kwargs)

    async def point(self, query: PointQuery, *parameters: object) -> Sequence[Any] | None:
        """Answer a one-row question outside any transaction; None where there is no row. Raises Unavailable."""
        if self.is_sqlite:
            try:
                return self._point_now(query, *parameters)
            except sqlite3.Error as error:
                if (unavailable := _as_unavailable(error)) is not error:
                    raise unavailable from error
                raise
        text = query.text(self._engine)
        snapshots = self._snapshots if query.has_snapshots else None
        try:
            row = await self._fetch(text, parameters)
        except Unavailable:
            known = await snapshots.recall(text, parameters) if snapshots else None
            if known is None:
                raise
            return known
        if snapshots is not None:
            await snapshots.remember(text, parameters, row)
        return row

    async def _fetch(self, text: str, parameters: tuple[object, ...]) -> Sequence[Any] | None:
        with _away_is_unavailable():
            if time.monotonic() < self._away_until:
                raise ConnectionError("was away a moment ago")
            try:
                async with self._engine.connect() as connection:
                    raw = await connection.get_raw_connection()
                    driver: asyncpg.Connection = raw.driver_connection
                    row: Sequence[Any] | None = await driver.fetchrow(text, *parameters)
                    return row
            except (OSError, TimeoutError):
                # Not every pull waits until the same connection attempt has failed for it as well.
                self._away_until = time.monotonic() + _AWAY_SECONDS
                raise

    def _point_now(self, query: PointQuery, *parameters: object) -> Sequence[Any] | None:
        if self._reader is None:
            path = Path(self.url.database or "").absolute().as_uri()
            self._reader = sqlite3.connect(f"{path}?mode=ro", uri=True, isolation_level=None, timeout=1)
        row: Sequence[Any] | None = self._reader.execute(query.text(self._engine), parameters).fetchone()
        return row

    async def check(self) -> None:
        """Raise Unavailable unless the database answers."""
        async with self.reading() as connection:
            await connection.exec_driver_sql("SELECT 1")

    async def close(self) -> None:
        """Close every connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        await self._engine.dispose()


def insert(transaction: Transaction, table: Table) -> Insert:
    """Begin an INSERT that may say ON CONFLICT: both databases know it, each in a module of its own.

    A row gets an id that no row of its table had before.
    """
    if transaction.dialect.name != "sqlite":
        return cast("Insert", postgresql_insert(table))
    statement = sqlite_insert(table)
    return statement if table.autoincrement_column is None else statement.values(id=next_id(table))


def async_url(url: str) -> str:
    """Name the driver in a URL as people write it (``sqlite:///PATH``, ``postgresql://…``)."""
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
        # First, for the others may have to wait as well.
        f"busy_timeout={_SQLITE_BUSY_SECONDS * 1000}",
        "journal_mode=WAL",
        # FULL: what was answered 201 survives a power cut, not only a killed process.
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    connection.isolation_level = None


def _begin_sqlite(connection: Connection) -> None:
    # A deferred BEGIN that reads first and writes later fails as soon as somebody else has written in between.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _let_go_of_lock(connection: Any, _record: object, _error: object) -> None:
    # A statement that was cancelled in the middle keeps SQLite's write lock, closed or not, until somebody collects
    # the garbage. There is no public way to queue a rollback from code that cannot wait.
    driver = connection.driver_connection
    driver._tx.put_nowait((asyncio.get_running_loop().create_future(), driver._conn.rollback))


def _renew_closed(connection: Any, _record: object, _proxy: object) -> None:
    # The pool notices an ended connection by a statement that fails; the driver knows beforehand, at no cost.
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


@contextmanager
def _away_is_unavailable() -> Iterator[None]:
    """Turn what a driver raises when its database is away into `Unavailable`; other errors stay what they are."""
    try:
        yield
    except Exception as error:
        if (unavailable := _as_unavailable(error)) is not error:
            raise unavailable from error
        raise


def _as_unavailable(error: Exception) -> Exception:
    state = _sqlstate(error)
    if state in _FULL:
        return Unavailable("the registry's disk is full; tell its operators", status=507)
    if state in _AWAY or state[:2] in _AWAY or isinstance(error, _AWAY_ERRORS) or type(error) is OSError:
        return Unavailable("the registry's database is away, try again in a moment", headers=_RETRY_AFTER)
    return error


def _sqlstate(error: BaseException) -> str:
    """Read the code that a database gave its refusal: PostgreSQL's SQLSTATE, SQLite's name of it, "" for none."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        # Extended codes, such as SQLITE_IOERR_WRITE, say in their low byte which one they are a case of.
        return f"sqlite {getattr(cause, 'sqlite_errorcode', 0) & 0xFF}"
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    # The server has said that it is going, and the driver waits for the end of the connection; it has no word for that.
    going = isinstance(error, asyncpg.InternalClientError)
    if lost or going or (isinstance(error, asyncpg.InterfaceError) and "connection is closed" in str(error)):
        return _CONNECTION_LOST
    return str(getattr(cause, "sqlstate", None) or "")
