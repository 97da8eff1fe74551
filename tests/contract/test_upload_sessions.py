"""Two workers with one upload session, one step of either at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.database import Database
from app.oci.digest import Digest
from app.oci.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid, OCIError, Unavailable
from app.oci.reference import Name
from app.projects.service import Projects, Repository
from app.registry.blobs import Blobs
from app.registry.uploads import Uploads
from app.storage.filesystem import FilesystemStore

from .rows import make_project, make_repository, rows

ONE, OTHER = b"one " * 300_000, b"two " * 300_000


class Worker:
    """What one worker process has of its own: a store and the running hashes."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.store = FilesystemStore(folder)
        self.uploads = Uploads(database, self.store)


@pytest.fixture
async def repository(database: Database) -> Repository:
    await make_repository(database, await make_project(database))
    return await Projects(database).open(Name("physics/app"))


@pytest.fixture
async def workers(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Worker, Worker]]:
    workers = Worker(database, tmp_path), Worker(database, tmp_path)
    for worker in workers:
        await worker.store.start()
    yield workers
    for worker in workers:
        await worker.store.close()


async def content(database: Database, worker: Worker, repository: Repository, digest: Digest) -> bytes:
    assert repository.id is not None
    found = await Blobs(database).find(repository.id, digest)
    assert found is not None
    return b"".join([piece async for piece in worker.store.read(found.object_key, 0, found.size)])


async def test_a_request_that_comes_late_changes_nothing(
    database: Database, workers: tuple[Worker, Worker], repository: Repository
) -> None:
    """It read the session's row before another request wrote, and opens the object after it."""
    first, second = workers
    session = await first.uploads.begin(repository)
    stale = await second.uploads.find(repository, session.id)
    receiving = await first.uploads.receive(repository, session, None)
    await receiving.write(ONE)
    await receiving.suspend()
    with pytest.raises((BlobUploadInvalid, BlobUploadUnknown)):  # noqa: PT012  # whichever step notices
        late = await second.uploads.receive(repository, stale, None)
        await late.write(OTHER)
        await late.suspend()
    closing = await first.uploads.receive(repository, await first.uploads.find(repository, session.id), None)
    await closing.commit(Digest.of(ONE))
    assert await content(database, first, repository, Digest.of(ONE)) == ONE
