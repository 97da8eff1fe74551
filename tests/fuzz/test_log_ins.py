"""What says who somebody is, where they come from and go: credentials, scopes, tokens, addresses, languages, pages."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_network
from random import Random
from typing import Any, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.access.authorization import Basic, Bearer, OtherScheme, parse_authorization
from app.access.principal import address_block
from app.access.saml import own_page
from app.access.scopes import MAX_SCOPES, parse_scopes
from app.access.signing_keys import LoadedKey
from app.access.tokens import Grant, Tokens
from app.kit.networks import in_networks
from app.oci.errors import Unauthorized, Unsupported
from app.web.pages import texts
from app.web.server import client_address
from app.web.token import under

from .inputs import edit, edited, fuzz, odd, one_of


def _credentials(chance: Random) -> str:
    pair = edit(chance, chance.choice(["mari:secret", ":", "robot-ci:x", "ü:\u212a"]), (":", "\0"))
    basic = "Basic " + base64.b64encode(pair.encode(errors="surrogatepass")).decode()
    return chance.choice([basic, basic, "Bearer a.b.c", "basic", "Digest x"])


@fuzz(edited(_credentials, " ", "=", "\t", "Basic "))
def test_credentials(text: str) -> None:
    with suppress(Unauthorized):
        found = parse_authorization(text)
        assert found is None or isinstance(found, Basic | Bearer | OtherScheme)
        if isinstance(found, Basic):
            (found.username + found.password).encode()


def _scopes(chance: Random) -> list[str]:
    kinds = ("repository", "repository(plugin)", "registry", "")
    names, actions = ("lab/app", "catalog", "library/redis", "a:5000/b"), ("pull", "pull,push", "*", "delete,,")
    values = []
    for _ in range(chance.choice([1, 1, 2, 40])):
        asked = [
            f"{chance.choice(kinds)}:{chance.choice(names)}:{chance.choice(actions)}"
            for _ in range(chance.randrange(3))
        ]
        values.append(edit(chance, " ".join(asked), (":", " ", ",", "*", "/")))
    return values


@fuzz(_scopes, one_of(None, "mirror"))
def test_scopes(values: list[str], project: str | None) -> None:
    with suppress(Unsupported):
        found = parse_scopes(under(project, values))
        assert len(found.repositories) <= MAX_SCOPES
        for name, actions in found.repositories.items():
            assert name.isascii()
            assert actions
            assert actions <= {"pull", "push", "delete"}


class _Keys:
    """One key."""

    def __init__(self) -> None:
        private = Ed25519PrivateKey.generate()
        self.key = LoadedKey("1", private, private.public_key(), 0.0, 4e9)

    async def verifying(self, key_id: str) -> LoadedKey | None:
        return self.key if key_id == "1" else None


_keys = _Keys()
_HEAD = {"alg": "EdDSA", "kid": "1", "typ": "JWT"}
_CLAIMS = {
    "iss": "a.example",
    "aud": "a.example",
    "sub": "user:mari",
    "exp": 4_000_000_000,
    "nbf": 1,
    "iat": 1,
    "jti": "x",
    "admin": True,
    "access": [
        {"type": "repository", "name": "a/b", "actions": ["pull"], "project": 5},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ],
}


def _token(chance: Random) -> str:
    """Return a token that we have signed, because an older release may have written other claims, or any other."""
    if chance.random() < 0.5:
        payload = json.dumps(odd(chance, _CLAIMS)).encode()
        return jwt.PyJWS().encode(payload, _keys.key.private, algorithm="EdDSA", headers={"kid": "1"})
    head = base64.urlsafe_b64encode(json.dumps(odd(chance, _HEAD)).encode()).decode().rstrip("=")
    return edit(chance, f"{head}.e30.AA", (".", "=", "é"))


@fuzz(_token, costs=2)
def test_tokens(token: str) -> None:
    with suppress(Unauthorized):
        grant = asyncio.run(Tokens(cast("Any", _keys), "https://a.example").verify(token))
        assert isinstance(grant, Grant)
        assert grant.allows("a/b", "push") in (True, False)
        assert isinstance(grant.subject, str)


def _hops(chance: Random) -> str:
    number = chance.randrange(2**128)
    addresses = ("127.0.0.1", "[::1]", str(IPv4Address(number % 2**32)), str(IPv6Address(number)), "::ffff:10.0.0.1")
    return ", ".join(chance.choices(addresses, k=chance.randrange(4)))


_TRUSTED = (ip_network("127.0.0.0/8"), ip_network("fe80::/10"))


@fuzz(edited(_hops, "[", "%", ":80", ",", "unknown"), one_of("127.0.0.1", "", "::1", "10.0.0.1"))
def test_forwarded_addresses(forwarded: str, peer: str) -> None:
    found = client_address(peer, [forwarded, forwarded], _TRUSTED)
    assert isinstance(address_block(found), str)
    assert in_networks(found, _TRUSTED) in (True, False)


_accepts = edited(one_of("et-EE,et;q=0.9,en;q=0.8", "en;q=nan", "et;q=1e999"), ",", ";q=", "-", "inf")


@fuzz(_accepts, edited(one_of("et", "en", "")))
def test_languages(accept: str, chosen: str) -> None:
    assert texts.choose(chosen, accept).code in texts.LANGUAGES.values()


@fuzz(edited(one_of("/projects?x=1", "//[", "/\\evil", "https://a.example/"), "/", "\\", "\t", "[", ":"))
def test_next_pages(path: str) -> None:
    found = own_page(path)
    assert found.startswith("/")
    assert not found.startswith("//")
