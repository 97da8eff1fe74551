"""Translate a request's address into one spelling: the first of these four.

    /v2/mirror/library/redis/…                          the address people type
    /mirror/v2/library/redis/…                          a mirror for containerd and k3s, under the registry's host name
    mirror.example.org  /v2/library/redis/…             a mirror at the root of its own host name (registry-mirrors)
    /v2/library/redis/…?ns=docker.io                    a mirror that containerd asks by the name of its upstream

A path is decoded before anything reads it. The grammar of names, tags and digests then refuses NUL, ".." and an
encoded slash, because none of them has these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote_to_bytes

from app.config import Config


@dataclass(frozen=True, slots=True)
class Address:
    """A request's path in the one spelling, and its raw query.

    - ``base_url``: this client finds ``/service/token`` under it.
    - ``project``: the mirror that the client left out of the path, and leaves out of its scopes too.
    - ``namespace``: the value of ``?ns=`` if it chose the mirror. The answer repeats it as ``OCI-Namespace``.
    """

    path: str
    query: str
    base_url: str
    project: str | None = None
    namespace: str | None = None


class Addresses:
    """Translates addresses; it knows the mirrors and their names."""

    def __init__(self, config: Config) -> None:
        self._external_url = config.server.external_url.rstrip("/")
        self._scheme = self._external_url.partition("://")[0]
        self._hosts = {host.lower(): project for host, project in config.hosts.items()}
        self._mirrors = {name for name, project in config.projects.items() if project.upstream is not None}
        self._by_upstream: Mapping[str, str] = {
            project.upstream: name
            for name, project in reversed(list(config.projects.items()))
            if project.upstream is not None
        }

    def read(self, target: str, host: str) -> Address:
        """Return the address that a request's target and Host header name."""
        path, _, query = target.partition("?")
        if "%" in path:
            # Bytes that are not UTF-8 become a character that no grammar allows.
            path = unquote_to_bytes(path).decode("utf-8", "replace")
        if self._hosts:
            known = host.lower()
            bare = known.rpartition(":")[0] if known.rpartition(":")[2].isdigit() else known
            project = self._hosts.get(known) or self._hosts.get(bare)
            if project is not None:
                return Address(_under(project, path), query, f"{self._scheme}://{host}", project)
        if path.startswith("/v2/"):
            namespace = parse_qs(query).get("ns", [""])[0] if "ns=" in query else ""
            # A client that is set up with a mirror's own path still sends ?ns=; the path counts then.
            if namespace in self._by_upstream and path.split("/")[2] not in self._mirrors:
                project = self._by_upstream[namespace]
                return Address(_under(project, path), query, self._external_url, namespace=namespace)
            return Address(path, query, self._external_url)
        project, _, rest = path[1:].partition("/")
        if project in self._mirrors and rest.startswith(("v2/", "service/token")):
            return Address(_under(project, "/" + rest), query, f"{self._external_url}/{project}", project)
        return Address(path, query, self._external_url)


def _under(project: str, path: str) -> str:
    if path.startswith("/v2/") and len(path) > len("/v2/"):
        return f"/v2/{project}/{path[4:]}"
    return path
