"""Bearer tokens: which are let in, which are not, and keys that change under running clients."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import sqlite3
import time
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from app.access.principal import SERVICE
from app.access.secrets import Secrets, read_key
from app.access.signing_keys import SigningKeys
from app.database import Database
from tests.api.client import Registry, refused
from tests.api.documents import OCI_INDEX, index
from tests.api.people import People
from tests.parts.process import wait_for
from tests.parts.service import Service

SECRET = "secret/guarded"
# A time to come that is the same in every run: the names of tests must be.
IN_2100 = 4_102_444_800


@pytest.fixture(scope="module", autouse=True)
def _guarded(admin: Registry) -> None:
    admin.push_manifest(SECRET, "latest", index(), OCI_INDEX)


@pytest.fixture
def key(service: Service) -> tuple[str, str]:
    """The newest key of the running service: its id and its PEM."""
    return signing_keys(service)[0]


def secrets(service: Service) -> Secrets:
    return Secrets(read_key(None, service.folder / "data"))


def signing_keys(service: Service) -> list[tuple[str, str]]:
    """Read the keys of a service, whose secret key we have, the newest first."""
    with sqlite3.connect(f"file:{service.folder}/data/registry.sqlite?mode=ro", uri=True) as database:
        rows = database.execute("SELECT id, private_key FROM signing_key ORDER BY created_at DESC").fetchall()
    return [(key_id, secrets(service).decrypt(encrypted)) for key_id, encrypted in rows]


def number(service: Service) -> int:
    """Read the id of the private project."""
    with sqlite3.connect(f"file:{service.folder}/data/registry.sqlite?mode=ro", uri=True) as database:
        return int(database.execute("SELECT id FROM project WHERE name = 'secret'").fetchone()[0])


def claims(service: Service, **changes: Any) -> dict[str, Any]:
    """Make what a good token of the admin would say, with changes; None leaves a claim out."""
    now = int(time.time())
    good = {
        "iss": service.host,
        "aud": service.host,
        "sub": "person:admin",
        "exp": now + 300,
        "nbf": now - 10,
        "iat": now,
        "jti": f"forged-{now}-{time.monotonic_ns()}",
        "access": [
            {"type": "repository", "name": SECRET, "actions": ["delete", "pull", "push"], "project": number(service)}
        ],
        "admin": True,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def sign(key: tuple[str, str], content: Mapping[str, Any], **headers: Any) -> str:
    return jwt.encode(dict(content), key[1], algorithm="EdDSA", headers={"kid": key[0], **headers})


def segment(content: Mapping[str, Any]) -> str:
    return encoded(json.dumps(content).encode())


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def with_token(admin: Registry, token: str) -> int:
    """Ask for the private manifest with a token and give the status; a refusal must have its challenge."""
    answer = admin.call("GET", f"/v2/{SECRET}/manifests/latest", token=token)
    if answer.status != 200:
        refused(answer, 401, "UNAUTHORIZED")
        assert f'scope="repository:{SECRET}:pull",error="' in answer["WWW-Authenticate"]
    return answer.status


def test_a_token_we_sign_is_as_good_as_theirs(service: Service, admin: Registry, key: tuple[str, str]) -> None:
    """What the refusals below are worth: the same, unchanged, is let in."""
    assert with_token(admin, sign(key, claims(service))) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": -1},
        {"exp": 0},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": IN_2100},
        {"nbf": None},
        {"iss": "registry.example.org"},
        {"iss": None},
        {"aud": "registry.example.org"},
        {"aud": None},
        {"aud": ["registry.example.org"]},
        {"sub": None},
        {"sub": ""},
        {"sub": "king:admin"},
        {"jti": None},
        {"iat": None},
        {"access": None},
        {"access": []},
        {"access": "all"},
        {"access": {}},
        {"access": [{"type": "repository", "name": "lab/app", "actions": ["pull"]}]},
        {"access": [{"type": "repository", "name": f"{SECRET}/more", "actions": ["pull"]}]},
        {"access": [{"type": "repository", "name": "secret", "actions": ["pull"]}]},
        {"access": [{"type": "repository", "name": "secret/*", "actions": ["*"]}]},
        {"access": [{"type": "repository", "name": SECRET, "actions": ["push", "delete"]}]},
        {"access": [{"type": "repository", "name": SECRET, "actions": []}]},
        {"access": [{"type": "repository", "name": SECRET}]},
        {"access": [{"type": "registry", "name": "catalog", "actions": ["*"]}]},
        {"access": [None]},
        *(
            {"access": [{"type": "repository", "name": SECRET, "actions": ["pull"], "project": project}]}
            for project in (0, -1, 999_999, 2**64, "2", [2])
        ),
    ],
    ids=lambda changes: json.dumps(changes)[:70],
)
def test_claims_that_do_not_let_in(
    service: Service, admin: Registry, key: tuple[str, str], changes: dict[str, Any]
) -> None:
    assert with_token(admin, sign(key, claims(service, **changes))) == 401


def of_an_older_release(name: str) -> list[dict[str, Any]]:
    """Spell the access claim as releases did whose tokens named no project."""
    return [{"type": "repository", "name": name, "actions": ["pull", "push"]}]


def test_a_token_without_a_project_is_for_one_that_was_there_before_it(
    service: Service, admin: Registry, key: tuple[str, str]
) -> None:
    """During an upgrade, workers of the older release issue such tokens, and clients of those before it have them."""
    people, project = People(service), f"older-{uuid.uuid4().hex[:8]}"
    token = sign(key, claims(service, access=of_an_older_release(f"{project}/app")))
    people.project(project, age=60.0)
    digest = admin.push_blob(f"{project}/app", b"of the older project")
    assert admin.call("GET", f"/v2/{project}/app/blobs/{digest}", token=token).status == 200
    people.remove_project(project)
    people.project(project)
    digest = Registry(service.host, service.username, service.password).push_blob(f"{project}/app", b"of the new one")
    answer = admin.call("GET", f"/v2/{project}/app/blobs/{digest}", token=token)
    assert "ask the token service for a new one" in refused(answer, 401, "UNAUTHORIZED")


def test_an_expired_token_says_so(service: Service, admin: Registry, key: tuple[str, str]) -> None:
    token = sign(key, claims(service, exp=int(time.time()) - 1))
    answer = admin.call("GET", f"/v2/{SECRET}/manifests/latest", token=token)
    assert "expired" in refused(answer, 401, "UNAUTHORIZED")
    assert 'error="invalid_token"' in answer["WWW-Authenticate"]


def test_signed_by_another_key(service: Service, admin: Registry, key: tuple[str, str]) -> None:
    other = Ed25519PrivateKey.generate()
    for headers in ({"kid": key[0]}, {"kid": "unknown"}, {"kid": ""}, {}, {"kid": "../../etc/passwd"}):
        assert with_token(admin, jwt.encode(claims(service), other, algorithm="EdDSA", headers=headers)) == 401


def test_with_another_algorithm(service: Service, admin: Registry, key: tuple[str, str]) -> None:
    """The public key as an HMAC secret, no signature at all, and an RSA key."""
    content = claims(service)
    tokens = [
        jwt.encode(content, "", algorithm="none", headers={"kid": key[0]}),
        jwt.encode(content, generate_private_key(65537, 2048), algorithm="RS256", headers={"kid": key[0]}),
    ]
    _, body, signature = sign(key, content).split(".")
    public = load_pem_private_key(key[1].encode(), None).public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        b"",
    ):
        signed = f"{segment({'alg': 'HS256', 'kid': key[0]})}.{body}"
        tokens.append(f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}")
    for algorithm in ("none", "None", "NONE", "HS256", "ES256", "", None, 1):
        forged = segment({"alg": algorithm, "kid": key[0]})
        tokens += [f"{forged}.{body}.", f"{forged}.{body}.{signature}"]
    for token in tokens:
        assert with_token(admin, token) == 401, jwt.get_unverified_header(token)


def test_changed_on_the_way(service: Service, admin: Registry, key: tuple[str, str]) -> None:
    token = sign(key, claims(service, access=[]))
    head, body, signature = token.split(".")
    wider = segment(claims(service))
    for forged in (
        f"{head}.{wider}.{signature}",
        f"{head}.{body}",
        f"{head}..{signature}",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}.{signature}.x",
        f"{token}x",
        token.upper(),
        f"{token}, {token}",
    ):
        assert with_token(admin, forged) == 401


@pytest.mark.parametrize(
    "token",
    ["x", "a.b.c", "...", "e30.e30.e30", "\xff", "x" * 20_000, "eyJhbGciOiJub25lIn0.e30.", "[1]", "W10.W10.W10",
     "eyJraWQiOltdLCJhbGciOiJFZERTQSJ9.e30.AA", "eyJraWQiOm51bGwsImFsZyI6IkVkRFNBIn0.e30.AA"],
)  # fmt: skip
def test_what_is_no_token(admin: Registry, token: str) -> None:
    assert with_token(admin, token) == 401


def test_for_another_repository(admin: Registry, outsider: Registry) -> None:
    for token in (
        admin.token("repository:lab/app:pull,push,delete"),
        admin.token("repository:secret/other:pull"),
        admin.token("registry:catalog:*"),
        admin.token(),
        outsider.token(f"repository:{SECRET}:pull,push,delete"),
    ):
        assert with_token(admin, token) == 401


@pytest.mark.parametrize(
    ("actions", "method", "path", "status"),
    [
        ("pull", "PUT", "manifests/latest", 401),
        ("pull", "DELETE", "manifests/latest", 401),
        ("pull", "POST", "blobs/uploads/", 401),
        ("pull", "GET", "blobs/uploads/0", 401),
        ("push", "DELETE", "manifests/latest", 401),
        ("push", "GET", "manifests/latest", 401),
        ("push", "GET", "tags/list", 401),
        ("delete", "GET", "manifests/latest", 401),
        ("delete", "POST", "blobs/uploads/", 401),
        ("delete", "DELETE", "manifests/none", 404),
        ("pull", "GET", "manifests/none", 404),
        ("pull,push,delete", "POST", "blobs/uploads/", 202),
        ("*", "POST", "blobs/uploads/", 202),
        ("nothing", "GET", "tags/list", 401),
        ("", "GET", "tags/list", 401),
    ],
)
def test_each_action_allows_itself_only(admin: Registry, actions: str, method: str, path: str, status: int) -> None:
    token = admin.token(f"repository:{SECRET}:{actions}")
    answer = admin.call(method, f"/v2/{SECRET}/{path}", b"" if method in ("PUT", "POST") else None, token=token)
    assert answer.status == status, answer


SCOPES = [
    ["repository:secret/guarded:pull", "repository:lab/app:pull"],
    ["repository:secret/guarded:pull repository:lab/app:pull"],
    ["bad", "repository:secret/guarded:pull"],
    ["repository:UPPER:pull repository:secret/guarded:pull"],
    ["repository(plugin):secret/guarded:pull"],
    ["repository:secret/guarded:pull,fly"],
    ["", "repository:secret/guarded:*"],
]


@pytest.mark.parametrize("scopes", SCOPES, ids=" + ".join)
def test_scopes_of_every_spelling(admin: Registry, scopes: list[str]) -> None:
    assert with_token(admin, admin.token(*scopes)) == 200


@pytest.mark.parametrize(
    "scope",
    ["repository:secret/guarded", "repository:secret/guarded:pull:x", "repository::pull", "secret/guarded:pull", "::",
     "repository:secret/../secret/guarded:pull", "repository:secret/guarded\0:pull", "registry:secret/guarded:pull",
     "repository:SECRET/guarded:pull", "repository:secret/*:pull", "x" * 5000],
)  # fmt: skip
def test_scopes_that_grant_nothing(admin: Registry, scope: str) -> None:
    assert with_token(admin, admin.token(scope)) == 401


def test_keys_change_and_no_client_notices(service: Service, first: Registry, second: Registry) -> None:
    """Tokens of the old key stay good on both workers, and both come to know the new one."""
    old = first.token(f"repository:{SECRET}:pull")
    database_url = f"sqlite:///{service.folder}/data/registry.sqlite"

    async def rotate() -> None:
        database = Database(database_url)
        await SigningKeys(database, secrets(service)).rotate(SERVICE, "")
        await database.close()

    asyncio.run(rotate())
    rows = signing_keys(service)
    assert len(rows) >= 2
    new = sign(rows[0], claims(service))
    for user in (first, second):
        for token in (old, sign(rows[1], claims(service))):
            assert with_token(user, token) == 200
        # A worker looks for a key it does not know once a second at most; nobody signs with it for ten.
        wait_for(partial(known, user, new), what="the new key to be known")
    fresh_user = Registry(service.host, service.username, service.password)
    assert with_token(first, fresh_user.token(f"repository:{SECRET}:pull")) == 200


def known(user: Registry, token: str) -> bool:
    return with_token(user, token) == 200


def test_nothing_of_a_token_or_a_password_is_in_the_log(service: Service, admin: Registry) -> None:
    token = admin.token(f"repository:{SECRET}:pull")
    assert with_token(admin, token) == 200
    log = service.log()
    for secret in (token, token.split(".")[2], service.password, "PRIVATE KEY"):
        assert secret not in log
