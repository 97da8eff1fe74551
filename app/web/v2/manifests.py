"""``/v2/<name>/manifests/<reference>``: end-3, end-7 and end-9 of the distribution-spec."""

from __future__ import annotations

from app.oci.digest import Digest
from app.oci.errors import ManifestInvalid, SizeInvalid
from app.oci.manifest import MAX_MANIFEST_BYTES
from app.oci.reference import Name, Reference, Tag, parse_reference
from app.projects.quotas import Quotas
from app.projects.service import Projects
from app.registry.content import ClientGone, ManifestAnswer
from app.registry.manifests import Manifests

from .call import Call
from .contents import Contents
from .needs import PUSH

# The specification asks for at least ten; much more than this would not fit into a request line.
_MOST_TAGS = 100


class ManifestHandlers:
    def __init__(self, projects: Projects, contents: Contents, manifests: Manifests, quotas: Quotas) -> None:
        self._projects = projects
        self._contents = contents
        self._manifests = manifests
        self._quotas = quotas

    async def get(self, call: Call, name: Name, reference: str) -> None:
        parsed = parse_reference(reference)
        repository = await self._projects.open(name, call.grant)
        head = call.method == "HEAD"
        answer = await self._contents.of(repository).manifest(repository, parsed, call.client, head=head)
        headers = _headers(answer)
        if head and repository.id is not None and repository.upstream is None and call.grant.allows(name, PUSH):
            await self._manifests.keep(repository.id, answer.digest)
        etag = call.headers.get("If-None-Match")
        if etag is not None and f'"{answer.digest}"' in etag:
            await call.reply(304, headers, length=0)
        else:
            body = b"" if head or answer.payload is None else answer.payload
            await call.reply(200, headers, body, length=answer.size)

    async def put(self, call: Call, name: Name, reference: str) -> None:
        parsed = parse_reference(reference)
        tags = [Tag.parse(tag) for tag in call.query.get("tag", [])]
        if tags and not isinstance(parsed, Digest):
            raise ManifestInvalid("?tag= needs a push by digest: put the digest into the path")
        if len(tags) > _MOST_TAGS:
            raise ManifestInvalid("too many tags: at most %(most)s in one request", most=_MOST_TAGS, status=414)
        repository = await self._projects.open_to_write(name, call.grant)
        payload = await _payload(call)
        digest, manifest = await self._manifests.put(
            repository, parsed, tags, call.headers.get("Content-Type"), payload
        )
        for spelled in [f"{name}:{tag}" for tag in tags] or [_spelled(name, parsed)]:
            call.changes.append(("push", "artifact", spelled, (repository.project_id, name.project)))
        headers = [("Location", f"{call.address.place(name)}/manifests/{digest}"), ("Docker-Content-Digest", digest)]
        if tags:
            # All tags in one header, because many clients and proxies read at most a hundred headers.
            headers.append(("OCI-Tag", ", ".join(tags)))
        if manifest.subject is not None:
            headers.append(("OCI-Subject", manifest.subject.digest))
        warning = await self._quotas.warning(repository.project_id)
        if warning is not None:
            headers.append(("Warning", f'299 - "{warning}"'))
        await call.reply(201, headers)

    async def delete(self, call: Call, name: Name, reference: str) -> None:
        parsed = parse_reference(reference)
        repository = await self._projects.open(name, call.grant)
        await self._manifests.delete(repository, parsed)
        kind = "artifact" if isinstance(parsed, Digest) else "tag"
        call.changes.append(("delete", kind, _spelled(name, parsed), (repository.project_id, name.project)))
        await call.reply(202)


def _spelled(name: Name, reference: Reference) -> str:
    return f"{name}{'@' if isinstance(reference, Digest) else ':'}{reference}"


def _headers(answer: ManifestAnswer) -> list[tuple[str, str]]:
    headers = [
        ("Content-Type", answer.media_type),
        ("Docker-Content-Digest", answer.digest),
        ("ETag", f'"{answer.digest}"'),
    ]
    if answer.warning is not None:
        headers.append(("Warning", f'299 - "{answer.warning}"'))
    return headers


async def _payload(call: Call) -> bytes:
    length = call.headers.get("Content-Length")
    if length is not None and int(length) > MAX_MANIFEST_BYTES:
        raise _too_large()
    payload = bytearray()
    try:
        while (chunk := await call.read()) is not None:
            payload += chunk
            if len(payload) > MAX_MANIFEST_BYTES:
                raise _too_large()
    except ClientGone as gone:
        raise SizeInvalid("the manifest is incomplete; push it again") from gone
    return bytes(payload)


def _too_large() -> ManifestInvalid:
    return ManifestInvalid("a manifest may have %(most)s bytes at most", most=MAX_MANIFEST_BYTES, status=413)
