"""``/v2/<name>/manifests/<reference>``: end-3, end-7 and end-9 of the distribution-spec."""

from __future__ import annotations

from app.oci.accept import reads_indexes
from app.oci.conditions import etag
from app.oci.digest import Digest
from app.oci.errors import ManifestInvalid, ManifestUnknown, SizeInvalid
from app.oci.manifest import DOCKER_LIST, INDEX_TYPES, MAX_MANIFEST_BYTES
from app.oci.reference import Name, Reference, Tag, parse_reference, spelled
from app.projects.quotas import Quotas
from app.projects.service import Projects, Repository
from app.registry.content import ClientGone, ManifestAnswer
from app.registry.image_details import default_child
from app.registry.manifests import Manifests

from .call import Call
from .contents import Contents
from .needs import PUSH

# The specification asks for at least ten; much more than this would not fit into a request line.
_MOST_TAGS = 100
# A payload is read in pieces of this size; almost every one fits into the first.
_PIECE_BYTES = 16 * 1024


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
        conditions = call.conditions
        # A condition is tested before the payload is asked for, which may cost an upstream's pull.
        answer = await self._find(call, repository, parsed, head=head or conditions.any)
        if conditions.any:
            if conditions.not_modified(answer.digest):
                await call.reply(304, _headers(answer), length=0)
                return
            if not head:
                answer = await self._find(call, repository, parsed, head=False)
        if head and repository.id is not None and repository.upstream is None and call.grant.allows(name, PUSH):
            await self._manifests.keep(repository.id, answer.digest)
        call.facts.digest = answer.digest
        body = b"" if head or answer.payload is None else answer.payload
        await call.reply(200, _headers(answer), body, length=answer.size)

    async def _find(self, call: Call, repository: Repository, reference: Reference, *, head: bool) -> ManifestAnswer:
        """Return a manifest; for a client that reads no indexes, one of a single image. Raises ManifestUnknown.

        As in distribution, that is the image for linux/amd64 of a Docker list, and an error for an OCI index.
        """
        content, accept = self._contents.of(repository), call.headers.get("Accept")
        answer = await content.manifest(repository, reference, call.client, head=head)
        if answer.media_type not in INDEX_TYPES or reads_indexes(accept):
            return answer
        if answer.media_type == DOCKER_LIST:
            if isinstance(reference, Digest):
                return answer
            if answer.payload is None:
                answer = await content.manifest(repository, reference, call.client, head=False)
            chosen = default_child(answer.payload or b"")
            if chosen is not None:
                return await content.manifest(repository, chosen, call.client, head=head)
        raise ManifestUnknown(
            "%(name)s is an image index, but the request's Accept header names no type of index; use a newer client",
            name=spelled(repository.name, reference),
        )

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
            repository, parsed, tags, call.headers.get("Content-Type"), payload, call.grant.principal.subject
        )
        call.facts.digest = digest
        named: list[Reference] = [*tags] or [parsed]
        for pushed in named:
            call.changes.append(("push", "artifact", spelled(name, pushed), (repository.project_id, name.project)))
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
        await self._manifests.delete(repository, parsed, call.grant.principal.subject)
        kind = "artifact" if isinstance(parsed, Digest) else "tag"
        call.changes.append(("delete", kind, spelled(name, parsed), (repository.project_id, name.project)))
        await call.reply(202)


def _headers(answer: ManifestAnswer) -> list[tuple[str, str]]:
    headers = [
        ("Content-Type", answer.media_type),
        ("Docker-Content-Digest", answer.digest),
        ("ETag", etag(answer.digest)),
        ("Vary", "Accept"),
    ]
    if answer.warning is not None:
        headers.append(("Warning", f'299 - "{answer.warning}"'))
    return headers


async def _payload(call: Call) -> bytes:
    length = call.headers.get("Content-Length")
    if length is not None and int(length) > MAX_MANIFEST_BYTES:
        raise _too_large()
    room, payload = memoryview(bytearray(_PIECE_BYTES)), bytearray()
    try:
        while count := await call.read(room):
            payload += room[:count]
            call.hold(count)
            if len(payload) > MAX_MANIFEST_BYTES:
                raise _too_large()
    except ClientGone as gone:
        raise SizeInvalid("the manifest is incomplete; push it again") from gone
    return bytes(payload)


def _too_large() -> ManifestInvalid:
    return ManifestInvalid("a manifest may have %(most)s bytes at most", most=MAX_MANIFEST_BYTES, status=413)
