"""The client of one upstream registry, whose answers are checked here before they are trusted.

A manifest is whole and matches its digest when it leaves this module. A blob is a stream. Its length is checked here,
and its digest by the reader that reaches its end.

Source: OCI distribution-spec, "Pull".
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from yarl import URL

from app.config import Credential
from app.oci.digest import Digest
from app.oci.errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestInvalid,
    ManifestOutdated,
    ManifestUnknown,
    NameUnknown,
    OCIError,
    UpstreamInvalid,
)
from app.oci.manifest import CARRIED_TYPES, MAX_MANIFEST_BYTES, SCHEMA_1_TYPES, Manifest, SchemaOne, parse_manifest

from .address_guard import AddressGuard, next_hop
from .answers import Answer, RequestKind, UpstreamDown, UpstreamRefused, carry, parse_challenges
from .transport import Login, Timeouts, TokenCache, Transport

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_UNKNOWN = {error.code: error for error in (BlobUnknown, ManifestUnknown, NameUnknown)}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z")
_ACCEPT_MANIFESTS = {"Accept": ", ".join(sorted(CARRIED_TYPES))}


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """The result of a HEAD; ``digest`` and ``size`` (bytes) are None if the upstream leaves them out."""

    digest: Digest | None
    media_type: str
    size: int | None
    answer: Answer


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest whose payload has ``digest``, which is the requested one if the request was by digest."""

    digest: Digest
    manifest: Manifest
    answer: Answer


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


@dataclass(frozen=True, slots=True)
class _FinalReply:
    """The reply after all redirects. ``answer`` is the upstream's own; ``other_host``: another host replied."""

    answer: Answer
    response: aiohttp.ClientResponse
    other_host: bool


class Upstream:
    """One registry, used with one account or anonymously; ``url`` is its address without ``/v2/``.

    Every method raises UpstreamDown, UpstreamLimited, UpstreamRefused and UpstreamInvalid (see answers.py). For the
    upstream's 404 it raises ManifestUnknown, BlobUnknown or NameUnknown. Results and errors (`answers.answer_of`) carry
    the answer of the upstream itself, never that of a host it redirects to.
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
    ) -> None:
        self.name = name
        self._home = URL(url.rstrip("/"))
        self._transport = Transport(name, guard or AddressGuard(self._home.raw_host or ""), timeouts or Timeouts())
        self._login = Login(self._transport, self._home, credential, tokens)

    async def start(self) -> None:
        """Make the session, without a connection yet."""
        await self._transport.start()

    async def close(self) -> None:
        """Close every connection; bodies that are still being read end with UpstreamDown."""
        await self._login.close()
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
        """Return the upstream's HEAD of a reference; Docker Hub does not count it."""
        async with self._open("head_manifest", "HEAD", repository, reference, _ACCEPT_MANIFESTS) as final:
            return ManifestHead(
                digest=self._stated_digest(final.response, reference),
                media_type=self._manifest_type(final.response),
                size=final.response.content_length,
                answer=final.answer,
            )

    async def get_manifest(self, repository: str, reference: str) -> FetchedManifest:
        """Return a manifest of at most 4 MiB, whatever its JSON says; raises ManifestOutdated for schema 1.

        Docker Hub counts the GET, which is sent at most once.
        """
        async with self._open("get_manifest", "GET", repository, reference, _ACCEPT_MANIFESTS) as final:
            stated = self._stated_digest(final.response, reference)
            payload = await self._transport.read(final.response, MAX_MANIFEST_BYTES)
            asked = Digest(reference) if ":" in reference else None
            for expected in (asked, stated):
                if expected is not None and Digest.of(payload, expected.algorithm) != expected:
                    raise UpstreamInvalid(
                        "%(upstream)s sent a manifest that does not have the digest %(digest)s",
                        upstream=self.name,
                        digest=expected,
                    )
            try:
                manifest = parse_manifest(payload, _media_type(final.response))
            except SchemaOne as error:
                raise self._outdated() from error
            except ManifestInvalid as error:
                raise UpstreamInvalid(
                    "%(upstream)s sent a manifest that cannot be used: %(reason)s",
                    upstream=self.name,
                    reason=error.message,
                ) from error
            return FetchedManifest(asked or stated or Digest.of(payload), manifest, final.answer)

    async def head_blob(self, repository: str, digest: Digest) -> int:
        """Return a blob's size in bytes."""
        async with self._open("head_blob", "HEAD", repository, digest, {}) as final:
            if final.response.content_length is None:
                raise UpstreamInvalid(
                    "%(upstream)s does not state the size of %(digest)s", upstream=self.name, digest=digest
                )
            return final.response.content_length

    @asynccontextmanager
    async def open_blob(self, repository: str, digest: Digest, offset: int = 0) -> AsyncIterator[BlobBody]:
        """Open a blob from ``offset`` on, or from its beginning if the upstream ignores ranges; see `BlobBody.offset`.

        Leaving the context ends the transfer.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._open("get_blob", "GET", repository, digest, headers) as final:
            response = final.response
            if response.status == 206:
                yield BlobBody(self._transport, response, offset, self._ranged_size(response, offset))
            else:
                yield BlobBody(self._transport, response, 0, response.content_length)

    @asynccontextmanager
    async def _open(
        self, kind: RequestKind, method: str, repository: str, reference: str, headers: dict[str, str]
    ) -> AsyncIterator[_FinalReply]:
        noun = "blobs" if kind.endswith("blob") else "manifests"
        path = f"/v2/{quote(repository, safe='/')}/{noun}/{quote(reference, safe=':')}"
        url = URL(f"{self._home}{path}", encoded=True)
        final = await self._send_logged_in(kind, method, url, repository, headers)
        response = final.response
        try:
            if response.status != 200 and not (response.status == 206 and "Range" in headers):
                absent = BlobUnknown if noun == "blobs" else ManifestUnknown
                body = await self._transport.spend(response)
                raise self._error(response, body, final.other_host, absent, repository, reference)
            self._refuse_disguise(response)
            yield final
        except OCIError as error:
            carry(error, final.answer)
            raise
        finally:
            response.close()

    async def _send_logged_in(
        self, kind: RequestKind, method: str, url: URL, repository: str, headers: dict[str, str]
    ) -> _FinalReply:
        scope = f"repository:{repository}:pull"
        authorization = await self._login.header(scope)
        final = await self._follow(kind, method, url, headers, authorization)
        response = final.response
        if response.status != 401 or final.other_host:
            return final
        challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
        await self._transport.spend(response)
        authorization = await self._login.renew(scope, challenges, authorization)
        return await self._follow(kind, method, url, headers, authorization)

    async def _follow(
        self, kind: RequestKind, method: str, url: URL, headers: dict[str, str], authorization: str | None
    ) -> _FinalReply:
        """Send a request and follow redirects; a failure carries the upstream's own last answer, if there is one."""
        own: Answer | None = None
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                other_host = _origin(url) != _origin(self._home)
                login = {"Authorization": authorization} if authorization and not other_host else {}
                reply = await self._transport.send("storage" if other_host else kind, method, url, headers | login)
                own = own if other_host and own is not None else reply.answer
                if reply.response.status not in _REDIRECTS:
                    return _FinalReply(own, reply.response, other_host)
                await self._transport.spend(reply.response)
                url = next_hop(url, reply.response.headers.get("Location"))
            raise UpstreamInvalid(
                "%(upstream)s redirects more than %(most)s times", upstream=self.name, most=_MAX_REDIRECTS
            )
        except OCIError as error:
            carry(error, own)
            raise

    def _error(
        self,
        response: aiohttp.ClientResponse,
        body: bytes,
        other_host: bool,
        absent: type[OCIError],
        repository: str,
        reference: str,
    ) -> OCIError:
        if failure := self._transport.failure(response):
            return failure
        if response.status == 404:
            return _UNKNOWN.get(_code(body), absent)(
                "%(upstream)s has no %(repository)s %(reference)s",
                upstream=self.name,
                repository=repository,
                reference=reference,
            )
        if other_host:
            return UpstreamInvalid(
                "the host to which %(upstream)s redirects answered with status %(code)s",
                upstream=self.name,
                code=response.status,
            )
        if response.status in (401, 403):
            return UpstreamRefused(self.name)
        return UpstreamInvalid(
            "%(upstream)s answered with status %(code)s for %(repository)s %(reference)s",
            upstream=self.name,
            code=response.status,
            repository=repository,
            reference=reference,
        )

    def _refuse_disguise(self, response: aiohttp.ClientResponse) -> None:
        # A proxy or portal sends its page with status 200. If it were cached, it would stay (Harbor's issue 23882).
        if _media_type(response) in _HTML_TYPES:
            raise UpstreamInvalid("%(upstream)s answered with a web page instead of content", upstream=self.name)
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
            raise UpstreamInvalid("%(upstream)s answered in an encoding that was not asked for", upstream=self.name)

    def _manifest_type(self, response: aiohttp.ClientResponse) -> str:
        """Return the stated type, which need not be a manifest's; raises ManifestOutdated for schema 1."""
        media_type = _media_type(response)
        if media_type in SCHEMA_1_TYPES:
            raise self._outdated()
        return media_type

    def _outdated(self) -> ManifestOutdated:
        return ManifestOutdated(
            "%(upstream)s has this image only in the old format schema 1, which current clients cannot run; "
            "ask the image's publisher to push it again with a current client",
            upstream=self.name,
        )

    def _stated_digest(self, response: aiohttp.ClientResponse, reference: str) -> Digest | None:
        header = response.headers.get("Docker-Content-Digest")
        if header is None:
            return None
        try:
            stated = Digest.parse(header)
        except DigestInvalid as error:
            raise UpstreamInvalid("%(upstream)s states a digest that is not valid", upstream=self.name) from error
        # An upstream may state a digest of its own algorithm, although another algorithm's was asked for.
        if ":" in reference and Digest(reference).algorithm == stated.algorithm and stated != reference:
            raise UpstreamInvalid(
                "%(upstream)s answered with %(stated)s, but %(reference)s was asked for",
                upstream=self.name,
                stated=stated,
                reference=reference,
            )
        return stated

    def _ranged_size(self, response: aiohttp.ClientResponse, offset: int) -> int | None:
        match = _CONTENT_RANGE.match(response.headers.get("Content-Range", "").strip())
        size = None if match is None or match[3] == "*" else int(match[3])
        if match is not None:
            first, last = int(match[1]), int(match[2])
            within = first == offset <= last and (size is None or last < size)
            if within and response.content_length in (None, last - first + 1):
                return size
        raise UpstreamInvalid(
            "%(upstream)s answered with another range than the one from byte %(offset)s on",
            upstream=self.name,
            offset=offset,
        )


def _origin(url: URL) -> tuple[str, str, int | None]:
    return url.scheme, (url.raw_host or "").lower(), url.port


def _media_type(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _code(body: bytes) -> str:
    """Return the code of an answer in the specification's JSON, "" if it is something else."""
    try:
        code = json.loads(body)["errors"][0]["code"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return code if isinstance(code, str) else ""
