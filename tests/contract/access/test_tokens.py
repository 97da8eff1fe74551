from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
import traceback
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.access import tokens as module
from app.access.principal import ANONYMOUS, Principal, PrincipalKind
from app.access.scopes import ALL_ACTIONS, MAX_SCOPES, NO_PROJECT, PULL, Access
from app.access.signing_keys import SigningKeys
from app.access.tokens import LIFETIME, MAX_TOKEN, Grant, TokenOutdated, Tokens
from app.database import Database
from app.oci.errors import Unauthorized
from app.oci.reference import MAX_NAME

from .conftest import SECRETS

SERVICE = "registry.hpc.ut.ee"
URL = f"https://{SERVICE}"
MARI = Principal(PrincipalKind.PERSON, "mari")
ADMIN = Principal(PrincipalKind.PERSON, "admin", is_admin=True)
PUSH = frozenset({"pull", "push"})
PULL_A = {"open/a": Access(PULL, 1)}
# A time to come that is the same in every run: the names of tests must be.
IN_2100 = 4_102_444_800


@pytest.fixture
def keys(database: Database) -> SigningKeys:
    return SigningKeys(database, SECRETS)


@pytest.fixture
def tokens(keys: SigningKeys) -> Tokens:
    return Tokens(keys, URL)


def claims(**changes: object) -> dict[str, Any]:
    """Claims as the service signs them, with changes; None leaves one out."""
    now = int(time.time())
    good = {
        "iss": SERVICE,
        "aud": SERVICE,
        "sub": "person:mari",
        "exp": now + 300,
        "nbf": now - 10,
        "iat": now,
        "jti": "1",
        "access": [{"type": "repository", "name": "open/a", "actions": ["pull"]}],
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


async def signed(keys: SigningKeys, **changes: object) -> str:
    key = await keys.signing()
    return jwt.encode(claims(**changes), key.private, algorithm="EdDSA", headers={"kid": key.id})


def part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def refused(tokens: Tokens, token: str, words: str = "not valid here") -> None:
    for _ in range(2):
        assert tokens.cached(token) is None
        with pytest.raises(Unauthorized, match=words) as raised:
            await tokens.verify(token)
        assert token not in raised.value.body().decode() or not token


async def test_a_token_reads_back(tokens: Tokens) -> None:
    access = {"lab/app": Access(PUSH, 7), "open/a": Access(PULL, 1)}
    issued = await tokens.issue(ADMIN, access, catalogue=True)
    assert tokens.cached(issued.token) is None
    grant = await tokens.verify(issued.token)
    assert grant.principal == ADMIN
    assert grant.subject == "person:admin"
    assert grant.access == access
    assert grant.catalogue
    assert tokens.cached(issued.token) is grant
    assert await tokens.verify(issued.token) is grant


async def test_a_token_has_the_claims_of_the_specification_and_five_minutes(tokens: Tokens, keys: SigningKeys) -> None:
    before = int(time.time())
    issued = await tokens.issue(MARI, {"lab/app": Access(PUSH, 7)}, catalogue=True)
    header = jwt.get_unverified_header(issued.token)
    assert header == {"typ": "JWT", "alg": "EdDSA", "kid": (await keys.signing()).id}
    body = jwt.decode(issued.token, options={"verify_signature": False})
    assert body["iss"] == body["aud"] == SERVICE
    assert body["sub"] == "person:mari"
    assert body["nbf"] < body["iat"] == issued.issued_at
    assert body["exp"] - body["iat"] == 300
    assert 60 <= issued.expires_in <= 300
    assert before <= issued.issued_at <= time.time()
    assert body["access"] == [
        {"type": "repository", "name": "lab/app", "actions": ["pull", "push"], "project": 7},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]
    assert "admin" not in body


@pytest.mark.parametrize("principal", [MARI, ANONYMOUS], ids=["a person", "nobody"])
@pytest.mark.parametrize("kept", [0, 260], ids=["at once", "as long as the client was told"])
@pytest.mark.parametrize("ahead", [-28, 28])
async def test_hosts_whose_clocks_differ_take_each_others_tokens(
    tokens: Tokens, principal: Principal, kept: int, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty seconds are allowed; two are for this test. The issuer's clock is ``ahead``, by seconds."""
    monkeypatch.setattr(module, "time", _Clock(time.time() - kept + ahead))
    issued = await tokens.issue(principal, PULL_A)
    monkeypatch.setattr(module, "time", time)
    assert issued.expires_in == 260
    assert (await tokens.verify(issued.token)).expires_at == issued.issued_at + LIFETIME


@pytest.mark.parametrize(("ahead", "words"), [(45, "not valid here"), (-345, "expired")])
async def test_the_difference_of_clocks_is_bounded(
    tokens: Tokens, ahead: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "time", _Clock(time.time() + ahead))
    issued = await tokens.issue(MARI, PULL_A)
    monkeypatch.setattr(module, "time", time)
    await refused(tokens, issued.token, words)


class _Clock:
    """The module ``time`` of a host with another clock."""

    def __init__(self, now: float) -> None:
        self._now = now

    def time(self) -> float:
        return self._now


async def test_anonymous_tokens_are_one_string_on_every_worker(tokens: Tokens, other_database: Database) -> None:
    other = Tokens(SigningKeys(other_database, SECRETS), URL)
    began = time.time()
    ours, theirs = await tokens.issue(ANONYMOUS, PULL_A), await other.issue(ANONYMOUS, PULL_A)
    if ours.issued_at != theirs.issued_at:  # ten seconds ended in between
        ours, theirs = await tokens.issue(ANONYMOUS, PULL_A), await other.issue(ANONYMOUS, PULL_A)
    assert ours == theirs
    assert ours.issued_at % 10 == 0
    assert ours.issued_at + 300 >= began + ours.expires_in
    assert (await tokens.issue(ANONYMOUS, {"open/b": Access(PULL, 1)})).token != ours.token
    assert (await tokens.issue(ANONYMOUS, {"open/a": Access(PULL, 2)})).token != ours.token
    assert (await tokens.issue(ANONYMOUS, PULL_A, catalogue=True)).token != ours.token
    assert (await tokens.issue(MARI, PULL_A)).token != (await tokens.issue(MARI, PULL_A)).token


NOW = 1_800_000_000.0


def given(project: int | None, issued_at: float = NOW) -> Grant:
    return Grant(MARI, {"open/a": Access(PULL, project)}, catalogue=False, expires_at=issued_at + LIFETIME)


@pytest.mark.parametrize(
    ("grant", "project", "made_at"),
    [
        (given(7), 7, NOW - 3600),
        (given(7), 7, NOW + 10),
        (given(NO_PROJECT), NO_PROJECT, 0.0),
        (given(None), 7, NOW - 31),
        (given(None), NO_PROJECT, 0.0),
    ],
)
async def test_a_grant_is_for_the_project_it_was_given_in(grant: Grant, project: int, made_at: float) -> None:
    grant.require("open/a", project, made_at)


@pytest.mark.parametrize(
    ("grant", "project", "made_at"),
    [
        (given(7), 8, NOW + 60),
        # Even a clock that is wrong lets nobody in.
        (given(7), 8, NOW - 3600),
        (given(7), NO_PROJECT, 0.0),
        (given(NO_PROJECT), 8, NOW + 60),
        (given(NO_PROJECT), 8, NOW - 3600),
        # Without a project, a token may be for the one of the same name before, if this one is not the older.
        (given(None), 8, NOW + 60),
        (given(None), 8, NOW - 9),
        (Grant(MARI, {}, catalogue=True, expires_at=NOW + LIFETIME), 7, NOW - 3600),
        (Grant(MARI, {"open/b": Access(PULL, 7)}, catalogue=True, expires_at=NOW + LIFETIME), 7, NOW - 3600),
    ],
)
async def test_and_for_no_other_project_of_that_name(grant: Grant, project: int, made_at: float) -> None:
    with pytest.raises(TokenOutdated, match="not valid here"):
        grant.require("open/a", project, made_at)


async def test_a_token_of_an_older_release_reads_without_a_project(tokens: Tokens, keys: SigningKeys) -> None:
    assert (await tokens.verify(await signed(keys))).access == {"open/a": Access(PULL, None)}


async def test_a_well_formed_token_is_accepted(tokens: Tokens, keys: SigningKeys) -> None:
    """The measure for the hostile ones below: they differ from this one in one thing each."""
    assert (await tokens.verify(await signed(keys))).allows("open/a", "pull")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other.example.org"},
        {"aud": [SERVICE, "other.example.org"]},
        {"iss": "other.example.org"},
        {"nbf": IN_2100},
        {"exp": "never"},
        {"sub": "root"},
        {"sub": 7},
        {"access": "everything"},
        {"access": [{"type": "repository"}]},
        {"access": [7]},
        {"access": 7},
        *({name: None} for name in ("iss", "aud", "sub", "exp", "nbf", "iat", "jti", "access")),
    ],
    ids=str,
)
async def test_claims_that_are_not_ours_are_refused(
    tokens: Tokens, keys: SigningKeys, changes: dict[str, object]
) -> None:
    await refused(tokens, await signed(keys, **changes))


async def test_an_expired_token_says_so(tokens: Tokens, keys: SigningKeys) -> None:
    await refused(tokens, await signed(keys, exp=int(time.time()) - 1), "has expired")


async def test_a_remembered_token_expires_too(tokens: Tokens, keys: SigningKeys) -> None:
    token = await signed(keys, exp=int(time.time()) + 2)
    assert await tokens.verify(token) is tokens.cached(token)
    await asyncio.sleep(2.1)
    await refused(tokens, token, "has expired")


async def test_a_token_whose_algorithm_is_not_the_pinned_one_is_refused(tokens: Tokens, keys: SigningKeys) -> None:
    key = await keys.signing()
    spki = key.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    raw = key.public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    await refused(tokens, jwt.encode(claims(), "", algorithm="none", headers={"kid": key.id}))
    body = part(claims())
    for secret in (spki, raw, raw.hex().encode()):
        signing_input = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': key.id})}.{body}"
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
            signing_input.encode(), secret
        )
        await refused(tokens, f"{signing_input}.{part(signature)}")
    for algorithm in ("EDDSA", "ES256", "", None, ["EdDSA"], 7):
        signing_input = f"{part({'alg': algorithm, 'kid': key.id})}.{body}"
        await refused(tokens, f"{signing_input}.{part(key.private.sign(signing_input.encode()))}")


async def test_a_token_of_another_key_is_refused(tokens: Tokens, keys: SigningKeys) -> None:
    mine, stolen_id = Ed25519PrivateKey.generate(), (await keys.signing()).id
    for headers in ({"kid": stolen_id}, {"kid": "other"}, {}):
        await refused(tokens, jwt.encode(claims(), mine, algorithm="EdDSA", headers=headers))
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(mine.public_key()))
    await refused(tokens, jwt.encode(claims(), mine, algorithm="EdDSA", headers={"kid": stolen_id, "jwk": jwk}))


async def test_a_token_that_was_changed_is_refused(tokens: Tokens, keys: SigningKeys) -> None:
    good = await signed(keys)
    header, body, signature = good.split(".")
    admin = part(claims(admin=True, sub="person:admin"))
    for token in (
        f"{header}.{admin}.{signature}",
        f"{header}.{body}.",
        f"{header}.{body}",
        f"{header}.{body}.{signature}.{signature}",
        f"{header}.{body}.{part(b'0' * 64)}",
        *(good[:length] for length in range(0, len(good) - 1, 7)),
    ):
        await refused(tokens, token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\N{SNOWMAN}.b.c",
        "\ud800.b.c",
        "x" * 1_000_000,
        f"{part({'alg': 'EdDSA', 'kid': 'x'})}.{'A' * 1_000_000}.AAAA",
        f"{part(b'[' * 10_000)}.e30.AAAA",
        f"{part(b'1' * 5_000)}.e30.AAAA",
        f"{part([])}.e30.AAAA",
        f"{part({'alg': 'EdDSA', 'kid': 7})}.e30.AAAA",
        f"{part({'alg': 'EdDSA', 'kid': {}})}.e30.AAAA",
        f"{part({'alg': 'EdDSA', 'kid': 'x' * 9_000})}.e30.AAAA",
        f"{part({'alg': 'EdDSA', 'kid': chr(0)})}.e30.AAAA",
        f"{part({'alg': 'EdDSA', 'b64': False, 'crit': ['b64']})}..AAAA",
    ],
    ids=lambda token: f"{len(token)} characters",
)
async def test_what_is_no_token_is_refused(tokens: Tokens, token: str) -> None:
    await refused(tokens, token)


async def test_a_payload_that_is_no_object_is_refused(tokens: Tokens, keys: SigningKeys) -> None:
    key = await keys.signing()
    for body in (b"[]", b"null", b"[" * 5_000, b"{", b"\xff"):
        signing_input = f"{part({'alg': 'EdDSA', 'kid': key.id})}.{part(body)}"
        await refused(tokens, f"{signing_input}.{part(key.private.sign(signing_input.encode()))}")


async def test_the_largest_token_that_can_be_asked_for_is_accepted(tokens: Tokens) -> None:
    held = Access(ALL_ACTIONS, 2**63 - 1)
    access = {f"{number:03}{'a' * (MAX_NAME - 3)}": held for number in range(MAX_SCOPES)}
    issued = await tokens.issue(Principal(PrincipalKind.PERSON, "õ" * 255), access, catalogue=True)
    assert len(issued.token) <= MAX_TOKEN
    assert len((await tokens.verify(issued.token)).access) == MAX_SCOPES


async def test_a_larger_one_is_not_looked_at(tokens: Tokens, keys: SigningKeys) -> None:
    await refused(tokens, await signed(keys, jti="x" * MAX_TOKEN))


async def test_what_is_remembered_is_bounded(keys: SigningKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await Tokens(keys, URL).issue(MARI, PULL_A)
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 3 * len(first.token))
    tokens = Tokens(keys, URL)
    await tokens.verify(first.token)
    issued = [await tokens.issue(MARI, PULL_A) for _ in range(5)]
    for each in issued:
        await tokens.verify(each.token)
    remembered = [tokens.cached(each.token) is not None for each in [first, *issued]]
    assert remembered == [False, False, False, True, True, True]
    assert (await tokens.verify(first.token)).allows("open/a", "pull")


async def test_a_token_shows_nowhere(tokens: Tokens, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issued = await tokens.issue(MARI, PULL_A)
    assert issued.token not in repr(issued) + repr(await tokens.verify(issued.token))
    forged = issued.token[:-8] + "AAAAAAAA"
    with pytest.raises(Unauthorized) as raised:
        await tokens.verify(forged)
    assert forged not in "".join(traceback.format_exception(raised.value))
    assert issued.token[:40] not in caplog.text
