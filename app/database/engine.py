"""The connection to PostgreSQL or SQLite: transactions, point reads, and the errors of a database that is down.

There are three ways to use it. `Database.transaction` is the ordinary one. `Database.read` runs one query of this
package that only reads. `Database.point` runs the one-row queries of the hot path. On SQLite it reads on the event
loop, because a primary-key read from the page cache takes less time than the hop to a thread. On PostgreSQL it runs a
prepared statement of the driver.
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
from sqlalchemy import Connection, Dialect, Select, Table, event
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

# Long enough for the writers of one host to queue for SQLite's single write lock, short enough to answer a client.
_SQLITE_BUSY_SECONDS = 20
_POOL_SIZE = 8
# After PostgreSQL could not be reached, point reads do not try it again for this long.
_DOWN_SECONDS = 1.0
_MOST_ATTEMPTS = 5
_RETRY_AFTER = {"Retry-After": "5"}

# SQLSTATEs, or their first two characters, that concern the server and not our statement: connections, log-in, missing
# database, resources, the operator's intervention. Source: PostgreSQL, Appendix A.
_CONNECTION_LOST, _DEADLOCK = "08006", "40P01"
_DOWN = {"08", "28", "3D", "53", "57P01", "57P02", "57P03"} | {
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
# If a host has several addresses and none of them answers, the error is a bare OSError.
_DOWN_ERRORS = (PoolTimeout, ConnectionError, TimeoutError, socket.gaierror)


class PointQuery:
    """A SELECT of at most one row, compiled once per database; its parameters are passed in order of appearance."""

    def __init__(self, statement: Select[Any], *, has_snapshots: bool = True) -> None:
        """``has_snapshots``: whether an answer of the last minute may be used while PostgreSQL is down."""
        self._statement = statement
        self.has_snapshots = has_snapshots
        self._compiled: dict[str, str] = {}

    def text(self, engine: AsyncEngine) -> str:
        """Return the statement's SQL for the driver of ``engine``."""
        name = engine.dialect.name
        if name not in self._compiled:
            self._compiled[name] = str(self._statement.compile(dialect=engine.dialect))
        return self._compiled[name]


class Database:
    """One pool of connections per worker; the owner calls `close`. Nothing connects before the first use."""

    def __init__(self, url: str, snapshots: Snapshots | None = None) -> None:
        """``snapshots`` answer point reads while PostgreSQL is down; SQLite's file needs none."""
        self._snapshots = snapshots
        self.url = make_url(async_url(url))
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._reader: sqlite3.Connection | None = None
        self._down_until = 0.0
        if self.is_sqlite:
            self._engine = create_async_engine(self.url, pool_size=_POOL_SIZE, max_overflow=0, hide_parameters=True)
            event.listen(self._engine.sync_engine, "connect", _configure_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
            event.listen(self._engine.sync_engine, "invalidate", _release_lock)
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

    @property
    def dialect(self) -> Dialect:
        """The database's way to spell statements."""
        return self._engine.dialect

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run one transaction; commit it at the end of the block, roll it back if the block raises.

        Raises Unavailable: 503 with ``Retry-After`` if the database is down or too busy, 507 if its disk is full.
        """
        with _down_is_unavailable():
            async with self._engine.begin() as connection:
                yield connection

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction, and again from the start if another transaction interfered.

        A failed foreign key is one sign of that: the blob to be linked was removed a moment ago. The other is a
        deadlock that PostgreSQL ended by failing this transaction. Raises Unavailable.
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
        """Run statements that only read, without waiting for writers; raises Unavailable as `transaction` does."""
        with _down_is_unavailable():
            async with self._engine.connect() as connection:
                yield await connection.execution_options(reading=True)

    async def read(
        self, query: Callable[Concatenate[Transaction, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run one query of this package that only reads; raises Unavailable as `transaction` does."""
        async with self.reading() as transaction:
            return await query(transaction, *args, **kwargs)

    async def point(self, query: PointQuery, *parameters: object) -> Sequence[Any] | None:
        """Return the row of a query outside any transaction, None if there is no row; raises Unavailable."""
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
        with _down_is_unavailable():
            if time.monotonic() < self._down_until:
                raise ConnectionError("was down a moment ago")
            try:
                async with self._engine.connect() as connection:
                    raw = await connection.get_raw_connection()
                    driver: asyncpg.Connection = raw.driver_connection
                    row: Sequence[Any] | None = await driver.fetchrow(text, *parameters)
                    return row
            except (OSError, TimeoutError):
                # Other pulls skip the connection attempt instead of waiting until it has failed for them as well.
                self._down_until = time.monotonic() + _DOWN_SECONDS
                raise

    def _point_now(self, query: PointQuery, *parameters: object) -> Sequence[Any] | None:
        if self._reader is None:
            path = Path(self.url.database or "").absolute().as_uri()
            self._reader = sqlite3.connect(f"{path}?mode=ro", uri=True, isolation_level=None, timeout=1)
        row: Sequence[Any] | None = self._reader.execute(query.text(self._engine), parameters).fetchone()
        return row

    async def check(self) -> None:
        """Raise Unavailable if the database does not answer."""
        async with self.reading() as connection:
            await connection.exec_driver_sql("SELECT 1")

    async def close(self) -> None:
        """Close every connection."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        await self._engine.dispose()


def insert(transaction: Transaction, table: Table) -> Insert:
    """Return an INSERT that can have ON CONFLICT, which SQLAlchemy keeps in one module for each database.

    The row gets an id that no row of its table had before.
    """
    if transaction.dialect.name != "sqlite":
        return cast("Insert", postgresql_insert(table))
    statement = sqlite_insert(table)
    return statement if table.autoincrement_column is None else statement.values(id=next_id(table))


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


@contextmanager
def _down_is_unavailable() -> Iterator[None]:
    """Raise `Unavailable` instead of a driver's error that says the database is down; pass other errors on."""
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
    if state in _DOWN or state[:2] in _DOWN or isinstance(error, _DOWN_ERRORS) or type(error) is OSError:
        return Unavailable("the registry's database is down; try again in a moment", headers=_RETRY_AFTER)
    return error


def _sqlstate(error: BaseException) -> str:
    """Return the code of a database's error: PostgreSQL's SQLSTATE, ``sqlite CODE``, or "" for none."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        # The low byte of an extended code, such as SQLITE_IOERR_WRITE, is the primary code.
        return f"sqlite {getattr(cause, 'sqlite_errorcode', 0) & 0xFF}"
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    # The server has announced its shutdown and the driver waits for the end of the connection. The driver has no error
    # of its own for that.
    going = isinstance(error, asyncpg.InternalClientError)
    if lost or going or (isinstance(error, asyncpg.InterfaceError) and "connection is closed" in str(error)):
        return _CONNECTION_LOST
    return str(getattr(cause, "sqlstate", None) or "")
