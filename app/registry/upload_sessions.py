"""Keep upload sessions in the database, and their running hashes in the worker that computed them.

The row of a session is authoritative: its object, how many bytes are safe, their digest so far, and how much of the
project's quota the session holds. Another worker resumes the session without the running hash. It reads the object back
once, at the end, to verify it.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cachetools import LRUCache

from app.database import Database, Transaction, blobs, manifests, uploads
from app.database.uploads import UploadSession
from app.oci.digest import Digest, new_hash
from app.oci.errors import BlobUploadInvalid, BlobUploadUnknown, TooManyRequests
from app.projects import unfinished
from app.projects.service import Repository, ensure
from app.storage import new_key

from .garbage_collection import GRACE_SECONDS

if TYPE_CHECKING:
    from hashlib import _Hash

# Running hashes kept for sessions between two requests. If one is dropped, the object is read once at the end.
_MOST_HASHES = 1000
# The sessions that may be open at once, of one principal in a project and of all. Each has a row, an object, and up to
# a day to live. A crowd that begins sessions at the same moment may get a few more.
_MOST_OF_ONE = 200
_MOST_IN_PROJECT = 1000
# If there are as many, those without a request for so long give way. An engine that lost its connection leaves some.
_GIVE_WAY_SECONDS = 3600
_GIVE_WAY_AT_ONCE = 100
# The quota that a session reserves ahead, and keeps while it waits for its next request.
_AHEAD_BYTES = 16 * 1024 * 1024


@dataclass
class Hashing:
    """A running hash and how many bytes it has seen."""

    hash: _Hash
    offset: int


class UploadSessions:
    """The database operations on the row of a session; each raises Unavailable if the database is down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hashes: LRUCache[str, Hashing] = LRUCache(_MOST_HASHES)

    async def begin(self, repository: Repository, algorithm: str, opened_by: str) -> UploadSession:
        """Write a new session; raises as `Uploads.begin` does."""
        running = new_hash(algorithm)
        key = new_key()

        async def create(transaction: Transaction) -> UploadSession:
            # A refusal comes first, because a crowd gets many.
            await _require_place(transaction, repository, opened_by)
            repository_id = await ensure(transaction, repository)
            empty = Digest.finish(running)
            session = UploadSession(uuid.uuid4().hex, repository_id, key, None, 0, empty, opened_by=opened_by)
            await blobs.discard(transaction, key, 2 * GRACE_SECONDS)
            await uploads.create(transaction, session, project_id=repository.project_id)
            return session

        session = await self._database.transact(create)
        self._hashes[session.id] = Hashing(running, 0)
        return session

    async def find(self, repository_id: int, upload_id: str) -> UploadSession | None:
        """Return a session of a repository, None if there is none."""
        return await self._database.read(uploads.find, repository_id, upload_id)

    async def find_with_room(self, known: UploadSession) -> tuple[UploadSession, int | None]:
        """Return a session and the room left in its project's quota, None without a quota.

        Raises BlobUploadInvalid if the session is no longer as the caller knows it.
        """
        found = await self._database.read(uploads.find_with_room, known.repository_id, known.id)
        # A failed request may have left the session with more quota than before.
        if found is None or replace(found[0], charged_bytes=known.charged_bytes) != known:
            raise _moved_on()
        return found

    def take_hashing(self, session: UploadSession) -> Hashing | None:
        """Return the hash of all bytes of a session and forget it here; None if another worker has it."""
        hashing = self._hashes.pop(session.id, None)
        if hashing is not None and hashing.offset == session.bytes_written:
            return hashing
        return Hashing(new_hash(session.digest_so_far.partition(":")[0]), 0) if session.bytes_written == 0 else None

    async def advance(
        self,
        project_id: int,
        before: UploadSession,
        after: UploadSession,
        hashing: Hashing | None,
        *,
        has_quota: bool,
    ) -> None:
        """Write the progress of a session.

        Raises BlobUploadInvalid if another request has changed it, and QuotaExceeded.
        """

        async def advance(transaction: Transaction) -> bool:
            advanced = await uploads.advance(transaction, before, after)
            await blobs.discard(transaction, after.object_key, 2 * GRACE_SECONDS)
            if has_quota and after.charged_bytes < after.bytes_written:
                await uploads.reserve(transaction, project_id, after.id, after.bytes_written, 0)
            elif after.charged_bytes > after.bytes_written + _AHEAD_BYTES:
                await uploads.give_back(transaction, project_id, after.id, after.bytes_written + _AHEAD_BYTES)
            return advanced

        if not await unfinished.transact(self._database, advance):
            raise _moved_on()
        if hashing is not None:
            self._hashes[after.id] = hashing

    async def commit(self, repository: Repository, session: UploadSession, size: int, digest: Digest) -> None:
        """End a session with a blob; raises BlobUploadUnknown if it has ended already, and QuotaExceeded."""

        async def commit(transaction: Transaction) -> bool:
            charged = await uploads.end(transaction, session.id)
            if charged is None:
                return False
            project_id, review_at = repository.project_id, time.time() + GRACE_SECONDS
            # Before the blob, because a review locks the rows in this order.
            await manifests.ask_review_of_push(
                transaction,
                session.repository_id,
                digest,
                review_at,
                project_id=project_id,
                pushed_by=session.opened_by,
            )
            await blobs.add(transaction, digest, session.object_key, size)
            await blobs.add_link(transaction, project_id, session.repository_id, digest, size=size, paid=charged)
            return True

        if not await unfinished.transact(self._database, commit):
            raise _ended()

    async def drop(self, session: UploadSession) -> None:
        """End a session and discard its bytes; raises BlobUploadUnknown if it has ended already."""
        self._hashes.pop(session.id, None)
        async with self._database.transaction() as transaction:
            removed = await uploads.remove(transaction, session.id)
            if removed:
                await blobs.discard(transaction, session.object_key, 0)
        if not removed:
            raise _ended()

    async def let_give_way(self, session: UploadSession) -> None:
        """Let a session that has no bytes yet give way to others; until then, its client may continue with it."""
        async with self._database.transaction() as transaction:
            await uploads.set_aside(transaction, session.id, time.time() - _GIVE_WAY_SECONDS)

    async def fail(self, repository: Repository, session: UploadSession) -> None:
        """End a session that has no room, and free what the same push has left; raises as `drop` does."""
        await self.drop(session)
        await unfinished.free_failed(self._database, repository.project_id, session.repository_id, session.opened_by)

    async def reserve(self, project_id: int, upload_id: str, total: int) -> int:
        """Reserve quota for ``total`` bytes and some ahead, and return the reserved bytes. Raises as `commit` does."""

        async def reserve(transaction: Transaction) -> int | None:
            return await uploads.reserve(transaction, project_id, upload_id, total, _AHEAD_BYTES)

        charged = await unfinished.transact(self._database, reserve)
        if charged is None:
            raise _ended()
        return charged

    async def give_back(self, project_id: int, upload_id: str, keep: int) -> None:
        """Release the quota that a session holds beyond ``keep`` bytes."""
        async with self._database.transaction() as transaction:
            await uploads.give_back(transaction, project_id, upload_id, keep)


def _moved_on() -> BlobUploadInvalid:
    return BlobUploadInvalid("another request has changed this upload; ask for its status and resume from there")


async def _require_place(transaction: Transaction, repository: Repository, opened_by: str) -> None:
    """Raise TooManyRequests if too many sessions are open, and none of them gives way."""
    project_id, idle_since = repository.project_id, time.time() - _GIVE_WAY_SECONDS
    # Another transaction may be ending the same sessions. This one waits for it, and counts again.
    for _ in range(2):
        of_one, of_all = await uploads.count_open(transaction, project_id, opened_by, _MOST_IN_PROJECT)
        if of_one < _MOST_OF_ONE and of_all < _MOST_IN_PROJECT:
            return
        whose = opened_by if of_one >= _MOST_OF_ONE else None
        ended = await uploads.remove_idle_in(transaction, project_id, whose, idle_since, _GIVE_WAY_AT_ONCE)
        if ended:
            for key in ended:
                await blobs.discard(transaction, key, 0)
            return
    raise TooManyRequests(
        "too many uploads are open in %(project)s; finish or cancel some, or try again in an hour",
        project=repository.name.project,
        headers={"Retry-After": "60"},
    )


def _ended() -> BlobUploadUnknown:
    return BlobUploadUnknown("this upload has ended already; begin a new one")
