"""Store objects in an S3 bucket, which any number of workers on any number of hosts share."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path

from app.oci.errors import Unavailable

from .disk import in_pool, lock_key, new_pool
from .interface import State, Writer, checked
from .s3_body import FileBody
from .s3_wire import FIRST_PART, S3Wire, part_size
from .s3_writer import S3Writer

# Parts of one adopted file that are sent at once.
_PARTS_AT_ONCE = 3


class S3Store:
    """A `BlobStore` in one bucket; ``spool`` is a folder of this host, shared by its workers.

    If the access keys are None, they are looked up as AWS tools do it. Presigned URLs are signed for
    ``public_endpoint_url``, or for ``endpoint_url`` if that is None. They are valid for ``url_seconds``. One worker
    opens at most ``connections``; a streamed blob holds one for as long as its client takes.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        region: str,
        bucket: str,
        spool: Path,
        prefix: str = "",
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        public_endpoint_url: str | None = None,
        url_seconds: int = 300,
        connections: int = 256,
    ) -> None:
        self._spool = spool.absolute()
        self._pool = new_pool()
        self._wire = S3Wire(
            endpoint_url=endpoint_url,
            public_endpoint_url=public_endpoint_url,
            region=region,
            bucket=bucket,
            prefix=prefix,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            url_seconds=url_seconds,
            connections=connections,
        )

    async def start(self) -> None:
        """Make the spool folder and the client, without a request to S3. Raises Unavailable."""
        await in_pool(self._pool, os.makedirs, self._spool, 0o700, True)
        await self._wire.start()

    async def close(self) -> None:
        """Close the connections and let the threads end."""
        await self._wire.close()
        self._pool.shutdown(wait=False)

    async def writer(self, key: str, state: State | None = None) -> Writer:
        """See `BlobStore.writer`."""
        lock = await in_pool(self._pool, lock_key, self._spool / "locks", checked(key))
        writer = S3Writer(self._wire, self._pool, self._spool, lock, key)
        try:
            await writer.open(state)
        except BaseException:
            await writer.close()
            raise
        return writer

    async def adopt(self, key: str, path: Path) -> None:
        """See `BlobStore.adopt`; the file stays."""
        with await in_pool(self._pool, io.FileIO, path) as file:
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            if size < FIRST_PART:
                await self._wire.put(key, await in_pool(self._pool, FileBody.of, descriptor, 0, size))
                return
            upload = await self._wire.begin(key)
            try:
                etags = await self._send_parts(key, upload, descriptor, size)
                await self._wire.complete(key, upload, etags)
            except BaseException:
                with suppress(Unavailable):
                    await self._wire.abort(key, upload)
                raise

    def read(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See `BlobStore.read`."""
        return self._wire.get(self._wire.name(key), start, stop)

    async def locate(self, key: str) -> str:
        """See `BlobStore.locate`: always a URL."""
        return await self._wire.url(self._wire.name(key))

    async def delete(self, key: str) -> None:
        """See `BlobStore.delete`."""
        for upload in await self._wire.uploads(key):
            await self._wire.abort(key, upload)
        for name in await self._wire.names(key):
            await self._wire.remove(name)

    async def check(self) -> None:
        """See `BlobStore.check`."""
        await self._wire.check()

    async def _send_parts(self, key: str, upload: str, descriptor: int, size: int) -> list[str]:
        parts, etags = _cut(size), dict[int, str]()

        async def send() -> None:
            for number, start, length in parts:
                body = await in_pool(self._pool, FileBody.of, descriptor, start, length)
                etags[number] = await self._wire.part(key, upload, number, body)

        senders = [asyncio.create_task(send()) for _ in range(_PARTS_AT_ONCE)]
        try:
            await asyncio.gather(*senders)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
        return [etags[number] for number in sorted(etags)]


def _cut(size: int) -> Iterator[tuple[int, int, int]]:
    number, start = 1, 0
    while start < size:
        length = min(part_size(number), size - start)
        yield number, start, length
        number, start = number + 1, start + length
