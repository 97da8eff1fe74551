"""Brings the schema up to date, and tells whether it is."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

from .engine import Database

# The number of an advisory lock that means "the registry's schema is being changed"; any constant does.
_POSTGRESQL_LOCK = 0x72656769


class SchemaError(Exception):
    """The database's schema is not the one this version works with; one line that says what to do."""


async def migrate(url: str) -> None:
    """Take the database at ``url`` to the newest schema, in one transaction; makes SQLite's folder if need be.

    Several processes may do this at once: one does the work, the others wait for it. Raises Unavailable when the
    database is away, SchemaError when a newer version has been at work in it.
    """
    database = Database(url)
    if database.is_sqlite:
        Path(database.url.database or "").absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        # On SQLite the transaction itself is the lock: it begins as a writing one.
        async with database.transaction() as transaction:
            if not database.is_sqlite:
                await transaction.execute(select(func.pg_advisory_xact_lock(_POSTGRESQL_LOCK)))
            await transaction.run_sync(_upgrade)
    finally:
        await database.close()


async def require_current(url: str) -> None:
    """Raise SchemaError unless the database at ``url`` has this version's schema, Unavailable when it is away."""
    database = Database(url)
    try:
        # Connecting would make an empty file.
        if database.is_sqlite and not Path(database.url.database or "").exists():
            revision = None
        else:
            async with database.reading() as transaction:
                revision = await transaction.run_sync(_revision)
    finally:
        await database.close()
    steps = ScriptDirectory.from_config(_config())
    newest = steps.get_current_head()
    if revision == newest:
        return
    _refuse_newer(revision, steps)
    found = f"is at schema {revision}" if revision else "has no tables yet"
    raise SchemaError(f"the database {found}, this version works with {newest}: run `python -m app migrate` first")


def _upgrade(connection: Connection) -> None:
    config = _config()
    _refuse_newer(_revision(connection), ScriptDirectory.from_config(config))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(revision: str | None, steps: ScriptDirectory) -> None:
    known = {step.revision for step in steps.walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaError(
            f"the database is at schema {revision}, which this version does not know (its newest is "
            f"{steps.get_current_head()}): a newer version has been at work, start that one"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "app.database:migrations")
    return config
