"""The rule that the steps of the schema keep: each only adds, or says whom it leaves out (decision 0022)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from app.database import Database
from tests.parts import next_release
from tests.parts.process import ROOT


async def test_every_step_only_adds_or_says_whom_it_leaves_out(database_url: str) -> None:
    assert await left_out_in_silence(database_url, ROOT / "app/database/migrations") == {}


async def test_a_step_that_takes_away_is_told(database_url: str, tmp_path: Path) -> None:
    folder = next_release.copy(tmp_path / "careless")
    next_release.add_step(folder)
    careless = """
def upgrade() -> None:
    op.drop_column("manifest", "note")
    op.add_column("badge", sa.Column("needed", sa.String(), server_default="x", nullable=False))
    op.create_index("uq_badge_text", "badge", ["text"], unique=True)
"""
    next_release.add_step(folder, careless, revision="9002", after=next_release.REVISION)
    assert await left_out_in_silence(database_url, folder / "app/database/migrations") == {
        "9002": ["badge: unique ['text']", "manifest.note is not what it was"]
    }


async def left_out_in_silence(url: str, migrations: Path) -> dict[str, list[str]]:
    """Take each step by itself; give, by revision, what an older release trips over although no step says so."""
    config = Config()
    config.set_main_option("script_location", str(migrations))
    steps = list(ScriptDirectory.from_config(config).walk_revisions())
    database = Database(url)
    found: dict[str, list[str]] = {}
    before: dict[str, dict[str, Any]] = {}
    if database.is_sqlite:
        Path(database.url.database or "").touch()
    for step in reversed(steps):
        async with database.transaction() as transaction:
            after = await transaction.run_sync(_step(config, step.revision))
        trips = sorted(trip for table in before for trip in _trips(table, before[table], after.get(table, {})))
        if trips and not hasattr(step.module, "oldest"):
            found[step.revision] = trips
        before = after
    await database.close()
    return found


def _step(config: Config, revision: str) -> Callable[[Connection], dict[str, dict[str, Any]]]:
    def take(connection: Connection) -> dict[str, dict[str, Any]]:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        looked = inspect(connection)
        return {table: _shape(looked, table) for table in looked.get_table_names()}

    return take


def _shape(looked: Any, table: str) -> dict[str, Any]:
    """Describe what a statement of an older release may depend on."""
    columns = {
        column["name"]: (str(column["type"]), column["nullable"], column["default"])
        for column in looked.get_columns(table)
    }
    unique = [index["column_names"] for index in looked.get_indexes(table) if index["unique"]]
    rules = {f"unique {names}" for names in unique}
    rules |= {f"unique {rule['column_names']}" for rule in looked.get_unique_constraints(table)}
    rules |= {f"foreign key {rule['constrained_columns']}" for rule in looked.get_foreign_keys(table)}
    rules |= {f"check {rule['sqltext']}" for rule in looked.get_check_constraints(table)}
    return {"columns": columns, "rules": rules}


def _trips(table: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    if not after:
        return [f"{table} is gone"]
    trips = [
        f"{table}.{name} is not what it was"
        for name, column in before["columns"].items()
        if after["columns"].get(name) != column
    ]
    trips += [
        f"{table}.{name} must be given"
        for name, (_, nullable, default) in after["columns"].items()
        if name not in before["columns"] and not nullable and default is None
    ]
    return trips + [f"{table}: {rule}" for rule in after["rules"] - before["rules"]]
