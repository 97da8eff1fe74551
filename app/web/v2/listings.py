"""Tags, referrers, the catalogue and ``/v2/``: end-1, end-8 and end-12 of the distribution-spec."""

from __future__ import annotations

import json
from typing import Any

from app.oci.digest import Digest
from app.oci.manifest import OCI_INDEX
from app.oci.reference import Name
from app.projects.service import Projects
from app.registry.catalogue import Catalogue
from app.registry.content import Listed

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
        tags = await self._contents.of(repository).tags(repository, last, count, call.client)
        headers = [_JSON, *_warning(tags)]
        if tags.more and tags.entries:
            headers.append(next_link(call, {"n": str(count), "last": tags.entries[-1]}))
        await _reply(call, headers, {"name": call.address.spelled(name), "tags": tags.entries})

    async def referrers(self, call: Call, name: Name, reference: str) -> None:
        query = call.query
        count, last = page_size(query) or 1, after(query)
        kind = query.get("artifactType", [""])[0] or None
        subject = Digest.parse(reference)
        repository = await self._projects.open(name, call.grant)
        found = await self._contents.of(repository).referrers(repository, subject, kind, last, count, call.client)
        headers = [("Content-Type", OCI_INDEX), *_warning(found)]
        if kind is not None:
            headers.append(("OCI-Filters-Applied", "artifactType"))
        if found.more and found.entries:
            more = {"n": str(count), "last": str(found.entries[-1]["digest"])}
            more |= {"artifactType": kind} if kind else {}
            headers.append(next_link(call, more))
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found.entries}
        await _reply(call, headers, document)

    async def catalogue(self, call: Call) -> None:
        query = call.query
        count, last = page_size(query), after(query)
        names, more = await self._catalogue.page(last, count, everything=call.grant.may_list_everything)
        headers = [_JSON]
        if more is not None:
            headers.append(next_link(call, {"n": str(count), "last": more}))
        await _reply(call, headers, {"repositories": names})


def _warning(listed: Listed[Any]) -> list[tuple[str, str]]:
    return [] if listed.warning is None else [("Warning", f'299 - "{listed.warning}"')]


async def _reply(call: Call, headers: list[tuple[str, str]], document: object) -> None:
    body = json.dumps(document).encode()
    await call.reply(200, headers, body if call.method == "GET" else b"", length=len(body))
