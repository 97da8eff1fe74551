"""Translate a request's address into one spelling: the first of these four.

    /v2/mirror/library/redis/…                          the address people type
    /mirror/v2/library/redis/…                          a mirror for containerd and k3s, under the registry's host name
    mirror.example.org  /v2/library/redis/…             a mirror at the root of its own host name (registry-mirrors)
    /v2/library/redis/…?ns=docker.io                    a mirror that containerd asks by the name of its upstream

The last three are a mirror's own addresses. Their clients name repositories as the upstream does, also in the scopes
of tokens. A ``?ns=`` that names another registry than the mirror's is refused at each address, so that nobody takes
the content of one registry for that of another.

A path is decoded before anything reads it. The grammar of names, tags and digests then refuses NUL, ".." and an
encoded slash, because none of them has these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from app.config import Config
from app.oci.errors import NameUnknown

DOCKER_HUB = "docker.io"
# Clients repeat their requests, and machines of a class ask for the same. So the newest addresses are kept, if short.
_KEPT, _LONGEST_KEPT = 4096, 512
_HUB_SPELLINGS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class Address:
    """A request's path in the one spelling, its raw query, and how the client spells it.

    - ``base_url``: this client finds ``/service/token`` under it.
    - ``asked``: the path that the client sent, decoded.
    - ``project``: the mirror whose own address this is. Its client leaves the project out of its scopes.
    - ``namespace``: the value of ``?ns=`` if it chose the mirror. The answer repeats it as ``OCI-Namespace``.
    - ``foreign``: the value of ``?ns=`` if it names a registry that is not mirrored at this address.
    - ``other``: the second meaning of an address with ``?ns=`` whose path begins with a mirror's name. The upstream
      may have a namespace of that name. `app.web.v2.authorizer` chooses.
    """

    path: str
    query: str
    base_url: str
    asked: str
    project: str | None = None
    namespace: str | None = None
    foreign: str | None = None
    other: Address | None = None

    def place(self, name: str) -> str:
        """Return where this client finds the repository ``name`` of ``path``, such as ``/mirror/v2/library/redis``."""
        return self.asked.removesuffix(self.path.removeprefix(f"/v2/{name}"))

    def spelled(self, name: str) -> str:
        """Return the name under which this client asked for the repository ``name`` of ``path``."""
        return self.place(name).partition("/v2/")[2]

    def require_mirrored(self) -> None:
        """Raise NameUnknown if ``?ns=`` names another registry; containerd then asks that registry itself."""
        if self.foreign is not None:
            raise NameUnknown(
                "%(registry)r is not mirrored at this address; ask that registry itself", registry=self.foreign[:100]
            )


class Addresses:
    """Translates addresses; it knows the mirrors and their names."""

    def __init__(self, config: Config) -> None:
        self._external_url = config.server.external_url.rstrip("/")
        self._scheme, _, own = self._external_url.partition("://")
        self._own_name = fold(own)
        self._hosts = {fold(host): project for host, project in config.hosts.items()}
        mirrors = {name: project.upstream for name, project in config.projects.items() if project.upstream is not None}
        # The names of each mirror's upstream: its own, and the host that its URL leads to.
        self._names = {
            name: (fold(upstream), fold(urlsplit(config.upstreams[upstream].url).netloc))
            for name, upstream in mirrors.items()
        }
        self._by_namespace = _by_namespace(
            self._names, public={name for name in mirrors if config.projects[name].public}
        )

        self._kept = lru_cache(_KEPT)(self._read)

    def read(self, target: str, host: str) -> Address:
        """Return the address that a request's target and Host header name."""
        return self._kept(target, host) if len(target) + len(host) <= _LONGEST_KEPT else self._read(target, host)

    def _read(self, target: str, host: str) -> Address:
        path, _, query = target.partition("?")
        if "%" in path:
            # Bytes that are not UTF-8 become a character that no grammar allows.
            path = unquote_to_bytes(path).decode("utf-8", "replace")
        namespace = parse_qs(query).get("ns", [""])[0] if "ns=" in query else ""
        project = self._at(host) if self._hosts else None
        if project is not None:
            return self._own(project, path, query, f"{self._scheme}://{host}", path, namespace)
        typed, _, rest = path[1:].partition("/")
        if typed in self._names and typed != "v2" and rest.startswith(("v2/", "service/token")):
            return self._own(typed, f"/{rest}", query, f"{self._external_url}/{typed}", path, namespace)
        if namespace and path.startswith(("/v2/", "/service/token")) and fold(namespace) != self._own_name:
            return self._of_upstream(path, query, namespace)
        return Address(path, query, self._external_url, path)

    def _at(self, host: str) -> str | None:
        """Return the mirror at the root of a host, whatever its port."""
        known = fold(host)
        return self._hosts.get(known) or self._hosts.get(known.rpartition(":")[0])

    def _own(self, project: str, path: str, query: str, base_url: str, asked: str, namespace: str) -> Address:
        agrees = not namespace or fold(namespace) in (*self._names[project], self._own_name)
        return Address(_under(project, path), query, base_url, asked, project, foreign=None if agrees else namespace)

    def _of_upstream(self, path: str, query: str, namespace: str) -> Address:
        known = fold(namespace)
        project = self._by_namespace.get(known)
        if project is None:
            return Address(path, query, self._external_url, path, foreign=namespace)
        inside = Address(_under(project, path), query, f"{self._external_url}/{project}", path, project, namespace)
        typed = path.removeprefix("/v2/").partition("/")[0]
        if known not in self._names.get(typed, ()):
            return inside
        return Address(path, query, f"{self._external_url}/{typed}", path, typed, other=inside)


def fold(name: str) -> str:
    """Return one spelling of a registry's or a host's name; all spellings of Docker Hub become `DOCKER_HUB`.

    Capitals, a final dot and the port of https make no difference. A name that is not ASCII stays as it is.
    """
    if not name.isascii():
        return name
    host, colon, port = name.lower().rpartition(":")
    if not colon or not port.isdigit():
        host, port = name.lower(), ""
    host = host.removesuffix(".")
    if host in _HUB_SPELLINGS:
        return DOCKER_HUB
    return host if port in ("", "443") else f"{host}:{port}"


def _by_namespace(names: Mapping[str, tuple[str, str]], public: set[str]) -> Mapping[str, str]:
    """Return the mirror that serves each name of an upstream: a public one if there is one, else the first."""
    found: dict[str, str] = {}
    for number in (0, 1):
        for project in sorted(names, key=lambda name: name not in public):
            found.setdefault(names[project][number], project)
    return found


def _under(project: str, path: str) -> str:
    if path.startswith("/v2/") and len(path) > len("/v2/"):
        return f"/v2/{project}/{path[4:]}"
    return path
