"""The requests that are made of S3, by key; what S3 or the network answers instead becomes an error of ours here.

    <prefix>objects/<key>                   one finished object
    <prefix>objects/<key>.tail-<16 hex>     the last bytes of a suspended upload, too few for a part
    <prefix>probe-<16 hex>                  what `check` writes, reads back and removes

A multipart upload stands under the name of the object it will become; at most one of a key is alive. A finished
object is never replaced: what finishes one asks for ``If-None-Match: *``. Ceph 16 knows that for a PUT only and
ignores it when a multipart upload is completed, therefore `complete` looks first.
"""

from __future__ import annotations

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
from .s3_trouble import SOON, TROUBLE, asking, reason
from .trouble import damaged, upload_overtaken

# A part has 5 MiB at least (but for the last) and 5 GiB at most, an upload 10,000 parts, an object 5 TiB (Amazon S3
# user guide, "Multipart upload limits"). Ours double every thousand parts: 8 MiB up to 8 GB, 4 GiB at last.
MIN_PART = 5 * 1024 * 1024
FIRST_PART = 8 * 1024 * 1024
_PARTS_PER_SIZE = 1000
_PIECE = 1024 * 1024
_OCTETS = "application/octet-stream"

_log = logging.getLogger(__name__)


def part_size(number: int) -> int:
    """Say how many bytes part ``number`` has (from 1), unless it is the last or an upload was suspended in it."""
    return FIRST_PART << ((number - 1) // _PARTS_PER_SIZE)


class S3Wire:
    """One bucket, with one client for it and one to sign URLs for what others can reach."""

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
        """Make the clients, without a request yet; raises Unavailable where the configuration cannot work."""
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
        """Spell the name of an object, or of a tail."""
        return f"{self._prefix}objects/{checked(key)}" + (f".tail-{tail}" if tail else "")

    async def put(self, key: str, body: FileBody) -> None:
        """Make a whole object of few bytes; raises BlobUploadInvalid where there is another."""
        try:
            with asking("PutObject"):
                await self._client.put_object(
                    **self._where(self.name(key)), **body.arguments(), IfNoneMatch="*", ContentType=_OCTETS
                )
        except BlobUploadInvalid:
            if await self._etag(key) != body.md5.hex():
                raise

    async def put_tail(self, key: str, body: FileBody) -> str:
        """Keep the bytes that are too few for a part; gives the tail's name, which no other writer has."""
        tail = secrets.token_hex(8)
        with asking("PutObject"):
            await self._client.put_object(**self._where(self.name(key, tail)), **body.arguments())
        return tail

    async def begin(self, key: str) -> str:
        """Begin a multipart upload, and end every other of this key: a dead worker's, or one that came late.

        Of two that begin at once each asks after its own has begun, so at most one of them lives on.
        """
        with asking("CreateMultipartUpload"):
            answer = await self._client.create_multipart_upload(**self._where(self.name(key)), ContentType=_OCTETS)
        upload: str = answer["UploadId"]
        for other in await self.uploads(key):
            if other != upload:
                await self.abort(key, other)
        return upload

    async def part(self, key: str, upload: str, number: int, body: FileBody) -> str:
        """Send one part; gives its ETag. Raises BlobUploadUnknown where the upload has ended."""
        with asking("UploadPart"):
            answer = await self._client.upload_part(
                **self._where(self.name(key)), UploadId=upload, PartNumber=number, **body.arguments()
            )
        etag: str = answer["ETag"]
        return etag.strip('"')

    async def complete(self, key: str, upload: str, etags: Sequence[str]) -> None:
        """Make the object of the parts with these ETags, in order.

        Raises BlobUploadInvalid where a part is another by now, or the object is there already; BlobUploadUnknown
        where the upload has ended.
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
        # The answer to a first attempt may have been lost, and this be its repetition: then the object is ours.
        if there != _etag_of(etags):
            raise upload_overtaken()

    async def uploads(self, key: str) -> list[str]:
        """List the multipart uploads of a key that have not ended."""
        name = self.name(key)
        with asking("ListMultipartUploads"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=name)
            return [it["UploadId"] async for page in pages for it in page.get("Uploads", []) if it["Key"] == name]

    async def abort(self, key: str, upload: str) -> None:
        """End a multipart upload and remove its parts; silent where it has ended."""
        with suppress(BlobUploadUnknown), asking("AbortMultipartUpload"):
            await self._client.abort_multipart_upload(**self._where(self.name(key)), UploadId=upload)

    async def names(self, key: str) -> list[str]:
        """List the names that belong to a key: the object's, and its tails'."""
        with asking("ListObjectsV2"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self.name(key))
            return [it["Key"] async for page in pages for it in page.get("Contents", [])]

    async def remove(self, name: str) -> None:
        """Remove what has this name; silent where nothing has."""
        with suppress(BlobUnknown), asking("DeleteObject"):
            await self._client.delete_object(**self._where(name))

    async def get(self, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Give bytes ``start`` up to ``stop``; closing the generator early closes the connection."""
        with asking("GetObject"):
            if start >= stop:
                await self._client.head_object(**self._where(name))
                return
            answer = await self._client.get_object(**self._where(name), Range=f"bytes={start}-{stop - 1}")
            async with answer["Body"] as body:
                if answer["ContentLength"] != stop - start:
                    _log.error("S3: %s ends before byte %d", name, stop)
                    raise damaged()
                async for piece in body.iter_chunks(_PIECE):
                    yield piece

    async def url(self, key: str) -> str:
        """Sign a URL to read the object for a while; nothing is asked of S3."""
        with asking("sign"):
            url: str = await self._signer.generate_presigned_url(
                "get_object",
                Params={**self._where(self.name(key)), "ResponseContentType": _OCTETS},
                ExpiresIn=self._url_seconds,
            )
        return url

    async def check(self) -> None:
        """Raise Unavailable, with the reason in words, unless the bucket takes and gives objects."""
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
            raise self._unusable("it gives back other bytes than it took")

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
        # Checksums beyond Content-MD5 are Amazon's; other servers answer 501 or fail the signature.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # A server of one's own rarely has a host name for each bucket.
        s3={"addressing_style": "path" if own_server else "auto", "payload_signing_enabled": False},
    )


def _etag_of(etags: Sequence[str]) -> str:
    # As S3, Ceph, MinIO and SeaweedFS compute it; empty, thus equal to none, where ETags are not MD5s (SSE-KMS).
    try:
        joined = b"".join(bytes.fromhex(etag) for etag in etags)
    except ValueError:
        return ""
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"
