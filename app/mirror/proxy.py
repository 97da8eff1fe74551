"""The site's proxy on the way to upstreams, as the environment names it (``HTTPS_PROXY``, ``NO_PROXY``).

A proxy would look up names itself, where `AddressGuard` cannot see the answer. So it gets the name of the upstream's
own host only, which the operator chose. For every other host it gets an address that the guard has allowed:

    https://registry.example.org/v2/…    CONNECT registry.example.org:443
    https://blobs.example.com/…          look up, guard ─► CONNECT 192.0.2.7:443, TLS for blobs.example.com
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.request import getproxies_environment, proxy_bypass

from yarl import URL

from .address_guard import AddressGuard


@dataclass(frozen=True, slots=True)
class Target:
    """A request as it goes to a proxy. ``host`` is the Host header, ``tls_name`` the name in the certificate."""

    url: URL
    host: str
    tls_name: str


class SiteProxy:
    """The proxy for https; requests over http never use one."""

    def __init__(self, address: URL | None, bypass: str) -> None:
        self.address = address
        self._bypass = {"no": bypass}

    @classmethod
    def from_environment(cls) -> SiteProxy:
        """Read the proxy, in small or capital letters, as most programs do."""
        found = getproxies_environment()
        address = found.get("https")
        return cls(URL(address) if address else None, found.get("no", ""))

    def serves(self, url: URL) -> bool:
        """Return whether a request to ``url`` goes through the proxy."""
        if self.address is None or url.scheme != "https":
            return False
        return not proxy_bypass(f"{url.raw_host}:{url.port}", self._bypass)


async def target(url: URL, guard: AddressGuard) -> Target:
    """Return the request for a proxy; raises UpstreamInvalid if the guard refuses the host, OSError for no host."""
    name = url.raw_host or ""
    address = name if guard.is_home(name) else (await guard.resolve(name, url.port or 443))[0]["host"]
    return Target(url.with_host(address), url.host_port_subcomponent or name, name)
