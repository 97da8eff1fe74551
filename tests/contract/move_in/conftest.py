"""A Harbor of each release, and a registry on each kind of database to move it into."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.database import Database
from tests.parts.harbor import NEW, OLD, Folder, Harbor
from tests.parts.postgres import Postgres

from .scene import Scene


@pytest.fixture(autouse=True)
def _nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no workers for which a command would have to wait."""
    monkeypatch.setattr("app.moving.LONGEST_SECONDS", 0)


@pytest.fixture
def harbor(kind: str, postgres: Postgres, tmp_path: Path) -> Iterator[Harbor]:
    """The newest release beside SQLite, the oldest beside PostgreSQL."""
    version = NEW if kind == "sqlite" else OLD
    harbor = Harbor(postgres.database(), Folder(tmp_path / "harbor"), version=version)
    yield harbor
    harbor.close()


@pytest.fixture
async def scene(database: Database, migrated_url: str, harbor: Harbor, tmp_path: Path) -> AsyncIterator[Scene]:
    async with Scene.open(database, migrated_url, harbor, tmp_path) as scene:
        yield scene
