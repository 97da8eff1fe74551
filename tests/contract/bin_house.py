"""A registry with a bin of a week."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.access.computations import Computations
from app.access.permissions import Permissions
from app.database import Database
from app.database.binned import Entry
from app.database.keyset import Page
from app.oci.digest import Digest
from app.oci.errors import ManifestUnknown, NameUnknown
from app.oci.reference import Tag
from app.projects.service import Projects
from app.registry.artifacts import Artifacts
from app.registry.bin import Bin
from app.registry.content import Client, HostedContent
from app.registry.garbage_collection import GarbageCollection
from app.registry.manifests import Manifests
from app.registry.payloads import Payloads
from app.registry.pulls import Pulls
from app.registry.repositories import Repositories
from tests.api.documents import EMPTY, fresh, image

from .house import POLICY, House
from .rows import rows

DAY = 24 * 3600.0
MARI = "person:mari"
ANYBODY = Client("somebody", may_fill=True)
EVERYTHING: Page[str] = Page(100)


class BinHouse(House):
    """The services, with a bin."""

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(database, folder)
        policy = replace(POLICY, default_quota=10**7, most_quota=10**8, bin_days=7)
        payloads = Payloads(None)
        self.manifests = Manifests(database, payloads, Computations(), has_bin=True)
        self.artifacts = Artifacts(database, self.store, Computations(), has_bin=True)
        self.repositories = Repositories(database, has_bin=True)
        self.projects = Projects(database, policy, ["docker.io"], lambda text: text[::-1])
        self.collection = GarbageCollection(database, self.store, 7)
        self.bin = Bin(database, payloads, Permissions(database), policy)
        self.content = HostedContent(database, self.manifests, self.blobs, Pulls(database))

    async def days_pass(self, days: float) -> None:
        """Let everything that is waited for have begun earlier, and collect."""
        columns = {"review": "review_at", "garbage": "remove_at", "repository": "deleted_at", "project": "deleted_at"}
        async with self.database.transaction() as transaction:
            for table, column in columns.items():
                await transaction.execute(text(f"UPDATE {table} SET {column} = {column} - {days * DAY}"))
        await self.collection.collect()

    async def image(self, *tags: str, to: str = "physics/app", size: int = 2000, **more: Any) -> Digest:
        """Push an image of a layer of its own."""
        layer = fresh(size)
        for data in (EMPTY, layer):
            await self.push_blob(data, to=to)
        return await self.push(image(layer, **more), *tags, to=to)

    async def delete(self, reference: str, name: str = "physics/app") -> None:
        parsed = Digest(reference) if ":" in reference else Tag(reference)
        await self.manifests.delete(await self.open(name), parsed, MARI)

    async def entries(self, project_id: int) -> list[Entry]:
        return list(await self.bin.page(project_id, EVERYTHING))

    async def only(self, project_id: int) -> Entry:
        (entry,) = await self.entries(project_id)
        return entry

    async def pulls(self, reference: str, name: str = "physics/app") -> bool:
        """Say whether a client can pull a manifest with all its blobs."""
        parsed = Digest(reference) if ":" in reference else Tag(reference)
        repository = await self.open(name)
        try:
            found = await self.content.manifest(repository, parsed, ANYBODY, head=False)
        except (ManifestUnknown, NameUnknown):
            return False
        assert repository.id is not None
        here = f"repository_id = {repository.id}"
        parts = await rows(self.database, f"SELECT digest FROM part WHERE {here} AND manifest = '{found.digest}'")
        linked = {row[0] for row in await rows(self.database, f"SELECT digest FROM link WHERE {here}")}
        manifests = {row[0] for row in await rows(self.database, f"SELECT digest FROM manifest WHERE {here}")}
        return {row[0] for row in parts} <= linked | manifests

    async def listed(self, name: str = "physics/app") -> list[str]:
        return list((await self.content.tags(await self.open(name), "", 100, ANYBODY)).entries)

    async def referrers(self, subject: Digest, name: str = "physics/app") -> list[object]:
        listed = await self.content.referrers(await self.open(name), subject, None, "", 100, ANYBODY)
        return [one["digest"] for one in listed.entries]


@asynccontextmanager
async def bin_house(database: Database, folder: Path) -> AsyncIterator[BinHouse]:
    """Open the services on a folder of blobs; at the end, each project must be charged for what it has."""
    house = BinHouse(database, folder)
    await house.store.start()
    yield house
    await house.check_books()
    await house.store.close()
