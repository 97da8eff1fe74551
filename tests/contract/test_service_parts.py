"""The whole service on its production parts: what goes on while one of them is away, and what waits."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.api.client import Answer, Registry, expect
from tests.images import Image, multi
from tests.parts.postgres import Postgres
from tests.parts.process import wait_for
from tests.parts.service import Service
from tests.parts.valkey import Valkey
from tests.parts.weed import ObjectStore

PROJECTS = {"lab": {"public": True}}


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    valkey_process: Valkey,
    object_store: ObjectStore,
) -> Iterator[Service]:
    with Service(
        tmp_path_factory.mktemp("production"),
        processes=2,
        database=postgres.database(),
        redis=valkey_process.url,
        s3=object_store.bucket("parts"),
        overrides={"projects": PROJECTS, "storage": {"delivery": "redirect"}},
    ) as service:
        yield service


@pytest.fixture(scope="module")
def admin(service: Service) -> Registry:
    return Registry(service.host, service.username, service.password)


@pytest.fixture(scope="module")
def image(admin: Registry) -> Image:
    image = multi("parts")
    admin.push_image("lab/parts", "latest", image)
    return image


def test_blobs_are_redirected_to_the_object_store(service: Service, image: Image) -> None:
    outsider = Registry(service.host)
    for digest, data in image.blobs.items():
        answer = outsider.blob("lab/parts", digest)
        assert answer.status == 307
        assert fetch(answer["Location"], {}).body == data
        part = fetch(answer["Location"], {"Range": "bytes=1-3"})
        assert (part.status, part.body) == (206, data[1:4])
        conditions = {"If-None-Match": f'"{digest}"'}, {"If-Match": '"other"'}, {"If-Match": f'"{digest}"'}
        statuses = [outsider.blob("lab/parts", digest, condition).status for condition in conditions]
        assert statuses == [304, 412, 307]
        head = expect(outsider.call("HEAD", f"/v2/lab/parts/blobs/{digest}"), 200)
        assert head["Content-Length"] == str(len(data))


def test_pulls_go_on_without_postgresql_and_pushes_wait(
    service: Service, admin: Registry, image: Image, postgres: Postgres
) -> None:
    outsider = Registry(service.host)
    for _ in range(8):  # so that whichever worker it was has been asked
        pull(outsider, image)
    postgres.stop()
    try:
        fresh = Registry(service.host)  # needs a token, and so has to be told that the project is public
        pull(fresh, image)
        refused = admin.call("POST", "/v2/lab/parts/blobs/uploads/", b"")
        assert refused.status == 503
        assert int(refused["Retry-After"]) >= 1
        assert refused.json()["errors"][0]["code"] == "UNAVAILABLE"
        assert ready(service).status == 503
    finally:
        postgres.start()
    # Each worker finds out for itself.
    wait_for(lambda: all(ready(service).status == 200 for _ in range(20)), what="both workers to write again")
    admin.push_image("lab/after", "latest", image)
    pull(outsider, image)


def test_everything_goes_on_without_redis(
    service: Service, admin: Registry, image: Image, valkey_process: Valkey
) -> None:
    outsider = Registry(service.host)
    valkey_process.flush()
    pull(outsider, image)
    for away, back in (
        (valkey_process.pause, valkey_process.resume),
        (valkey_process.stop, valkey_process.start),
    ):
        away()
        try:
            pull(Registry(service.host), image)
            admin.push_image("lab/without-redis", "latest", image)
            parts = ready(service)
            assert parts.status == 200
            assert parts.json()["parts"]["redis"] != "ok"
        finally:
            back()
    pull(outsider, image)


def test_without_the_object_store_manifests_go_on_and_blobs_wait(
    service: Service, admin: Registry, image: Image, object_store: ObjectStore
) -> None:
    object_store.pause()
    try:
        expect(admin.manifest("lab/parts", "latest"), 200)
    finally:
        object_store.resume()
    assert admin.push_blob("lab/parts", b"the store is back")


def pull(registry: Registry, image: Image) -> None:
    """Pull manifests and the heads of blobs: all that the service answers itself where delivery is by redirect."""
    for digest, (media_type, payload) in image.manifests.items():
        for reference in (digest, "latest") if digest == image.digest else (digest,):
            answer = expect(registry.manifest("lab/parts", reference), 200)
            assert (answer["Content-Type"], answer.body) == (media_type, payload)
    for digest, data in image.blobs.items():
        answer = expect(registry.call("HEAD", f"/v2/lab/parts/blobs/{digest}"), 200)
        assert answer["Content-Length"] == str(len(data))
        assert registry.blob("lab/parts", digest).status == 307


def ready(service: Service) -> Answer:
    return fetch(f"{service.url}/readyz", {})


def fetch(url: str, headers: dict[str, str]) -> Answer:
    """Get a URL as it stands, without following anything."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
