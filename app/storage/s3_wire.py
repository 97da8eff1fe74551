"""Make the requests to S3, by key, and turn every failure into one of our own errors.

    <prefix>objects/<key>                   one finished object
    <prefix>objects/<key>.tail-<16 hex>     the last bytes of a suspended upload, too few for a part
    <prefix>probe-<16 hex>                  a probe that `check` writes, reads back and removes

A multipart upload has the name of the object it will become. At most one upload per key is alive. A finished object is
never replaced, because the request that finishes one sends ``If-None-Match: *``. Ceph 16 supports that for a PUT only,
and ignores it when a multipart upload is completed. So `complete` first looks whether the object exists.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from app.oci.errors import BlobUnknown, BlobUploadInvalid, BlobUploadUnknown, Unavailable

from .interface import checked
from .s3_body import FileBody
from .s3_trouble import SOON, TROUBLE, asking, is_cut, reason
from .trouble import damaged, upload_overtaken

# S3 allows parts of 5 MiB to 5 GiB; only the last may be smaller. It allows 10,000 parts per upload and objects up to
# 5 TiB (Amazon S3 user guide, "Multipart upload limits"). Our part size doubles every thousand parts: 8 MiB for the
# first 8 GB, 4 GiB for the last parts.
MIN_PART = 5 * 1024 * 1024
FIRST_PART = 8 * 1024 * 1024
_PARTS_PER_SIZE = 1000
_PIECE = 1024 * 1024
# The attempts in a row that brought no byte after which a body that was cut is given up.
_FRUITLESS = 3
_PAUSE = 0.1  # seconds before the next attempt; longer after a fruitless one
_OCTETS = "application/octet-stream"

_log = logging.getLogger(__name__)


def part_size(number: int) -> int:
    """Return the size in bytes of part ``number``, from 1; the last, or one that a suspend ends, may be smaller."""
    return FIRST_PART << ((number - 1) // _PARTS_PER_SIZE)


class S3Wire:
    """One bucket, with one client for our requests and one that signs URLs for others."""

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        public_endpoint_url: str | None,
        region: str,
        bucket: str,
        prefix: str,
        access_key_id: str | None,
        secret_access_key: str | None,
        url_seconds: int,
        connections: int,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._public_endpoint_url = public_endpoint_url or endpoint_url
        self._url_seconds = url_seconds
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._client_arguments = {
            "region_name": region,
            "aws_access_key_id": access_key_id,
            "aws_secret_access_key": secret_access_key,
            "config": _config(connections, own_server=endpoint_url is not None),
        }
        self._open = AsyncExitStack()
        self._client: Any = None
        self._signer: Any = None

    async def start(self) -> None:
        """Make the clients, without a request yet; raises Unavailable if the configuration cannot work."""
        session = get_session()
        with asking("start"):
            self._client = await self._open.enter_async_context(
                session.create_client("s3", endpoint_url=self._endpoint_url, **self._client_arguments)
            )
            self._signer = await self._open.enter_async_context(
                session.create_client("s3", endpoint_url=self._public_endpoint_url, **self._client_arguments)
            )

    async def close(self) -> None:
        """Close the clients and their connections."""
        await self._open.aclose()

    def name(self, key: str, tail: str | None = None) -> str:
        """Return the name of an object in the bucket, or of one of its tails."""
        return f"{self._prefix}objects/{checked(key)}" + (f".tail-{tail}" if tail else "")

    async def put(self, key: str, body: FileBody) -> None:
        """Write a whole small object; raises BlobUploadInvalid if the key has another object already."""
        try:
            with asking("PutObject"):
                await self._client.put_object(
                    **self._where(self.name(key)), **body.arguments(), IfNoneMatch="*", ContentType=_OCTETS
                )
        except BlobUploadInvalid:
            if await self._etag(key) != body.md5.hex():
                raise

    async def put_tail(self, key: str, body: FileBody) -> str:
        """Write the bytes that are too few for a part and return the tail's name, which no other writer has."""
        tail = secrets.token_hex(8)
        with asking("PutObject"):
            await self._client.put_object(**self._where(self.name(key, tail)), **body.arguments())
        return tail

    async def begin(self, key: str) -> str:
        """Begin a multipart upload, end every other one of this key, and return its id.

        The others belong to a dead worker or a late request. If two uploads begin at once, each lists the uploads after
        its own has begun. So at most one of them survives.
        """
        with asking("CreateMultipartUpload"):
            answer = await self._client.create_multipart_upload(**self._where(self.name(key)), ContentType=_OCTETS)
        upload: str = answer["UploadId"]
        for other in await self.uploads(key):
            if other != upload:
                await self.abort(key, other)
        return upload

    async def part(self, key: str, upload: str, number: int, body: FileBody) -> str:
        """Send one part and return its ETag; raises BlobUploadUnknown if the upload has ended."""
        with asking("UploadPart"):
            answer = await self._client.upload_part(
                **self._where(self.name(key)), UploadId=upload, PartNumber=number, **body.arguments()
            )
        etag: str = answer["ETag"]
        return etag.strip('"')

    async def complete(self, key: str, upload: str, etags: Sequence[str]) -> None:
        """Make the object of the parts with these ETags, in order.

        Raises BlobUploadInvalid if a part was replaced or the object exists already, and BlobUploadUnknown if the
        upload has ended.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        there = await self._etag(key)
        if there is None:
            try:
                with asking("CompleteMultipartUpload"):
                    await self._client.complete_multipart_upload(
                        **self._where(self.name(key)),
                        UploadId=upload,
                        MultipartUpload={"Parts": parts},
                        IfNoneMatch="*",
                    )
            except (BlobUploadInvalid, BlobUploadUnknown):
                there = await self._etag(key)
                if there is None:
                    raise
            else:
                return
        await self.abort(key, upload)
        # The answer to a first attempt may have been lost, and this may be the second one. Then the object is ours.
        if there != _etag_of(etags):
            raise upload_overtaken()

    async def uploads(self, key: str) -> list[str]:
        """List the multipart uploads of a key that have not ended."""
        name = self.name(key)
        with asking("ListMultipartUploads"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=name)
            return [it["UploadId"] async for page in pages for it in page.get("Uploads", []) if it["Key"] == name]

    async def abort(self, key: str, upload: str) -> None:
        """End a multipart upload and remove its parts; does nothing if it has ended."""
        with suppress(BlobUploadUnknown), asking("AbortMultipartUpload"):
            await self._client.abort_multipart_upload(**self._where(self.name(key)), UploadId=upload)

    async def names(self, key: str) -> list[str]:
        """List the names that belong to a key: those of the object and of its tails."""
        with asking("ListObjectsV2"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self.name(key))
            return [it["Key"] async for page in pages for it in page.get("Contents", [])]

    async def remove(self, name: str) -> None:
        """Remove the object of this name; does nothing if there is none."""
        with suppress(BlobUnknown), asking("DeleteObject"):
            await self._client.delete_object(**self._where(name))

    async def get(self, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to ``stop``; closing the generator early closes the connection.

        If a body is cut, the rest of the same object is asked for. An S3 that stalls is not asked again.
        """
        with asking("GetObject"):
            if start >= stop:
                await self._client.head_object(**self._where(name))
                return
            same: dict[str, str] = {}
            fruitless = 0
            while start < stop:
                before = start
                try:
                    answer = await self._client.get_object(
                        **self._where(name), **same, Range=f"bytes={start}-{stop - 1}"
                    )
                    async with answer["Body"] as body:
                        if answer["ContentLength"] != stop - start:
                            _log.error("S3: %s ends before byte %d", name, stop)
                            raise damaged()
                        same = {"IfMatch": answer["ETag"]}
                        async for piece in body.iter_chunks(_PIECE):
                            start += len(piece)
                            yield piece
                except TROUBLE as error:
                    fruitless = 0 if start > before else fruitless + 1
                    if not same or fruitless == _FRUITLESS or not is_cut(error):
                        raise
                    _log.info("S3: %s was cut at byte %d: %s", name, start, reason(error))
                    await asyncio.sleep(_PAUSE * (fruitless + 1))

    async def size(self, name: str) -> int | None:
        """Return the size of the object of this name in bytes, None if there is none."""
        try:
            with asking("HeadObject"):
                answer = await self._client.head_object(**self._where(name))
        except BlobUnknown:
            return None
        return int(answer["ContentLength"])

    async def url(self, name: str) -> str:
        """Return a signed URL by which the object of this name can be read for a while; sends no request to S3."""
        with asking("sign"):
            url: str = await self._signer.generate_presigned_url(
                "get_object",
                Params={**self._where(name), "ResponseContentType": _OCTETS},
                ExpiresIn=self._url_seconds,
            )
        return url

    async def check(self) -> None:
        """Raise Unavailable, with the reason, unless objects can be written to the bucket and read back."""
        probe = self._where(f"{self._prefix}probe-{secrets.token_hex(8)}")
        try:
            await self._client.head_bucket(Bucket=self._bucket)
            await self._client.put_object(**probe, Body=b"probe")
            answer = await self._client.get_object(**probe)
            async with answer["Body"] as body:
                back = await body.read()
            await self._client.delete_object(**probe)
        except TROUBLE as error:
            raise self._unusable(reason(error)) from error
        if back != b"probe":
            raise self._unusable("it returns other bytes than were written")

    def _unusable(self, why: str) -> Unavailable:
        host = urlsplit(self._endpoint_url or "").netloc.rpartition("@")[2]
        return Unavailable(
            "S3 bucket %(bucket)r at %(host)s cannot be used: %(why)s",
            bucket=self._bucket,
            host=host or "AWS",
            why=why,
            headers=SOON,
        )

    def _where(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": name}

    async def _etag(self, key: str) -> str | None:
        try:
            with asking("HeadObject"):
                answer = await self._client.head_object(**self._where(self.name(key)))
        except BlobUnknown:
            return None
        return str(answer["ETag"]).strip('"')


def _config(connections: int, *, own_server: bool) -> AioConfig:
    return AioConfig(
        signature_version="s3v4",
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=connections,
        # Only Amazon supports checksums other than Content-MD5. Other servers answer 501 or fail the signature.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # A private server rarely has a host name for each bucket.
        s3={"addressing_style": "path" if own_server else "auto", "payload_signing_enabled": False},
    )


def _etag_of(etags: Sequence[str]) -> str:
    # As S3, Ceph, MinIO and SeaweedFS compute it. If ETags are not MD5s (SSE-KMS), it is empty and equals no other.
    try:
        joined = b"".join(bytes.fromhex(etag) for etag in etags)
    except ValueError:
        return ""
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"
