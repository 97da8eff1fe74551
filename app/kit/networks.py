"""Whether an address lies in one of some networks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address


@lru_cache(maxsize=4096)
def in_networks(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Return whether an address lies in one of the networks; False for a text that is no address.

    An IPv4 address that is written as an IPv6 one counts as itself. ``networks`` must be hashable.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(mapped in network for network in networks)
