"""What a mirror has that nothing refers to goes when nobody pulls it; what is hosted so stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from app.database import Database
from app.kit.write_behind import _FLUSH_SECONDS
from app.registry.garbage_collection import GRACE_SECONDS, UNPULLED_SECONDS, GarbageCollection
from app.storage.filesystem import FilesystemStore
from tests.api.client import Registry
from tests.images import Image
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client
from .conftest import Make
from .inside import committed, database, sql


class Collection:
    """The service's own collection, run by a test at a later time: the workers write notes of pulls at any moment."""

    def __init__(self, service: Service, within: GarbageCollection, monkeypatch: pytest.MonkeyPatch) -> None:
        self._service, self._within = service, within
        self._passed, now = 0.0, time.time
        monkeypatch.setattr(time, "time", lambda: now() + self._passed)

    async def after(self, image: Image, seconds: float, *, pulled: bool) -> None:
        """Let so much time pass, with a pull of the image just before the end of it or none, and collect."""
        self._passed += seconds
        if pulled:
            for table, digests in (("manifest", image.manifests), ("link", image.blobs)):
                for digest in digests:
                    sql(self._service, f"UPDATE {table} SET pulled_at = ? WHERE digest = ?", time.time(), digest)
        await self._within.collect()


@pytest.fixture
async def collection(service: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collection]:
    """What the service does once a minute by itself."""
    opened, store = Database(database(service)), FilesystemStore(service.folder / "data" / "blobs")
    await store.start()
    yield Collection(service, GarbageCollection(opened, store), monkeypatch)
    await store.close()
    await opened.close()


def manifests(service: Service, image: Image) -> set[str]:
    """Give the manifests of an image that the service has."""
    return {digest for digest in image.manifests if sql(service, "SELECT 1 FROM manifest WHERE digest = ?", digest)}


async def test_what_was_pulled_by_digest_alone_has_an_end(
    hub: Hub, service: Service, client: Client, repository: str, make: Make, collection: Collection
) -> None:
    image = hub.add(make(), repository, "8.0")
    name, child = f"mirror/{repository}", image.platform("linux/amd64")
    await client.pull(name, image.digest, image)
    await committed(service)
    await collection.after(image, UNPULLED_SECONDS - 60, pulled=False)
    assert manifests(service, image) == {image.digest, child.digest}
    await collection.after(image, 120, pulled=False)
    assert image.digest not in manifests(service, image)
    # What it alone has referred to goes a day later at the latest, and the blobs a day after that.
    await collection.after(image, GRACE_SECONDS + 60, pulled=False)
    assert manifests(service, image) == set()
    await collection.after(image, GRACE_SECONDS + 60, pulled=False)
    for digest in image.blobs:
        assert sql(service, "SELECT 1 FROM link WHERE digest = ?", digest) == []
    hub.reset_counters()
    await client.pull(name, image.digest, image)
    assert hub.counters().get_manifest == 2


async def test_what_is_pulled_by_digest_now_and_then_stays(
    hub: Hub, service: Service, client: Client, repository: str, make: Make, collection: Collection
) -> None:
    image = hub.add(make(sizes=(1_000,)), repository, "8.0")
    name = f"mirror/{repository}"
    await client.pull(name, image.digest, image)
    await committed(service)
    # The workers' notes of this pull must not come later, at their own time.
    await asyncio.sleep(_FLUSH_SECONDS + 1)
    for _ in range(3):
        await collection.after(image, UNPULLED_SECONDS + 60, pulled=True)
        assert manifests(service, image) == {image.digest}
    hub.down()
    await client.pull(name, image.digest, image)
    hub.up()
    await collection.after(image, UNPULLED_SECONDS + 60, pulled=False)
    assert manifests(service, image) == set()


async def test_what_has_a_tag_stays_whoever_pulls_it(
    hub: Hub, service: Service, client: Client, repository: str, make: Make, collection: Collection
) -> None:
    image = hub.add(make(), repository, "8.0")
    name = f"mirror/{repository}"
    await client.pull(name, image.digest, image)
    await client.pull(name, "8.0", image)
    await committed(service)
    await collection.after(image, 2 * UNPULLED_SECONDS, pulled=False)
    assert len(manifests(service, image)) == 2


async def test_what_was_pushed_by_digest_alone_stays(
    service: Service, admin: Client, make: Make, collection: Collection
) -> None:
    image = make(sizes=(1_000,))
    registry = Registry(service.host, service.username, service.password)
    await asyncio.to_thread(registry.push_image, "lab/pinned", image.digest, image)
    await collection.after(image, 2 * UNPULLED_SECONDS, pulled=False)
    await admin.pull("lab/pinned", image.digest, image)
