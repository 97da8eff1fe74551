"""Migrating a large database beside a writer that never waits long, and filling in the old rows afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

from app.database import Database
from app.database.backfills import Backfills
from app.database.migrate import migrate

from .rows import rows

# Rows of the audit log, in short and as a large installation has them.
ENTRIES = (50_000, 5_000_000)
# Entries for each manifest and tag, which is a row to be charged. That costs more than to fill in a name.
_FOR_EACH_TAG = 50
_SERIES = {
    "postgresql": "generate_series(1, {}) AS s(i)",
    "sqlite": "(WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c WHERE i < {}) SELECT i FROM c)",
}
_NOTE = (
    "INSERT INTO audit (at, actor, address, operation, resource_type, resource, project_id)"
    " VALUES (2, 'person:mari', '', 'push', 'artifact', 'new', 1)"
)
# What a request waits at most for a lock; a busy machine takes a part of it.
_LONGEST_SECONDS = 1.0


class Writer:
    """Writes, as a worker of the older release does, as fast as it can; ``longest`` is the longest wait in seconds."""

    def __init__(self, url: str) -> None:
        plain = url.replace("postgresql:", "postgresql+psycopg:")
        self._engine = create_engine(plain, connect_args={"timeout": 60} if plain.startswith("sqlite") else {})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.longest, self.written = 0.0, 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._engine.dispose()

    def _write(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            with self._engine.begin() as connection:
                connection.execute(text(_NOTE))
                connection.execute(text("UPDATE project SET used_bytes = used_bytes + 1 WHERE id = 1"))
            self.longest = max(self.longest, time.monotonic() - began)
            self.written += 1
            time.sleep(0.01)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("entries", [ENTRIES[0], pytest.param(ENTRIES[1], marks=pytest.mark.long)])
async def test_a_writer_never_waits_long(database_url: str, entries: int) -> None:
    database = Database(database_url)
    async with database.transaction(seconds=600) as transaction:
        await transaction.run_sync(_schema_0002)
        for line in _filled(entries, is_sqlite=database.is_sqlite):
            await transaction.execute(text(line))
    with Writer(database_url) as writer:
        await migrate(database_url)
        during_steps = writer.longest
        await Backfills(database).work()
    assert writer.written > 10
    print(f"longest waits: {during_steps:.2f} s for the schema, {writer.longest:.2f} s in all")
    # SQLite has one writer, and makes an index at once: about a second for a million rows, longer on a busy machine.
    allowed = _LONGEST_SECONDS * max(1, 3 * entries / 1_000_000) if database.is_sqlite else _LONGEST_SECONDS
    assert during_steps < allowed, "the steps of the schema, and the indexes"
    assert writer.longest < allowed, "the back-fill"
    given = "SELECT DISTINCT coalesce(project_id, 0), project_name FROM audit WHERE resource <> 'new' ORDER BY 1"
    assert await rows(database, given) == [(0, ""), (1, "lab"), (2, "gone"), (3, "")]
    charged = "(SELECT sum(charged_bytes) FROM manifest) - (SELECT sum(charged_bytes) FROM tag)"
    assert await rows(database, f"SELECT used_bytes - {charged} FROM project") == [(writer.written,)]
    lacking = "SELECT count(*) FROM audit WHERE resource = 'new' AND project_name <> 'lab'"
    await Backfills(database).work()
    assert await rows(database, lacking) == [(0,)], "what the older release wrote meanwhile"
    await database.close()


async def test_any_worker_resumes_and_only_one_works(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(database_url)
    database, other = Database(database_url), Database(database_url)
    async with database.transaction() as transaction:
        await transaction.execute(
            text("INSERT INTO project (id, name, public, settings, created_at) VALUES (1, 'lab', true, '{}', 1)")
        )
        for _ in range(2200):
            await transaction.execute(text(_NOTE))
    monkeypatch.setattr("app.database.backfills.Backfills._tell", _once(lambda: RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        await Backfills(database).work()
    named = "SELECT count(*) FROM audit WHERE project_name = 'lab'"
    assert await rows(database, named) == [(1000,)]
    await asyncio.gather(Backfills(database).work(), Backfills(other).work())
    await Backfills(database).work()
    assert await rows(database, named) == [(2200,)]
    await database.close()
    await other.close()


def _once(make: Callable[[], Exception]) -> Any:
    """Raise an exception the first time, and nothing later."""
    raised: list[bool] = []

    def tell(*_: object) -> None:
        if not raised:
            raised.append(True)
            raise make()

    return tell


def _schema_0002(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "app.database:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "0002")


def _filled(entries: int, *, is_sqlite: bool) -> list[str]:
    """Spell a log in which a third is of a project that is there, of one that was deleted, and of one nobody knows.

    The project has manifests with a tag each.
    """
    spelled = _SERIES["sqlite" if is_sqlite else "postgresql"]
    series, few = spelled.format(entries), spelled.format(entries // _FOR_EACH_TAG)
    project = "INSERT INTO project (id, name, public, settings, created_at) VALUES (1, 'lab', true, '{}', 1)"
    columns = "INSERT INTO audit (at, actor, address, operation, resource_type, resource, project_id)"
    of = "CASE WHEN i % 4 = 3 THEN NULL ELSE i % 4 + 1 END"
    log = f"{columns} SELECT i, 'person:mari', '', 'push', 'artifact', 'app', {of} FROM {series}"
    deletion = f"{columns} VALUES (1, 'person:mari', '', 'delete', 'project', 'gone', 2)"
    of_manifest = "manifest (repository_id, digest, media_type, annotations, payload, size, created_at, pulled_at)"
    payload = f"CAST('payload' AS {'blob' if is_sqlite else 'bytea'})"
    manifests = f"INSERT INTO {of_manifest} SELECT 1, 'sha256:' || i, '', '{{}}', {payload}, 7, i, i FROM {few}"
    of_tag = "tag (repository_id, name, digest, updated_at, checked_at)"
    tags = f"INSERT INTO {of_tag} SELECT 1, 'v' || i, 'sha256:' || i, i, i FROM {few}"
    return [
        project,
        log,
        deletion,
        "INSERT INTO repository (id, project_id, name, created_at) VALUES (1, 1, 'app', 1)",
        manifests,
        tags,
    ]
