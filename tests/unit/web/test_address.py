"""Addresses in one spelling, and the client's own address behind proxies."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from tornado.httputil import HTTPHeaders, RequestStartLine

from app.config import parse
from app.oci.errors import NameUnknown
from app.web.address import Address, Addresses
from app.web.server import client_address, read_target

BASE = "https://registry.example.org"
MAIN = "registry.example.org"
ADDRESSES = Addresses(
    parse(
        {
            "server": {"external_url": BASE},
            "upstreams": {
                "docker.io": {"url": "https://registry-1.docker.io"},
                "quay.io": {"url": "https://quay.io"},
                "corp": {"url": "https://images.example.com:8443"},
                "ghcr.io": {"url": "https://ghcr.io"},
            },
            "projects": {
                "team": {"upstream": "docker.io", "public": False},
                "mirror": {"upstream": "docker.io"},
                "again": {"upstream": "docker.io"},
                "coreos": {"upstream": "quay.io"},
                "corp": {"upstream": "corp"},
                "lab": {},
            },
            "hosts": {"Mirror.example.org.": "mirror", "quay.example.org": "coreos"},
        },
        Path("/"),
    )
)
REDIS = "/v2/library/redis/manifests/7"
IN_MIRROR = "/v2/mirror/library/redis/manifests/7"


def by_namespace(path: str, namespace: str, project: str = "mirror") -> Address:
    """Spell the address of a mirror that was asked by ``ns``."""
    inside = f"/v2/{project}/{path.removeprefix('/v2/')}"
    return Address(inside, f"ns={namespace}", f"{BASE}/{project}", path, project, namespace)


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("/v2/", MAIN, Address("/v2/", "", BASE, "/v2/")),
        ("/v2/lab/x/tags/list?n=5", MAIN, Address("/v2/lab/x/tags/list", "n=5", BASE, "/v2/lab/x/tags/list")),
        (f"/mirror{REDIS}", MAIN, Address(IN_MIRROR, "", f"{BASE}/mirror", f"/mirror{REDIS}", "mirror")),
        ("/mirror/v2/", MAIN, Address("/v2/", "", f"{BASE}/mirror", "/mirror/v2/", "mirror")),
        ("/lab/v2/x/manifests/1", MAIN, Address("/lab/v2/x/manifests/1", "", BASE, "/lab/v2/x/manifests/1")),
        (f"{REDIS}?ns=docker.io", MAIN, by_namespace(REDIS, "docker.io")),
        (f"{REDIS}?ns=", MAIN, Address(REDIS, "ns=", BASE, REDIS)),
        (f"{REDIS}?ns={MAIN}", MAIN, Address(REDIS, f"ns={MAIN}", BASE, REDIS)),
        ("/service/token?ns=docker.io", MAIN, Address(
            "/service/token", "ns=docker.io", f"{BASE}/mirror", "/service/token", "mirror", "docker.io")),
        # Another upstream's namespace may be called as a mirror.
        ("/v2/coreos/x/manifests/7?ns=docker.io", MAIN, by_namespace("/v2/coreos/x/manifests/7", "docker.io")),
        ("/v2/lab%2Fx/manifests/1", MAIN, Address("/v2/lab/x/manifests/1", "", BASE, "/v2/lab/x/manifests/1")),
        ("/v2/%2e%2e/%00/manifests/1", MAIN, Address("/v2/../\0/manifests/1", "", BASE, "/v2/../\0/manifests/1")),
    ],
)  # fmt: skip
def test_every_way_in_becomes_one_spelling(target: str, host: str, expected: Address) -> None:
    assert ADDRESSES.read(target, host) == expected


@pytest.mark.parametrize(
    "host",
    ["mirror.example.org", "mirror.example.org:443", "mirror.example.org:5000", "MIRROR.example.org",
     "mirror.example.org.", "mirror.example.org.:80"],
)  # fmt: skip
def test_a_mirrors_host_is_known_by_every_spelling(host: str) -> None:
    assert ADDRESSES.read(REDIS, host) == Address(IN_MIRROR, "", f"https://{host}", REDIS, "mirror")


@pytest.mark.parametrize(
    "namespace",
    ["docker.io", "index.docker.io", "registry-1.docker.io", "DOCKER.IO", "docker.io.", "docker.io:443", "docker%2Eio",
     "Index.Docker.IO.:443", "docker.io:80"],
)  # fmt: skip
def test_docker_hub_is_known_by_every_spelling(namespace: str) -> None:
    read = ADDRESSES.read(f"{REDIS}?ns={namespace}", MAIN)
    assert (read.path, read.namespace, read.project) == (IN_MIRROR, namespace.replace("%2E", "."), "mirror")


@pytest.mark.parametrize(
    ("namespace", "project"),
    [("quay.io", "coreos"), ("QUAY.IO:443", "coreos"), ("corp", "corp"), ("images.example.com:8443", "corp")],
)
def test_each_upstream_is_asked_by_its_name_or_its_host(namespace: str, project: str) -> None:
    assert ADDRESSES.read(f"{REDIS}?ns={namespace}", MAIN) == by_namespace(REDIS, namespace, project)


@pytest.mark.parametrize(
    "target",
    [
        # No upstream; an upstream without a mirror; the same name at another port; no host name at all.
        f"{REDIS}?ns=gcr.io", f"{REDIS}?ns=ghcr.io", f"{REDIS}?ns=quay.io:8443", f"{REDIS}?ns=images.example.com",
        f"{REDIS}?ns=http://docker.io", f"{REDIS}?ns=doc%E2%84%AAer.io", f"{REDIS}?ns=%0a",
        "/v2/?ns=gcr.io", "/v2/lab/x/manifests/1?ns=gcr.io", "/service/token?ns=gcr.io",
        f"{IN_MIRROR}?ns=gcr.io", f"/mirror{REDIS}?ns=quay.io", "/mirror/service/token?ns=quay.io",
    ],
)  # fmt: skip
def test_another_registry_is_not_mirrored(target: str) -> None:
    with pytest.raises(NameUnknown, match="not mirrored"):
        ADDRESSES.read(target, MAIN).require_mirrored()


def test_a_mirrors_own_host_has_the_content_of_its_upstream_only() -> None:
    with pytest.raises(NameUnknown):
        ADDRESSES.read(f"{REDIS}?ns=quay.io", "mirror.example.org").require_mirrored()
    for namespace in ("docker.io", "registry-1.docker.io", MAIN):
        ADDRESSES.read(f"{REDIS}?ns={namespace}", "mirror.example.org").require_mirrored()


@pytest.mark.parametrize(
    ("target", "project", "by_upstream"),
    [
        (f"{IN_MIRROR}?ns=docker.io", "mirror", "/v2/mirror/mirror/library/redis/manifests/7"),
        ("/v2/mirror/app/tags/list?ns=docker.io", "mirror", "/v2/mirror/mirror/app/tags/list"),
        ("/v2/team/app/tags/list?ns=docker.io", "team", "/v2/mirror/team/app/tags/list"),
        ("/v2/coreos/etcd/tags/list?ns=quay.io", "coreos", "/v2/coreos/coreos/etcd/tags/list"),
    ],
)
def test_a_path_that_begins_with_the_mirrors_name_has_two_meanings(target: str, project: str, by_upstream: str) -> None:
    read = ADDRESSES.read(target, MAIN)
    assert (read.path, read.project, read.namespace) == (target.partition("?")[0], project, None)
    assert read.other is not None
    assert (read.other.path, read.other.other) == (by_upstream, None)
    assert read.other.namespace == target.rpartition("=")[2]


@pytest.mark.parametrize(
    ("target", "host", "place", "spelled"),
    [
        ("/v2/mirror/a/b/tags/list", MAIN, "/v2/mirror/a/b", "mirror/a/b"),
        ("/mirror/v2/a/b/tags/list", MAIN, "/mirror/v2/a/b", "a/b"),
        ("/v2/a/b/tags/list", "mirror.example.org", "/v2/a/b", "a/b"),
        ("/v2/a/b/tags/list?ns=docker.io", MAIN, "/v2/a/b", "a/b"),
        ("/v2/mirror/a/b/tags/list?ns=docker.io", MAIN, "/v2/mirror/a/b", "mirror/a/b"),
    ],
)
def test_a_repository_is_spelled_as_its_client_does(target: str, host: str, place: str, spelled: str) -> None:
    read = ADDRESSES.read(target, host)
    assert (read.place("mirror/a/b"), read.spelled("mirror/a/b")) == (place, spelled)


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
