"""``/v2/<name>/blobs/<digest>``: end-2 and end-10 of the distribution-spec."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from app.kit.facts import Phase, spending
from app.oci.conditions import etag, range_applies
from app.oci.digest import Digest
from app.oci.errors import BlobUnknown
from app.oci.ranges import ByteRange, parse_range
from app.oci.reference import Name
from app.projects.service import Projects
from app.registry.blobs import Blobs
from app.registry.content import BlobAnswer
from app.storage import BlobStore, is_in_harbor

from .call import Call
from .contents import Contents
from .needs import PUSH

Delivery = Literal["stream", "redirect", "accel"]

# nginx's locations for the store's folder, for a Harbor's and for the S3 server (ansible/roles/nginx).
_FOLDER, _HARBOR, _S3 = "/_blobs", "/_harbor", "/_objects"
# sha256/ab/ab34…/data
_HARBORS_PARTS = 4


class BlobHandlers:
    def __init__(
        self,
        projects: Projects,
        contents: Contents,
        blobs: Blobs,
        store: BlobStore,
        delivery: Delivery,
        *,
        hands_over_harbors: bool = False,
    ) -> None:
        """``hands_over_harbors``: objects that are still in a Harbor's place go the same way."""
        self._projects = projects
        self._contents = contents
        self._blobs = blobs
        self._store = store
        self._delivery = delivery
        self._hands_over_harbors = hands_over_harbors

    async def get(self, call: Call, name: Name, reference: str) -> None:
        digest = call.facts.digest = Digest.parse(reference)
        repository = await self._projects.open(name, call.grant)
        content, conditions, head = self._contents.of(repository), call.conditions, call.method == "HEAD"
        answer = await content.blob(repository, digest, call.client, head=head or conditions.any)
        unchanged = conditions.any and conditions.not_modified(digest)
        if conditions.any and not unchanged and not head:
            answer = await content.blob(repository, digest, call.client, head=False)
        headers = [
            ("Content-Type", "application/octet-stream"),
            ("Docker-Content-Digest", digest),
            ("ETag", etag(digest)),
            ("Accept-Ranges", "bytes"),
            ("Cache-Control", "private, max-age=31536000, immutable"),
        ]
        if unchanged or head:
            if head and repository.id is not None and repository.upstream is None and call.grant.allows(name, PUSH):
                await self._blobs.keep(repository.id, digest)
            await call.reply(304 if unchanged else 200, headers, length=answer.size)
        elif isinstance(answer.source, str) and answer.size and self._may_hand_over(call, answer.source):
            await self._hand_over(call, digest, answer.source, answer.size, headers)
        else:
            await self._stream(call, answer, headers)

    async def delete(self, call: Call, name: Name, reference: str) -> None:
        digest = Digest.parse(reference)
        repository = await self._projects.open(name, call.grant)
        await self._blobs.delete(repository, digest)
        call.changes.append(("delete", "blob", f"{name}@{digest}", (repository.project_id, name.project)))
        await call.reply(202)

    def _may_hand_over(self, call: Call, key: str) -> bool:
        if self._delivery == "stream" or (is_in_harbor(key) and not self._hands_over_harbors):
            return False
        # nginx would test If-Match by itself, and does not know the entity tag.
        return self._delivery == "redirect" or "If-Match" not in call.headers

    async def _hand_over(self, call: Call, digest: Digest, key: str, size: int, headers: list[tuple[str, str]]) -> None:
        """Let the object store or nginx send the bytes; ``size`` is at least 1 (S3 has no ranges of 0 bytes)."""
        place = await self._store.locate(key)
        if place is None:
            raise BlobUnknown
        if self._delivery == "redirect":
            await call.reply(307, [("Location", str(place)), ("Docker-Content-Digest", digest)])
            return
        # nginx cuts the range out. A range outside the blob is refused here, with the text of every delivery.
        parse_range(_range(call, digest), size)
        if isinstance(place, Path) and is_in_harbor(key):
            target = "/".join((_HARBOR, *place.parts[-_HARBORS_PARTS:]))
        elif isinstance(place, Path):
            target = f"{_FOLDER}/{place.parent.name}/{place.name}"
        else:
            url = urlsplit(place)
            target = f"{_S3}{url.path}?{url.query}"
        # nginx sends its own Accept-Ranges; ours would be a second one.
        others = [header for header in headers if header[0] != "Accept-Ranges"]
        await call.reply(200, [*others, ("X-Accel-Redirect", target)])

    async def _stream(self, call: Call, answer: BlobAnswer, headers: list[tuple[str, str]]) -> None:
        wanted = None if answer.size is None else parse_range(_range(call, answer.digest), answer.size)
        part = wanted or ByteRange(0, answer.size or 0)
        if wanted is not None and answer.size is not None:
            headers.append(("Content-Range", wanted.content_range(answer.size)))
        status, length = 206 if wanted else 200, None if answer.size is None else part.length
        place = await self._store.locate(answer.source) if isinstance(answer.source, str) else None
        if isinstance(place, Path):
            if not place.exists():
                raise BlobUnknown(
                    "the bytes of %(digest)s are missing from the store; tell the operators", digest=answer.digest
                )
            await call.begin(status, headers, length)
            await call.send_file(place, part.start, part.stop)
        else:
            awaited: Phase = "store" if isinstance(answer.source, str) else "upstream"
            async with aclosing(self._pieces(answer, part)) as pieces:
                # Read the first piece before the head is sent: if the store is down, the answer can still be an
                # error. After the head, closing the connection is the only way.
                with spending(awaited):
                    piece = await anext(pieces, b"")
                await call.begin(status, headers, length)
                while piece:
                    await call.write(piece)
                    with spending(awaited):
                        piece = await anext(pieces, b"")
        call.end()

    def _pieces(self, answer: BlobAnswer, part: ByteRange) -> AsyncGenerator[bytes, None]:
        if isinstance(answer.source, str):
            return self._store.read(answer.source, part.start, part.stop)
        assert answer.source is not None  # noqa: S101  # only the answer to a HEAD has no source
        return answer.source(part.start, None if answer.size is None else part.stop)


def _range(call: Call, digest: Digest) -> str | None:
    return call.headers.get("Range") if range_applies(call.headers.get("If-Range"), digest) else None
