"""Many clients that want the same cold image at once: the upstream gives it once, whatever breaks on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.images import Image, lab_image
from tests.parts.process import eventually
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client
from .conftest import Make, clean_log
from .crowd import at_once, crowd
from .inside import committed, filler, manifest_leader, sql, worker_of

_CLASS = 64
_HELD_BACK = 1_000_000


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.long), 2], ids=["one-worker", "two-workers"])
def started(
    request: pytest.FixtureRequest, hub_process: Hub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("herd"), upstream=hub_process.url, processes=request.param) as service:
        yield service


@pytest.fixture
def herded(started: Service) -> Iterator[Service]:
    """A service that has nothing cached of the lab's image, of one worker and of two."""
    with clean_log(started):
        yield started


class Reader:
    """One client that reads one blob: its first bytes when they come, the rest when it is told to."""

    def __init__(self, client: Client, name: str, digest: str, image: Image) -> None:
        self.client = client
        self.data = image.blobs[digest]
        self.first = 0
        self.worker = 0
        self._path = f"/v2/{name}/blobs/{digest}"
        self._stack = AsyncExitStack()

    async def begin(self, service: Service) -> None:
        """Return when the first bytes are there."""
        self._response = await self._stack.enter_async_context(self.client.open("GET", self._path))
        assert self._response.status == 200
        assert self._response.content_length == len(self.data)
        piece = await self._response.content.readany()
        assert piece == self.data[: len(piece)]
        self.first = len(piece)
        self.worker = worker_of(service, self._response)

    async def end(self) -> int:
        """Read the rest and give how many bytes came altogether, all of them right; fewer where they were cut."""
        rest, got = self.data[self.first :], self.first
        try:
            async for piece in self._response.content.iter_any():
                assert piece == rest[got - self.first : got - self.first + len(piece)]
                got += len(piece)
        except aiohttp.ClientError:
            assert got < len(self.data)
        await self.leave()
        return got

    async def leave(self) -> None:
        await self._stack.aclose()


async def begun(clients: list[Client], service: Service, name: str, digest: str, image: Image) -> list[Reader]:
    """Have every client begin to read a blob, and wait until each has its first bytes."""
    readers = [Reader(client, name, digest, image) for client in clients]
    await asyncio.gather(*(reader.begin(service) for reader in readers))
    assert all(reader.first for reader in readers)
    return readers


async def test_a_class_pulls_a_cold_image(herded: Service, hub: Hub) -> None:
    index = hub.add(lab_image(), "library/lab", "1")
    image = index.platform("linux/amd64")
    hub.pace(bandwidth=50e6, latency=0.03)
    slow, *others = image.layers
    hub.fault("cdn", "stall", path=f"/data/{slow}", after=_HELD_BACK)

    async def manifests(client: Client) -> None:
        await client.pull_manifest("mirror/library/lab", "1", index.digest, index)
        await client.pull_manifest("mirror/library/lab", image.digest, image.digest, index)

    async def rest(client: Client) -> None:
        for digest in (*others, image.document["config"]["digest"]):
            await client.pull_blob("mirror/library/lab", digest, image)

    async with crowd(herded, _CLASS) as clients:
        await at_once(clients, manifests)
        readers = await begun(clients, herded, "mirror/library/lab", slow, image)
        # Everybody has the first bytes while the upstream has not sent the last.
        assert hub.counters().blob_bytes[slow] == _HELD_BACK
        assert len({reader.worker for reader in readers}) == len(herded.pids())
        hub.clear_faults()
        assert await asyncio.gather(*(reader.end() for reader in readers)) == [len(readers[0].data)] * _CLASS
        await at_once(clients, rest)

    asked = hub.counters()
    assert asked.get_manifest == 2
    assert asked.blob_gets == dict.fromkeys(image.blobs, 1)
    assert asked.blob_bytes == {digest: len(data) for digest, data in image.blobs.items()}
    assert asked.head_manifest <= 1 + len(herded.pids())  # of the tag, and of each worker for its budget
    assert asked.head_blob == 0
    await committed(herded)
    assert {row[0] for row in sql(herded, "SELECT digest FROM blob")} >= set(image.blobs)


async def test_an_upstream_that_is_cut_at_half_a_layer(herded: Service, hub: Hub, repository: str, make: Make) -> None:
    image = hub.add(make(sizes=(4_000_000, 4_000_000)), repository, "1")
    hub.pace(bandwidth=50e6, latency=0.03)
    for layer in image.layers:
        hub.fault("cdn", "cut", path=f"/data/{layer}")
    async with crowd(herded, _CLASS) as clients:
        await at_once(clients, lambda client: client.pull(f"mirror/{repository}", "1", image))
    asked = hub.counters()
    assert asked.get_manifest == 1
    for layer in image.layers:
        assert asked.blob_gets[layer] == 2
        assert asked.blob_bytes[layer] < 1.4 * len(image.blobs[layer])


async def test_the_client_that_came_first_may_leave(herded: Service, hub: Hub, repository: str, make: Make) -> None:
    image = hub.add(make(sizes=(4_000_000,)), repository, "1")
    (layer,) = image.layers
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=_HELD_BACK)
    name = f"mirror/{repository}"
    async with crowd(herded, _CLASS) as clients:
        await clients[0].pull_manifest(name, "1", image.digest, image)
        (first,) = await begun([clients[0]], herded, name, layer, image)
        readers = await begun(clients[1:], herded, name, layer, image)
        await first.leave()
        for reader in readers[:8]:
            await reader.leave()
        hub.clear_faults()
        got = await asyncio.gather(*(reader.end() for reader in readers[8:]))
        assert set(got) == {len(image.blobs[layer])}
    assert hub.counters().blob_gets[layer] == 1


async def test_every_client_may_leave(herded: Service, hub: Hub, repository: str, make: Make) -> None:
    image = hub.add(make(sizes=(4_000_000,)), repository, "1")
    (layer,) = image.layers
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=_HELD_BACK)
    name = f"mirror/{repository}"
    async with crowd(herded, 8) as clients:
        await clients[0].pull_manifest(name, "1", image.digest, image)
        for reader in await begun(clients, herded, name, layer, image):
            await reader.leave()
        hub.clear_faults()
        await committed(herded)
        # It was fetched to its end for nobody, and is there for the next one.
        hub.down()
        await clients[0].pull_blob(name, layer, image)
    assert hub.counters().blob_gets[layer] == 1


async def test_a_client_that_does_not_read_holds_nobody_up(
    herded: Service, hub: Hub, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(16_000_000,)), repository, "1")
    (layer,) = image.layers
    name = f"mirror/{repository}"
    async with crowd(herded, 5) as clients:
        await clients[0].pull_manifest(name, "1", image.digest, image)
        (idle,) = await begun([clients[0]], herded, name, layer, image)
        await at_once(clients[1:], lambda client: client.pull(name, "1", image))
        await committed(herded)
        assert await idle.end() == len(image.blobs[layer])
    assert hub.counters().blob_gets[layer] == 1


# A worker is killed


@pytest.fixture(scope="module")
def mortal(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers, one of which will be killed."""
    with Service(tmp_path_factory.mktemp("mortal"), upstream=hub_process.url, processes=2) as service:
        yield service


async def kill(service: Service, pid: int) -> None:
    """Kill a worker the hard way and wait until there is another in its place."""
    service.kill_worker(pid)

    async def replaced() -> bool:
        return pid not in (pids := service.pids()) and len(pids) == 2

    await eventually(replaced, what="another worker")


async def test_the_worker_that_fetches_is_killed(mortal: Service, hub: Hub, repository: str, make: Make) -> None:
    image = hub.add(make(sizes=(4_000_000, 1_000)), repository, "1")
    layer, name = image.layers[0], f"mirror/{repository}"
    size = len(image.blobs[layer])
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=_HELD_BACK)
    async with crowd(mortal, _CLASS) as clients:
        await clients[0].pull_manifest(name, "1", image.digest, image)
        readers = await begun(clients, mortal, name, layer, image)
        leader = filler(mortal, layer)
        assert {reader.worker for reader in readers} == set(mortal.pids())
        assert leader in mortal.pids()
        ends = [asyncio.create_task(reader.end()) for reader in readers]
        await kill(mortal, leader)
        got = await asyncio.gather(*ends)
        for reader, count in zip(readers, got, strict=True):
            assert count == size if reader.worker != leader else count < size
        await at_once(clients, lambda client: client.pull(name, "1", image))
    asked = hub.counters()
    # The other worker went on where the dead one stood.
    assert asked.blob_gets[layer] == 2
    assert asked.blob_bytes[layer] < 1.1 * size
    assert asked.get_manifest == 1


async def test_the_worker_that_follows_is_killed(mortal: Service, hub: Hub, repository: str, make: Make) -> None:
    image = hub.add(make(sizes=(4_000_000, 1_000)), repository, "1")
    layer, name = image.layers[0], f"mirror/{repository}"
    size = len(image.blobs[layer])
    hub.fault("cdn", "stall", path=f"/data/{layer}", after=_HELD_BACK)
    async with crowd(mortal, _CLASS) as clients:
        await clients[0].pull_manifest(name, "1", image.digest, image)
        readers = await begun(clients, mortal, name, layer, image)
        leader = filler(mortal, layer)
        (follower,) = set(mortal.pids()) - {leader}
        await kill(mortal, follower)
        hub.clear_faults()
        for reader, count in zip(readers, await asyncio.gather(*(reader.end() for reader in readers)), strict=True):
            assert count == size if reader.worker == leader else count < size
        await at_once(clients, lambda client: client.pull(name, "1", image))
    assert hub.counters().blob_gets[layer] == 1


async def test_the_worker_that_gets_the_manifest_is_killed(
    mortal: Service, hub: Hub, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(1_000,)), repository, "1")
    hub.fault("manifest", "stall", method="GET")

    async def pull(client: Client) -> bool:
        try:
            await client.pull_manifest(f"mirror/{repository}", "1", image.digest, image)
        except aiohttp.ClientError:
            return False
        return True

    async with crowd(mortal, _CLASS) as clients:
        # A token each, so that what is asked next is the manifest alone.
        await at_once(clients, lambda client: client.ask("GET", f"/v2/mirror/{repository}/tags/list"))
        pulls = asyncio.gather(*map(pull, clients))

        async def asked() -> int | None:
            return manifest_leader(mortal) if hub.counters().faults else None

        await kill(mortal, await eventually(asked, what="a worker to be asking for the manifest"))
        served = await pulls
        assert any(served)
        await at_once(clients, lambda client: client.pull(f"mirror/{repository}", "1", image))
    assert hub.counters().get_manifest == 1  # the one that stalled was given up before it was counted
