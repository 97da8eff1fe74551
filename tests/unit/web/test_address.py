"""Addresses in one spelling, and the client's own address behind proxies."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from tornado.httputil import HTTPHeaders, RequestStartLine

from app.config import parse
from app.web.address import Address, Addresses
from app.web.server import client_address, read_target

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


@pytest.mark.parametrize(
    ("target", "hosts", "path", "host"),
    [
        ("/v2/", ["a.example"], "/v2/", "a.example"),
        ("/v2/", ["[::1]:5000"], "/v2/", "[::1]:5000"),
        ("/v2/", ["a_b.example:"], "/v2/", "a_b.example:"),
        ("/v2/", [""], "/v2/", ""),
        ("http://b.example/v2/?n=1", ["a.example"], "/v2/?n=1", "b.example"),
        ("HTTPS://b.example:443/v2/", ["a.example"], "/v2/", "b.example:443"),
        ("http://b.example", ["a.example"], "/", "b.example"),
        ("http://b.example?x=http://c/", ["a.example"], "/?x=http://c/", "b.example"),
        ("http://b.example//v2/", ["a.example"], "//v2/", "b.example"),
        ("//b.example/v2/", ["a.example"], "//b.example/v2/", "a.example"),
    ],
)
def test_a_target_may_be_a_whole_url(target: str, hosts: list[str], path: str, host: str) -> None:
    headers = _headers(hosts)
    start, fault = read_target(RequestStartLine("GET", target, "HTTP/1.1"), headers)
    assert (start.path, headers["Host"], fault) == (path, host, None)


@pytest.mark.parametrize(
    ("target", "hosts", "version"),
    [
        ("/v2/", [], "HTTP/1.1"),
        ("http://a.example/v2/", [], "HTTP/1.1"),
        ("/v2/", ["a.example", "a.example"], "HTTP/1.1"),
        ("/v2/", ["a.example", "b.example"], "HTTP/1.0"),
        ("/v2/", ["a.example, b.example"], "HTTP/1.1"),
        ("/v2/", ["a.example/v2"], "HTTP/1.1"),
        ("/v2/", ["me@a.example"], "HTTP/1.1"),
        ("/v2/", ["a.example:port"], "HTTP/1.1"),
        ("/v2/", ["\xff"], "HTTP/1.1"),
        ("http:///v2/", ["a.example"], "HTTP/1.1"),
        ("http://me:secret@a.example/v2/", ["a.example"], "HTTP/1.1"),
    ],
)
def test_a_host_is_named_once(target: str, hosts: list[str], version: str) -> None:
    _, fault = read_target(RequestStartLine("GET", target, version), _headers(hosts))
    assert fault is not None
    assert fault.answer_status == 400


def test_old_clients_need_no_host() -> None:
    assert read_target(RequestStartLine("GET", "/healthz", "HTTP/1.0"), HTTPHeaders())[1] is None


def _headers(hosts: list[str]) -> HTTPHeaders:
    headers = HTTPHeaders()
    for host in hosts:
        headers.add("Host", host)
    return headers
