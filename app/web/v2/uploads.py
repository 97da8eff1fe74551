"""``/v2/<name>/blobs/uploads/``: end-4 to end-6, end-11, end-13 and end-14 of the distribution-spec."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from app.access.tokens import TokenOutdated
from app.database.uploads import UploadSession
from app.kit.facts import spending
from app.oci.digest import Digest
from app.oci.errors import DigestInvalid, NameInvalid, NameUnknown, SizeInvalid
from app.oci.ranges import parse_chunk
from app.oci.reference import Name
from app.projects.allowed_names import is_served
from app.projects.service import Projects, Repository
from app.registry.blobs import Blobs
from app.registry.uploads import Receiving, Uploads, range_header

from .call import Call


class UploadHandlers:
    def __init__(self, projects: Projects, uploads: Uploads, blobs: Blobs) -> None:
        self._projects = projects
        self._uploads = uploads
        self._blobs = blobs

    async def begin(self, call: Call, name: Name) -> None:
        query = call.query
        repository = await self._projects.open_to_write(name, call.grant)
        if "mount" in query and await self._mount(call, repository, query["mount"][0], query.get("from", [None])[0]):
            return
        digest = Digest.parse(query["digest"][0]) if "digest" in query else None
        algorithm = digest.algorithm if digest else query.get("digest-algorithm", ["sha256"])[0]
        session = await self._uploads.begin(repository, algorithm, call.grant.principal.subject)
        if digest is None:
            await call.reply(202, _status(call.address.place(name), session))
            return
        announced = _length(call)
        async with self._uploads.receive(repository, session, announced=announced, resumable=False) as receiving:
            await receiving.take(call.read)
            with spending("store"):
                await receiving.commit(digest)
        await _reply_created(call, name, digest)

    async def _mount(self, call: Call, repository: Repository, mount: str, source: str | None) -> bool:
        """Return whether a mount succeeded and was answered.

        If not, the client is asked for the bytes (202), and never learns the reason.
        """
        try:
            digest = Digest.parse(mount)
            origin = None
            if source is not None:
                source_name = Name.parse(source)
                if not call.grant.allows(source_name, "pull"):
                    return False
                origin = await self._projects.open(source_name, call.grant)
                if not is_served(origin.settings, source_name.repository):
                    return False
        except (DigestInvalid, NameInvalid, NameUnknown, TokenOutdated):
            return False
        if not await self._blobs.mount(repository, digest, origin, call.grant.principal.subject):
            return False
        await _reply_created(call, repository.name, digest)
        return True

    async def patch(self, call: Call, name: Name, upload_id: str) -> None:
        repository = await self._projects.open_to_write(name, call.grant)
        async with await self._open(call, repository, upload_id) as receiving:
            await receiving.take(call.read)
        await call.reply(202, _status(call.address.place(name), receiving.session))

    async def put(self, call: Call, name: Name, upload_id: str) -> None:
        digests = call.query.get("digest")
        if not digests:
            raise DigestInvalid("the closing PUT needs ?digest= with the digest of the whole blob")
        digest = Digest.parse(digests[0])
        repository = await self._projects.open_to_write(name, call.grant)
        async with await self._open(call, repository, upload_id) as receiving:
            await receiving.take(call.read)
            with spending("store"):
                await receiving.commit(digest)
        await _reply_created(call, name, digest)

    async def get(self, call: Call, name: Name, upload_id: str) -> None:
        session = await self._uploads.find(await self._projects.open_to_write(name, call.grant), upload_id)
        await call.reply(204, _status(call.address.place(name), session))

    async def delete(self, call: Call, name: Name, upload_id: str) -> None:
        await self._uploads.cancel(await self._projects.open_to_write(name, call.grant), upload_id)
        await call.reply(204)

    async def _open(self, call: Call, repository: Repository, upload_id: str) -> AbstractAsyncContextManager[Receiving]:
        chunk = parse_chunk(call.headers.get("Content-Range"))
        length = _length(call)
        if chunk is not None and length is not None and length != chunk.length:
            raise SizeInvalid(
                "Content-Range announces %(promised)s bytes, but Content-Length %(length)s; both must agree",
                promised=chunk.length,
                length=length,
            )
        session = await self._uploads.find(repository, upload_id)
        return self._uploads.receive(repository, session, chunk, announced=length)


def _length(call: Call) -> int | None:
    length = call.headers.get("Content-Length")
    return None if length is None else int(length)


def _status(place: str, session: UploadSession) -> list[tuple[str, str]]:
    return [
        ("Location", f"{place}/blobs/uploads/{session.id}"),
        ("Docker-Upload-UUID", session.id),
        ("Range", range_header(session)),
    ]


async def _reply_created(call: Call, name: Name, digest: Digest) -> None:
    call.facts.digest = digest
    await call.reply(
        201, [("Location", f"{call.address.place(name)}/blobs/{digest}"), ("Docker-Content-Digest", digest)]
    )
