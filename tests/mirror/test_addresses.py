"""The ways a client may come to a mirror: by its project, by a host name of its own, by ``?ns=``, by a short name."""

from __future__ import annotations

import pytest

from tests.images import OCI_INDEX
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client
from .conftest import MIRROR_HOST, Make


async def test_a_short_name_is_explained(hub: Hub, client: Client, admin: Client, make: Make) -> None:
    image = hub.add(make(), "library/short", "8.0")
    for someone in (client, admin):
        for path in ("manifests/8.0", f"manifests/{image.digest}", f"blobs/{next(iter(image.blobs))}", "tags/list"):
            answer = await someone.ask("GET", f"/v2/mirror/short/{path}")
            assert (answer.status, answer.code) == (401, "UNAUTHORIZED"), path
            assert "pull mirror/library/short" in answer.words
    answer = await client.ask("HEAD", "/v2/mirror/short/manifests/8.0")
    assert (answer.status, answer.body) == (401, b"")
    # Nobody need ask the upstream for that.
    assert hub.counters().requests.total() == 0


async def test_the_bare_project_is_no_image(client: Client) -> None:
    answer = await client.manifest("mirror", "latest")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    assert "mirror/library/" in answer.words


async def test_a_short_name_may_be_an_alias(hub: Hub, client: Client, repository: str, make: Make) -> None:
    image = hub.add(make(), repository, "8.0")
    short = "official/" + repository.removeprefix("library/")
    await client.pull(short, "8.0", image)
    await client.pull(f"official/{repository}", "8.0", image)
    asked = hub.counters()
    assert asked.get_manifest == 2
    assert set(asked.blob_gets.values()) == {1}
    # The client's token is for the name it typed, so nothing may send it to the other one.
    assert f'scope="repository:{short}:pull"' in client.challenges[0]

    answer = await client.ask("GET", f"/v2/{short}/tags/list")
    assert answer.document == {"name": short, "tags": ["8.0"]}
    answer = await client.blob(short, image.platform("linux/amd64").layers[0], method="HEAD")
    assert answer.status == 200
    catalogue = await client.ask("GET", "/v2/_catalog?last=official/")
    assert f"official/{repository}" in catalogue.document["repositories"]
    assert short not in catalogue.document["repositories"]


async def test_a_name_that_is_not_official_is_no_alias(hub: Hub, client: Client, make: Make) -> None:
    image = hub.add(make(), "someone/app", "1")
    await client.pull("official/someone/app", "1", image)
    answer = await client.manifest("official/nothing-of-that-name", "1")
    assert (answer.status, answer.code) == (403, "DENIED")


@pytest.mark.parametrize("host", [MIRROR_HOST, MIRROR_HOST.upper(), f"{MIRROR_HOST}:{{port}}", f"{MIRROR_HOST}:5000"])
@pytest.mark.parametrize("told", [True, False], ids=["scope-as-told", "scope-of-its-own"])
async def test_a_mirror_at_the_root_of_its_own_host(
    hub: Hub, service: Service, repository: str, make: Make, host: str, told: bool
) -> None:
    image = hub.add(make(), repository, "8.0")
    host = host.format(port=service.host.rpartition(":")[2])
    asks_for = None if told else f"repository:{repository}:pull"
    async with Client(service.url, host=host, asks_for=asks_for) as client:
        assert (await client.ask("GET", "/v2/")).status == 200
        # Docker looks whether the mirror is one before it asks it for anything.
        await client.pull(repository, "8.0", image)
        assert f'realm="http://{host}/service/token"' in client.challenges[-1]
        answer = await client.ask("GET", f"/v2/{repository}/tags/list")
        assert answer.document["tags"] == ["8.0"]
    async with Client(service.url) as typed:
        await typed.pull(f"mirror/{repository}", "8.0", image)
    assert hub.counters().get_manifest == 2


async def test_a_mirrors_host_leads_to_its_project_only(service: Service, hub: Hub, make: Make) -> None:
    image = hub.add(make(sizes=(10,)), "secret/app", "1")
    async with Client(service.url, host=MIRROR_HOST) as client:
        # Not the hosted project of that name.
        await client.pull("secret/app", "1", image)
    async with Client(service.url, host="elsewhere.localhost") as client:
        answer = await client.manifest("library/app", "1")
        assert answer.status == 401


@pytest.mark.parametrize("told", [True, False], ids=["scope-as-told", "scope-of-its-own"])
async def test_a_mirror_beneath_its_own_path(
    hub: Hub, service: Service, repository: str, make: Make, told: bool
) -> None:
    image = hub.add(make(), repository, "8.0")
    asks_for = None if told else f"repository:{repository}:pull"
    async with Client(f"{service.url}/mirror", asks_for=asks_for) as client:
        assert (await client.ask("GET", "/v2/")).status == 200
        await client.pull(repository, "8.0", image)
        assert f'realm="{service.url}/mirror/service/token"' in client.challenges[-1]


@pytest.mark.parametrize("told", [True, False], ids=["scope-as-told", "scope-of-its-own"])
async def test_a_mirror_by_the_name_of_its_upstream(
    hub: Hub, service: Service, repository: str, make: Make, told: bool
) -> None:
    image = hub.add(make(), repository, "8.0")
    # containerd asks for the name it knows and for the one it is told, in one request.
    asks_for = None if told else f"repository:{repository}:pull repository:mirror/{repository}:pull"
    async with Client(service.url, asks_for=asks_for) as client:
        for query in ("?ns=docker.io", "?ns=docker%2Eio"):
            answer = await client.manifest(repository, "8.0", query=query)
            assert (answer.status, answer.body) == (200, image.payload)
            assert answer.headers["OCI-Namespace"] == "docker.io"
        layer = image.platform("linux/amd64").layers[0]
        answer = await client.ask("GET", f"/v2/{repository}/blobs/{layer}?ns=docker.io")
        assert (answer.status, answer.body) == (200, image.blobs[layer])
        assert answer.headers["OCI-Namespace"] == "docker.io"
        answer = await client.ask("GET", "/v2/?ns=docker.io")
        assert answer.status == 200

        answer = await client.manifest(f"mirror/{repository}", "8.0", query="?ns=docker.io")
        assert answer.status == 200
        assert "OCI-Namespace" not in answer.headers

        for foreign in (f"/v2/{repository}", "/v2/lab/app", f"/mirror/v2/{repository}"):
            for method in ("GET", "HEAD"):
                answer = await client.ask(method, f"{foreign}/manifests/8.0?ns=ghcr.io")
                # containerd asks ghcr.io itself then.
                assert answer.status == 404
                assert method == "HEAD" or answer.code == "NAME_UNKNOWN"


@pytest.mark.parametrize("told", [True, False], ids=["scope-as-told", "scope-of-its-own"])
async def test_an_upstreams_namespace_may_be_called_as_the_mirror(
    hub: Hub, service: Service, repository: str, make: Make, told: bool
) -> None:
    name = f"mirror/{repository.removeprefix('library/')}"
    image = hub.add(make(), name, "1")
    for url, host, query in (
        (service.url, MIRROR_HOST, ""),
        (f"{service.url}/mirror", None, ""),
        (service.url, None, "?ns=docker.io"),
    ):
        async with Client(url, host=host, asks_for=None if told else f"repository:{name}:pull") as client:
            answer = await client.manifest(name, "1", query=query)
            assert (answer.status, answer.body) == (200, image.payload), (url, host, query)
            answer = await client.ask("GET", f"/v2/{name}/tags/list{query}")
            assert answer.document == {"name": name, "tags": ["1"]}
    async with Client(service.url) as client:
        await client.pull(f"mirror/{name}", "1", image)


async def test_elsewhere_a_token_says_whether_a_path_names_the_mirror(
    hub: Hub, service: Service, make: Make, project: str
) -> None:
    """containerd asks for the scope of the image's own name beside the one that it is told."""
    namespaced, other = hub.add(make(), f"{project}/app", "1"), hub.add(make(), "somebody/app", "1")
    query = f"?ns={project}.example"
    for own, asked, image, namespace in (
        (f"{project}/app", f"{project}/app", namespaced, f"{project}.example"),
        ("somebody/app", f"{project}/somebody/app", other, None),
    ):
        # It is told the name without the mirror, because the token service is the mirror's own.
        told = f"repository:{asked.removeprefix(f'{project}/')}:pull"
        async with Client(service.url, asks_for=f"repository:{own}:pull {told}") as client:
            answer = await client.manifest(asked, "1", query=query)
            assert (answer.status, answer.body) == (200, image.payload), own
            assert f'realm="{service.url}/{project}/service/token"' in client.challenges[0]
            assert f'scope="{told}"' in client.challenges[0]
            assert answer.headers.get("OCI-Namespace") == namespace


@pytest.mark.parametrize(
    ("place", "host", "query"),
    [
        ("/v2/mirror/", None, ""),
        ("/mirror/v2/", None, ""),
        ("/v2/", MIRROR_HOST, ""),
        ("/v2/", None, "ns=docker.io"),
        ("/v2/", None, "ns=Index.Docker.io%3A443"),
        ("/v2/mirror/", None, "ns=docker.io"),
    ],
)
async def test_the_pages_of_a_list_are_found_where_its_client_is(
    hub: Hub, service: Service, repository: str, make: Make, place: str, host: str | None, query: str
) -> None:
    image = make(sizes=(10,))
    for tag in ("a", "b", "c"):
        hub.add(image, repository, tag)
    async with Client(service.url) as typed:
        for tag in ("a", "b", "c"):
            assert (await typed.manifest(f"mirror/{repository}", tag)).status == 200
    at, tags = f"{place}{repository}/tags/list?n=1&{query}", []
    async with Client(service.url, host=host) as client:
        for _ in range(3):
            answer = await client.ask("GET", at)
            assert answer.status == 200, at
            assert answer.document["name"] == f"{place}{repository}".partition("/v2/")[2]
            tags += answer.document["tags"]
            at = answer.headers.get("Link", "<>").split("<")[1].split(">")[0]
    assert (tags, at) == (["a", "b", "c"], "")


async def test_addresses_do_not_cross_into_other_projects(service: Service) -> None:
    for path in ("/mirror/v2/../../v2/secret/x/manifests/1", "/mirror/v2/%2e%2e/secret/x/manifests/1"):
        async with Client(service.url) as client:
            answer = await client.ask("GET", path)
            assert answer.status in (400, 404), path


async def test_what_is_served_states_its_type(hub: Hub, client: Client, repository: str, make: Make) -> None:
    image = hub.add(make(), repository, "8.0")
    answer = await client.manifest(f"mirror/{repository}", "8.0")
    assert answer.headers["Content-Type"] == OCI_INDEX == image.media_type
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    assert answer.headers["ETag"] == f'"{image.digest}"'
    assert "Warning" not in answer.headers
    headers = {"If-None-Match": f'"{image.digest}"', "Accept": OCI_INDEX}
    again = await client.ask("GET", f"/v2/mirror/{repository}/manifests/8.0", headers)
    assert (again.status, again.body) == (304, b"")
