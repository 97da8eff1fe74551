"""Which addresses an upstream may lead to, and which URLs are followed at all."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.helpers import is_ip_address
from yarl import URL

from app.mirror.address_guard import AddressGuard, AddressKind, classify, next_hop, token_address
from app.oci.errors import UpstreamInvalid


class Names(AbstractResolver):
    """A name service whose answers a test writes down."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): addresses for name, addresses in names.items()}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.names[host]
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("44.205.64.79", AddressKind.PUBLIC),
        ("2600:1f18:2148:bc00::1", AddressKind.PUBLIC),
        ("127.0.0.1", AddressKind.LOOPBACK),
        ("127.255.0.9", AddressKind.LOOPBACK),
        ("::1", AddressKind.LOOPBACK),
        ("::ffff:127.0.0.1", AddressKind.LOOPBACK),
        ("64:ff9b::7f00:1", AddressKind.LOOPBACK),
        ("2002:7f00:1::", AddressKind.LOOPBACK),
        ("10.0.0.1", AddressKind.PRIVATE),
        ("172.16.0.1", AddressKind.PRIVATE),
        ("172.31.255.255", AddressKind.PRIVATE),
        ("192.168.1.1", AddressKind.PRIVATE),
        ("100.64.0.1", AddressKind.PRIVATE),
        ("100.127.255.255", AddressKind.PRIVATE),
        ("198.18.0.1", AddressKind.PRIVATE),
        ("fd12:3456::1", AddressKind.PRIVATE),
        ("fec0::1", AddressKind.PRIVATE),
        ("::ffff:10.0.0.1", AddressKind.PRIVATE),
        ("::ffff:100.64.0.1", AddressKind.PRIVATE),
        ("64:ff9b::a00:1", AddressKind.PRIVATE),
        ("64:ff9b:1::a00:1", AddressKind.PRIVATE),
        ("2002:a00:1::", AddressKind.PRIVATE),
        ("64:ff9b::2ccd:404f", AddressKind.PUBLIC),
        # ISATAP, and the forms that a site's own NAT64 prefix gives
        ("2600:1f18::5efe:a00:1", AddressKind.PRIVATE),
        ("2600:1f18::200:5efe:7f00:1", AddressKind.LOOPBACK),
        ("2600:1f18::5efe:2ccd:404f", AddressKind.PUBLIC),
        ("2600:1f18:2148::a00:1", AddressKind.PRIVATE),
        ("2600:1f18:2148::7f00:1", AddressKind.LOOPBACK),
        ("2600:1f18:2148::a9fe:a9fe", AddressKind.RESERVED),
        ("2600:1f18:2148::2ccd:404f", AddressKind.PUBLIC),
        ("2600:1f18:c0a8:101::", AddressKind.PRIVATE),
        ("2600:1f18:10a:0:1:100::", AddressKind.PUBLIC),
        ("2600:1f18:21c0:a801:1::", AddressKind.PRIVATE),
        ("2600:1f18:2148:c0a8:1:100::", AddressKind.PRIVATE),
        ("2600:1f18:2148:bcc0:a8:101::", AddressKind.PRIVATE),
        ("2600:1f18:2148:bc00:c0:a801:100::", AddressKind.PRIVATE),
        # addresses of large networks, which have none of these forms
        ("2606:4700::6810:84e5", AddressKind.PUBLIC),
        ("2a04:4e42:200::649", AddressKind.PUBLIC),
        ("2600:9000:2490:7a00:b:4d8b:a00:1", AddressKind.PUBLIC),
        ("2a00:1450:400f:804::2004", AddressKind.PUBLIC),
        ("169.254.1.1", AddressKind.LINK_LOCAL),
        ("fe80::1", AddressKind.LINK_LOCAL),
        ("fe80::1%eth0", AddressKind.LINK_LOCAL),
        ("::ffff:169.254.1.1", AddressKind.LINK_LOCAL),
        ("169.254.169.254", AddressKind.RESERVED),
        ("::ffff:169.254.169.254", AddressKind.RESERVED),
        ("100.100.100.200", AddressKind.RESERVED),
        ("168.63.129.16", AddressKind.RESERVED),
        ("fd00:ec2::254", AddressKind.RESERVED),
        ("fd00:ec2::254%eth0", AddressKind.RESERVED),
        ("0.0.0.0", AddressKind.RESERVED),
        ("::", AddressKind.RESERVED),
        ("::127.0.0.1", AddressKind.RESERVED),
        ("224.0.0.1", AddressKind.RESERVED),
        ("ff02::1", AddressKind.RESERVED),
        ("255.255.255.255", AddressKind.RESERVED),
        ("240.0.0.1", AddressKind.RESERVED),
        ("127.1", AddressKind.RESERVED),
        ("2130706433", AddressKind.RESERVED),
        ("not an address", AddressKind.RESERVED),
    ],
)
def test_an_address_is_told_apart(address: str, kind: AddressKind) -> None:
    assert classify(address) is kind


INNER = ["127.0.0.1", "[::1]", "10.0.0.1", "[fd00::1]", "100.64.0.1", "169.254.169.254", "[fe80::1]", "0.0.0.0"]


@pytest.mark.parametrize("host", [*INNER, "[::ffff:10.0.0.1]", "2130706433", "127.1", "010.0.0.1", "[::1%25lo]"])
def test_an_address_written_out_is_refused_to_a_public_upstream(host: str) -> None:
    url = URL(f"http://{host}/x", encoded=True)
    with pytest.raises(UpstreamInvalid):
        AddressGuard("44.205.64.79").check(url)


def test_public_addresses_and_names_pass_the_check_of_urls() -> None:
    guard = AddressGuard("registry.test")
    guard.check(URL("https://44.205.64.79/x"))
    guard.check(URL("https://[2600:1f18::1]/x"))
    guard.check(URL("https://inner.test/x"))  # a name: stopped when it is resolved


@pytest.mark.parametrize(
    ("home", "allowed", "refused"),
    [
        ("10.1.2.3", ["192.168.1.1", "[fd00::1]", "10.0.0.1"], ["127.0.0.1", "169.254.1.1", "169.254.169.254", "[::]"]),
        ("127.0.0.1", ["127.0.0.2", "[::1]"], ["10.0.0.1", "169.254.1.1", "100.100.100.200", "0.0.0.0"]),
        ("fd00:ec2::254", ["[fd00:ec2::254]"], ["169.254.169.254", "10.0.0.1"]),
    ],
)
def test_an_upstream_within_may_point_to_its_own_kind_of_place_only(
    home: str, allowed: list[str], refused: list[str]
) -> None:
    guard = AddressGuard(home)
    for host in allowed:
        guard.check(URL(f"http://{host}/"))
    for host in refused:
        with pytest.raises(UpstreamInvalid):
            guard.check(URL(f"http://{host}/"))


async def test_no_upstream_may_point_to_a_network_that_the_operator_refuses() -> None:
    refused = [ip_network(text) for text in ("44.205.64.0/24", "2600:1f18::/32")]
    names = Names(registry_test=["44.205.64.79"], own_test=["44.205.64.80"], both_test=["44.205.64.80", "1.1.1.1"])
    guard = AddressGuard("registry.test", names, refused=refused)
    assert [found["host"] for found in await guard.resolve("registry.test")] == ["44.205.64.79"]
    with pytest.raises(UpstreamInvalid):
        await guard.resolve("own.test")
    assert [found["host"] for found in await guard.resolve("both.test")] == ["1.1.1.1"]
    for host in (
        "44.205.64.80",
        "[2600:1f18::1]",
        "[::ffff:44.205.64.80]",
        "[64:ff9b::2ccd:4050]",
        "[2a00::2ccd:4050]",
    ):
        with pytest.raises(UpstreamInvalid):
            guard.check(URL(f"https://{host}/"))
    guard.check(URL("https://44.205.65.80/"))


@pytest.mark.parametrize("host", ["127.0.0.1", "1.1", "0", "::1", "fe80::1%eth0", "١٢٧.0.0.1"])
def test_nothing_that_skips_the_resolver_skips_the_check(host: str) -> None:
    assert is_ip_address(host), "aiohttp resolves this now, so it belongs in another test"
    spelled = f"[{host}]" if ":" in host else host
    with pytest.raises(UpstreamInvalid):
        AddressGuard("44.205.64.79").check(URL(f"http://{spelled}/", encoded=True))


async def test_a_name_that_leads_within_is_refused_when_it_is_resolved() -> None:
    names = Names(
        registry_test=["44.205.64.79"], inner_test=["10.0.0.1"], meta_test=["169.254.169.254"], v6_test=["::1"]
    )
    guard = AddressGuard("registry.test", names)
    assert [result["host"] for result in await guard.resolve("registry.test")] == ["44.205.64.79"]
    for name in ("inner.test", "meta.test", "v6.test"):
        with pytest.raises(UpstreamInvalid):
            await guard.resolve(name)


async def test_of_several_addresses_only_those_allowed_are_used() -> None:
    guard = AddressGuard("registry.test", Names(mixed_test=["10.0.0.1", "44.205.64.79", "::1"]))
    assert [result["host"] for result in await guard.resolve("mixed.test")] == ["44.205.64.79"]


async def test_where_the_upstream_stands_is_learnt_anew_each_time() -> None:
    names = Names(registry_test=["10.0.0.1"], storage_test=["10.9.9.9"])
    guard = AddressGuard("registry.test", names)
    with pytest.raises(UpstreamInvalid):
        await guard.resolve("storage.test")
    await guard.resolve("registry.test")
    assert [result["host"] for result in await guard.resolve("storage.test")] == ["10.9.9.9"]
    guard.check(URL("http://192.168.0.1/"))
    names.names["registry.test"] = ["44.205.64.79"]
    await guard.resolve("registry.test")
    with pytest.raises(UpstreamInvalid):
        await guard.resolve("storage.test")
    with pytest.raises(UpstreamInvalid):
        guard.check(URL("http://192.168.0.1/"))


HTTPS = URL("https://registry.test/v2/library/redis/blobs/sha256:aa")


def test_a_signed_url_is_followed_byte_for_byte() -> None:
    location = "https://cdn.test/a%2Fb?X-Sig=a%2Bb%3d%7E&list=1,2"
    assert str(next_hop(HTTPS, location)) == location


def test_a_relative_location_stays_on_its_host() -> None:
    assert str(next_hop(HTTPS, "/data/x?y=%2F")) == "https://registry.test/data/x?y=%2F"


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "http://registry.test/v2/",
        "http://cdn.test/x",
        "ftp://cdn.test/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://user:secret@cdn.test/x",
        "https://user@cdn.test/x",
        "https://cdn.test:99999/x",
        "https://cdn.test:port/x",
        "https://cdn.test/a b",
        "https://cdn.test/\x00",
        "https://cdn.test/ü",
        "https://[::1/x",
    ],
)
def test_a_location_that_cannot_be_trusted_is_refused(location: str | None) -> None:
    with pytest.raises(UpstreamInvalid):
        next_hop(HTTPS, location)


def test_http_may_lead_to_https_and_no_further_back() -> None:
    hop = next_hop(URL("http://registry.test/v2/"), "https://cdn.test/x")
    with pytest.raises(UpstreamInvalid):
        next_hop(hop, "http://registry.test/v2/")


SCOPE = "repository:a/b:pull"


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "//[",
        "//[::1]@",
        "https://[2001:db8::1%é]/",
        "http://auth.test/token",
        "https://a:b@auth.test/",
        "https://[",
        "ldap://x",
    ],
)
def test_a_realm_that_is_no_https_url_gets_no_credential(realm: str) -> None:
    with pytest.raises(UpstreamInvalid):
        token_address(URL("https://registry.test"), {"realm": realm}, SCOPE)


@pytest.mark.parametrize(
    ("home", "realm", "address"),
    [
        ("https://registry.test", "https://auth.test/token", "https://auth.test/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/t", "http://127.0.0.1:5001/t"),
        ("https://registry.test/hub", "/token", "https://registry.test/token"),
    ],
)
def test_a_realm_is_taken_as_it_is_and_may_be_relative(home: str, realm: str, address: str) -> None:
    found = token_address(URL(home), {"realm": realm, "service": "s"}, SCOPE)
    assert str(found.with_query(None)) == address
    assert dict(found.query) == {"service": "s", "scope": SCOPE}
