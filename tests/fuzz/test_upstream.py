"""What upstreams answer: challenges, tokens, redirects, links, limits, errors, lists and addresses."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from random import Random
from types import SimpleNamespace
from typing import cast

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from app.mirror import replies
from app.mirror.address_guard import AddressGuard, AddressKind, classify, next_hop, origin, same_origin, token_address
from app.mirror.answers import parse_challenges, parse_rate_limit, parse_retry_after
from app.mirror.upstream_lists import UpstreamList, referrer_entries, tag_entries
from app.oci.errors import UpstreamInvalid

from .inputs import edit, edited, example, fuzz, odd_json, one_of, upstream_header
from .test_wire import DIGEST, PIECES

HOME = URL("https://registry.example.org/v2/")
_SCHEMES = ("https://", "http://", "//", "", "ftp://", "javascript:")
_HOSTS = ("a.example", "127.0.0.1", "[::1]", "[fe80::1%25eth0]", "10.1", "0x7f.1", "xn--p1ai", "ü.example")
_RESTS = ("", ":443", ":99999", ":x", "/a?b=c#d", "/../%2e%2e/%ff", "?service=x", "/a b")
_ODD_IN_URLS = ("@", ":", "[", "]", "\\", "%", "%zz", "..", "\t", "²", "\ud800", "//", "?", "#")


def _url(chance: Random) -> str:
    return chance.choice(_SCHEMES) + chance.choice(_HOSTS) + chance.choice(_RESTS)


def _challenge(chance: Random) -> str:
    values = ("https://auth.example.org/token", "a", "repository:a/b:pull", edit(chance, _url(chance), _ODD_IN_URLS))
    parameters = []
    for _ in range(chance.randrange(4)):
        value = chance.choice(values).replace("\\", "\\\\").replace('"', '\\"')
        parameters.append(f'{chance.choice(["realm", "service", "scope", "error"])}="{value}"')
    return chance.choice(["Bearer ", "Basic ", "bearer", "Negotiate abc=, "]) + ", ".join(parameters)


def _usable(url: URL) -> None:
    assert url.scheme in ("http", "https")
    assert url.raw_host
    assert url.user is None
    assert url.password is None
    assert str(url).isascii()
    assert all(origin(url))
    with suppress(UpstreamInvalid):
        AddressGuard("registry.example.org").check(url)


_challenges = edited(_challenge, '"', "=", ",", "\\", "Bearer ", "\udcff", "realm=")


@fuzz(_challenges, _challenges)
@example('Bearer realm="https://a.example/",service="\udcff"', "")
def test_challenges(first: str, second: str) -> None:
    for challenge in parse_challenges([first, second]):
        assert challenge.scheme == challenge.scheme.lower()
        with suppress(UpstreamInvalid):
            _usable(token_address(HOME, challenge.parameters, "repository:a/b:pull"))


@fuzz(edited(_url, *_ODD_IN_URLS))
@example("//[::1]@")
def test_redirects_and_realms(target: str) -> None:
    with suppress(UpstreamInvalid):
        _usable(next_hop(HOME, target))
    with suppress(UpstreamInvalid):
        _usable(token_address(HOME, {"realm": target, "service": target}, "repository:a/b:pull"))
    found = same_origin(HOME, target)
    assert found is None or origin(found) == origin(HOME)


def _links(chance: Random) -> str:
    relations = ("next", '"next"', "NEXT", "prev", '"prev next"')
    return ", ".join(f"<{_url(chance)}>; rel={chance.choice(relations)}" for _ in range(chance.randrange(3)))


@fuzz(edited(_links, "<", ">", ";", '"', ",", "rel=next"))
def test_links(header: str) -> None:
    target = replies.next_page([header, header])
    found = None if target is None else same_origin(HOME, target)
    assert found is None or origin(found) == origin(HOME)


def _limit(chance: Random) -> str:
    return f"{chance.randrange(10**10)};w={chance.randrange(10**10)}"


def _moment(chance: Random) -> str:
    dates = ("Wed, 21 Oct 2015 07:28:00 GMT", "1 Jan 1 00:00:00 +9999", "Fri, 31 Dec 9999 23:59:59 -2359")
    return chance.choice([*dates, str(chance.randrange(10**12)), "1.5"])


_limits = edited(_limit, ";", "w=", "²", "٣", "-", " ")


@fuzz(_limits, _limits, upstream_header, edited(_moment, "+", "-9999", "9999999999", ":", ",", " ", "Jan"))
def test_limits(limit: str, remaining: str, source: str, after: str) -> None:
    headers = {"ratelimit-limit": limit, "ratelimit-remaining": remaining, "docker-ratelimit-source": source}
    found = parse_rate_limit(CIMultiDict(headers))
    assert found is None or (0 <= found.remaining < 10**9 and found.window > 0)
    seconds = parse_retry_after(after, 1.7e9)
    assert seconds is None or 1 <= seconds <= 6 * 3600


def _response(**headers: str) -> aiohttp.ClientResponse:
    found = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return cast("aiohttp.ClientResponse", SimpleNamespace(headers=found, status=401, method="GET", content_length=5))


@fuzz(
    edited(one_of("application/json; charset=utf-8", "text/html"), ";", "/"),
    edited(one_of("bytes 0-4/5", "bytes 0-4/*"), "-", "/", "9" * 30, "²"),
    edited(one_of(DIGEST, f'"{DIGEST}", {DIGEST}'), ",", '"'),
)
def test_heads(kind: str, ranged: str, digest: str) -> None:
    response = _response(Content_Type=kind, Content_Range=ranged, Docker_Content_Digest=digest, WWW_Authenticate=kind)
    replies.media_type(response)
    replies.is_page(response)
    replies.challenges(response)
    assert replies.ranged_size(response, 0)[0] in (True, False)


_ERRORS = {"errors": [{"code": "DENIED", "message": "no", "detail": None}]}
_TOKEN = {"token": "abc", "access_token": "abc", "expires_in": 300}
_TAGS = {"name": "a/b", "tags": ["1", "latest"]}
_REFERRERS = {"manifests": [{"digest": DIGEST, "annotations": {"a": "b"}, "size": 5}, {"digest": DIGEST}]}


@fuzz(lambda chance: odd_json(chance, _ERRORS, _TOKEN, _TAGS, _REFERRERS, pieces=PIECES))
@example(b"[" * 100_000)
@example(b'{"manifests": [{"digest": "sha256:0", "a": ' + b"[" * 900 + b"]" * 900 + b"}]}")
@example(b'{"manifests": [{"digest": "sha256:0", "a": 1e999}]}')
def test_bodies(body: bytes) -> None:
    replies.error_code(body)
    replies.is_registrys_word(_response(), body)
    document = replies.json_object(body)
    if document is None:
        return
    for entries_of in (tag_entries, referrer_entries):
        entries = entries_of(document)
        if entries is not None:
            kept = UpstreamList(entries, 5.0)
            assert UpstreamList.unpacked(kept.packed()) == kept


def _address(chance: Random) -> str:
    low = chance.randrange(2 ** chance.choice([32, 64, 128]))
    return str(chance.choice([IPv4Address(low % 2**32), IPv6Address(low), IPv6Address(low % 2**64 | 0x64FF9B << 96)]))


@fuzz(edited(_address, "%", ":", "::", ".", "²", "fe80::", "\ud800", "::ffff:", most=2))
def test_addresses(text: str) -> None:
    assert isinstance(classify(text), AddressKind)
