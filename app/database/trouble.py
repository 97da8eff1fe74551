"""The errors of a database that is down or full, told apart from the faults of our statements."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from cachetools import TTLCache
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.oci.errors import Unavailable

log = logging.getLogger(__name__)

# In seconds. A kind of failure is logged again if there was none for this long.
_QUIET_SECONDS = 60.0
_MOST_KINDS = 100

_RETRY_AFTER = {"Retry-After": "5"}
# Somebody has to make room first.
_RETRY_FULL_AFTER = {"Retry-After": "60"}

# SQLSTATEs, or their first two characters, that concern the server and not our statement. It refuses connections, the
# log-in or a right, lacks the database or resources, only reads, or its operator intervenes. Source: PostgreSQL,
# Appendix A.
DEADLOCK, TOO_MANY_CONNECTIONS = "40P01", "53300"
_CONNECTION_LOST, _READ_ONLY = "08006", "25006"
_CLOSED, _NO_RIGHT = "55000", "42501"
_DOWN = {"08", "28", "3D", "53", _READ_ONLY, _CLOSED, _NO_RIGHT, "57P01", "57P02", "57P03"} | {
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
NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}
# An OSError is of a connection: refused, timed out, a name that nobody knows, a socket's file that a stopped server has
# removed. All else that the driver says has a SQLSTATE.
_DOWN_ERRORS = (PoolTimeout, OSError)


class DatabaseUnavailable(Unavailable):
    """The database is down, too busy, or full."""

    cause = "database"


class Translator:
    """Raises our errors for those of a driver. It logs each kind once for as long as it goes on."""

    def __init__(self) -> None:
        self._logged: TTLCache[str, bool] = TTLCache(_MOST_KINDS, _QUIET_SECONDS)

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Raise DatabaseUnavailable instead of an error that says the database is down; pass other errors on."""
        try:
            yield
        except Exception as error:
            if (unavailable := as_unavailable(error)) is error:
                raise
            self._log(error)
            raise unavailable from error

    def _log(self, error: Exception) -> None:
        kind = sqlstate(error) or type(error).__name__
        if kind not in self._logged:
            log.warning("a question to the database failed: %s", str(error).partition("\n")[0] or kind)
        self._logged[kind] = True


def down() -> DatabaseUnavailable:
    """Return the 503 of a database that does not answer."""
    return DatabaseUnavailable("the registry's database is down; try again in a moment", headers=_RETRY_AFTER)


def as_unavailable(error: Exception) -> Exception:
    """Return the error for a client: 507 if the disk is full, 503 if the database is down, else ``error`` itself."""
    state = sqlstate(error)
    if state in _FULL:
        return DatabaseUnavailable(
            "the registry's disk is full; tell its operators", status=507, headers=_RETRY_FULL_AFTER
        )
    return down() if is_down(error) else error


def is_down(error: Exception) -> bool:
    """Return whether an error says that the database cannot be used by anybody now."""
    state = sqlstate(error)
    if state in _FULL:
        return False
    return state in _DOWN or state[:2] in _DOWN or isinstance(error, _DOWN_ERRORS)


def sqlstate(error: BaseException) -> str:
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
