"""``/v2/`` and the way to a token: what a client does before anything else."""

from __future__ import annotations

import re

import pytest

from tests.api.client import Registry, basic, exchange, expect, refused
from tests.parts.service import Service

CHALLENGE = re.compile(r'Bearer (\w+="[^"]*")(,\w+="[^"]*")*')


def parameters(challenge: str) -> dict[str, str]:
    assert CHALLENGE.fullmatch(challenge), challenge
    return dict(re.findall(r'(\w+)="([^"]*)"', challenge))


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_root_asks_for_a_token_and_then_answers(outsider: Registry, method: str, path: str) -> None:
    without = outsider.call(method, path, token="")
    assert without.status == 401
    assert without["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert parameters(without["WWW-Authenticate"]) == {
        "realm": f"http://{outsider.host}/service/token",
        "service": outsider.host,
    }
    answer = expect(outsider.call(method, path), 200)
    assert answer["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert answer["Content-Type"] == "application/json"
    assert method == "HEAD" or answer.json() == {}


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/lab/app/manifests/latest", "repository:lab/app:pull"),
        ("HEAD", "/v2/lab/app/manifests/latest", "repository:lab/app:pull"),
        ("PUT", "/v2/lab/app/manifests/latest", "repository:lab/app:pull,push"),
        ("DELETE", "/v2/lab/app/manifests/latest", "repository:lab/app:delete"),
        ("GET", f"/v2/lab/a/b/blobs/sha256:{'0' * 64}", "repository:lab/a/b:pull"),
        ("DELETE", f"/v2/lab/app/blobs/sha256:{'0' * 64}", "repository:lab/app:delete"),
        ("POST", "/v2/lab/app/blobs/uploads/", "repository:lab/app:pull,push"),
        ("PATCH", "/v2/lab/app/blobs/uploads/0", "repository:lab/app:pull,push"),
        ("GET", "/v2/lab/app/tags/list", "repository:lab/app:pull"),
        ("GET", f"/v2/lab/app/referrers/sha256:{'0' * 64}", "repository:lab/app:pull"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
    ],
)
def test_challenge_names_what_to_ask_for(outsider: Registry, method: str, path: str, scope: str) -> None:
    answer = outsider.call(method, path, token="")
    assert answer.status == 401
    assert parameters(answer["WWW-Authenticate"])["scope"] == scope


def test_the_whole_dance(service: Service, outsider: Registry, name: str) -> None:
    path = f"/v2/{name}/blobs/uploads/"
    challenge = parameters(outsider.call("POST", path, b"", token="")["WWW-Authenticate"])
    target = f"{challenge['realm'].removeprefix(service.url)}?service={challenge['service']}&scope={challenge['scope']}"
    login = {"Authorization": basic(service.username, service.password)}
    token = expect(exchange(service.host, "GET", target, None, login), 200).json()["token"]
    expect(outsider.call("POST", path, b"", token=token), 202)


def test_a_token_is_cut_down_to_what_is_allowed(outsider: Registry, name: str) -> None:
    answer = expect(outsider.ask_token(f"repository:{name}:pull,push,delete"), 200)
    assert answer["Cache-Control"] == "no-store"
    token = answer.json()["token"]
    assert token == answer.json()["access_token"]
    assert 0 < answer.json()["expires_in"] <= 300
    assert outsider.call("GET", f"/v2/{name}/tags/list", token=token).status == 404
    refusal = outsider.call("POST", f"/v2/{name}/blobs/uploads/", b"", token=token)
    assert "push" in refused(refusal, 401, "UNAUTHORIZED")
    assert parameters(refusal["WWW-Authenticate"])["error"] == "insufficient_scope"


def test_the_token_service_takes_a_form(service: Service, name: str) -> None:
    form = (
        f"grant_type=password&service={service.host}&client_id=tests&username={service.username}"
        f"&password={service.password}&scope=repository:{name}:push"
    )
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = expect(exchange(service.host, "POST", "/service/token", form.encode(), headers), 200)
    token = Registry(service.host, token=answer.json()["token"])
    expect(token.call("POST", f"/v2/{name}/blobs/uploads/", b""), 202)


@pytest.mark.parametrize("form", [b"", b"grant_type=refresh_token&refresh_token=x", b"\xff\xfe%%%", b"grant_type"])
def test_the_token_service_refuses_other_forms(service: Service, form: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = exchange(service.host, "POST", "/service/token", form, headers)
    assert answer.status == 400
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    "authorization",
    ["Basic", "Basic !!!", "Basic YWRtaW4=", "Bearer", "Bearer x", "Digest x", "\xff\xff", "Basic " + "A" * 9000],
)
def test_credentials_that_cannot_be_read(service: Service, authorization: str) -> None:
    for path in ("/service/token", "/v2/"):
        answer = exchange(service.host, "GET", path, None, {"Authorization": authorization})
        assert answer.status == 401, answer
        assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
        assert answer["WWW-Authenticate"]


def test_a_wrong_password_is_refused_everywhere(service: Service) -> None:
    for path in ("/service/token", "/v2/"):
        answer = exchange(service.host, "GET", path, None, {"Authorization": basic(service.username, "guessed")})
        assert answer.status == 401
        assert "wrong user name or password" in answer.json()["errors"][0]["message"]


def test_basic_is_enough_for_one_repository(service: Service, outsider: Registry, name: str) -> None:
    login = {"Authorization": basic(service.username, service.password)}
    expect(outsider.call("POST", f"/v2/{name}/blobs/uploads/", b"", login, token=""), 202)
    expect(outsider.call("GET", "/v2/", None, login, token=""), 200)


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/lab/cookies/tags/list"])
def test_cookies_are_not_looked_at(service: Service, admin: Registry, path: str) -> None:
    admin.push_manifest("lab/cookies", "latest", b'{"schemaVersion":2,"manifests":[]}', "application/json")
    token = admin.token("repository:lab/cookies:pull", "registry:catalog:*")
    cookies = {"Cookie": f"session={token}; sid=1; token={token}"}
    assert admin.call("GET", path, None, cookies, token="").status == 401
    bare, with_cookies = admin.call("GET", path), admin.call("GET", path, None, cookies)
    assert (bare.status, bare.body) == (with_cookies.status, with_cookies.body)
