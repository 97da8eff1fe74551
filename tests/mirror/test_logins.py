"""Engines send the login of Docker Hub to whatever mirrors it: at a public mirror it is nobody's, and not wrong."""

from __future__ import annotations

import base64
import itertools
import json
import re
from urllib.parse import urlencode

import pytest

from tests.api.client import Answer, basic, exchange
from tests.parts.service import Service
from tests.upstream.client import Hub

from .client import Client
from .conftest import MIRROR_HOST, Make

HUB_USER = ("hubuser", "dckr_pat_hubpassword")
_numbers = itertools.count(1)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def get(service: Service, *scopes: str, login: tuple[str, str] = HUB_USER, host: str = "", at: str = "") -> Answer:
    """Ask for a token as Docker does."""
    query = urlencode([("account", login[0]), *(("scope", scope) for scope in scopes), ("service", "x")])
    headers = {"Authorization": basic(*login)} | ({"Host": host} if host else {})
    return exchange(service.host, "GET", f"{at}/service/token?{query}", None, headers)


def post(service: Service, scope: str, **form: str) -> Answer:
    """Ask for a token as containerd does first."""
    fields = {"client_id": "containerd-client", "service": "x", "scope": scope, **form}
    return exchange(service.host, "POST", "/service/token", urlencode(fields).encode(), FORM)


def subject(answer: Answer) -> str:
    """Give whom a token is for."""
    claims = answer.json()["token"].split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"])


@pytest.mark.parametrize(
    ("url", "host", "name", "query"),
    [
        ("", MIRROR_HOST, "{}", ""),
        ("/mirror", None, "{}", ""),
        ("", None, "{}", "?ns=docker.io"),
        ("", None, "mirror/{}", ""),
        ("", None, "mirror/{}", "?ns=docker.io"),
    ],
)
@pytest.mark.parametrize("told", [True, False], ids=["scope-as-told", "scopes-of-containerd"])
async def test_a_hub_login_pulls_at_every_address(
    hub: Hub,
    service: Service,
    repository: str,
    make: Make,
    url: str,
    host: str | None,
    name: str,
    query: str,
    told: bool,
) -> None:
    image, name = hub.add(make(), repository, "1"), name.format(repository)
    asks_for = None if told else f"repository:{repository}:pull repository:{name}:pull"
    async with Client(service.url + url, host=host, login=HUB_USER, asks_for=asks_for) as client:
        answer = await client.manifest(name, "1", query=query)
        assert (answer.status, answer.body) == (200, image.payload)


async def test_basic_without_a_token_is_read_the_same_way(
    hub: Hub, service: Service, repository: str, make: Make
) -> None:
    image = hub.add(make(), repository, "1")
    headers = {"Authorization": basic(*HUB_USER)}
    async with Client(service.url) as client:
        for path in (f"/v2/mirror/{repository}", f"/mirror/v2/{repository}"):
            answer = await client.ask("GET", f"{path}/manifests/1", headers)
            assert (answer.status, answer.body) == (200, image.payload)
            # A HEAD of a blob asks a client that may push for both; nobody pushes to a mirror.
            answer = await client.ask(
                "HEAD", f"{path}/blobs/{next(iter(image.platform('linux/amd64').blobs))}", headers
            )
            assert answer.status == 200
        for path in ("/v2/", f"/v2/team/{repository}/manifests/1", "/v2/secret/app/manifests/1", "/v2/_catalog"):
            answer = await client.ask("GET", path, headers)
            assert (answer.status, answer.code) == (401, "UNAUTHORIZED"), path
        answer = await client.ask("DELETE", f"/v2/mirror/{repository}/manifests/{image.digest}", headers)
        assert answer.status == 401


@pytest.mark.parametrize("secret", [{"username": HUB_USER[0], "password": HUB_USER[1]}, {"refresh_token": "x"}, None])
def test_containerd_with_one_file_for_all_registries(
    hub: Hub, service: Service, make: Make, project: str, secret: dict[str, str] | None
) -> None:
    """Its requests with `_default/hosts.toml`: a registry by ``ns``, and its own scope beside the one it is told."""
    for mirror, namespace in (("mirror", "docker.io"), (project, f"{project}.example")):
        number = next(_numbers)
        name, image = f"somebody/app{number}", hub.add(make(sizes=(100,)), f"somebody/app{number}", "1")
        path = f"/v2/{name}/manifests/1?ns={namespace}"
        refused = exchange(service.host, "HEAD", path, None, {})
        told = dict(re.findall(r'(\w+)="([^"]*)"', refused["WWW-Authenticate"]))
        realm = told["realm"].removeprefix(service.url)
        assert (refused.status, realm) == (401, f"/{mirror}/service/token")
        scopes = " ".join(sorted({f"repository:{name}:pull", *told["scope"].split(" ")}))
        if secret is None:
            query = urlencode({"scope": scopes, "service": told["service"]})
            answer = exchange(service.host, "GET", f"{realm}?{query}", None, {})
        else:
            grant_type = "password" if "password" in secret else "refresh_token"
            form = {"scope": scopes, "service": told["service"], "grant_type": grant_type, **secret}
            answer = exchange(service.host, "POST", realm, urlencode(form).encode(), FORM)
        assert answer.status == 200, answer
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        found = exchange(service.host, "HEAD", path, None, headers)
        assert (found.status, found["Docker-Content-Digest"]) == (200, image.digest)
        for kind, digest in (("manifests", image.digest), ("blobs", image.layers[0])):
            answer = exchange(service.host, "GET", f"/v2/{name}/{kind}/{digest}?ns={namespace}", None, headers)
            assert (answer.status, answer["OCI-Namespace"]) == (200, namespace)
    # This registry is not mirrored; containerd asks it itself.
    assert exchange(service.host, "HEAD", "/v2/library/x/manifests/1?ns=registry.k8s.io", None, {}).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_challenge_at_a_mirrors_own_address_asks_for_pull_alone(
    service: Service, repository: str, method: str
) -> None:
    for path, headers in ((f"/mirror/v2/{repository}", {}), (f"/v2/{repository}", {"Host": MIRROR_HOST})):
        answer = exchange(service.host, method, f"{path}/blobs/sha256:{'0' * 64}", None, headers)
        assert answer.status == 401
        assert f'scope="repository:{repository}:pull"' in answer["WWW-Authenticate"]


@pytest.mark.parametrize(("host", "at"), [(MIRROR_HOST, ""), ("", "/mirror")])
@pytest.mark.parametrize("scopes", [[], ["repository:library/x:pull"], ["registry:catalog:*"]])
def test_at_a_public_mirrors_own_address_each_foreign_login_is_nobodys(
    service: Service, scopes: list[str], host: str, at: str
) -> None:
    answer = get(service, *scopes, host=host, at=at)
    assert (answer.status, subject(answer)) == (200, "anonymous")


@pytest.mark.parametrize(
    ("scopes", "host", "at"),
    [
        ([], "", ""),
        ([], "", "/team"),
        (["repository:mirror/library/x:pull,push"], "", ""),
        (["repository:library/x:pull,push"], MIRROR_HOST, ""),
        (["repository:mirror/library/x:pull", "registry:catalog:*"], "", ""),
        (["repository:team/library/x:pull"], "", ""),
        (["repository:library/x:pull"], "", "/team"),
        (["repository:lab/x:pull"], "", ""),
        (["repository:mirror/library/x:pull", "repository:secret/x:pull"], "", ""),
        (["repository:mirror/library/x:pull", "repository:missing/x:pull"], "", ""),
    ],
)
def test_what_is_not_a_pull_from_a_public_mirror_needs_a_right_login(
    service: Service, scopes: list[str], host: str, at: str
) -> None:
    # Each has a name of its own, because these are counted.
    login = (f"hubuser{next(_numbers)}", "x")
    answer = get(service, *scopes, login=login, host=host, at=at)
    assert (answer.status, answer.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")
    if not (host or at):
        form = {"grant_type": "password", "username": login[0], "password": "x"}
        assert post(service, " ".join(scopes), **form).status == 401


def test_a_token_of_another_registry_is_nobodys_at_a_mirror(service: Service) -> None:
    scope = "repository:mirror/library/x:pull"
    answer = post(service, scope, grant_type="refresh_token", refresh_token="identity-token")
    assert (answer.status, subject(answer)) == (200, "anonymous")
    assert post(service, "repository:lab/x:pull", grant_type="refresh_token", refresh_token="y").status == 400
    # After a refusal, containerd sends it as the password of no name.
    assert subject(get(service, scope, login=("", "identity-token"))) == "anonymous"
    assert get(service, "repository:lab/x:pull", login=("", "identity-token")).status == 401


def test_a_right_login_is_somebodys_and_a_wrong_one_of_ours_is_not_told_apart(service: Service) -> None:
    scope = "repository:mirror/library/x:pull"
    assert subject(get(service, scope, login=(service.username, service.password))) == "person:admin"
    wrong = [get(service, scope, login=login) for login in ((service.username, "x"), ("hubuser", "x"))]
    assert [(answer.status, subject(answer), set(answer.json())) for answer in wrong] == [
        (200, "anonymous", {"token", "access_token", "expires_in", "issued_at"})
    ] * 2


def test_an_empty_login_is_nobodys_everywhere(service: Service) -> None:
    headers = {"Authorization": "Basic Og=="}
    for scope in ("", "repository:mirror/library/x:pull", "repository:secret/x:pull,push"):
        answer = exchange(service.host, "GET", f"/service/token?{urlencode({'scope': scope})}", None, headers)
        assert (answer.status, subject(answer)) == (200, "anonymous")
    assert subject(post(service, "", grant_type="password", username="", password="")) == "anonymous"
    for path in ("/v2/", "/v2/lab/app/manifests/1"):
        answer, bare = (exchange(service.host, "GET", path, None, sent) for sent in (headers, {}))
        assert (answer.status, answer["WWW-Authenticate"]) == (401, bare["WWW-Authenticate"])
    assert exchange(service.host, "GET", "/api/v2.0/projects", None, headers).status == 200


def test_more_scopes_than_a_token_has_are_refused_with_words(service: Service) -> None:
    scopes = [f"repository:mirror/library/x{number}:pull" for number in range(33)]
    for answer in (
        exchange(service.host, "GET", f"/service/token?{urlencode({'scope': ' '.join(scopes)})}", None, {}),
        post(service, " ".join(scopes), grant_type="password", username="", password=""),
    ):
        assert answer.status == 400
        assert "32 at most" in answer.json()["errors"][0]["message"]
    assert get(service, *scopes[:32]).status == 200
