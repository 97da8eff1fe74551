"""Upload sessions: bytes arrive in any number of requests, on any worker, and become a blob when they verify.

The row of a session is the truth: which object its bytes are in, how many are safe, and their digest so far. The
running hash lives in the worker that computed it. Another worker goes on writing without it, and reads the object
back once, at the end, to verify it.

Where the project has a quota, the row also has what the session was given of it. A session asks before it takes bytes,
for what the request announces or else in steps, and what it does not fit in ends it. The first bytes of a request are
charged with what it writes at its end anyway, so that small blobs cost no transaction more.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.database import Database, Transaction, blobs, manifests, uploads
from app.database.quotas import QuotaExceeded
from app.database.uploads import UploadSession
from app.oci.digest import Digest, new_hash
from app.oci.errors import BlobUploadInvalid, BlobUploadUnknown, Denied, DigestInvalid, RangeInvalid, Unavailable
from app.oci.ranges import ByteRange
from app.projects.service import Repository, ensure
from app.storage import BlobStore, Writer, new_key

from .review import GRACE_SECONDS

if TYPE_CHECKING:
    from hashlib import _Hash

# Hashing and writing take turns with the network in pieces of this size; a push has up to three in memory.
_PIECE_BYTES = 512 * 1024
# Running hashes kept for sessions between two requests; one that is dropped costs one reading at the end.
_MOST_HASHES = 1000
# Of the quota, a session asks for so much ahead and keeps so much while it waits; so much it takes before it asks.
_AHEAD_BYTES = 16 * 1024 * 1024
_FREE_BYTES = 1024 * 1024
# Written in `digest_so_far` where the digest of the bytes so far is not known.
_UNKNOWN_DIGEST = ""


@dataclass
class _Hashing:
    """A running hash and how many bytes it has seen."""

    hash: _Hash
    offset: int


class Uploads:
    """Begins, finds and ends sessions."""

    def __init__(self, database: Database, store: BlobStore) -> None:
        self._database = database
        self._store = store
        self._hashes: OrderedDict[str, _Hashing] = OrderedDict()

    async def begin(self, repository: Repository, algorithm: str = "sha256") -> UploadSession:
        """Begin a session; raises DigestInvalid for an algorithm not verified here."""
        running = new_hash(algorithm)
        key = new_key()

        async def create(transaction: Transaction) -> UploadSession:
            repository_id = await ensure(transaction, repository)
            session = UploadSession(uuid.uuid4().hex, repository_id, key, None, 0, Digest.finish(running))
            await blobs.discard(transaction, key, 2 * GRACE_SECONDS)
            await uploads.create(transaction, session)
            return session

        session = await self._database.transact(create)
        self._remember(session.id, _Hashing(running, 0))
        return session

    async def find(self, repository: Repository, upload_id: str) -> UploadSession:
        """Find a session of this repository; raises BlobUploadUnknown."""
        session = await self._find(repository.id, upload_id) if repository.id is not None else None
        if session is not None:
            return session
        raise BlobUploadUnknown(
            "there is no such upload here; it may have ended or been left for a day: begin a new one"
        )

    async def _find(self, repository_id: int, upload_id: str) -> UploadSession | None:
        async with self._database.reading() as transaction:
            return await uploads.find(transaction, repository_id, upload_id)

    async def receive(
        self,
        repository: Repository,
        session: UploadSession,
        chunk: ByteRange | None,
        *,
        announced: int | None = None,
    ) -> Receiving:
        """Open a session for the bytes of one request, ``announced`` of them where that is known.

        Raises RangeInvalid where the chunk is not the next one, and QuotaExceeded where the project has no room for it:
        the session has ended then. The answer is ended by exactly one of its `suspend`, `commit`, `abort` and `let_go`.
        """
        if chunk is not None and chunk.start != session.bytes_written:
            raise RangeInvalid(
                f"the next chunk begins at byte {session.bytes_written}, this one at {chunk.start}",
                headers={"Range": range_header(session)},
            )
        writer = await self._store.writer(session.object_key, dict(session.state) if session.state else None)
        try:
            # Another request may have gone on with the session, or ended it, until this one had the writer.
            found = await self._find_with_room(session)
        except BaseException:
            await writer.close()
            raise
        if found is None:
            await writer.close()
            raise _moved_on()
        session, room = found
        hashing = self._hashes.pop(session.id, None)
        if hashing is not None and hashing.offset != session.bytes_written:
            hashing = None
        if hashing is None and session.bytes_written == 0:
            hashing = _Hashing(new_hash(session.digest_so_far.partition(":")[0]), 0)
        receiving = Receiving(self, repository, session, writer, hashing, has_quota=room is not None)
        if announced and room is not None:
            await receiving.announce(announced, room)
        return receiving

    async def _find_with_room(self, known: UploadSession) -> tuple[UploadSession, int | None] | None:
        """Find a session as it is known, and what its project has left; None where it has moved on."""
        async with self._database.reading() as transaction:
            found = await uploads.find_with_room(transaction, known.repository_id, known.id)
        # A request that failed may have left a session with more of the quota than it had.
        if found is None or replace(found[0], charged_bytes=known.charged_bytes) != known:
            return None
        return found

    async def cancel(self, repository: Repository, upload_id: str) -> None:
        """End a session and give its bytes up; raises BlobUploadUnknown."""
        session = await self.find(repository, upload_id)
        await self._drop(session)

    async def _drop(self, session: UploadSession) -> None:
        self._hashes.pop(session.id, None)
        async with self._database.transaction() as transaction:
            removed = await uploads.remove(transaction, session.id)
            if removed:
                await blobs.discard(transaction, session.object_key, 0)
        if not removed:
            raise BlobUploadUnknown("this upload has ended already")

    async def _advance(
        self,
        project_id: int,
        before: UploadSession,
        after: UploadSession,
        hashing: _Hashing | None,
        *,
        has_quota: bool,
    ) -> None:
        async with self._database.transaction() as transaction:
            advanced = await uploads.advance(transaction, before, after)
            await blobs.discard(transaction, after.object_key, 2 * GRACE_SECONDS)
            if has_quota and after.charged_bytes < after.bytes_written:
                await uploads.reserve(transaction, project_id, after.id, after.bytes_written, 0)
            elif after.charged_bytes > after.bytes_written + _AHEAD_BYTES:
                await uploads.give_back(transaction, project_id, after.id, after.bytes_written + _AHEAD_BYTES)
        if not advanced:
            raise _moved_on()
        if hashing is not None:
            self._remember(after.id, hashing)

    async def _commit(self, repository: Repository, session: UploadSession, size: int, digest: Digest) -> None:
        async def commit(transaction: Transaction) -> bool:
            charged = await uploads.end(transaction, session.id)
            if charged is None:
                return False
            # Before the blob: in this order a review locks them.
            await manifests.ask_review(transaction, session.repository_id, [digest], time.time() + GRACE_SECONDS)
            await blobs.add(transaction, digest, session.object_key, size)
            await blobs.add_link(transaction, repository.project_id, session.repository_id, digest, paid=charged)
            return True

        if not await self._database.transact(commit):
            raise BlobUploadUnknown("this upload has ended already")

    async def _reserve(self, project_id: int, upload_id: str, total: int, ahead: int) -> int:
        async with self._database.transaction() as transaction:
            charged = await uploads.reserve(transaction, project_id, upload_id, total, ahead)
        if charged is None:
            raise BlobUploadUnknown("this upload has ended already")
        return charged

    async def _give_back(self, project_id: int, upload_id: str, keep: int) -> None:
        async with self._database.transaction() as transaction:
            await uploads.give_back(transaction, project_id, upload_id, keep)

    async def _digest_of_object(self, key: str, size: int, algorithm: str) -> Digest:
        running = new_hash(algorithm)
        async with aclosing(self._store.read(key, 0, size)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(running.update, piece)
        return Digest.finish(running)

    def _remember(self, upload_id: str, hashing: _Hashing) -> None:
        self._hashes[upload_id] = hashing
        while len(self._hashes) > _MOST_HASHES:
            self._hashes.popitem(last=False)


class Receiving:
    """The bytes of one request on their way into a session."""

    def __init__(
        self,
        service: Uploads,
        repository: Repository,
        session: UploadSession,
        writer: Writer,
        hashing: _Hashing | None,
        *,
        has_quota: bool,
    ) -> None:
        self._service = service
        self._repository = repository
        self._session = session
        self._writer = writer
        self._hashing = hashing
        self._piece = bytearray()
        self._storing: asyncio.Task[None] | None = None
        self._has_quota = has_quota
        self._charged = session.charged_bytes
        # All bytes of the session, those included that are still on their way into the store.
        self._taken = session.bytes_written

    async def announce(self, length: int, room: int) -> None:
        """Ask for the quota of a whole body; raises QuotaExceeded, and the session has ended."""
        total = self._taken + length
        # What is small is charged when it is committed, unless it is plain already that it will not fit.
        if total <= self._charged or (total <= _FREE_BYTES and total - self._charged <= room):
            return
        try:
            await self._reserve(total)
        except Denied:
            await self.abort()
            raise
        except BaseException:
            await self.let_go()
            raise

    async def write(self, data: bytes) -> None:
        """Take bytes; returns while the last full piece is still being hashed and stored, never two.

        Raises QuotaExceeded where the project has no room for them.
        """
        self._taken += len(data)
        if self._has_quota and self._taken > max(self._charged, _FREE_BYTES):
            await self._reserve(self._taken)
        self._piece += data
        if len(self._piece) >= _PIECE_BYTES:
            await self._flush()

    async def suspend(self, *, expected: int | None = None) -> UploadSession:
        """End the request and keep the session: what has arrived is safe on any worker from now on.

        ``expected``: how many bytes the request's Content-Range promised; raises BlobUploadInvalid for another number,
        and QuotaExceeded where the project has no room for them: the session has ended then.
        """
        try:
            await self._drain()
            self._check_length(expected)
        except BaseException:
            await self.let_go()
            raise
        return await self._keep()

    async def commit(self, digest: Digest, *, expected: int | None = None, keep: bool = True) -> int:
        """Verify and make the blob visible; answers its size in bytes. Raises DigestInvalid.

        After a wrong digest the session goes on where ``keep`` says so: the client may still name the right one.
        """
        try:
            await self._drain()
            self._check_length(expected)
        except BaseException:
            await self.let_go()
            raise
        computed = self._digest_so_far()
        if computed and Digest(computed).algorithm == digest.algorithm and computed != digest:
            if keep:
                await self._keep()
            else:
                await self.abort()
            raise DigestInvalid(f"the bytes sent have the digest {computed}, not {digest}")
        size = self._writer.offset
        await self._writer.finish()
        if computed != digest:
            computed = await self._service._digest_of_object(self._session.object_key, size, digest.algorithm)
            if computed != digest:
                await self._service._drop(self._session)
                raise DigestInvalid(f"the bytes sent have the digest {computed}, not {digest}; begin a new upload")
        try:
            await self._service._commit(self._repository, self._session, size, digest)
        except QuotaExceeded:
            await self._service._drop(self._session)
            raise
        return size

    async def abort(self) -> None:
        """End the session and give its bytes up."""
        await self._settle()
        await self._writer.abort()
        await self._service._drop(self._session)

    async def let_go(self) -> None:
        """Forget this request; the session stands where it stood before. Silent: the request has failed already."""
        await self._settle()
        try:
            if self._charged > self._session.charged_bytes:
                with suppress(Unavailable):
                    await self._service._give_back(
                        self._repository.project_id, self._session.id, self._session.bytes_written
                    )
        finally:
            await self._writer.close()

    async def _reserve(self, total: int) -> None:
        project_id, upload_id = self._repository.project_id, self._session.id
        self._charged = await self._service._reserve(project_id, upload_id, total, _AHEAD_BYTES)

    async def _keep(self) -> UploadSession:
        state = await self._writer.suspend()
        try:
            after = replace(
                self._session,
                state=state,
                bytes_written=self._writer.offset,
                digest_so_far=self._digest_so_far(),
                charged_bytes=self._charged,
            )
            await self._service._advance(
                self._repository.project_id, self._session, after, self._hashing, has_quota=self._has_quota
            )
        except QuotaExceeded:
            await self._service._drop(self._session)
            raise
        finally:
            # Not before the row says so: whoever has the writer next begins where the row says.
            await self._writer.close()
        return after

    async def _drain(self) -> None:
        if self._piece:
            await self._flush()
        if self._storing is not None:
            storing, self._storing = self._storing, None
            await storing

    async def _settle(self) -> None:
        """Wait for the piece under way, whatever became of it: its writer must not be closed beneath it."""
        if self._storing is not None:
            storing, self._storing = self._storing, None
            await asyncio.wait([storing])
            # Asked for, or asyncio would log as forgotten what has failed the request in its own words already.
            storing.cancelled() or storing.exception()

    async def _flush(self) -> None:
        if self._storing is not None:
            storing, self._storing = self._storing, None
            await storing
        piece, self._piece = self._piece, bytearray()
        self._storing = asyncio.create_task(self._store(piece))

    async def _store(self, piece: bytearray) -> None:
        if self._hashing is not None:
            await asyncio.gather(
                asyncio.to_thread(self._hashing.hash.update, piece), self._writer.write(memoryview(piece))
            )
            self._hashing.offset += len(piece)
        else:
            await self._writer.write(memoryview(piece))

    def _digest_so_far(self) -> str:
        if self._hashing is not None:
            return Digest.finish(self._hashing.hash)
        return self._session.digest_so_far if self._writer.offset == self._session.bytes_written else _UNKNOWN_DIGEST

    def _check_length(self, expected: int | None) -> None:
        received = self._writer.offset - self._session.bytes_written
        if expected is not None and received != expected:
            raise BlobUploadInvalid(f"Content-Range promised {expected} bytes, the body had {received}")


def _moved_on() -> BlobUploadInvalid:
    return BlobUploadInvalid("another request has moved this upload on; ask for its status and go on from there")


def range_header(session: UploadSession) -> str:
    """Spell the ``Range`` of an upload's status; the specification has no spelling for no bytes but ``0-0``."""
    return f"0-{max(0, session.bytes_written - 1)}"
