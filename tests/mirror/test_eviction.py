"""A mirror with a bound: what was not pulled for longest goes first, and never under the hands of who reads it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.database import Database
from app.mirror.eviction import Eviction
from app.oci.digest import Digest
from app.registry.garbage_collection import GarbageCollection
from app.storage.filesystem import FilesystemStore
from tests.api.client import Registry
from tests.images import Image
from tests.parts.process import eventually
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client, matching
from .conftest import Make, clean_log
from .inside import committed, database, sql

_BOUND = 1_000_000
_LAYER = 400_000
_LONG_AGO = 1_000_000
_SMALL = [f"small{number}" for number in range(8)]
_unused = iter(_SMALL)


@pytest.fixture(scope="module")
def started(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    projects: dict[str, Any] = {name: {"upstream": "docker.io", "cache_bytes": _BOUND} for name in _SMALL}
    overrides = {"projects": projects | {"lab": {}}}
    with Service(
        tmp_path_factory.mktemp("small"), upstream=hub_process.url, processes=2, overrides=overrides
    ) as service:
        yield service


@pytest.fixture
def bounded(started: Service) -> Iterator[Service]:
    """Two workers and mirrors that may take up a megabyte each."""
    with clean_log(started):
        yield started


@pytest.fixture
def small() -> str:
    """Give a mirror that nobody has used."""
    return next(_unused)


@pytest.fixture
async def shared(bounded: Service) -> AsyncIterator[Database]:
    """The service's own database, for what it does once a minute by itself."""
    opened = Database(database(bounded))
    yield opened
    await opened.close()


@pytest.fixture
async def someone(bounded: Service) -> AsyncIterator[Client]:
    async with Client(bounded.url) as client:
        yield client


def used(service: Service, project: str) -> int:
    """Give what a project is charged, having checked that it is what its blobs, manifests and tags take up."""
    ((charged, counted),) = sql(
        service,
        "SELECT used_bytes, (SELECT coalesce(sum(size), 0) FROM blob WHERE digest IN"
        " (SELECT digest FROM link WHERE project_id = project.id))"
        " + (SELECT coalesce(sum(charged_bytes), 0) FROM manifest WHERE repository_id IN"
        " (SELECT id FROM repository WHERE project_id = project.id))"
        " + (SELECT coalesce(sum(charged_bytes), 0) FROM tag WHERE repository_id IN"
        " (SELECT id FROM repository WHERE project_id = project.id)) FROM project WHERE name = ?",
        project,
    )
    assert charged == counted
    return int(charged)


def pulled(service: Service, project: str, image: Image, ago: float) -> None:
    """Make all blobs of an image look as if they were pulled so many seconds ago, in every repository of a project."""
    for digest in image.blobs:
        sql(
            service,
            "UPDATE link SET pulled_at = ? WHERE digest = ? AND project_id = (SELECT id FROM project WHERE name = ?)",
            time.time() - ago,
            digest,
            project,
        )


async def written_down(service: Service, image: Image) -> None:
    """Wait until the workers have written down when the image was pulled."""

    async def recent() -> bool:
        rows = [sql(service, "SELECT min(pulled_at) FROM link WHERE digest = ?", digest) for digest in image.blobs]
        return all(row[0][0] > time.time() - 100 for row in rows)

    await eventually(recent, what="the pulls to be written down")


def evicted(project: str) -> float:
    return REGISTRY.get_sample_value("registry_mirror_evicted_bytes_total", {"project": project}) or 0.0


async def fill_up(hub: Hub, service: Service, client: Client, project: str, make: Make, count: int) -> dict[str, Image]:
    """Pull so many images of one layer each, the first one longest ago."""
    images = {f"library/{project}{number}": make(sizes=(_LAYER,)) for number in range(count)}
    for name, image in images.items():
        hub.add(image, name, "1")
        await client.pull(f"{project}/{name}", "1", image)
    await committed(service)
    for number, image in enumerate(images.values()):
        pulled(service, project, image, _LONG_AGO - number)
    return images


async def test_what_was_not_pulled_for_longest_goes(
    hub: Hub, bounded: Service, small: str, shared: Database, someone: Client, make: Make
) -> None:
    images = await fill_up(hub, bounded, someone, small, make, 5)
    (first, oldest), *middle, (last, newest) = images.items()
    before = used(bounded, small)
    assert before > 2 * _BOUND
    # The oldest one is wanted again, and so no longer the one to go.
    await someone.pull(f"{small}/{first}", "1", oldest)
    await written_down(bounded, oldest)

    await Eviction(shared).make_room()

    assert used(bounded, small) <= _BOUND
    assert evicted(small) == before - used(bounded, small)
    hub.reset_counters()
    for name, image in ((first, oldest), (last, newest)):
        await someone.pull(f"{small}/{name}", "1", image)
    assert hub.counters().get_blob == 0
    for name, image in middle:
        # Its tag and its manifest are here still, so it costs no pull of the upstream's limit.
        await someone.pull(f"{small}/{name}", "1", image)
    asked = hub.counters()
    assert asked.get_manifest == 0
    assert set(asked.blob_gets) == {layer for _, image in middle for layer in image.blobs}


async def test_below_the_bound_nothing_goes(
    hub: Hub, bounded: Service, small: str, shared: Database, someone: Client, make: Make
) -> None:
    await fill_up(hub, bounded, someone, small, make, 2)
    before = used(bounded, small)
    await Eviction(shared).make_room()
    assert used(bounded, small) == before <= _BOUND


async def test_what_was_pulled_just_now_stays(
    hub: Hub, bounded: Service, small: str, shared: Database, someone: Client, make: Make
) -> None:
    images = await fill_up(hub, bounded, someone, small, make, 4)
    for image in images.values():
        pulled(bounded, small, image, 60)
    before = used(bounded, small)
    await Eviction(shared).make_room()
    assert used(bounded, small) == before > _BOUND


async def test_what_is_being_read_is_read_to_its_end(
    hub: Hub, bounded: Service, small: str, shared: Database, someone: Client, make: Make
) -> None:
    image = hub.add(make(sizes=(32_000_000,)), "library/large", "1")
    name, (layer,) = f"{small}/library/large", image.layers
    data = image.blobs[layer]
    await someone.pull(name, "1", image)
    await committed(bounded)
    pulled(bounded, small, image, _LONG_AGO)
    ((key,),) = sql(bounded, "SELECT object_key FROM blob WHERE digest = ?", layer)
    for digest in image.blobs:
        assert (await someone.blob(name, digest, span="0-9")).status == 206
    async with someone.open("GET", f"/v2/{name}/blobs/{layer}") as response:
        first = await response.content.readany()
        await written_down(bounded, image)
        await Eviction(shared).make_room()
        assert sql(bounded, "SELECT 1 FROM blob WHERE digest = ?", layer)
        # Even where the reader is so slow that it looks forgotten, and the bytes are removed.
        pulled(bounded, small, image, _LONG_AGO)
        await Eviction(shared).make_room()
        assert not sql(bounded, "SELECT 1 FROM blob WHERE digest = ?", layer)
        sql(bounded, "UPDATE garbage SET remove_at = 0 WHERE remove_at < ?", time.time() + 3600)
        store = FilesystemStore(bounded.folder / "data" / "blobs")
        await store.start()
        await GarbageCollection(shared, store).collect()
        place = await store.locate(key)
        assert isinstance(place, Path)
        assert not place.exists()
        await store.close()
        assert await matching(response, data[len(first) :]) == len(data) - len(first)
    assert used(bounded, small) < _BOUND
    await someone.pull(name, "1", image)
    assert hub.counters().blob_gets[layer] == 2


async def test_a_blob_of_two_repositories_is_room_once(
    hub: Hub, bounded: Service, small: str, shared: Database, someone: Client, make: Make
) -> None:
    both, recent = make(sizes=(_LAYER, _LAYER)), make(sizes=(_LAYER,))
    for name, image in (("library/one", both), ("library/two", both), ("library/three", recent)):
        hub.add(image, name, "1")
        await someone.pull(f"{small}/{name}", "1", image)
        await committed(bounded)
    pulled(bounded, small, both, _LONG_AGO)
    pulled(bounded, small, recent, _LONG_AGO - 10)
    before = used(bounded, small)
    assert before > _BOUND
    await Eviction(shared).make_room()
    assert used(bounded, small) <= _BOUND
    assert evicted(small) == before - used(bounded, small)
    hub.reset_counters()
    await someone.pull(f"{small}/library/three", "1", recent)
    assert hub.counters().get_blob == 0


async def test_what_is_hosted_too_stays_there(
    hub: Hub, bounded: Service, small: str, shared: Database, someone: Client, make: Make
) -> None:
    images = await fill_up(hub, bounded, someone, small, make, 3)
    hosted = next(iter(images.values()))
    registry = Registry(bounded.host, bounded.username, bounded.password)
    await asyncio.to_thread(registry.push_image, "lab/kept", "1", hosted)
    await Eviction(shared).make_room()
    assert used(bounded, small) <= _BOUND
    await someone.pull("lab/kept", "1", hosted)
    await someone.pull(f"{small}/library/{small}0", "1", hosted)
    assert all(hub.counters().blob_gets[digest] == 1 for digest in hosted.blobs)


async def test_room_is_made_while_everybody_pulls(
    hub: Hub, bounded: Service, small: str, shared: Database, someone: Client, make: Make
) -> None:
    images = await fill_up(hub, bounded, someone, small, make, 4)

    async def evict() -> None:
        for _ in range(10):
            for image in images.values():
                pulled(bounded, small, image, _LONG_AGO)
            await asyncio.gather(Eviction(shared).make_room(), Eviction(shared).make_room())

    async def pull(name: str, image: Image) -> None:
        for _ in range(20):
            await someone.pull(f"{small}/{name}", "1", image)

    await asyncio.gather(evict(), *(pull(name, image) for name, image in images.items()))
    await committed(bounded)
    used(bounded, small)


def annotated(image: Image, words: str) -> Image:
    payload = json.dumps(image.document | {"annotations": {"text": words}}).encode()
    digest = Digest.of(payload)
    return Image(image.blobs, {digest: (image.media_type, payload)}, digest)


async def test_manifests_count_and_go_if_they_alone_are_too_many(
    hub_process: Hub, bounded: Service, shared: Database, someone: Client, small: str, make: Make
) -> None:
    name = f"library/{small}x"
    for number in range(4):
        image = annotated(make(sizes=(1000,)), f"{number}" * 200_000)
        hub_process.add(image, name, str(number))
        await someone.pull(f"{small}/{name}", str(number), image)
    await committed(bounded)
    assert used(bounded, small) > _BOUND
    await Eviction(shared).make_room()
    assert used(bounded, small) > _BOUND, "all were pulled just now"
    here = "repository_id IN (SELECT r.id FROM repository r JOIN project p ON p.id = r.project_id WHERE p.name = ?)"

    async def noted() -> bool:
        return sql(bounded, f"SELECT 1 FROM manifest WHERE pulled_at = created_at AND {here}", small) == []

    # Written later, they would be pulls of just now again.
    await eventually(noted, what="the pulls to be written down")
    sql(bounded, f"UPDATE link SET pulled_at = 1 WHERE {here}", small)
    sql(bounded, f"UPDATE manifest SET pulled_at = created_at - 1000 WHERE {here}", small)
    await Eviction(shared).make_room()
    assert 0 < used(bounded, small) <= _BOUND
    ((left,),) = sql(bounded, f"SELECT count(*) FROM manifest WHERE {here}", small)
    assert 1 <= left < 4
