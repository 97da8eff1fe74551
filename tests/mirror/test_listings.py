"""Tags and referrers of a mirror: the upstream's, merged with what is here, and never an empty list for a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.images import Image, multi, referrer, referrers_tag, single
from tests.parts.process import eventually
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Answer, Client
from .conftest import Make, clean_log
from .crowd import at_once, crowd

_FRESH_SECONDS = 2
SIGNATURE, SBOM = "application/vnd.example.signature", "application/vnd.example.sbom"


@pytest.fixture(scope="module")
def brief(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers that believe a list for two seconds; clients at 127.2.* are outsiders."""
    overrides = {
        "upstreams": {"docker.io": {"fresh_for": _FRESH_SECONDS}, "spent.example": {"url": hub_process.url}},
        "projects": {
            "mirror": {"upstream": "docker.io"},
            "spent": {"upstream": "spent.example"},
            "lab": {"public": True},
        },
        "fill_networks": ["127.0.0.1/32", "127.1.0.0/16"],
    }
    folder = tmp_path_factory.mktemp("lists")
    with Service(folder, upstream=hub_process.url, processes=2, overrides=overrides, hurried=True) as service:
        yield service


@pytest.fixture
def service(brief: Service) -> Iterator[Service]:
    with clean_log(brief):
        yield brief


@pytest.fixture
async def outsider(service: Service) -> AsyncIterator[Client]:
    async with Client(service.url, source="127.2.0.1") as client:
        yield client


async def tags(client: Client, repository: str, query: str = "") -> Answer:
    return await client.ask("GET", f"/v2/mirror/{repository}/tags/list{query}")


async def referrers(client: Client, repository: str, image: Image, query: str = "") -> Answer:
    return await client.ask("GET", f"/v2/mirror/{repository}/referrers/{image.digest}{query}")


def digests(answer: Answer) -> list[str]:
    """Give the digests of a list of referrers."""
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
    return [item["digest"] for item in answer.document["manifests"]]


def signed(hub: Hub, repository: str, *, api: bool) -> tuple[Image, list[Image]]:
    """Put an image there with a signature and a bill of materials, in the API or in the fallback tag."""
    image = hub.add(single(repository, sizes=(100,)), repository, "1")
    added = [referrer(image, SIGNATURE, signed="yes"), referrer(image, SBOM)]
    for one in added:
        hub.add(one, repository)
    hub.referrers_api(there=api)
    if not api:
        hub.add(referrers_tag(*added), repository, image.digest.replace(":", "-"))
    return image, sorted(added, key=lambda one: one.digest)


async def all_pages(client: Client, path: str) -> list[Answer]:
    answers = []
    while path:
        answers.append(await client.ask("GET", path))
        link = answers[-1].headers.get("Link", "")
        path = link.partition("<")[2].partition(">")[0]
    return answers


# tags


async def test_tags_are_the_upstreams_and_cost_one_request(
    hub: Hub, service: Service, repository: str, make: Make
) -> None:
    hub.add(make(sizes=(10,)), repository, "2.0", "1.0", "latest")
    hub.pace(latency=0.1)
    async with crowd(service, 12) as clients:
        answers = await at_once(clients, lambda client: tags(client, repository))
        for answer in answers:
            assert answer.status == 200
            assert answer.document == {"name": f"mirror/{repository}", "tags": ["1.0", "2.0", "latest"]}
            assert "Warning" not in answer.headers
        await at_once(clients, lambda client: tags(client, repository))
    asked = hub.counters()
    assert (asked.list, asked.get_manifest, asked.head_manifest) == (1, 0, 0)


async def test_a_long_list_is_read_in_its_pages_and_paged_anew(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    every = sorted(f"v{number}" for number in range(2_500))
    hub.add(make(sizes=(10,)), repository, *every)
    path = f"/v2/mirror/{repository}/tags/list"
    for query, sizes in (("", [1000, 1000, 500]), ("?n=900", [900, 900, 700])):
        answers = await all_pages(client, path + query)
        assert [len(answer.document["tags"]) for answer in answers] == sizes
        assert [tag for answer in answers for tag in answer.document["tags"]] == every
    answer = await tags(client, repository, "?n=2&last=v1000")
    assert answer.document["tags"] == ["v1001", "v1002"]
    assert (await tags(client, repository, "?n=0")).document["tags"] == []
    assert (await tags(client, repository, "?last=z")).document["tags"] == []
    assert hub.counters().list == 3


async def test_tags_are_asked_for_again_when_they_are_no_longer_fresh(
    hub: Hub, service: Service, client: Client, outsider: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(10,)), repository, "1")
    assert (await tags(outsider, repository)).code == "DENIED"
    assert hub.counters().list == 0
    assert (await tags(client, repository)).document["tags"] == ["1"]
    hub.tag(repository, "2", image.digest)
    assert "Warning" not in (await tags(outsider, repository)).headers
    await asyncio.sleep(_FRESH_SECONDS)
    # Outsiders get what is known; whoever may ask has it asked for.
    answer = await tags(outsider, repository)
    assert (answer.document["tags"], "Warning" in answer.headers) == (["1"], True)
    assert hub.counters().list == 1
    assert (await tags(client, repository)).document["tags"] == ["1", "2"]
    assert (await tags(outsider, repository)).document["tags"] == ["1", "2"]


async def test_tags_as_last_known_while_the_upstream_is_away(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    hub.add(make(sizes=(10,)), repository, "1", "2")
    assert (await tags(client, repository)).document["tags"] == ["1", "2"]
    hub.down()
    await asyncio.sleep(_FRESH_SECONDS)
    answer = await tags(client, repository)
    assert (answer.status, answer.document["tags"]) == (200, ["1", "2"])
    assert answer.headers["Warning"].startswith('299 - "')
    assert (await tags(client, f"{repository}-other")).status == 503


@pytest.mark.parametrize(
    ("action", "details"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 429, "retry_after": "3"}),
        ("html", {}),
        ("cut", {}),
        ("stall", {"after": 5}),
        ("stall", {}),
    ],
)
async def test_a_list_that_fails_is_served_as_last_known_and_spared(
    hub: Hub, service: Service, client: Client, repository: str, make: Make, action: str, details: dict[str, object]
) -> None:
    image, added = signed(hub, repository, api=True)
    assert (await tags(client, repository)).document["tags"] == ["1"]
    assert digests(await referrers(client, repository, image)) == [one.digest for one in added]
    await asyncio.sleep(_FRESH_SECONDS)
    hub.fault("list", action, times=None, **details)  # type: ignore[arg-type]
    before = hub.counters().list
    for _ in range(5):
        began = time.monotonic()
        answer = await tags(client, repository)
        assert (answer.status, answer.document["tags"], "Warning" in answer.headers) == (200, ["1"], True)
        answer = await referrers(client, repository, image)
        assert (digests(answer), "Warning" in answer.headers) == ([one.digest for one in added], True)
        assert time.monotonic() - began < 8
    assert hub.counters().list - before <= 4  # each list once in each worker
    hub.clear_faults()

    async def again() -> bool:
        return "Warning" not in (await tags(client, repository)).headers

    await eventually(again, what="the upstream to be asked again", interval=0.2)


async def test_a_list_is_refused_even_if_it_is_known(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(10,)), repository, "1")
    assert (await tags(client, repository)).status == 200
    hub.add(image, repository, "1", readers=["somebody"])
    hub.revoke_tokens()
    await asyncio.sleep(_FRESH_SECONDS)
    for answer in (await tags(client, repository), await tags(client, "library/never")):
        assert (answer.status, answer.code) == (403, "DENIED")


# referrers


@pytest.mark.parametrize("api", [True, False])
async def test_referrers_are_the_upstreams(
    hub: Hub, service: Service, client: Client, outsider: Client, repository: str, *, api: bool
) -> None:
    image, added = signed(hub, repository, api=api)
    assert (await referrers(outsider, repository, image)).code == "DENIED"
    answer = await referrers(client, repository, image)
    assert digests(answer) == [one.digest for one in added]
    by_digest = {item["digest"]: item for item in answer.document["manifests"]}
    signature = next(one for one in added if one.document["artifactType"] == SIGNATURE)
    assert by_digest[signature.digest] == {
        "mediaType": signature.media_type,
        "digest": signature.digest,
        "size": len(signature.payload),
        "artifactType": SIGNATURE,
        "annotations": {"signed": "yes"},
    }
    answer = await referrers(client, repository, image, f"?artifactType={SIGNATURE}")
    assert (digests(answer), answer.headers["OCI-Filters-Applied"]) == ([signature.digest], "artifactType")
    assert digests(await referrers(client, repository, image, "?artifactType=no/such")) == []
    answers = await all_pages(client, f"/v2/mirror/{repository}/referrers/{image.digest}?n=1")
    assert [digests(answer) for answer in answers] == [[one.digest] for one in added]
    assert digests(await referrers(outsider, repository, image)) == [one.digest for one in added]
    # The fallback tag is a manifest, which is counted; the API is not.
    assert hub.counters().get_manifest == (0 if api else 1)
    await client.pull_manifest(f"mirror/{repository}", signature.digest, signature.digest, signature)


@pytest.mark.parametrize("api", [True, False])
async def test_a_signature_is_found_as_notation_asks_for_it(
    hub: Hub, service: Service, client: Client, repository: str, *, api: bool
) -> None:
    """What `notation verify` sends, in its order: the tag, the signatures, a signature's manifest, its envelope."""
    kind = "application/vnd.cncf.notary.signature"
    image = hub.add(single(repository, sizes=(100,)), repository, "1")
    signature = hub.add(referrer(image, kind), repository)
    hub.referrers_api(there=api)
    if not api:
        hub.add(referrers_tag(signature), repository, image.digest.replace(":", "-"))
    name = f"mirror/{repository}"
    answer = await client.manifest(name, "1", method="HEAD")
    assert answer.headers["Docker-Content-Digest"] == image.digest
    answer = await referrers(client, repository, image, "?artifactType=application%2Fvnd.cncf.notary.signature")
    assert (digests(answer), answer.headers["OCI-Filters-Applied"]) == ([signature.digest], "artifactType")
    await client.pull_manifest(name, signature.digest, signature.digest, signature)
    await client.pull_blob(name, signature.layers[0], signature)


async def test_a_signature_is_found_by_its_tag_as_cosign_asks_for_it(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    """What `cosign verify` sends by its older way: the tag, the tag that is spelled after the digest, the payload."""
    image, signature = hub.add(make(sizes=(100,)), repository, "1"), make(sizes=(50,))
    name, prefix = f"mirror/{repository}", image.digest.replace(":", "-")
    hub.add(signature, repository, f"{prefix}.sig")
    await client.pull_manifest(name, "1", image.digest, image)
    await client.pull_manifest(name, f"{prefix}.sig", signature.digest, signature)
    await client.pull_blob(name, signature.layers[0], signature)
    for absent in ("att", "sbom"):
        for method in ("HEAD", "GET"):
            assert (await client.manifest(name, f"{prefix}.{absent}", method=method)).status == 404


@pytest.mark.parametrize("api", [True, False])
async def test_a_signature_is_found_by_its_subject_as_cosign_asks_for_it(
    hub: Hub, service: Service, client: Client, repository: str, *, api: bool
) -> None:
    """What `cosign verify` sends by its newer way: twice the tag, the referrers of all types, and each bundle."""
    image, unsigned = (hub.add(single(f"{repository} {tag}", sizes=(100,)), repository, tag) for tag in ("1", "2"))
    signature = hub.add(referrer(image, "application/vnd.dev.sigstore.bundle.v0.3+json"), repository)
    hub.referrers_api(there=api)
    if not api:
        hub.add(referrers_tag(signature), repository, image.digest.replace(":", "-"))
    name = f"mirror/{repository}"
    for _ in range(2):
        await client.pull_manifest(name, "1", image.digest, image)
        assert digests(await referrers(client, repository, image)) == [signature.digest]
        await client.pull_manifest(name, signature.digest, signature.digest, signature)
        await client.pull_blob(name, signature.layers[0], signature)
    await client.pull_manifest(name, "2", unsigned.digest, unsigned)
    assert digests(await referrers(client, repository, unsigned)) == []
    assert (await client.manifest(name, f"{unsigned.digest.replace(':', '-')}.sig")).status == 404
    # Each manifest once: two images, the bundle, and the fallback tag if there is no API.
    assert hub.counters().get_manifest == (3 if api else 4)


@pytest.mark.parametrize("api", [True, False])
async def test_no_referrers_are_none_only_by_the_upstreams_word(
    hub: Hub, service: Service, client: Client, repository: str, *, api: bool
) -> None:
    hub.referrers_api(there=api)
    image = hub.add(single(repository, sizes=(100,)), repository, "1")
    hub.fault("list", "status", status=503, times=None)
    hub.fault("manifest", "status", status=503, times=None)
    answer = await referrers(client, repository, image)
    assert answer.status == 503
    hub.clear_faults()

    async def none() -> bool:
        answer = await referrers(client, repository, image)
        return answer.status == 200 and digests(answer) == []

    await eventually(none, what="the upstream to be asked again", interval=0.2)
    assert hub.counters().get_manifest == 0


@pytest.mark.parametrize("api", [True, False])
async def test_referrers_as_last_known_while_the_upstream_is_away(
    hub: Hub, service: Service, client: Client, repository: str, *, api: bool
) -> None:
    image, added = signed(hub, repository, api=api)
    assert digests(await referrers(client, repository, image)) == [one.digest for one in added]
    hub.down()
    await asyncio.sleep(_FRESH_SECONDS)
    answer = await referrers(client, repository, image)
    assert (digests(answer), "Warning" in answer.headers) == ([one.digest for one in added], True)
    assert (await referrers(client, repository, single("unknown"))).status == 503


async def test_a_spent_budget_is_no_empty_list(hub: Hub, service: Service, client: Client, repository: str) -> None:
    image, _ = signed(hub, repository, api=False)
    hub.limit(0)
    answer = await client.ask("GET", f"/v2/spent/{repository}/referrers/{image.digest}")
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert hub.counters().get_manifest_429 == 0


async def test_a_fallback_tag_that_is_no_list_is_no_empty_list(
    hub: Hub, service: Service, client: Client, repository: str, make: Make
) -> None:
    image = hub.add(make(sizes=(10,)), repository, "1")
    hub.referrers_api(there=False)
    hub.add(make(sizes=(10,)), repository, image.digest.replace(":", "-"))
    assert (await referrers(client, repository, image)).status == 502


@pytest.mark.parametrize("image", [single("own tag"), multi("own tag")], ids=["image", "index"])
async def test_a_fallback_tag_that_is_taken_for_the_digest_is_none(
    hub: Hub, service: Service, client: Client, repository: str, image: Image
) -> None:
    """registry.gitlab.com does so; the children of an index are not its referrers."""
    hub.add(image, repository, "1")
    hub.tag(repository, image.digest.replace(":", "-"), image.digest)
    hub.referrers_api(there=False)
    answer = await referrers(client, repository, image)
    assert (digests(answer), "Warning" in answer.headers) == ([], False)


async def test_referrers_that_lead_to_a_page_are_found_by_the_fallback_tag(
    hub: Hub, service: Service, client: Client, repository: str
) -> None:
    """ghcr.io does so; the page has a limit of its own, and nobody asks for it."""
    image, added = signed(hub, repository, api=False)
    hub.referrers_api(there=True)
    hub.fault("list", "see_other", path="*/referrers/*", url=f"{hub.url}/v2/page", times=None)
    answer = await referrers(client, repository, image)
    assert (digests(answer), "Warning" in answer.headers) == ([one.digest for one in added], False)
    assert not any("/page" in line for line in hub.counters().requests)
    # Without such a tag it is the upstream's word that there are none; if the tag cannot be asked for, it is not.
    other = hub.add(single(f"{repository} other", sizes=(10,)), repository)
    assert digests(await referrers(client, repository, other)) == []
    another = hub.add(single(f"{repository} another", sizes=(10,)), repository)
    hub.fault("manifest", "page", status=404, times=None)
    assert (await referrers(client, repository, another)).status == 503


async def test_what_is_here_is_listed_if_nothing_else_is_known(
    hub: Hub, service: Service, client: Client, repository: str
) -> None:
    image, added = signed(hub, repository, api=True)
    name = f"mirror/{repository}"
    await client.pull(name, "1", image)
    await client.pull_manifest(name, added[0].digest, added[0].digest, added[0])
    hub.down()
    answer = await tags(client, repository)
    assert (answer.document["tags"], "Warning" in answer.headers) == (["1"], True)
    answer = await referrers(client, repository, image)
    assert (digests(answer), "Warning" in answer.headers) == ([added[0].digest], True)
    kind = added[1].document["artifactType"]
    assert (await referrers(client, repository, image, f"?artifactType={kind}")).status == 503
    assert (await referrers(client, repository, added[0])).status == 503


async def test_lists_outlive_the_workers_and_a_redis_that_forgets_costs_a_request(
    hub: Hub, service: Service, repository: str, make: Make
) -> None:
    hub.add(make(sizes=(10,)), repository, "1")
    async with Client(service.url) as client:
        assert (await tags(client, repository)).status == 200
    service.restart()  # and its private Redis with it
    async with Client(service.url) as client:
        hub.reset_counters()
        assert (await tags(client, repository)).document["tags"] == ["1"]
        assert hub.counters().list == 1


async def test_hosted_lists_stay_as_they_are(hub: Hub, service: Service, client: Client) -> None:
    answer = await client.ask("GET", f"/v2/lab/nothing/referrers/sha256:{'0' * 64}")
    assert (digests(answer), "Warning" in answer.headers) == ([], False)
    assert (await client.ask("GET", "/v2/lab/nothing/tags/list")).code == "NAME_UNKNOWN"
    assert hub.counters().requests.total() == 0
