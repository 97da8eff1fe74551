"""Uploads: bytes arrive in any number of requests, on any worker, and become a blob after verification.

`upload_sessions` describes a session and its hand-over between workers. If the project has a quota, a session reserves
room before it takes bytes: for the announced length, or else in steps. A session that does not fit is ended. The first
bytes of a request are charged in the transaction that it writes at its end, so small blobs need no extra transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace

from app.database import Database, DatabaseUnavailable
from app.database.quotas import QuotaExceeded
from app.database.uploads import UploadSession
from app.kit.threads import in_thread
from app.oci.digest import Digest, new_hash
from app.oci.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid, RangeInvalid, Unavailable
from app.oci.ranges import ByteRange
from app.projects.service import Repository
from app.storage import BlobStore, Writer

from .content import ClientGone
from .upload_sessions import Hashing, UploadSessions

# One piece of this size arrives while the one before is hashed and written. A push has two of them in memory.
_PIECE_BYTES = 512 * 1024
# A session takes this many bytes before it reserves quota.
_FREE_BYTES = 1024 * 1024
# The value of `digest_so_far` if the digest of the bytes so far is not known.
_UNKNOWN_DIGEST = ""


class Uploads:
    """Begins, finds and ends sessions, and opens them for bytes."""

    def __init__(self, database: Database, store: BlobStore) -> None:
        self._sessions = UploadSessions(database)
        self._store = store

    async def begin(self, repository: Repository, algorithm: str = "sha256", opened_by: str = "") -> UploadSession:
        """Begin a session for a principal, by its subject.

        Raises DigestInvalid for an algorithm that is not verified here, and TooManyRequests if the principal or the
        project has too many open sessions.
        """
        return await self._sessions.begin(repository, algorithm, opened_by)

    async def find(self, repository: Repository, upload_id: str) -> UploadSession:
        """Return a session of this repository; raises BlobUploadUnknown."""
        session = await self._sessions.find(repository.id, upload_id) if repository.id is not None else None
        if session is not None:
            return session
        raise BlobUploadUnknown(
            "there is no such upload; it may have ended, or expired after a day without a request; begin a new one"
        )

    @asynccontextmanager
    async def receive(
        self,
        repository: Repository,
        session: UploadSession,
        chunk: ByteRange | None = None,
        *,
        announced: int | None = None,
        resumable: bool = True,
    ) -> AsyncIterator[Receiving]:
        """Open a session for the bytes of one request, ``announced`` of them if that is known.

        The end of the block decides the state of the session and of its bytes:

            `commit`                         the bytes are a blob; the session has ended
            the end of the block             the bytes are kept; any worker may resume the session
            ClientGone                       the same, although the length that ``chunk`` promised is missing
            QuotaExceeded                    the session has ended, because it can never fit, and so have the blobs
                                             that the same push has sent
            another error                    the session is as it was before the request
            an error, and not ``resumable``  the session has ended, because nobody knows its address

        Raises RangeInvalid if the chunk is not the next one, and QuotaExceeded if the project has no room. Raises
        BlobUploadInvalid if the body is not as long as the chunk, or if another request has the session.
        """
        try:
            receiving, room = await self._open(repository, session, chunk, resumable)
            try:
                if announced and room is not None:
                    await receiving.announce(announced, room)
                yield receiving
                await receiving.finish()
            except BaseException as error:
                await receiving.fail(error)
                raise
        except Unavailable as error:
            # Clients begin a new one for each try. Otherwise a disk that was full would refuse them for an hour more.
            if not isinstance(error, DatabaseUnavailable):
                with suppress(Unavailable):
                    await self._sessions.let_give_way(session)
            raise

    async def cancel(self, repository: Repository, upload_id: str) -> None:
        """End a session and discard its bytes; raises BlobUploadUnknown."""
        await self._sessions.drop(await self.find(repository, upload_id))

    async def _open(
        self, repository: Repository, session: UploadSession, chunk: ByteRange | None, resumable: bool
    ) -> tuple[Receiving, int | None]:
        if chunk is not None and chunk.start != session.bytes_written:
            raise RangeInvalid(
                "the next chunk must begin at byte %(begin)s, but this one begins at %(start)s",
                begin=session.bytes_written,
                start=chunk.start,
                headers={"Range": range_header(session)},
            )
        writer = await self._store.writer(session.object_key, dict(session.state) if session.state else None)
        try:
            # Another request may have continued or ended the session before this one got the writer.
            session, room = await self._sessions.find_with_room(session)
        except BaseException:
            await writer.close()
            raise
        receiving = Receiving(
            self._sessions,
            self._store,
            repository,
            session,
            writer,
            has_quota=room is not None,
            expected=None if chunk is None else chunk.length,
            resumable=resumable,
        )
        return receiving, room


class Receiving:
    """Takes the bytes of one request into a session; handlers call `take` and `commit`."""

    def __init__(
        self,
        sessions: UploadSessions,
        store: BlobStore,
        repository: Repository,
        session: UploadSession,
        writer: Writer,
        *,
        has_quota: bool,
        expected: int | None,
        resumable: bool,
    ) -> None:
        self._sessions = sessions
        self._store = store
        self._repository = repository
        self._session = session
        self._writer = writer
        self._expected = expected
        self._resumable = resumable
        self._ended = False
        self._hashing: Hashing | None = sessions.take_hashing(session)
        # The piece that arrives, how much of it has, and the buffer that is free or being stored.
        self._piece = memoryview(bytearray(_PIECE_BYTES))
        self._filled = 0
        self._other: memoryview | None = None
        self._storing: asyncio.Task[None] | None = None
        self._has_quota = has_quota
        self._charged = session.charged_bytes
        # All bytes of the session, including those that are not in the store yet.
        self._taken = session.bytes_written

    @property
    def session(self) -> UploadSession:
        """Return the session's row as this request found it; after the block, as the request left it."""
        return self._session

    async def announce(self, length: int, room: int) -> None:
        """Reserve quota for a whole body of ``length`` bytes; raises QuotaExceeded."""
        total = self._taken + length
        # A small body is charged at its commit, unless it is already clear that it does not fit.
        if total <= self._charged or (total <= _FREE_BYTES and total - self._charged <= room):
            return
        await self._reserve(total)

    async def take(self, read: Callable[[memoryview], Awaitable[int]]) -> None:
        """Take the bytes that ``read`` puts into a buffer, until it returns 0 for their number.

        A full piece is hashed and stored while the next one is read. Raises what ``read`` does, and QuotaExceeded if
        the project has no room for the bytes.
        """
        while count := await read(self._piece[self._filled :]):
            self._taken += count
            if self._has_quota and self._taken > max(self._charged, _FREE_BYTES):
                await self._reserve(self._taken)
            self._filled += count
            if self._filled == len(self._piece):
                await self._flush()

    async def commit(self, digest: Digest) -> int:
        """Verify the bytes, make the blob visible and return its size in bytes. Raises DigestInvalid, QuotaExceeded.

        A resumable session survives a wrong digest, because the client may still name the right one.
        """
        await self._drain()
        self._check_length()
        computed = self._digest_so_far()
        if computed and Digest(computed).algorithm == digest.algorithm and computed != digest:
            if self._resumable:
                await self._keep()
            raise DigestInvalid(
                "the bytes that were sent have the digest %(computed)s, not %(digest)s",
                computed=computed,
                digest=digest,
            )
        size = self._writer.offset
        self._ended = True
        await self._writer.finish()
        if computed != digest:
            computed = await self._digest_of_object(size, digest.algorithm)
            if computed != digest:
                await self._sessions.drop(self._session)
                raise DigestInvalid(
                    "the bytes that were sent have the digest %(computed)s, not %(digest)s; begin a new upload",
                    computed=computed,
                    digest=digest,
                )
        try:
            await self._sessions.commit(self._repository, self._session, size, digest)
        except QuotaExceeded:
            await self._sessions.fail(self._repository, self._session)
            raise
        return size

    async def finish(self) -> None:
        """Keep the session unless it was committed; from now on any worker can resume after the bytes so far."""
        if not self._ended:
            await self._drain()
            self._check_length()
            await self._keep()

    async def fail(self, error: BaseException) -> None:
        """End a failed request; does nothing if it has ended already. See `Uploads.receive`."""
        if self._ended:
            return
        if isinstance(error, QuotaExceeded):
            await self._abort()
            await self._sessions.fail(self._repository, self._session)
        elif not self._resumable:
            await self._abort()
            await self._sessions.drop(self._session)
        elif isinstance(error, ClientGone):
            try:
                await self._drain()
            except BaseException:
                await self._let_go()
                raise
            await self._keep()
        else:
            await self._let_go()

    async def _abort(self) -> None:
        """Discard the bytes."""
        self._ended = True
        await self._settle()
        await self._writer.abort()

    async def _let_go(self) -> None:
        """Undo this request: the session is as it was before.

        Does not raise if the database is down, because the request has failed already.
        """
        self._ended = True
        await self._settle()
        try:
            if self._charged > self._session.charged_bytes:
                with suppress(Unavailable):
                    await self._sessions.give_back(
                        self._repository.project_id, self._session.id, self._session.bytes_written
                    )
        finally:
            await self._writer.close()

    async def _reserve(self, total: int) -> None:
        project_id, upload_id = self._repository.project_id, self._session.id
        self._charged = await self._sessions.reserve(project_id, upload_id, total)

    async def _keep(self) -> None:
        self._ended = True
        state = await self._writer.suspend()
        try:
            after = replace(
                self._session,
                state=state,
                bytes_written=self._writer.offset,
                digest_so_far=self._digest_so_far(),
                charged_bytes=self._charged,
            )
            await self._sessions.advance(
                self._repository.project_id, self._session, after, self._hashing, has_quota=self._has_quota
            )
        except QuotaExceeded:
            await self._sessions.fail(self._repository, self._session)
            raise
        finally:
            # After the row is written, because the next writer begins at the size that the row states.
            await self._writer.close()
        self._session = after

    async def _drain(self) -> None:
        if self._filled:
            await self._flush()
        if self._storing is not None:
            storing, self._storing = self._storing, None
            await storing

    async def _settle(self) -> None:
        """Wait for the piece under way, even if it fails, because its writer must not be closed meanwhile."""
        if self._storing is not None:
            storing, self._storing = self._storing, None
            await asyncio.wait([storing])
            # Read, because asyncio would log it as never retrieved. The request has failed with its own error already.
            storing.cancelled() or storing.exception()

    async def _flush(self) -> None:
        if self._storing is not None:
            storing, self._storing = self._storing, None
            await storing
        self._storing = asyncio.create_task(self._put(self._piece[: self._filled]))
        self._piece, self._other = self._other or memoryview(bytearray(_PIECE_BYTES)), self._piece
        self._filled = 0

    async def _put(self, piece: memoryview) -> None:
        if self._hashing is not None:
            await self._writer.write(piece, self._hashing.hash)
            self._hashing.offset += len(piece)
        else:
            await self._writer.write(piece)

    async def _digest_of_object(self, size: int, algorithm: str) -> Digest:
        running = new_hash(algorithm)
        async with aclosing(self._store.read(self._session.object_key, 0, size)) as pieces:
            async for piece in pieces:
                await in_thread(None, running.update, piece)
        return Digest.finish(running)

    def _digest_so_far(self) -> str:
        if self._hashing is not None:
            return Digest.finish(self._hashing.hash)
        return self._session.digest_so_far if self._writer.offset == self._session.bytes_written else _UNKNOWN_DIGEST

    def _check_length(self) -> None:
        received = self._writer.offset - self._session.bytes_written
        if self._expected is not None and received != self._expected:
            raise BlobUploadInvalid(
                "Content-Range promised %(expected)s bytes, but the body had %(received)s",
                expected=self._expected,
                received=received,
            )


def range_header(session: UploadSession) -> str:
    """Return the ``Range`` of an upload's status; for no bytes at all, the specification has only ``0-0``."""
    return f"0-{max(0, session.bytes_written - 1)}"
