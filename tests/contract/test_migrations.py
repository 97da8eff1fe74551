"""The migrations lead to what `tables.py` says, on both databases, whoever runs them and however often."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from app.database import Database, projects
from app.database.backfills import Backfills
from app.database.migrate import SchemaError, migrate, require_current
from app.database.tables import metadata
from app.oci.errors import Unavailable
from tests.parts.postgres import Postgres
from tests.parts.process import ROOT, python

from .rows import execute, look

_MIGRATE = """
import asyncio, sys
from app.database.backfills import Backfills
from app.database.migrate import migrate
print("ready", flush=True)
sys.stdin.readline()
asyncio.run(migrate(sys.argv[1]))
"""
_SQLITE_SCHEMA = "SELECT type, name, sql FROM sqlite_master WHERE name NOT IN ('alembic_version') ORDER BY 1, 2"
_POSTGRESQL_SCHEMA = """
SELECT 'column', table_name || '.' || column_name,
       concat_ws(' ', data_type, collation_name, is_nullable, column_default)
  FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
UNION ALL
SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass
ORDER BY 1, 2
"""


async def schema(url: str) -> list[tuple[Any, ...]]:
    """Read back every column with its type and collation, every index and every constraint."""
    return await look(url, _SQLITE_SCHEMA if url.startswith("sqlite") else _POSTGRESQL_SCHEMA)


async def test_migrated_from_empty_is_what_the_tables_say(database_url: str) -> None:
    await migrate(database_url)
    migrated = await schema(database_url)

    def difference(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return list(compare_metadata(context, metadata))

    database = Database(database_url)
    async with database.transaction() as transaction:
        assert await transaction.run_sync(difference) == []
        await transaction.run_sync(metadata.drop_all)
        await transaction.run_sync(metadata.create_all)
    await database.close()
    assert {row[1] for row in migrated if row[0] == "index"} >= {"ix_link_digest", "ix_review_review_at"}
    assert normal(migrated) == normal(await schema(database_url))


def normal(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Leave out what SQLite keeps as it was written: white space, quotes, and the order of a table's constraints."""
    return [(*row[:2], sorted("".join(str(row[2]).replace('"', "").split()).strip("()").split(","))) for row in rows]


async def test_a_server_may_be_reached_by_its_socket(postgres: Postgres) -> None:
    """Every connection takes the URL as SQLAlchemy reads it: asyncpg alone would look for a host without a name."""
    by_port, by_socket = postgres.database(), postgres.database()
    await migrate(by_port)
    assert await migrate(postgres.through_socket(by_socket))
    assert await schema(by_socket) == await schema(by_port)


@pytest.mark.parametrize("query", ["?ssl=disable", "?ssl=prefer&command_timeout=60"])
async def test_the_url_may_say_how_to_connect(postgres: Postgres, query: str) -> None:
    """All connections follow it, that of the indexes too."""
    url = postgres.database()
    await migrate(url + query)
    await require_current(url + query)
    plain = postgres.database()
    await migrate(plain)
    assert await schema(url) == await schema(plain)


async def test_a_second_run_changes_nothing(database_url: str) -> None:
    await migrate(database_url)
    await execute(
        database_url, "INSERT INTO garbage (object_key, remove_at) VALUES ('0123456789abcdef0123456789abcdef', 1)"
    )
    before = await schema(database_url)
    await migrate(database_url)
    await require_current(database_url)
    assert await schema(database_url) == before
    database = Database(database_url)
    async with database.reading() as transaction:
        assert (await transaction.execute(text("SELECT count(*) FROM garbage"))).scalar() == 1
    await database.close()


async def test_what_was_noted_before_is_given_the_name_of_its_project(database_url: str) -> None:
    noted = [
        ("create", "project", "old", 5), ("push", "artifact", "old/app:1", 5), ("create", "member", "x", 5),
        ("create", "member", "mari", 7), ("login", "user", "mari", None), ("create", "label", "lost", 9),
    ]  # fmt: skip
    database = Database(database_url)
    async with database.transaction() as transaction:
        await transaction.run_sync(before, "0003")
        project = "INSERT INTO project (id, name, public, settings, created_at) VALUES (7, 'lab', :public, '{}', 1)"
        await transaction.execute(text(project), {"public": False})
        for at, values in enumerate(noted):
            entry = (
                "INSERT INTO audit (at, actor, address, operation, resource_type, resource, project_id)"
                " VALUES (:at, '', '', :operation, :kind, :resource, :project)"
            )
            names = ("at", "operation", "kind", "resource", "project")
            await transaction.execute(text(entry), dict(zip(names, (at, *values), strict=True)))
    await migrate(database_url)
    await Backfills(database).work()
    async with database.reading() as transaction:
        rows = await transaction.execute(text("SELECT project_name, times FROM audit ORDER BY at"))
        assert [tuple(row) for row in rows] == [("old", 1)] * 3 + [("lab", 1), ("", 1), ("", 1)]
    await database.close()


async def test_only_administrators_private_caches_go_on_with_the_configured_account(database_url: str) -> None:
    database = Database(database_url)
    async with database.transaction() as transaction:
        await transaction.run_sync(before, "0005")
        for number, is_admin in ((1, True), (2, False)):
            account = (
                "INSERT INTO account (id, username, is_admin, disabled, created_at) VALUES (:id, :name, :is, :no, 1)"
            )
            await transaction.execute(
                text(account), {"id": number, "name": f"person {number}", "is": is_admin, "no": False}
            )
        for number, owner in ((1, 1), (2, 2), (3, None)):
            project = (
                "INSERT INTO project (id, name, public, upstream, settings, created_at, owner_id)"
                " VALUES (:id, :name, :public, 'docker.io', '{}', 1, :owner)"
            )
            row = {"id": number, "name": f"cache-{number}", "public": False, "owner": owner}
            await transaction.execute(text(project), row)
    await migrate(database_url)
    may = [(await database.read(projects.upstream_account, number))[1] for number in (1, 2, 3)]
    assert may == [True, False, False]
    await database.close()


def before(connection: Connection, revision: str) -> None:
    """Make the schema as it was before a revision."""
    config = Config()
    config.set_main_option("script_location", "app.database:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, f"{int(revision) - 1:04}")


async def test_several_processes_at_once(database_url: str) -> None:
    command = python("-c", _MIGRATE, database_url)
    processes = [
        await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT) for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * 4, b"\n".join(error for _, error in answers).decode()
    await require_current(database_url)


async def test_an_empty_database_is_told_apart(database_url: str) -> None:
    with pytest.raises(SchemaError, match=r"has no tables yet.*run `python -m app migrate`"):
        await require_current(database_url)


async def test_looking_at_a_missing_file_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "registry.sqlite"
    with pytest.raises(SchemaError, match="has no tables yet"):
        await require_current(f"sqlite:///{path}")
    assert not path.parent.exists()
    await migrate(f"sqlite:///{path}")
    await require_current(f"sqlite:///{path}")


async def test_an_older_schema_is_told_apart(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(database_url)
    monkeypatch.setattr("alembic.script.ScriptDirectory.get_current_head", lambda _: "of_the_future")
    with pytest.raises(SchemaError, match=r"is at schema \d{4}; this version needs of_the_future"):
        await require_current(database_url)


async def test_a_failing_step_leaves_nothing_behind(database_url: str) -> None:
    # The last table of the first step is there already, so that the step fails when most of it is done.
    await execute(database_url, "CREATE TABLE tag (name text)")
    with pytest.raises(Exception, match="tag"):
        await migrate(database_url)
    assert {row[1] for row in await schema_of_anything(database_url)} == {"tag"}


async def schema_of_anything(url: str) -> list[tuple[Any, ...]]:
    """List the tables, whether or not a migration has ever run."""
    if url.startswith("sqlite"):
        return await look(url, "SELECT type, name FROM sqlite_master WHERE type = 'table'")
    return await look(url, "SELECT 'table', tablename FROM pg_tables WHERE schemaname = 'public'")


@pytest.mark.parametrize("step", [migrate, require_current])
async def test_nobody_answers(step: Any) -> None:
    with pytest.raises(Unavailable, match="database is down"):
        await step("postgresql://postgres@127.0.0.1:1/registry")
