"""The least a client can be: blocking requests for setting things up, and tokens."""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from tests.images import Image, digest_of

_TIMEOUT = 120.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Registry:
    """A registry at HOST:PORT, as one client sees it; ``login`` is what its token service is told."""

    def __init__(self, host: str, login: tuple[str, str] | None = None, *, tokens: bool = True) -> None:
        """Take ``tokens`` as False for a registry that lets everybody do everything."""
        self.host = host
        self.login = login
        self._tokens = tokens

    def anonymous(self) -> Registry:
        """Give the same registry as somebody sees it who does not log in."""
        return Registry(self.host, tokens=self._tokens)

    def authorization(self, name: str, actions: str = "pull") -> dict[str, str]:
        """Get a new token for ``actions`` in a repository; the header that carries it, or none where none is needed."""
        if not self._tokens:
            return {}
        query = urlencode({"service": self.host, "scope": f"repository:{name}:{actions}"})
        basic = f"Basic {b64encode(':'.join(self.login).encode()).decode()}" if self.login else None
        answer = self.ask("GET", f"/service/token?{query}", {"Authorization": basic} if basic else {}, expected=200)
        return {"Authorization": f"Bearer {json.loads(answer.body)['token']}"}

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", *, expected: int | None = None
    ) -> Answer:
        """Send one request on a connection of its own; raises RuntimeError for another status than ``expected``."""
        with closing(http.client.HTTPConnection(self.host, timeout=_TIMEOUT)) as connection:
            connection.request(method, target, body=body or None, headers=dict(headers))
            response = connection.getresponse()
            answer = Answer(response.status, dict(response.headers), response.read())
        if expected is not None and answer.status != expected:
            raise RuntimeError(f"{method} {target} of {self.host} answered {answer.status}: {answer.body[:300]!r}")
        return answer

    def push(self, image: Image, name: str, tag: str) -> None:
        """Push an image with all its parts."""
        token = self.authorization(name, "pull,push")
        for digest, data in image.blobs.items():
            self.push_blob(name, digest, data, token)
        for reference in (*image.manifests, tag):
            self.put_manifest(image, name, reference, token)

    def push_blob(self, name: str, digest: str, data: bytes, token: Mapping[str, str]) -> None:
        """Push one blob."""
        begun = self.ask("POST", f"/v2/{name}/blobs/uploads/", token, expected=202)
        target = upload_target(begun.headers["Location"], digest)
        kind = {"Content-Type": "application/octet-stream"}
        self.ask("PUT", target, {**token, **kind}, data, expected=201)

    def put_manifest(self, image: Image, name: str, reference: str, token: Mapping[str, str]) -> None:
        """Put one of an image's manifests, by its digest; or the top one, by a tag."""
        media_type, payload = image.manifests[reference if reference in image.manifests else image.digest]
        self.ask(
            "PUT", f"/v2/{name}/manifests/{reference}", {**token, "Content-Type": media_type}, payload, expected=201
        )

    def check(self, target: str, headers: Mapping[str, str], digest: str) -> None:
        """Pull something by GET and compare all its bytes; raises RuntimeError where they are others."""
        found = digest_of(self.ask("GET", target, headers, expected=200).body)
        if found != digest:
            raise RuntimeError(f"{target} of {self.host} has the digest {found}, not {digest}")


def upload_target(location: str, digest: str | None = None) -> str:
    """Spell where an upload goes on; with ``digest``, where it ends."""
    parts = urlsplit(location)
    end = [("digest", digest)] if digest else []
    query = "&".join(filter(None, (parts.query, urlencode(end))))
    return f"{parts.path}?{query}" if query else parts.path


def head(method: str, target: str, host: str, headers: Mapping[str, str]) -> bytes:
    """Spell a request without a body."""
    return "".join(_lines(method, target, {"Host": host, **headers})).encode()


def _lines(method: str, target: str, headers: Mapping[str, str]) -> Iterator[str]:
    yield f"{method} {target} HTTP/1.1\r\n"
    for name, value in headers.items():
        yield f"{name}: {value}\r\n"
    yield "\r\n"
