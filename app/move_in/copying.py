"""Copy the blobs that are still in Harbor's store into ours, one after another, each verified."""

from __future__ import annotations

import logging
import time
from contextlib import aclosing

from app.database import JOB_SECONDS, Database, Transaction, blobs, moved
from app.oci.digest import Digest, new_hash
from app.oci.errors import BlobUnknown
from app.storage import BlobStore, key_in_harbor, new_key

from .report import Report

_BATCH = 100
_LOG_SECONDS = 10.0
# Until a copy is recorded, its object is future garbage.
_COMMIT_SECONDS = 24 * 3600
_KIND = "blobs copied"

log = logging.getLogger(__name__)


async def copy_blobs(database: Database, store: BlobStore, report: Report) -> None:
    """Copy every blob whose object is Harbor's; a run that was killed is resumed at the blob that it had begun."""
    count, size = await database.read(moved.adopted_total)
    log.info("move-in: %d blobs of %d bytes are still in Harbor's store", count, size)
    logged, after = time.monotonic(), ""
    while batch := await database.read(moved.adopted, after, _BATCH):
        for digest, length in batch:
            after = digest
            try:
                await _copy(database, store, digest, length)
                report.count(_KIND, "new")
            except BlobUnknown:
                report.refuse(_KIND, digest, "it is missing from Harbor's store")
            except _DamagedError:
                report.refuse(_KIND, digest, "it is damaged in Harbor's store")
            count, size = count - 1, size - length
            if time.monotonic() - logged > _LOG_SECONDS:
                logged = time.monotonic()
                log.info("move-in: %d blobs of %d bytes are left to copy", count, size)


async def _copy(database: Database, store: BlobStore, digest: Digest, size: int) -> None:
    key = new_key()
    async with database.transaction() as transaction:
        await blobs.discard(transaction, key, _COMMIT_SECONDS)
    writer, running = await store.writer(key), new_hash(digest.algorithm)
    try:
        async with aclosing(store.read(key_in_harbor(digest), 0, size)) as pieces:
            async for piece in pieces:
                await writer.write(piece, running)
        _require(Digest.finish(running), digest)
        await writer.finish()
    except BaseException:
        await writer.abort()
        raise
    finally:
        await writer.close()

    async def record(transaction: Transaction) -> None:
        # Harbor's object is held back until the move is final, and may be used again until then.
        if await moved.replace_object(transaction, digest, key):
            await blobs.discard(transaction, key_in_harbor(digest), blobs.OBJECT_GRACE_SECONDS)

    await database.transact(record, JOB_SECONDS, answers=False)


def _require(found: Digest, wanted: Digest) -> None:
    if found != wanted:
        raise _DamagedError


class _DamagedError(Exception):
    """The bytes in Harbor's store are not those of the digest."""
