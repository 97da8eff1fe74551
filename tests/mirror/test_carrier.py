"""A mirror carries what has the right digest: what it understands of a manifest is linked, and all of it is served."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from tests.api.client import digest_of
from tests.api.documents import CONFIG, buildkit_cache, descriptor, fresh
from tests.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Image
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client
from .conftest import Make
from .inside import sql

ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
BLOB, OTHER = fresh(500), fresh(300)
PARTS: dict[str, Any] = {"config": descriptor(OTHER, CONFIG), "layers": [descriptor(BLOB)]}
PLAIN: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, **PARTS}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
ABSENT: dict[str, Any] = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"absent"), "size": 6}
_numbers = count()


def layer(**fields: Any) -> dict[str, Any]:
    return PLAIN | {"layers": [{key: value for key, value in (descriptor(BLOB) | fields).items() if value != "absent"}]}


ODD: dict[str, tuple[Any, str]] = {
    "an annotation null": (PLAIN | {"annotations": {"a": None}}, OCI_MANIFEST),
    "annotations null": (PLAIN | {"annotations": None}, OCI_MANIFEST),
    "annotations of numbers": (PLAIN | {"annotations": {"a": 1}}, OCI_MANIFEST),
    "layers null": (PLAIN | {"layers": None}, OCI_MANIFEST),
    "config null": (PLAIN | {"config": None}, OCI_MANIFEST),
    "a layer null": (PLAIN | {"layers": [None, descriptor(BLOB)]}, OCI_MANIFEST),
    "a layer without mediaType": (layer(mediaType="absent"), OCI_MANIFEST),
    "a layer with mediaType ''": (layer(mediaType=""), OCI_MANIFEST),
    "a layer without size": (layer(size="absent"), OCI_MANIFEST),
    "a layer with a size in words": (layer(size="500"), OCI_MANIFEST),
    "a layer of another algorithm": (PLAIN | {"layers": [ABSENT | {"digest": "blake3:" + "a" * 64}]}, OCI_MANIFEST),
    "keys in another case": ({"SchemaVersion": 2, "MEDIATYPE": OCI_MANIFEST, "Config": PARTS["config"]}, OCI_MANIFEST),
    "schemaVersion missing": (PARTS, OCI_MANIFEST),
    "mediaType inside of the other kind": (PLAIN | {"mediaType": DOCKER_MANIFEST}, OCI_MANIFEST),
    "subject odd": (PLAIN | {"subject": "x"}, OCI_MANIFEST),
    "a byte order mark": (b"\xef\xbb\xbf" + json.dumps(PLAIN).encode(), OCI_MANIFEST),
    "white space": (b" \n" + json.dumps(PLAIN).encode() + b"\n\n", OCI_MANIFEST),
    "manifests null": (INDEX | {"manifests": None}, OCI_INDEX),
    "manifests missing": ({"schemaVersion": 2, "mediaType": OCI_INDEX}, OCI_INDEX),
    "mediaType inside of the other list": (INDEX | {"mediaType": DOCKER_LIST}, OCI_INDEX),
    "an entry of an unknown type": (INDEX | {"manifests": [ABSENT | {"mediaType": "text/x"}]}, OCI_INDEX),
    "an entry of another algorithm": (INDEX | {"manifests": [ABSENT | {"digest": "blake3:" + "a" * 64}]}, OCI_INDEX),
    "an empty platform": (INDEX | {"manifests": [ABSENT | {"platform": {}, "urls": None}]}, OCI_INDEX),
    "15,000 entries": (INDEX | {"manifests": [ABSENT | {"digest": digest_of(b"%d" % n)} for n in range(15_000)]},
                       OCI_INDEX),
    "a cache of BuildKit": (buildkit_cache(BLOB, OTHER), OCI_INDEX),
    "an artifact of ORAS": ({"mediaType": ARTIFACT, "artifactType": "a/b", "blobs": [descriptor(BLOB)]}, ARTIFACT),
}  # fmt: skip


@pytest.mark.parametrize(("document", "media_type"), ODD.values(), ids=ODD)
async def test_odd_manifests(hub: Hub, client: Client, repository: str, document: Any, media_type: str) -> None:
    payload = document if isinstance(document, bytes) else json.dumps(document | {"x-number": next(_numbers)}).encode()
    digest, held = digest_of(payload), {digest_of(blob): blob for blob in (BLOB, OTHER)}
    image = hub.add(Image(held, {digest: (media_type, payload)}, digest), repository, "odd")
    name = f"mirror/{repository}"
    for reference in ("odd", digest, "odd"):  # cold, then warm
        answer = await client.manifest(name, reference)
        assert (answer.status, answer.body) == (200, payload), answer
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["Docker-Content-Digest"] == image.digest
    for blob in held:
        await client.pull_blob(name, blob, image)


async def test_what_is_understood_is_linked(hub: Hub, service: Service, client: Client, repository: str) -> None:
    """A blob without a size is asked for upstream; its size is not taken for 0."""
    payload = json.dumps(layer(size="absent", mediaType=None) | {"annotations": 5}).encode()
    digest = digest_of(payload)
    image = hub.add(Image({digest_of(BLOB): BLOB}, {digest: (OCI_MANIFEST, payload)}, digest), repository, "odd")
    assert (await client.manifest(f"mirror/{repository}", "odd")).status == 200
    parts = sql(service, "SELECT digest, size FROM part WHERE manifest = ? ORDER BY size", digest)
    assert parts == [(digest_of(BLOB), 0), (digest_of(OTHER), len(OTHER))]
    await client.pull_blob(f"mirror/{repository}", digest_of(BLOB), image)


async def test_an_index_in_an_index(hub: Hub, client: Client, repository: str) -> None:
    payload = json.dumps(PLAIN | {"x": "nested"}).encode()
    inner = json.dumps(INDEX | {"manifests": [descriptor(payload, OCI_MANIFEST)] * 2}).encode()
    outer = json.dumps(INDEX | {"manifests": [descriptor(inner, OCI_INDEX), ABSENT]}).encode()
    held = {digest_of(blob): blob for blob in (BLOB, OTHER)}
    manifests = {digest_of(one): (kind, one) for one, kind in
                 ((payload, OCI_MANIFEST), (inner, OCI_INDEX), (outer, OCI_INDEX))}  # fmt: skip
    image = hub.add(Image(held, manifests, digest_of(outer)), repository, "nested")
    name = f"mirror/{repository}"
    for reference, expected in (("nested", outer), (digest_of(inner), inner), (digest_of(payload), payload)):
        assert (await client.manifest(name, reference)).body == expected
    assert (await client.manifest(name, ABSENT["digest"])).status == 404
    await client.pull_blob(name, digest_of(BLOB), image)


async def test_conditions_cost_a_head(hub: Hub, client: Client, repository: str, make: Make) -> None:
    """A client that has the manifest already costs no counted pull, also where nothing is cached."""
    image, name = hub.add(make(sizes=(1000,)), repository, "8.0"), f"mirror/{repository}"
    (layer,) = image.layers
    for path, digest in ((f"manifests/{image.digest}", image.digest), ("manifests/8.0", image.digest),
                         (f"blobs/{layer}", layer)):  # fmt: skip
        for header, status in (("If-None-Match", 304), ("If-Match", 412)):
            value = f'"{digest}"' if status == 304 else '"other"'
            answer = await client.ask("GET", f"/v2/{name}/{path}", {header: value})
            assert (answer.status, answer.headers["ETag"]) == (status, f'"{digest}"')
    assert (hub.counters().get_manifest, hub.counters().get_blob) == (0, 0)
    answer = await client.ask("GET", f"/v2/{name}/manifests/8.0", {"If-None-Match": '"other"'})
    assert (answer.status, answer.body) == (200, image.payload)
    answer = await client.ask(
        "GET", f"/v2/{name}/blobs/{layer}", {"If-None-Match": '"other"', "If-Range": '"other"', "Range": "bytes=0-1"}
    )
    assert (answer.status, answer.body) == (200, image.blobs[layer])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_reads_no_indexes(hub: Hub, client: Client, repository: str, make: Make, method: str) -> None:
    docker, name = hub.add(make(style="docker"), repository, "docker"), f"mirror/{repository}"
    oci, headers = hub.add(make(), repository, "oci"), {"Accept": DOCKER_MANIFEST}
    answer = await client.ask(method, f"/v2/{name}/manifests/docker", headers)
    assert answer.headers["Docker-Content-Digest"] == docker.platform("linux/amd64").digest
    for reference in ("oci", oci.digest):
        assert (await client.ask(method, f"/v2/{name}/manifests/{reference}", headers)).status == 404


async def test_schema_1_is_named(hub: Hub, client: Client, repository: str) -> None:
    """By a status whose words Docker shows."""
    payload = json.dumps({"schemaVersion": 1, "name": "x", "tag": "old", "fsLayers": [], "history": []}).encode()
    digest = digest_of(payload)
    hub.add(Image({}, {digest: (OCI_MANIFEST, payload)}, digest), repository, "old")
    for reference in ("old", digest):
        answer = await client.manifest(f"mirror/{repository}", reference)
        assert answer.status == 404, answer
        assert "schema 1" in answer.words
