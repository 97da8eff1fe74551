"""The client of one upstream registry, whose answers are checked here before they are trusted.

A manifest is whole and matches its digest when it leaves this module. A blob is a stream. Its length is checked here,
and its digest by the reader that reaches its end.

Source: OCI distribution-spec, "Pull".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from app.config import Credential, Network
from app.oci.digest import Digest
from app.oci.errors import (
    BlobUnknown,
    ManifestInvalid,
    ManifestOutdated,
    ManifestUnknown,
    NameUnknown,
    OCIError,
    Unsupported,
    UpstreamInvalid,
)
from app.oci.manifest import (
    CARRIED_TYPES,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    SCHEMA_1_TYPES,
    Manifest,
    SchemaOne,
    parse_manifest,
)

from . import replies
from .address_guard import AddressGuard, same_origin
from .answers import Answer, ManifestUnusable, RequestKind, UpstreamDown, UpstreamRefused, WordlessRefusal, carry
from .login import TokenCache
from .proxy import SiteProxy
from .requests import SEE_OTHER, FinalReply, Requests
from .transport import Timeouts, Transport

_ACCEPT_MANIFESTS = {"Accept": ", ".join(sorted(CARRIED_TYPES))}
_REFUSALS = frozenset({401, 403, 404})
# Answers of registries that serve no HEAD of manifests; Docker asks them by GET, too.
_NO_HEAD = frozenset({400, 405, 501})
_ACCEPT_LISTS = {"Accept": f"application/json, {OCI_INDEX}"}
# A registry without a list answers with one of these, with 404, or with 303 as ghcr.io does.
_UNSUPPORTED = frozenset({400, 405, 406, 415, 501})


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """The result of a HEAD, as far as the upstream describes the manifest.

    ``digest`` and ``size`` (bytes) are None and ``media_type`` is "" if it leaves them out. ``served`` is False if it
    serves no HEAD of manifests; then the answer says nothing about a limit either.
    """

    digest: Digest | None
    media_type: str
    size: int | None
    answer: Answer
    served: bool = True


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest whose payload has ``digest``, which is the requested one if the request was by digest."""

    digest: Digest
    manifest: Manifest
    answer: Answer


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a list, a JSON object; ``more``: the list goes on after it, also if that may not be asked for."""

    document: Mapping[str, Any]
    more: bool


class BlobBody:
    """A blob that is being received; ``offset`` is its first byte, ``size`` the whole blob's in bytes or None."""

    def __init__(self, transport: Transport, response: aiohttp.ClientResponse, offset: int, size: int | None) -> None:
        self.offset = offset
        self.size = size
        self._transport = transport
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes from ``offset`` to the end, in pieces of at most 256 KiB.

        Raises UpstreamDown if they stop, or end before ``size``. The caller may open the blob again further on.
        """
        position = self.offset
        async for piece in self._transport.pieces(self._response):
            position += len(piece)
            yield piece
        if self.size is not None and position != self.size:
            raise UpstreamDown(self._transport.name, "ended a blob too early")


class Upstream:
    """One registry, used with one account or anonymously; ``url`` is its address without ``/v2/``.

    Every method raises UpstreamDown, UpstreamLimited, UpstreamRefused and UpstreamInvalid (see answers.py). For a 404
    in a registry's words it raises ManifestUnknown, BlobUnknown or NameUnknown. Results and errors
    (`answers.answer_of`) carry the answer of the upstream itself, never that of a host it redirects to.
    """

    def __init__(
        self,
        name: str,
        url: str,
        credential: Credential | None,
        tokens: TokenCache,
        *,
        timeouts: Timeouts | None = None,
        guard: AddressGuard | None = None,
        proxy: SiteProxy | None = None,
        refused: Sequence[Network] = (),
    ) -> None:
        self.name = name
        self._home = URL(url.rstrip("/"))
        guard = guard or AddressGuard(self._home.raw_host or "", refused=refused)
        self._transport = Transport(name, guard, timeouts or Timeouts(), proxy)
        self._requests = Requests(self._transport, self._home, credential, tokens)

    async def start(self) -> None:
        """Make the session, without a connection yet."""
        await self._transport.start()

    async def close(self) -> None:
        """Close every connection; bodies that are still being read end with UpstreamDown."""
        await self._requests.close()
        await self._transport.close()

    async def ping(self) -> None:
        """Ask whether the upstream answers at all, which is not counted (distribution-spec, "Determining Support").

        A 401 is an answer as well.
        """
        url = URL(f"{self._home}/v2/", encoded=True)
        response = (await self._transport.send("ping", "GET", url, {})).response
        failure = self._transport.failure(response)
        await self._transport.spend(response)
        if failure is not None:
            raise failure

    async def head_manifest(self, repository: str, reference: str) -> ManifestHead:
        """Return the upstream's HEAD of a reference; Docker Hub does not count it.

        Raises ManifestUnusable or ManifestOutdated for a manifest whose GET would be in vain.
        """
        async with self._open("head_manifest", "HEAD", repository, reference, _ACCEPT_MANIFESTS, _NO_HEAD) as final:
            response = final.response
            if response.status != 200:
                return ManifestHead(None, "", None, final.answer, served=False)
            if replies.is_page(response):
                raise self._page()
            label, size, stated = replies.media_type(response), response.content_length, replies.stated_digest(response)
            if label in SCHEMA_1_TYPES:
                raise self._outdated()
            if size is not None and size > MAX_MANIFEST_BYTES:
                raise self._too_large()
            if _contradicts(stated, reference):
                return ManifestHead(None, "", None, final.answer)
            return ManifestHead(stated, label if label in CARRIED_TYPES else "", size, final.answer)

    async def get_manifest(self, repository: str, reference: str) -> FetchedManifest:
        """Return a manifest of at most 4 MiB, whatever its JSON says.

        Docker Hub counts the GET, which is sent at most once. Its digest decides, whatever its label is. Raises
        ManifestUnusable, ManifestOutdated, and UpstreamInvalid for another digest.
        """
        async with self._open("get_manifest", "GET", repository, reference, _ACCEPT_MANIFESTS) as final:
            label, page = replies.media_type(final.response), replies.is_page(final.response)
            stated = replies.stated_digest(final.response)
            expected = Digest(reference) if ":" in reference else stated
            payload = await self._read_manifest(final.response)
            digest = expected or Digest.of(payload)
            try:
                manifest = self._parse(payload, digest, label)
            except UpstreamInvalid:
                if page:
                    raise self._page() from None
                raise
            return FetchedManifest(digest, manifest, final.answer)

    async def _read_manifest(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await self._transport.read(response, MAX_MANIFEST_BYTES)
        except UpstreamInvalid:
            raise self._too_large() from None

    def _parse(self, payload: bytes, digest: Digest, label: str) -> Manifest:
        if Digest.of(payload, digest.algorithm) != digest:
            raise UpstreamInvalid(
                "%(upstream)s sent a manifest that does not have the digest %(digest)s",
                upstream=self.name,
                digest=digest,
            )
        try:
            return parse_manifest(payload, label)
        except SchemaOne as error:
            raise self._outdated() from error
        except ManifestInvalid as error:
            raise ManifestUnusable(
                "%(upstream)s sent a manifest that cannot be used: %(reason)s",
                upstream=self.name,
                reason=error.message,
            ) from error

    async def head_blob(self, repository: str, digest: Digest, described: int | None = None) -> int:
        """Return a blob's size in bytes; ``described`` is the size in a manifest, used if the upstream states none.

        A GET of one byte follows a HEAD that is refused without a registry's words. Storage hosts refuse a HEAD of an
        address that was signed for a GET. No upstream counts either of them.
        """
        async with self._open("head_blob", "HEAD", repository, digest, {}, _NO_HEAD | _REFUSALS) as final:
            response = final.response
            if response.status == 200:
                self._refuse_page(response, described)
                size = response.content_length or described
                if size is not None or digest == Digest.of(b"", digest.algorithm):
                    return size or 0
        async with self._open("get_blob", "GET", repository, digest, {"Range": "bytes=0-0"}) as final:
            response = final.response
            size = self._ranged_size(response, 0) if response.status == 206 else response.content_length
            size = described if size is None else size
            self._refuse_page(response, None if response.status == 206 else described)
            if size is None:
                raise UpstreamInvalid(
                    "%(upstream)s does not state the size of %(digest)s", upstream=self.name, digest=digest
                )
            return size

    @asynccontextmanager
    async def open_blob(self, repository: str, digest: Digest, offset: int = 0) -> AsyncIterator[BlobBody]:
        """Open a blob from ``offset`` on, or from its beginning if the upstream ignores ranges; see `BlobBody.offset`.

        Its label does not matter, because its reader verifies the digest. Leaving the context ends the transfer.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._open("get_blob", "GET", repository, digest, headers) as final:
            response = final.response
            if response.content_length is None and replies.is_page(response):
                raise self._page()
            if response.status == 206:
                yield BlobBody(self._transport, response, offset, self._ranged_size(response, offset))
            else:
                yield BlobBody(self._transport, response, 0, response.content_length)

    @asynccontextmanager
    async def _open(
        self,
        kind: RequestKind,
        method: str,
        repository: str,
        reference: str,
        headers: dict[str, str],
        unexplained: AbstractSet[int] = frozenset(),
    ) -> AsyncIterator[FinalReply]:
        """Open the content of a reference; raises the error for any other answer.

        Answers with a status of ``unexplained`` are returned, too, unless a registry says in words what they mean.
        """
        noun = "blobs" if kind.endswith("blob") else "manifests"
        path = f"/v2/{quote(repository, safe='/')}/{noun}/{quote(reference, safe=':')}"
        url = URL(f"{self._home}{path}", encoded=True)
        final = await self._requests.send(kind, method, url, repository, headers)
        response = final.response
        try:
            if response.status == 200 or (response.status == 206 and "Range" in headers):
                yield final
                return
            body = await self._transport.spend(response)
            worded = self._is_worded(final, body)
            if response.status in unexplained and not (worded and response.status in _REFUSALS):
                yield final
                return
            absent = BlobUnknown if noun == "blobs" else ManifestUnknown
            raise self._error(final, body, worded, absent, repository, reference)
        except OCIError as error:
            carry(error, final.answer)
            raise
        finally:
            response.close()

    def _is_worded(self, final: FinalReply, body: bytes) -> bool:
        """Return whether a registry said it; another host must say more than that it wants a login."""
        response = final.response
        asks = not final.other_host and bool(replies.challenges(response))
        return asks or replies.is_registrys_word(response, body)

    def _error(
        self,
        final: FinalReply,
        body: bytes,
        worded: bool,
        absent: type[OCIError],
        repository: str,
        reference: str,
    ) -> OCIError:
        response = final.response
        if failure := self._transport.failure(response):
            return failure
        # Nothing is forgotten because of a missing blob, so a registry that has no words for it is believed.
        believed = worded or (absent is BlobUnknown and not final.other_host)
        if response.status == 404 and believed:
            unknown = NameUnknown if replies.error_code(body) == NameUnknown.code else absent
            return unknown(
                "%(upstream)s has no %(repository)s %(reference)s",
                upstream=self.name,
                repository=repository,
                reference=reference,
            )
        if response.status in _REFUSALS and not worded:
            return WordlessRefusal(self.name, response.status)
        if response.status in (401, 403):
            return UpstreamRefused(self.name)
        if final.other_host:
            return UpstreamInvalid(
                "the host to which %(upstream)s redirects answered with status %(code)s",
                upstream=self.name,
                code=response.status,
            )
        return UpstreamInvalid(
            "%(upstream)s answered with status %(code)s for %(repository)s %(reference)s",
            upstream=self.name,
            code=response.status,
            repository=repository,
            reference=reference,
        )

    def _page(self) -> UpstreamDown:
        # A proxy or portal sends its page with status 200. If it were cached, it would stay (Harbor's issue 23882).
        return UpstreamDown(self.name, "answered with a web page instead of content")

    def _refuse_page(self, response: aiohttp.ClientResponse, described: int | None) -> None:
        """Raise UpstreamDown for a web page in place of a blob, unless it has the blob's size in bytes."""
        if replies.is_page(response) and (described is None or response.content_length != described):
            raise self._page()

    def _too_large(self) -> ManifestUnusable:
        return ManifestUnusable(
            "%(upstream)s has a manifest of more than %(limit)s bytes, the most that this registry takes",
            upstream=self.name,
            limit=MAX_MANIFEST_BYTES,
        )

    def _outdated(self) -> ManifestOutdated:
        return ManifestOutdated(
            "%(upstream)s has this image only in the old format schema 1, which current clients cannot run; "
            "ask the image's publisher to push it again with a current client",
            upstream=self.name,
        )

    def _ranged_size(self, response: aiohttp.ClientResponse, offset: int) -> int | None:
        right, size = replies.ranged_size(response, offset)
        if right:
            return size
        raise UpstreamInvalid(
            "%(upstream)s answered with another range than the one from byte %(offset)s on",
            upstream=self.name,
            offset=offset,
        )

    async def list_pages(self, repository: str, path: str) -> AsyncGenerator[ListPage, None]:
        """Yield the pages of a list, each of at most 4 MiB; ``path`` is the list's path within the repository.

        The ``Link`` of a page leads to the next one, but never to another origin or to a page that came before. Raises
        Unsupported if the registry says that it has no such list.
        """
        following: URL | None = URL(f"{self._home}/v2/{quote(repository, safe='/')}/{path}", encoded=True)
        asked: set[URL] = set()
        while following is not None:
            url, following = following, None
            asked.add(url)
            final = await self._requests.send("list", "GET", url, repository, _ACCEPT_LISTS)
            response = final.response
            try:
                document = await self._read_list(final, repository, path)
            except OCIError as error:
                carry(error, final.answer)
                raise
            finally:
                response.close()
            target = replies.next_page(response.headers.getall("Link", []))
            if target is not None:
                following = same_origin(response.url if final.other_host else url, target)
                following = None if following in asked else following
            yield ListPage(document, more=target is not None)

    async def _read_list(self, final: FinalReply, repository: str, path: str) -> Mapping[str, Any]:
        response = final.response
        if response.status != 200:
            body = await self._transport.spend(response)
            worded = self._is_worded(final, body)
            if response.status == SEE_OTHER or (response.status in _UNSUPPORTED and worded):
                raise Unsupported("%(upstream)s does not offer this list", upstream=self.name)
            raise self._error(final, body, worded, NameUnknown, repository, path)
        if replies.is_page(response):
            raise self._page()
        document = replies.json_object(await self._transport.read(response, MAX_MANIFEST_BYTES))
        if document is None:
            raise UpstreamInvalid("%(upstream)s answered with a list that cannot be used", upstream=self.name)
        return document


def _contradicts(stated: Digest | None, reference: str) -> bool:
    """Return whether an upstream describes another manifest than the one that was asked for by digest.

    It may state a digest of its own algorithm, although another algorithm's was asked for.
    """
    if stated is None or ":" not in reference:
        return False
    return Digest(reference).algorithm == stated.algorithm and stated != reference
