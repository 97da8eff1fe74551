"""Bring the schema up to date, and check whether this release can work with the existing one.

Steps only add, so that a release runs on the schema of the next release too. Workers of both run during an upgrade and
after a rollback. A step that removes something an older release uses has a line ``oldest = "REVISION"``. Releases that
do not know that revision refuse the database. The database keeps that revision for releases that do not have the step.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, delete, func, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from .deadline import JOB_SECONDS
from .engine import Database
from .indexes import create_missing
from .tables import setting

# The number of the advisory lock that means "the registry's schema is being changed"; any constant would do.
_POSTGRESQL_LOCK = 0x72656769
# A step waits for a table that is in use, for example by a dump, and every request queues behind the step. So it
# gives up soon, and tries again a little later.
_POSTGRESQL_LOCK_TIMEOUT = "500ms"
_ATTEMPTS = 4
_ATTEMPT_SECONDS = 1.0
_LOCK_NOT_AVAILABLE = "55P03"
# In `setting`: the oldest revision whose release can work with this schema.
_OLDEST = "oldest_schema"

log = logging.getLogger(__name__)


class SchemaError(Exception):
    """This release cannot work with the database's schema; the text is one line that says what to do."""


async def migrate(url: str) -> bool:
    """Bring the database at ``url`` to the newest schema, in one transaction, and then make the missing indexes.

    Make SQLite's folder if needed.

    Return False, with nothing done, if a newer release made the schema and this release works with it. Several
    processes may call this at once: one migrates, the others wait for it. Raises Unavailable if the database is down.
    Raises SchemaError if this release cannot work with the schema, or if the tables stay in use.
    """
    database = Database(url)
    if database.is_sqlite:
        Path(database.url.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        is_ours = await _take_steps(database)
        if is_ours:
            await create_missing(database)
        return is_ours
    finally:
        await database.close()


async def _take_steps(database: Database) -> bool:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            # On SQLite the transaction itself is the lock, because it begins by taking the write lock.
            async with database.transaction(JOB_SECONDS) as transaction:
                if not database.is_sqlite:
                    await transaction.execute(select(func.pg_advisory_xact_lock(_POSTGRESQL_LOCK)))
                    await transaction.execute(text(f"SET LOCAL lock_timeout = '{_POSTGRESQL_LOCK_TIMEOUT}'"))
                return await transaction.run_sync(_upgrade)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            if attempt == _ATTEMPTS:
                raise SchemaError(
                    "another program, such as a dump, keeps the database's tables in use; nothing was changed: run "
                    "this again when it has ended"
                ) from error
        await asyncio.sleep(_ATTEMPT_SECONDS)
    raise AssertionError("unreachable")


async def require_current(url: str) -> None:
    """Raise SchemaError unless this release can work with the database at ``url``, Unavailable if it is down."""
    database = Database(url)
    steps = ScriptDirectory.from_config(_config())
    try:
        # A connection would make an empty file.
        if database.is_sqlite and not Path(database.url.database or "").exists():
            revision, ahead = None, False
        else:
            async with database.reading() as transaction:
                revision = await transaction.run_sync(_revision)
                ahead = await transaction.run_sync(_is_ahead, steps)
    finally:
        await database.close()
    newest = steps.get_current_head()
    if revision == newest or ahead:
        return
    found = f"is at schema {revision}" if revision else "has no tables yet"
    raise SchemaError(f"the database {found}; this version needs {newest}: run `python -m app migrate` first")


def _upgrade(connection: Connection) -> bool:
    config = _config()
    steps = ScriptDirectory.from_config(config)
    if _is_ahead(connection, steps):
        log.info("the database is at schema %s of a newer release; this release works with it", _revision(connection))
        return False
    if _revision(connection) != steps.get_current_head():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    _note_oldest(connection, steps)
    return True


def _is_ahead(connection: Connection, steps: ScriptDirectory) -> bool:
    """Return whether a newer release made the schema; raises SchemaError if this release cannot work with it."""
    revision, known = _revision(connection), {step.revision for step in steps.walk_revisions()}
    if revision is None or revision in known:
        return False
    # The database may be another program's. Without our note in it, nothing is assumed.
    oldest = _noted_oldest(connection) if inspect(connection).has_table(setting.name) else None
    if oldest in known:
        return True
    raise SchemaError(
        f"the database is at schema {revision}, which this version does not know (its newest is "
        f"{steps.get_current_head()}) and cannot work with: start a release that knows {oldest or revision}"
    )


def _note_oldest(connection: Connection, steps: ScriptDirectory) -> None:
    said = (getattr(step.module, "oldest", None) for step in steps.walk_revisions())
    oldest = next((revision for revision in said if revision is not None), steps.get_base())
    if _noted_oldest(connection) != oldest:
        connection.execute(delete(setting).where(setting.c.name == _OLDEST))
        connection.execute(insert(setting).values(name=_OLDEST, value=oldest))


def _noted_oldest(connection: Connection) -> str | None:
    found: str | None = connection.execute(select(setting.c.value).where(setting.c.name == _OLDEST)).scalar()
    return found


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "app.database:migrations")
    return config
