"""Check the addresses an upstream sends us to, because it must not point this service at a host behind the firewall.

An address is checked when it is used, so that no name can change its meaning in between. `AddressGuard.resolve` checks
names and returns the addresses for the connection. A literal address never reaches a resolver, so
`AddressGuard.check` checks it.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from app.config import Network
from app.kit.networks import in_networks
from app.oci.errors import UpstreamInvalid

log = logging.getLogger(__name__)


class AddressKind(StrEnum):
    """The kind of an address; every upstream may use PUBLIC, and none may use RESERVED."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    RESERVED = "reserved"


# Clouds serve a machine's own credentials there. Several of these addresses lie outside the link-local range.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
# A site may translate with a prefix of its own, of one of these lengths. The IPv4 address stands behind the prefix,
# around bits 64 to 71, and zeros follow it. With a prefix of 96 bits it is at the end. RFC 6052, 2.2.
_PREFIX_LENGTHS = (32, 40, 48, 56, 64)
_ISATAP = (0x00005EFE, 0x02005EFE)  # the first half of an interface's identifier; RFC 5214, 6.1
_VISIBLE = re.compile(r"[!-~]+\Z")


def classify(text: str) -> AddressKind:
    """Return the kind of an address; an IPv6 address that stands for an IPv4 one counts as that one.

    Nobody can see of an IPv6 address whether its site translates it to a private IPv4 one. So each address that has the
    form counts as the private one.
    """
    kinds = [_kind(meant) for meant in _meanings(text)]
    return next((kind for kind in kinds if kind is not AddressKind.PUBLIC), kinds[0])


def _kind(address: IPv4Address | IPv6Address) -> AddressKind:
    if address in _METADATA:
        return AddressKind.RESERVED
    if address.is_loopback:
        return AddressKind.LOOPBACK
    if address.is_link_local:
        return AddressKind.LINK_LOCAL
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        return AddressKind.RESERVED
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return AddressKind.PUBLIC if address.is_global and not site_local else AddressKind.PRIVATE


def _meanings(text: str) -> Sequence[IPv4Address | IPv6Address]:
    """Return what an address stands for, and then what else it may stand for; a text that is no address is ``::``."""
    try:
        address = ip_address(text)
    except ValueError:
        return [IPv6Address(0)]
    if isinstance(address, IPv4Address):
        return [address]
    address = IPv6Address(int(address))  # without the zone, with which _METADATA would not match
    if any(address in network for network in _NAT64):
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    inner = address.ipv4_mapped or address.sixtofour
    return [inner] if inner else [address, *_perhaps_inner(address)]


def _perhaps_inner(address: IPv6Address) -> Iterator[IPv4Address]:
    """List the IPv4 addresses that a site may mean by an address, without those of 0.0.0.0/8.

    Small numbers at the end of an address are common, and mean no IPv4 address.
    """
    value = int(address)
    found = []
    if value >> 32 & 0xFFFFFFFF in (0, *_ISATAP):
        found.append(value & 0xFFFFFFFF)
    if value >> 56 & 0xFF == 0:
        without_octet = value >> 64 << 56 | value & (1 << 56) - 1
        for length in _PREFIX_LENGTHS:
            behind = 88 - length
            if without_octet & (1 << behind) - 1 == 0:
                found.append(without_octet >> behind & 0xFFFFFFFF)
    yield from (IPv4Address(number) for number in found if number >> 24)


class AddressGuard(AbstractResolver):
    """Allows connections to the upstream itself, to public addresses, and to addresses of the upstream's own kind.

    ``home`` is the upstream's host. The operator chose it, so it is always allowed. Its kind is learned each time it is
    resolved, which is before it can redirect anywhere. Addresses in ``refused`` are never allowed for others.
    """

    def __init__(
        self,
        home: str,
        resolver: AbstractResolver | None = None,
        classify: Callable[[str], AddressKind] = classify,
        *,
        refused: Sequence[Network] = (),
    ) -> None:
        self._home = home
        self._resolver = resolver
        self._classify = classify
        self._refused = tuple(refused)
        self._home_kinds = frozenset({classify(home)}) if _is_literal(home) else frozenset[AddressKind]()

    def check(self, url: URL) -> None:
        """Raise UpstreamInvalid if the host of ``url`` is a forbidden address; `resolve` checks names."""
        host = url.raw_host or ""
        if _is_literal(host) and host != self._home and not self._allows(host):
            raise self._refusal(host)

    def is_home(self, host: str) -> bool:
        """Return whether this is the upstream's own host, which the operator chose."""
        return host == self._home

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the allowed addresses of a host for the connector; raises UpstreamInvalid if none is allowed."""
        if self._resolver is None:
            self._resolver = ThreadedResolver()
        found = await self._resolver.resolve(host, port, family)
        if host == self._home:
            self._home_kinds = frozenset(self._classify(result["host"]) for result in found)
            return found
        allowed = [result for result in found if self._allows(result["host"])]
        if found and not allowed:
            raise self._refusal(host)
        return allowed

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()

    def _allows(self, address: str) -> bool:
        if any(in_networks(str(meant), self._refused) for meant in _meanings(address)):
            return False
        kind = self._classify(address)
        return kind is AddressKind.PUBLIC or (kind is not AddressKind.RESERVED and kind in self._home_kinds)

    def _refusal(self, host: str) -> UpstreamInvalid:
        log.warning("refused to follow the upstream %s to %s, which is not an allowed address", self._home, host)
        return UpstreamInvalid("the upstream registry points to an address that is refused here; tell the operators")


def _is_literal(host: str) -> bool:
    # True for everything that aiohttp does not resolve: this must not be narrower than its `helpers.is_ip_address`.
    return ":" in host or host.replace(".", "").isdigit()


def next_hop(current: URL, location: str | None) -> URL:
    """Return the URL of a ``Location``, byte for byte, because a rewritten signed URL is no longer valid.

    Raises UpstreamInvalid if it cannot be followed or leaves https.
    """
    if not location or not _VISIBLE.match(location):
        raise UpstreamInvalid("the upstream registry redirects without a usable address")
    return _as_safe_as(current, lambda: current.join(URL(location, encoded=True)))


def token_address(home: URL, challenge: Mapping[str, str], scope: str) -> URL:
    """Return where to ask for a token for ``scope``, by the parameters of a challenge of the registry at ``home``.

    The realm may be relative to ``home``. Raises UpstreamInvalid if there is none, if credentials must not be sent
    there, or if the challenge cannot be written into a URL.
    """
    realm = challenge.get("realm", "")
    if not realm:
        raise UpstreamInvalid("the upstream registry asks for a login without an address for it")
    query = {"service": challenge["service"]} if "service" in challenge else {}
    query["scope"] = challenge.get("scope") or scope
    return _as_safe_as(home, lambda: home.join(URL(realm)).extend_query(query))


def origin(url: URL) -> tuple[str, str, int | None]:
    """Return what makes two URLs be of the same server: scheme, host and port."""
    return url.scheme, (url.raw_host or "").lower(), url.port


def same_origin(base: URL, target: str) -> URL | None:
    """Return the URL of a link on the page ``base``, None if it cannot be followed or leads to another origin."""
    try:
        url = next_hop(base, target)
    except UpstreamInvalid:
        return None
    return url if origin(url) == origin(base) else None


def _as_safe_as(before: URL, parse: Callable[[], URL]) -> URL:
    try:
        after = parse()
        # yarl parses host and port only here. It takes any text for the zone of an IPv6 address.
        named = bool(after.raw_host and after.raw_host.isascii() and after.port)
    except (ValueError, IndexError):
        # An IndexError is what yarl makes of "[::1]@" in place of a host.
        raise UpstreamInvalid("the upstream registry points to something that is not a URL") from None
    if not named or after.scheme not in ("http", "https") or after.user is not None or after.password is not None:
        raise UpstreamInvalid("the upstream registry points to a URL that cannot be followed")
    if before.scheme == "https" and after.scheme != "https":
        raise UpstreamInvalid("the upstream registry points from https to http, which is refused")
    return after
