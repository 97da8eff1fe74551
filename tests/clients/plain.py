"""A registry client of the standard library alone: what the demo uses where no other client is, and tests look with."""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

from tests.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Image, digest_of
from tests.parts.process import CommandFailed

_INDEXES = (OCI_INDEX, DOCKER_LIST)
_ACCEPT = ", ".join((*_INDEXES, OCI_MANIFEST, DOCKER_MANIFEST))
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Plain:
    """Speaks plain HTTP with one registry; a request that is challenged gets its token and goes out again."""

    def __init__(self, host: str, username: str = "", password: str = "") -> None:
        """Take the registry's HOST:PORT, and whose credentials its token service is sent; without, nobody's."""
        self._host = host
        self._basic = base64.b64encode(f"{username}:{password}".encode()).decode() if username else None
        self._token = ""

    def pull(self, repository: str, reference: str, *, platform: str = "linux/amd64") -> Image:
        """Fetch an image with its blobs, of an index the child for ``platform``; every digest is checked.

        Raises CommandFailed with what the registry answered.
        """
        manifest = self._fetch(f"/v2/{repository}/manifests/{reference}")
        media_type = manifest.headers["Content-Type"]
        document, digest = json.loads(manifest.body), digest_of(manifest.body)
        if reference.startswith("sha256:") and digest != reference:
            raise CommandFailed(f"{repository}@{reference} came as {digest}")
        if media_type in _INDEXES:
            for child in document["manifests"]:
                if f"{child['platform']['os']}/{child['platform']['architecture']}" == platform:
                    return self.pull(repository, child["digest"])
            raise CommandFailed(f"{repository}:{reference} is not for {platform}")
        blobs = {part["digest"]: self._blob(repository, part["digest"]) for part in _parts(document)}
        return Image(blobs, {digest: (media_type, manifest.body)}, digest)

    def push(self, image: Image, repository: str, tag: str) -> None:
        """Push an image without children; what is there already is not sent. Raises CommandFailed."""
        for digest, data in image.blobs.items():
            if self.send("HEAD", f"/v2/{repository}/blobs/{digest}").status != 200:
                begun = self._expect(202, "POST", f"/v2/{repository}/blobs/uploads/")
                where = begun.headers["Location"]
                query = ("&" if "?" in where else "?") + urlencode({"digest": digest})
                self._expect(201, "PUT", where + query, data)
        path = f"/v2/{repository}/manifests/{tag}"
        self._expect(201, "PUT", path, image.payload, {"Content-Type": image.media_type})

    def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Send one request, with a token where it is asked for, and give whatever is answered."""
        reply = self._send(method, path, body, headers or {})
        if reply.status == 401 and (challenge := reply.headers.get("WWW-Authenticate", "")).startswith("Bearer "):
            self._token = self._ask(dict(_PARAMETER.findall(challenge)))
            reply = self._send(method, path, body, headers or {})
        return reply

    def _blob(self, repository: str, digest: str) -> bytes:
        data = self._fetch(f"/v2/{repository}/blobs/{digest}").body
        if digest_of(data) != digest:
            raise CommandFailed(f"{repository}: {digest} came as {digest_of(data)}")
        return data

    def _fetch(self, path: str) -> Reply:
        return self._expect(200, "GET", path)

    def _expect(
        self, status: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        reply = self.send(method, path, body, headers)
        if reply.status != status:
            raise CommandFailed(f"{method} {path} answered {reply.status}: {reply.body.decode(errors='replace')}")
        return reply

    def _send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        url = urlsplit(urljoin(f"http://{self._host}", path))
        sent = {"Accept": _ACCEPT, **headers}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        with closing(http.client.HTTPConnection(url.netloc, timeout=60)) as connection:
            connection.request(method, url._replace(scheme="", netloc="").geturl(), body=body, headers=sent)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())

    def _ask(self, challenge: Mapping[str, str]) -> str:
        query = urlencode({name: challenge[name] for name in ("service", "scope") if name in challenge})
        request = urllib.request.Request(f"{challenge['realm']}?{query}")
        if self._basic:
            request.add_header("Authorization", f"Basic {self._basic}")
        with urllib.request.urlopen(request, timeout=60) as response:
            token: str = json.load(response)["token"]
        return token


def _parts(document: Mapping[str, object]) -> list[Mapping[str, str]]:
    config, layers = document["config"], document["layers"]
    assert isinstance(config, dict)
    assert isinstance(layers, list)
    return [config, *layers]
