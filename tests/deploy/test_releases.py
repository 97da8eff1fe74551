"""This release on the schema of the next one, as during an upgrade and after a rollback; and where it must refuse."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import text

from app.database import Database
from app.database.migrate import SchemaError, migrate, require_current
from tests.api.client import Registry, basic, exchange, expect
from tests.contract.rows import execute, look
from tests.images import single
from tests.parts import next_release
from tests.parts.process import ROOT, python
from tests.parts.service import Service

_RIGHTS = [{"resource": "repository", "action": action} for action in ("pull", "push")]


pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/registry.sqlite"
    return str(request.getfixturevalue("postgres").database())


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The next release: one more step, which only adds."""
    folder = next_release.copy(tmp_path / "later")
    next_release.add_step(folder)
    return folder


@pytest.fixture
def latest(tmp_path: Path) -> Path:
    """The one after that, which takes away what the next one has no use for any more, and this one never knew."""
    folder = next_release.copy(tmp_path / "latest")
    next_release.add_step(folder)
    next_release.add_step(
        folder, next_release.CONTRACTS, revision="9002", after=next_release.REVISION, oldest=next_release.REVISION
    )
    return folder


def app(release: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the service in the folder ``release``, on the database at ``url``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        file.write_text(yaml.safe_dump({"data_dir": "data", "database": {"url": url}}))
        line = python("-m", "app", *arguments, "--config", str(file))
        return subprocess.run(line, cwd=release, capture_output=True, text=True, timeout=100, check=False)


def upgraded(release: Path, url: str) -> None:
    done = app(release, url, "migrate")
    assert (done.returncode, done.stdout) == (0, "the database has this release's schema\n"), done.stderr


class Work:
    """What people and robots do all day, through a running service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._admin = Registry(service.host, service.username, service.password)
        self._robots: dict[str, str] = {}
        self._pushed: list[str] = []

    def do(self, project: str) -> None:
        """Make a project, whose robot pushes; pull what was pushed to it and to those before it."""
        self._call("POST", "/projects", {"project_name": project, "metadata": {"public": "false"}}, 201)
        body = {
            "name": "ci", "level": "project", "duration": 30,
            "permissions": [{"kind": "project", "namespace": project, "access": _RIGHTS}],
        }  # fmt: skip
        made = json.loads(self._call("POST", "/robots", body, 201))
        self._robots[made["name"]] = made["secret"]
        Registry(self._service.host, made["name"], made["secret"]).push_image(f"{project}/app", "1", single(project))
        self._pushed.append(project)
        self.check()
        self._admin.push_image(f"{project}/app", "1", single(f"{project} again"))
        expect(self._admin.call("DELETE", f"/v2/{project}/app/manifests/{single(project).digest}"), 202)
        self._admin.push_image(f"{project}/app", "1", single(project))

    def check(self) -> None:
        """Log every robot in, and pull all that it may and the outsider may not."""
        for (name, secret), project in zip(self._robots.items(), self._pushed, strict=True):
            pulled = Registry(self._service.host, name, secret).pull_image(f"{project}/app", "1")
            assert single(project).digest in pulled
            assert Registry(self._service.host).manifest(f"{project}/app", "1").status == 401

    def _call(self, method: str, path: str, body: Any, status: int) -> bytes:
        login = basic(self._service.username, self._service.password)
        headers = {"Authorization": login, "Content-Type": "application/json"}
        answer = exchange(self._service.host, method, f"/api/v2.0{path}", json.dumps(body).encode(), headers)
        return expect(answer, status).body


async def test_a_service_works_on_the_schema_of_the_next_release(
    database_url: str, later: Path, tmp_path: Path
) -> None:
    with Service(tmp_path / "service", database=database_url) as service:
        work = Work(service)
        await asyncio.to_thread(work.do, "before")
        await asyncio.to_thread(upgraded, later, database_url)
        await asyncio.to_thread(work.do, "meanwhile")
        service.restart()
        await asyncio.to_thread(work.do, "after")
        made = app(ROOT, database_url, "admin", "create-project", "by-hand")
        assert made.returncode == 0, made.stderr
        assert await look(database_url, "SELECT version_num FROM alembic_version") == [(next_release.REVISION,)]
        # What the next release wrote is there for it when it comes again.
        assert ("before", "new") in await look(database_url, "SELECT project, text FROM badge")
        assert ("before", "blue") in await look(database_url, "SELECT name, colour FROM project")
        await asyncio.to_thread(upgraded, later, database_url)
        await asyncio.to_thread(work.check)
    assert "Traceback" not in service.log()


async def test_the_command_says_that_nothing_was_changed(database_url: str, later: Path) -> None:
    upgraded(later, database_url)
    said = app(ROOT, database_url, "migrate")
    assert (said.returncode, said.stdout) == (
        0, "the database has the schema of a newer release, which this one works with; nothing was changed\n"
    )  # fmt: skip
    await require_current(database_url)
    assert not await migrate(database_url)


async def test_a_release_that_lacks_what_was_taken_away_refuses(database_url: str, later: Path, latest: Path) -> None:
    upgraded(latest, database_url)
    for arguments in (("migrate",), ("serve",), ("admin", "rotate-keys")):
        refused = app(ROOT, database_url, *arguments)
        assert refused.returncode == 2, arguments
        assert refused.stderr.splitlines()[-1] == (
            f"registry: the database is at schema 9002, which this version does not know (its newest is "
            f"{next_release.head()}) and cannot work with: start a release that knows {next_release.REVISION}"
        )
    works = app(later, database_url, "migrate")
    assert "which this one works with; nothing was changed" in works.stdout, works.stderr
    assert await look(database_url, "SELECT version_num FROM alembic_version") == [("9002",)]


async def test_a_database_from_before_anything_was_noted(database_url: str, later: Path) -> None:
    await migrate(database_url)
    # As release 1.0.0 left it, at 0002.
    await execute(database_url, "DELETE FROM setting WHERE name = 'oldest_schema'")
    await require_current(database_url)
    upgraded(later, database_url)
    assert not await migrate(database_url)


@pytest.mark.parametrize("step", [migrate, require_current])
@pytest.mark.parametrize("taken", ["DELETE FROM setting", "DROP TABLE setting"])
async def test_a_schema_that_nobody_vouches_for_is_refused(database_url: str, step: Any, taken: str) -> None:
    await migrate(database_url)
    await execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    await execute(database_url, taken)
    with pytest.raises(SchemaError, match="at schema 9999, which this version does not know") as caught:
        await step(database_url)
    assert "\n" not in str(caught.value)


async def test_a_step_does_not_wait_for_a_long_dump(postgres: Any, later: Path) -> None:
    url = postgres.database()
    await migrate(url)
    database = Database(url)
    async with database.transaction() as dump:
        # What pg_dump holds on every table until it ends.
        await dump.execute(text("LOCK TABLE manifest IN ACCESS SHARE MODE"))
        refused = await asyncio.to_thread(app, later, url, "migrate")
        assert refused.returncode == 2
        assert "such as a dump, keeps the database's tables in use; nothing was changed" in refused.stderr
    await database.close()
    assert await look(url, "SELECT version_num FROM alembic_version") == [(next_release.head(),)]
    upgraded(later, url)
