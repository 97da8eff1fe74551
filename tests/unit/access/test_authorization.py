from __future__ import annotations

import base64
import secrets
import traceback

import pytest

from app.access.authorization import Basic, Bearer, OtherScheme, claimed, parse_authorization
from app.access.challenge import challenge, service_name
from app.oci.errors import Unauthorized


def basic(plain: str | bytes) -> str:
    return base64.b64encode(plain if isinstance(plain, bytes) else plain.encode()).decode()


@pytest.mark.parametrize("header", [None, "", " ", "Basic Og==", "basic  Og== "])
def test_no_header_or_an_empty_login_is_nobody(header: str | None) -> None:
    assert parse_authorization(header) is None


@pytest.mark.parametrize("header", ["Negotiate YII=", "Digest username=x", "token abc"])
def test_another_scheme_is_told_apart(header: str) -> None:
    assert parse_authorization(header) == OtherScheme()


def test_half_a_login_is_somebodys() -> None:
    assert (claimed("", ""), claimed("mari", ""), claimed("", "x")) == (None, Basic("mari", ""), Basic("", "x"))


@pytest.mark.parametrize("header", ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c ", " Bearer a.b.c"])
def test_a_bearer_token_is_read_whatever_its_case(header: str) -> None:
    assert parse_authorization(header) == Bearer("a.b.c")


@pytest.mark.parametrize(
    ("plain", "username", "password"),
    [
        ("mari:secret", "mari", "secret"),
        ("mari:se:cr:et", "mari", "se:cr:et"),
        ("õnne:šokolaad€", "õnne", "šokolaad€"),
        ("robot$ci+push:s", "robot$ci+push", "s"),
        ("mari:", "mari", ""),
        (":identity-token", "", "identity-token"),
    ],
)
def test_basic_is_utf8(plain: str, username: str, password: str) -> None:
    for scheme in ("Basic", "basic", "BASIC "):
        assert parse_authorization(f"{scheme} {basic(plain)}") == Basic(username, password)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer  ",
        "Basic",
        "Basic !!!!",
        "Basic bWFyaTpzZWNyZXQ",
        "Basic bWFyaTpz ZWNyZXQ=",
        "Basic \N{SNOWMAN}",
        f"Basic {basic('no colon')}",
        f"Basic {basic(bytes([255, 254]) + b':secret')}",
        f"Basic {basic('mari:' + 'x' * 20_000)}",
    ],
)
def test_what_cannot_be_read_is_unauthorized(header: str) -> None:
    with pytest.raises(Unauthorized):
        parse_authorization(header)


def test_no_secret_shows_in_a_representation_or_a_traceback() -> None:
    password = secrets.token_hex(8)
    assert password not in repr(parse_authorization(f"Basic {basic(f'mari:{password}')}"))
    assert password not in repr(parse_authorization(f"Bearer {password}"))
    with pytest.raises(Unauthorized) as raised:
        parse_authorization(f"Basic {basic(f'mari:{password}'.encode() + bytes([255]))}")
    assert password not in "".join(traceback.format_exception(raised.value))


def test_a_challenge_says_where_to_get_a_token_and_for_what() -> None:
    service = service_name("https://registry.hpc.ut.ee/")
    url = "https://registry.hpc.ut.ee/service/token"
    assert challenge(url, service) == f'Bearer realm="{url}",service="registry.hpc.ut.ee"'
    assert challenge(url, service, "repository:lab/app:pull,push", "insufficient_scope") == (
        f'Bearer realm="{url}",service="registry.hpc.ut.ee",'
        'scope="repository:lab/app:pull,push",error="insufficient_scope"'
    )
    assert service_name("http://127.0.0.1:8080") == "127.0.0.1:8080"
