"""Where a request was sent to, in one spelling, whichever way the client came.

    /v2/mirror/library/redis/…                          the address people type
    /mirror/v2/library/redis/…                          a mirror for containerd and k3s, under the host's own name
    mirror.example.org  /v2/library/redis/…             a mirror at the root of a host of its own (registry-mirrors)
    /v2/library/redis/…?ns=docker.io                    a mirror that containerd asks by the name of its upstream

all become the first. Paths are decoded before anything looks at them; what does not fit the grammar after that is
refused there (NUL, "..", an encoded slash are in no name, tag or digest).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote_to_bytes

from app.config import Config


@dataclass(frozen=True, slots=True)
class Address:
    """A request's path in the one spelling, its raw query, and the mirror it was sent to other than by name.

    ``base_url`` is what ``/service/token`` is under for this client; ``project`` is what its scopes lack in front;
    ``namespace`` is the value of ``?ns=`` where it decided the path (answered as ``OCI-Namespace``).
    """

    path: str
    query: str
    base_url: str
    project: str | None = None
    namespace: str | None = None


class Addresses:
    """Knows the mirrors and the names they are served under."""

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
        """Read a request's target and Host header."""
        path, _, query = target.partition("?")
        if "%" in path:
            # What is not UTF-8 becomes a character that no grammar has.
            path = unquote_to_bytes(path).decode("utf-8", "replace")
        if self._hosts:
            known = host.lower()
            bare = known.rpartition(":")[0] if known.rpartition(":")[2].isdigit() else known
            project = self._hosts.get(known) or self._hosts.get(bare)
            if project is not None:
                return Address(_under(project, path), query, f"{self._scheme}://{host}", project)
        if path.startswith("/v2/"):
            namespace = parse_qs(query).get("ns", [""])[0] if "ns=" in query else ""
            # A client may be told to ask beneath a mirror's own path, and says all the same whom it means.
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
