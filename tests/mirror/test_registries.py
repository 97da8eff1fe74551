"""Each registry of docs/upstreams.md, played by a stand-in that is odd in the way that one is.

The service has the page's own configuration, with the stand-in's address in place of theirs, and the page's pull lines
are what is pulled. Everything comes as it would directly: tags and digests by HEAD and GET, blobs, lists.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import pytest

from tests.images import Image, referrer, referrers_tag
from tests.parts.service import Service
from tests.registries import configuration, pulls
from tests.upstream.client import Hub

from .client import Client
from .conftest import Make, clean_log
from .inside import committed, let_time_pass
from .test_freshness import is_stale

Plan = Callable[[Hub, Hub], None]

PULLS = pulls()
_SIGNATURE = "application/vnd.example.signature"
_KINDS: tuple[Literal["manifest", "blob", "list"], ...] = ("manifest", "blob", "list")


@dataclass(frozen=True)
class Row:
    """How a registry is odd.

    ``behind`` is written before the names of its images at the registry to which it redirects, None if it has them
    itself. ``referrers``: there is an API for them, a fallback tag, or such a tag is taken for the digest.
    """

    plan: Plan
    behind: str | None = None
    referrers: Literal["api", "tag", "digest"] = "api"


def login(hub: Hub, path: str, service: str | None, scope: str | None = None, *, elsewhere: bool = False) -> None:
    """Have the token service at ``path``, of the registry's own host or elsewhere, and name it so in challenges."""
    hub.challenge(service=service, scope=scope)
    host = hub.realm.removesuffix("/token") if elsewhere else hub.url
    for kind in _KINDS:
        hub.fault(kind, "realm", url=host + path, times=None)


def leads_on(
    hub: Hub, other: Hub, behind: str = "", kinds: tuple[Literal["manifest", "blob", "list"], ...] = _KINDS
) -> None:
    """Redirect everything to another registry, without asking for a login."""
    hub.logins("none")
    for kind in kinds:
        hub.fault(kind, "moved", url=other.url, text=behind, times=None)


def shows_a_page(hub: Hub) -> None:
    """Answer a request for referrers with 303 to a page, as ghcr.io does."""
    hub.fault("list", "see_other", path="*/referrers/*", url=f"{hub.cdn}/packages", times=None)


def ghcr(hub: Hub, other: Hub) -> None:
    login(hub, "/token", "ghcr.io")
    shows_a_page(hub)


def kubernetes(hub: Hub, other: Hub) -> None:
    other.logins("none")
    leads_on(hub, other, "k8s-artifacts-prod/images/")


def gcr(hub: Hub, other: Hub) -> None:
    login(hub, "/v2/token", "gcr.io")
    hub.fault("blob", "relative", times=None)


def microsoft(hub: Hub, other: Hub) -> None:
    other.logins("none")
    leads_on(hub, other, kinds=("manifest", "list"))


def lscr(hub: Hub, other: Hub) -> None:
    leads_on(hub, other)
    login(other, "/token", "ghcr.io")
    shows_a_page(other)


def gitlab(hub: Hub, other: Hub) -> None:
    login(hub, "/jwt/auth", "container_registry", elsewhere=True)
    hub.referrers_api(there=False)


ROWS = {
    "quay.io": Row(lambda hub, other: hub.logins("none")),
    "ghcr.io": Row(ghcr, referrers="tag"),
    "registry.k8s.io": Row(kubernetes, behind="k8s-artifacts-prod/images/"),
    "gcr.io": Row(gcr),
    "mcr.microsoft.com": Row(microsoft, behind=""),
    "nvcr.io": Row(lambda hub, other: login(hub, "/proxy_auth", None)),
    "public.ecr.aws": Row(lambda hub, other: login(hub, "/token/", "public.ecr.aws", "aws")),
    "lscr.io": Row(lscr, behind="", referrers="tag"),
    "registry.gitlab.com": Row(gitlab, referrers="digest"),
}


@pytest.fixture(scope="module")
def mirrors(hub_process: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The page's mirrors, on one worker."""
    overrides = configuration()
    for upstream in overrides["upstreams"].values():
        upstream["url"] = hub_process.url
    with Service(tmp_path_factory.mktemp("registries"), overrides=overrides, hurried=True) as service:
        yield service


@pytest.fixture(scope="module")
def other_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("other"), cdn_host="127.0.0.3") as hub:
        yield hub


@pytest.fixture
def other(other_process: Hub) -> Hub:
    """The registry to which some registries redirect."""
    other_process.reset()
    other_process.limit(None)
    return other_process


@pytest.fixture
async def visitor(mirrors: Service) -> AsyncIterator[Client]:
    with clean_log(mirrors):
        async with Client(mirrors.url) as client:
            yield client


def publish(image: Image, row: Row, hub: Hub, other: Hub, repository: str, tag: str) -> tuple[list[str], list[str]]:
    """Put a signed image at the registry, and where it redirects to; give its tags and the digests of referrers."""
    signature, fallback = referrer(image, _SIGNATURE), image.digest.replace(":", "-")
    places = [(hub, repository)] if row.behind is None else [(hub, repository), (other, row.behind + repository)]
    for place, name in places:
        place.add(image, name, tag)
        place.add(signature, name)
        if row.referrers == "tag":
            place.add(referrers_tag(signature), name, fallback)
        elif row.referrers == "digest":
            place.tag(name, fallback, image.digest)
    return [fallback, tag] if row.referrers != "api" else [tag], [signature.digest] if row.referrers != "digest" else []


@pytest.mark.parametrize("registry", ROWS)
async def test_a_registry_is_mirrored_as_it_is(
    hub: Hub, other: Hub, visitor: Client, make: Make, registry: str
) -> None:
    row, (project, repository, tag) = ROWS[registry], PULLS[registry]
    image, name = make(), f"{project}/{repository}"
    tags, signatures = publish(image, row, hub, other, repository, tag)
    row.plan(hub, other)

    head = await visitor.manifest(name, tag, method="HEAD")
    assert (head.status, head.headers["Docker-Content-Digest"]) == (200, image.digest), head
    assert (head.headers["Content-Type"], head.headers["Content-Length"]) == (image.media_type, str(len(image.payload)))
    await visitor.pull(name, tag, image)
    await visitor.pull(name, image.digest, image, platform="linux/arm64")
    layer = image.platform("linux/amd64").layers[0]
    head = await visitor.blob(name, layer, method="HEAD")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(image.blobs[layer])))

    answer = await visitor.ask("GET", f"/v2/{name}/tags/list")
    assert (answer.status, answer.document) == (200, {"name": name, "tags": sorted(tags)}), answer
    answer = await visitor.ask("GET", f"/v2/{name}/referrers/{image.digest}")
    assert answer.status == 200, answer
    assert [item["digest"] for item in answer.document["manifests"]] == signatures
    assert "Warning" not in answer.headers

    # As containerd asks with _default/hosts.toml.
    answer = await visitor.manifest(repository, tag, query=f"?ns={registry}")
    assert (answer.status, answer.body, answer.headers["OCI-Namespace"]) == (200, image.payload, registry)
    answer = await visitor.ask("GET", f"/v2/{repository}/blobs/{layer}?ns={registry}")
    assert (answer.status, answer.body) == (200, image.blobs[layer])


@pytest.mark.parametrize("registry", ["quay.io", "public.ecr.aws"])
async def test_a_limit_without_dockers_headers(
    hub: Hub, other: Hub, mirrors: Service, visitor: Client, make: Make, registry: str
) -> None:
    row, (project, repository, tag) = ROWS[registry], PULLS[registry]
    image, known, cold = make(sizes=(100,)), f"{repository}-known", f"{repository}-cold"
    publish(image, row, hub, other, known, tag)
    publish(make(sizes=(100,)), row, hub, other, cold, tag)
    row.plan(hub, other)
    await visitor.pull(f"{project}/{known}", tag, image)
    await committed(mirrors)
    hub.fault("manifest", "status", status=429, retry_after="7", times=None)
    let_time_pass(mirrors, f"{project}/{known}")
    answer = await visitor.manifest(f"{project}/{known}", tag)
    assert (answer.status, answer.body) == (200, image.payload)
    assert is_stale(answer)
    answer = await visitor.manifest(f"{project}/{cold}", tag)
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert 1 <= int(answer.headers["Retry-After"]) <= 7


async def test_a_token_service_that_is_another_one_after_a_token_has_expired(
    hub: Hub, other: Hub, visitor: Client, make: Make
) -> None:
    row, (project, repository, tag) = ROWS["nvcr.io"], PULLS["nvcr.io"]
    image, name = make(sizes=(100,)), f"{project}/{repository}-expired"
    publish(image, row, hub, other, f"{repository}-expired", tag)
    row.plan(hub, other)
    assert (await visitor.manifest(name, tag, method="HEAD")).status == 200
    hub.revoke_tokens()
    hub.clear_faults()
    hub.fault("manifest", "challenge", text=f'Bearer realm="{hub.url}/accounts-only",service="registry"')
    row.plan(hub, other)
    await visitor.pull(name, tag, image)
