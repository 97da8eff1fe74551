"""Addresses in one spelling, and the client's own address behind proxies."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from app.config import parse
from app.web.address import Address, Addresses
from app.web.server import client_address

BASE = "https://registry.example.org"
ADDRESSES = Addresses(
    parse(
        {
            "server": {"external_url": BASE},
            "projects": {"mirror": {"upstream": "docker.io"}, "lab": {}},
            "hosts": {"mirror.example.org": "mirror"},
        },
        Path("/"),
    )
)


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("/v2/", "registry.example.org", Address("/v2/", "", BASE)),
        ("/v2/lab/x/tags/list?n=5", "registry.example.org", Address("/v2/lab/x/tags/list", "n=5", BASE)),
        (
            "/mirror/v2/library/redis/manifests/latest",
            "registry.example.org",
            Address("/v2/mirror/library/redis/manifests/latest", "", f"{BASE}/mirror", "mirror"),
        ),
        ("/mirror/v2/", "registry.example.org", Address("/v2/", "", f"{BASE}/mirror", "mirror")),
        ("/lab/v2/x/manifests/1", "registry.example.org", Address("/lab/v2/x/manifests/1", "", BASE)),
        (
            "/v2/library/redis/manifests/7",
            "mirror.example.org:443",
            Address("/v2/mirror/library/redis/manifests/7", "", "https://mirror.example.org:443", "mirror"),
        ),
        (
            "/v2/library/redis/manifests/7?ns=docker.io",
            "registry.example.org",
            Address("/v2/mirror/library/redis/manifests/7", "ns=docker.io", BASE, namespace="docker.io"),
        ),
        (
            "/v2/lab/x/manifests/7?ns=quay.io",
            "registry.example.org",
            Address("/v2/lab/x/manifests/7", "ns=quay.io", BASE),
        ),
        ("/v2/lab%2Fx/manifests/1", "registry.example.org", Address("/v2/lab/x/manifests/1", "", BASE)),
        ("/v2/%2e%2e/%00/manifests/1", "registry.example.org", Address("/v2/../\0/manifests/1", "", BASE)),
    ],
)
def test_every_way_in_becomes_one_spelling(target: str, host: str, expected: Address) -> None:
    assert ADDRESSES.read(target, host) == expected


def test_bytes_that_are_no_text_become_what_no_name_has() -> None:
    assert "\ufffd" in ADDRESSES.read("/v2/%ff%fe/manifests/1", "registry.example.org").path


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.7", [], "198.51.100.7"),
        ("198.51.100.7", ["203.0.113.1"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.1, 10.0.0.2"], "203.0.113.1"),
        ("10.0.0.1", ["203.0.113.1", "10.0.0.2"], "203.0.113.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("", ["203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
    ],
)
def test_only_our_proxies_say_who_the_client_is(peer: str, forwarded: list[str], expected: str) -> None:
    assert client_address(peer, forwarded, (ip_network("10.0.0.0/24"),)) == expected
