"""Pulls, pushes and log-ins that are refused, fail or are slow, each for another cause: ``explain`` names it."""

from __future__ import annotations

import asyncio
import io
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aiohttp
import psycopg
import pytest

from app import inspection
from app.config import load
from tests.images import Image, single
from tests.parts import weed
from tests.parts.postgres import Postgres
from tests.parts.process import command, eventually
from tests.parts.service import Service
from tests.parts.weed import ObjectStore
from tests.upstream.client import Hub

from .client import Client

# What the command says of each cause, and the status that the client got.
CAUSES = {
    "the budget is spent": (429, "limit on pulls is used up"),
    "a 429 of the upstream": (429, "upstream itself answered with 429"),
    "a private project": (401, "may not do this, or showed a wrong"),
    "an unknown tag": (404, "no such tag or image"),
    "an unknown name": (403, "no such image, or does not show it"),
    "an unknown project": (401, "may not do this, or showed a wrong"),
    "an outsider": (403, "from outside fill_networks"),
    "the quota": (403, "quota has no room"),
    "too large": (413, "more than the registry takes"),
    "the upstream is down": (503, "upstream did not answer"),
    "a page of a portal": (503, "a firewall, a proxy or a portal"),
    "a wrong digest": (502, "answer cannot be used"),
    "a slow line": (200, "or the line to it, was slow"),
    "wrong log-ins": (429, "Too many log-ins with a wrong password"),
    "the store is down": (503, "object store did not answer"),
    "the database is down": (503, "database did not answer"),
}
_SLOW_BYTES, _SLOW_RATE = 60_000, 8_000
_MIRRORS = ("mirror", "spent", "limited", "dead", "portal")
_numbers = itertools.count(1)


@dataclass
class Scene:
    """A service with PostgreSQL and S3, and mirrors of one upstream that know nothing of each other."""

    service: Service
    hub: Hub
    postgres: Postgres
    store: ObjectStore
    client: Client
    admin: Client

    def image(self, name: str, *, size: int = 1_000) -> Image:
        """Put an image upstream that nobody has seen."""
        return self.hub.add(single(f"explained {next(_numbers)}", sizes=(size,)), name, "1")

    async def ask(
        self, method: str, path: str, request_id: str, *, by: Client | None = None, data: bytes | None = None
    ) -> int:
        """Send a request with an id of ours and give the status; the answer may be cut."""
        headers = {"X-Request-Id": request_id, "Accept": "*/*"}
        if data is not None:
            async with aiohttp.ClientSession() as session:
                login = aiohttp.encode_basic_auth(self.service.username, self.service.password)
                headers |= {"Authorization": login}
                sent = io.BytesIO(data)
                async with session.request(method, self.service.url + path, data=sent, headers=headers) as answer:
                    return answer.status
        async with (by or self.client).open(method, path, headers) as response:
            try:
                await response.read()
            except aiohttp.ClientError:
                assert response.status == 200
            return response.status

    async def told(self, what: str) -> str:
        """Wait until something is kept, and give what the command says."""

        async def kept() -> str | None:
            try:
                return await inspection.explain(load(self.service.config), what)
            except ValueError:
                return None

        return await eventually(kept, what=f"{what} to be kept", timeout=60)


@pytest.fixture(scope="module")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    if (reason := weed.missing()) is not None:
        pytest.skip(reason)
    with weed.weed(tmp_path_factory.mktemp("weed")) as store:
        yield store


@pytest.fixture(scope="module")
def started(
    hub_process: Hub, postgres: Postgres, own_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    overrides = {
        "upstreams": {f"{name}.example": {"url": hub_process.url} for name in _MIRRORS},
        "projects": {
            **{name: {"upstream": f"{name}.example"} for name in _MIRRORS},
            "lab": {"public": True},
            "secret": {"public": False},
        },
        "fill_networks": ["127.0.0.1/32"],
    }
    database, s3 = postgres.database(), own_store.bucket("explained")
    folder = tmp_path_factory.mktemp("explained")
    with Service(
        folder, upstream=hub_process.url, database=database, s3=s3, overrides=overrides, hurried=True
    ) as service:
        yield service


@pytest.fixture
async def scene(hub: Hub, postgres: Postgres, own_store: ObjectStore, started: Service) -> AsyncIterator[Scene]:
    hub.limit(None)
    async with (
        Client(started.url) as client,
        Client(started.url, login=(started.username, started.password)) as admin,
    ):
        yield Scene(started, hub, postgres, own_store, client, admin)


async def test_each_cause_is_named(scene: Scene) -> None:
    ids = {cause: f"explained-{number:04}" for number, cause in enumerate(CAUSES)}
    statuses = {
        **await _refused(scene, ids),
        **await _of_the_upstream(scene, ids),
        **await _failing_parts(scene, ids),
    }
    # If the first bytes were sent before the last one was wrong, the answer was cut.
    if statuses["a wrong digest"] == 200:
        statuses["a wrong digest"] = 502
    assert statuses == {cause: status for cause, (status, _) in CAUSES.items()}
    told = {cause: await scene.told(request_id) for cause, request_id in ids.items()}
    for cause, (_, words) in CAUSES.items():
        assert words in told[cause], told[cause]
    assert "127.0.0.1" in told["the budget is spent"]
    assert "spent/library/app" in told["the budget is spent"]
    ended = command("admin", "explain", ids["the quota"], "--config", str(scene.service.config))
    assert "allow them more" in ended.stdout.lower()
    # By the repository and by the client's address.
    assert ids["a slow line"] in await scene.told("mirror/library/slow")
    assert ids["an outsider"] in await scene.told("127.2.0.1")


async def _refused(scene: Scene, ids: dict[str, str]) -> dict[str, int]:
    ask, found = scene.ask, {}
    found["a private project"] = await ask("GET", "/v2/secret/app/manifests/1", ids["a private project"])
    found["an unknown project"] = await ask("GET", "/v2/nowhere/app/manifests/1", ids["an unknown project"])
    found["an unknown name"] = await ask("GET", "/v2/mirror/library/none/manifests/1", ids["an unknown name"])
    scene.image("library/outside")
    found["an unknown tag"] = await ask("GET", "/v2/mirror/library/outside/manifests/2", ids["an unknown tag"])
    async with Client(scene.service.url, source="127.2.0.1") as outsider:
        path = "/v2/mirror/library/outside/manifests/1"
        found["an outsider"] = await ask("GET", path, ids["an outsider"], by=outsider)
    with psycopg.connect(_database(scene.service), autocommit=True) as connection:
        connection.execute("UPDATE project SET quota_bytes = 1000 WHERE name = 'lab'")
    upload = f"/v2/lab/app/blobs/uploads/?digest=sha256:{'0' * 64}"
    found["the quota"] = await ask("POST", upload, ids["the quota"], data=b"x" * 50_000)
    found["too large"] = await ask("PUT", "/v2/lab/app/manifests/1", ids["too large"], data=b" " * (5 << 20))
    async with aiohttp.ClientSession() as session:
        wrong = {"Authorization": aiohttp.encode_basic_auth("nobody", "wrong")}
        status = 401
        while status == 401:
            headers = {**wrong, "X-Request-Id": ids["wrong log-ins"]}
            async with session.get(f"{scene.service.url}/service/token", headers=headers) as answer:
                status = answer.status
    found["wrong log-ins"] = status
    return found


async def _of_the_upstream(scene: Scene, ids: dict[str, str]) -> dict[str, int]:
    hub, found = scene.hub, {}

    async def pull(cause: str, path: str) -> None:
        found[cause] = await scene.ask("GET", f"/v2/{path}", ids[cause])

    for name in ("app", "slow", "wrong"):
        scene.image(f"library/{name}", size=_SLOW_BYTES)
    hub.limit(100)
    hub.leave(0)
    await pull("the budget is spent", "spent/library/app/manifests/1")
    hub.limit(None)
    hub.fault("manifest", "status", status=429, retry_after="60", times=None)
    await pull("a 429 of the upstream", "limited/library/app/manifests/1")
    hub.clear_faults()
    hub.fault("manifest", "page", status=403, times=None)
    await pull("a page of a portal", "portal/library/app/manifests/1")
    hub.clear_faults()
    for cause, name in (("a wrong digest", "wrong"), ("a slow line", "slow")):
        manifest = await scene.client.manifest(f"mirror/library/{name}", "1")
        layer = manifest.document["layers"][0]["digest"]
        path = f"*{layer.partition(':')[2]}*"
        if name == "wrong":
            hub.fault("cdn", "corrupt", path=path, times=None)
        else:
            hub.fault("cdn", "slow", path=path, times=None, rate=_SLOW_RATE)
        await pull(cause, f"mirror/library/{name}/blobs/{layer}")
        hub.clear_faults()
    hub.down()
    await pull("the upstream is down", "dead/library/app/manifests/1")
    hub.up()
    return found


async def _failing_parts(scene: Scene, ids: dict[str, str]) -> dict[str, int]:
    found, image = {}, scene.image("library/stored", size=50_000)
    layer = image.document["layers"][0]["digest"]
    await scene.client.pull("mirror/library/stored", "1", image)
    await asyncio.sleep(1)  # its fill is committed
    path = f"/v2/mirror/library/stored/blobs/{layer}"
    scene.store.process.send(signal.SIGKILL)
    found["the store is down"] = await scene.ask("GET", path, ids["the store is down"])
    scene.postgres.stop()
    try:
        path = "/v2/mirror/library/other/manifests/1"
        found["the database is down"] = await scene.ask("GET", path, ids["the database is down"])
    finally:
        scene.postgres.start()
    return found


def _database(service: Service) -> str:
    url = load(service.config).database_url
    assert url.startswith("postgresql")
    return url


def test_status_is_one_look(started: Service) -> None:
    """Of a service whose object store is gone and that has no backup."""
    lines = command("admin", "status", "--config", str(started.config)).stdout.splitlines()
    found = {line[6:30].strip(): (line[:5].strip(), line[31:]) for line in lines}
    assert {name: found[name][0] for name in ("database", "redis", "workers", "certificate")} == {
        "database": "ok", "redis": "ok", "workers": "ok", "certificate": "ok",
    }  # fmt: skip
    assert found["store"][0] == "LOOK"
    assert found["backup"] == ("LOOK", "none was ever made")
    assert {"upstream docker.io", "budget docker.io", "disk"} <= set(found)
    assert "registry-admin explain" in found["failure"][1]
