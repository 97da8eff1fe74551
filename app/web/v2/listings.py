"""Tags, referrers, the catalogue and ``/v2/``: end-1, end-8 and end-12 of the distribution-spec."""

from __future__ import annotations

import json

from app.oci.digest import Digest
from app.oci.manifest import OCI_INDEX
from app.oci.reference import Name
from app.projects.service import Projects
from app.registry.catalogue import Catalogue

from .call import Call
from .contents import Contents
from .paging import after, next_link, page_size

_JSON = ("Content-Type", "application/json")


class ListingHandlers:
    def __init__(self, projects: Projects, contents: Contents, catalogue: Catalogue) -> None:
        self._projects = projects
        self._contents = contents
        self._catalogue = catalogue

    async def root(self, call: Call) -> None:
        await _reply(call, [_JSON], {})

    async def tags(self, call: Call, name: Name) -> None:
        query = call.query
        count, last = page_size(query), after(query)
        repository = await self._projects.open(name, call.grant)
        # Read one tag more than the page has, to learn whether there is a next page.
        tags = await self._contents.of(repository).tags(repository, last, count + 1)
        headers = [_JSON]
        if 0 < count < len(tags):
            headers.append(next_link(call, {"n": str(count), "last": tags[count - 1]}))
        await _reply(call, headers, {"name": call.address.spelled(name), "tags": tags[:count]})

    async def referrers(self, call: Call, name: Name, reference: str) -> None:
        query = call.query
        count, last = page_size(query) or 1, after(query)
        kind = query.get("artifactType", [""])[0] or None
        subject = Digest.parse(reference)
        repository = await self._projects.open(name, call.grant)
        found, there_are_more = (
            await self._contents.of(repository).referrers(repository, subject, kind, last, count)
            if repository.id is not None
            else ([], False)
        )
        headers = [("Content-Type", OCI_INDEX)]
        if kind is not None:
            headers.append(("OCI-Filters-Applied", "artifactType"))
        if there_are_more:
            more = {"n": str(count), "last": found[-1].digest} | ({"artifactType": kind} if kind else {})
            headers.append(next_link(call, more))
        descriptors = []
        for item in found:
            descriptor: dict[str, object] = {"mediaType": item.media_type, "digest": item.digest, "size": item.size}
            if item.artifact_type:
                descriptor["artifactType"] = item.artifact_type
            if item.annotations:
                descriptor["annotations"] = item.annotations
            descriptors.append(descriptor)
        await _reply(call, headers, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors})

    async def catalogue(self, call: Call) -> None:
        query = call.query
        count, last = page_size(query), after(query)
        names, more = await self._catalogue.page(last, count, everything=call.grant.may_list_everything)
        headers = [_JSON]
        if more is not None:
            headers.append(next_link(call, {"n": str(count), "last": more}))
        await _reply(call, headers, {"repositories": names})


async def _reply(call: Call, headers: list[tuple[str, str]], document: object) -> None:
    body = json.dumps(document).encode()
    await call.reply(200, headers, body if call.method == "GET" else b"", length=len(body))
