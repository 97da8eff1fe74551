"""Brings the schema up to date, and tells whether this release can work with the one that is there.

Steps only add, so that a release runs on the schema of the next one too: workers of both run during an upgrade, and
after a rollback. A step that takes away what some release used says which releases that leaves out, in a line
``oldest = "REVISION"``: those that do not know that revision refuse the database. What the steps say is kept in the
database, for a release that does not have them.
"""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, delete, func, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from .engine import Database
from .tables import setting

# The number of an advisory lock that means "the registry's schema is being changed"; any constant does.
_POSTGRESQL_LOCK = 0x72656769
# Every request queues behind a step that waits for a table which a dump, say, has been reading for an hour.
_POSTGRESQL_PATIENCE = "2s"
_LOCK_NOT_AVAILABLE = "55P03"
# In `setting`: the oldest revision whose release can work with this schema.
_OLDEST = "oldest_schema"

log = logging.getLogger(__name__)


class SchemaError(Exception):
    """The database's schema is not one this release works with; one line that says what to do."""


async def migrate(url: str) -> bool:
    """Take the database at ``url`` to the newest schema, in one transaction; makes SQLite's folder if need be.

    Answers False, with nothing done, where a newer release has been at work and this one works with what it made.
    Several processes may do this at once: one does the work, the others wait for it. Raises Unavailable when the
    database is away, SchemaError where this release cannot work with it or its tables are in use for long.
    """
    database = Database(url)
    if database.is_sqlite:
        Path(database.url.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        # On SQLite the transaction itself is the lock: it begins as a writing one.
        async with database.transaction() as transaction:
            if not database.is_sqlite:
                await transaction.execute(select(func.pg_advisory_xact_lock(_POSTGRESQL_LOCK)))
                await transaction.execute(text(f"SET LOCAL lock_timeout = '{_POSTGRESQL_PATIENCE}'"))
            return await transaction.run_sync(_upgrade)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise SchemaError(
            "the database's tables are in use by something that takes long, such as a dump; nothing was changed: "
            "run this again when it has ended"
        ) from error
    finally:
        await database.close()


async def require_current(url: str) -> None:
    """Raise SchemaError unless this release can work with the database at ``url``, Unavailable when it is away."""
    database = Database(url)
    steps = ScriptDirectory.from_config(_config())
    try:
        # Connecting would make an empty file.
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
    raise SchemaError(f"the database {found}, this version works with {newest}: run `python -m app migrate` first")


def _upgrade(connection: Connection) -> bool:
    config = _config()
    steps = ScriptDirectory.from_config(config)
    if _is_ahead(connection, steps):
        log.info("the database is at schema %s of a newer release, this one works with it", _revision(connection))
        return False
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    _note_oldest(connection, steps)
    return True


def _is_ahead(connection: Connection, steps: ScriptDirectory) -> bool:
    """Say whether a newer release has been at work; raises SchemaError where this one cannot work with what it made."""
    revision, known = _revision(connection), {step.revision for step in steps.walk_revisions()}
    if revision is None or revision in known:
        return False
    # Whose database this is may be a misunderstanding: without our note nothing is assumed.
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
