"""Short ways to put rows down and to read them back, and to have two transactions meet."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from sqlalchemy import text

from app.database import Database, Transaction, blobs, manifests, projects
from app.oci.digest import Digest
from app.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Manifest, parse_manifest


async def make_project(database: Database, name: str = "physics", *, public: bool = True) -> int:
    """Make a hosting project and give its id."""
    async with database.transaction() as transaction:
        await projects.create(transaction, name, public=public, upstream=None, settings={})
        found = await projects.find(transaction, name)
    assert found is not None
    return found.id


async def make_repository(database: Database, project_id: int, name: str = "app") -> int:
    async with database.transaction() as transaction:
        return await projects.ensure_repository(transaction, project_id, name)


async def add_blob(database: Database, project_id: int, repository_id: int, data: bytes, key: str) -> Digest:
    """Do as a finished upload does: the key is garbage-to-be, then a blob that the repository may serve."""
    digest = Digest.of(data)

    async def add(transaction: Transaction) -> None:
        await blobs.discard(transaction, key, 3600)
        await blobs.add(transaction, digest, key, len(data))
        assert await blobs.add_link(transaction, project_id, repository_id, digest)

    await database.transact(add)
    return digest


async def unlink(database: Database, repository_id: int, digest: Digest) -> bool:
    async with database.transaction() as transaction:
        return await blobs.unlink(transaction, repository_id, digest)


async def used_bytes(database: Database, name: str = "physics") -> int:
    """Return what a project is charged for blobs and uploads: all but its manifests and tags."""
    async with database.reading() as transaction:
        found = await projects.find(transaction, name)
    assert found is not None
    return found.used_bytes - await charged_rows(database, found.id)


async def charged_rows(database: Database, project_id: int) -> int:
    """Return what a project is charged for manifests and tags."""
    here = f"WHERE repository_id IN (SELECT id FROM repository WHERE project_id = {project_id})"
    sums = [
        await rows(database, f"SELECT coalesce(sum(charged_bytes), 0) FROM {table} {here}")
        for table in ("manifest", "tag", "tag_history", "manifest_label")
    ]
    return sum(int(found[0][0]) for found in sums)


async def add_manifest(database: Database, repository_id: int, parsed: Manifest, *tags: str) -> Digest:
    digest = Digest.of(parsed.payload)
    async with database.transaction() as transaction:
        await manifests.add(transaction, repository_id, digest, parsed)
        await manifests.set_tags(transaction, repository_id, tags, digest)
    return digest


def descriptor(digest: str, size: int = 1, media_type: str = "application/octet-stream") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def image(seed: str, *layers: str, **more: Any) -> Manifest:
    """Make an image manifest of the named layers; it differs with ``seed``."""
    config = Digest.of(f"config of {seed}".encode())
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, 7, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(digest) for digest in layers],
        **more,
    }
    return parse_manifest(json.dumps(document).encode(), OCI_MANIFEST)


def index(*children: Manifest, **more: Any) -> Manifest:
    """Make an image index of children."""
    entries = [descriptor(Digest.of(child.payload), len(child.payload), DOCKER_MANIFEST) for child in children]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **more}
    return parse_manifest(json.dumps(document).encode(), OCI_INDEX)


async def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    """Look behind the queries' back."""
    async with database.reading() as transaction:
        return [tuple(row) for row in await transaction.execute(text(statement))]


async def is_waiting(database: Database, task: asyncio.Task[Any]) -> bool:
    """Say, as soon as it is certain, whether a task's transaction waits for another one, or has ended.

    PostgreSQL is asked who waits for a lock. On SQLite whoever has not ended in half a second waits for the one writer.
    """
    end = time.monotonic() + (0.5 if database.is_sqlite else 30)
    while time.monotonic() < end:
        if task.done():
            return False
        if not database.is_sqlite and await rows(database, "SELECT 1 FROM pg_locks WHERE NOT granted"):
            return True
        await asyncio.sleep(0.02)
    assert database.is_sqlite, "neither waiting nor done in 30 s"
    return True


async def look(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Read rows from the database at ``url``."""
    database = Database(url)
    found = await rows(database, statement)
    await database.close()
    return found


async def execute(url: str, statement: str) -> None:
    """Change the database at ``url``."""
    database = Database(url)
    async with database.transaction() as transaction:
        await transaction.execute(text(statement))
    await database.close()
